"""Bodies: how they are coded, and chunked ones wherever they are cut."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.rpc.http.bodies import MEMBERS, DamagedBody, TooLarge, coding_of, decoded
from coordinator.rpc.http.chunked import CHUNKS_AT_ONCE, ChunkedBody, MalformedChunk

BODY = b'{"jsonrpc":"2.0"}' * 50


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


CODED = {
    "gzip": (b"gzip", gzip.compress(BODY)),
    "members": (b"gzip", gzip.compress(BODY[:99]) + gzip.compress(BODY[99:])),
    "zlib": (b"deflate", zlib.compress(BODY)),
    "raw": (b"deflate", raw_deflate(BODY)),
}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        *(
            (b"", b""),
            (b"identity", b""),
            (b"gzip", b"gzip"),
            (b"X-GZip", b"gzip"),
            (b"Deflate , identity", b"deflate"),
        ),
        *((b"zstd", None), (b"br", None), (b"gzip, gzip", None), (b"compress", None)),
    ],
)
def test_some_codings_are_undone(header: bytes, coding: bytes | None) -> None:
    assert coding_of(header) == coding


@pytest.mark.parametrize("name", CODED)
def test_a_coded_body_is_decoded_up_to_the_limit(name: str) -> None:
    coding, body = CODED[name]

    assert decoded(body, coding, len(BODY)) == BODY
    with pytest.raises(TooLarge):
        decoded(body, coding, len(BODY) - 1)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("damage", ["cut", "more", "other"])
def test_a_damaged_body_is_none(name: str, damage: str) -> None:
    coding, body = CODED[name]
    damaged = {"cut": body[:-1], "more": body + b"x", "other": b"\xff" + BODY}[damage]

    with pytest.raises(DamagedBody):
        decoded(damaged, coding, 1 << 20)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (1 << 26))

    with pytest.raises(TooLarge):
        decoded(bomb, b"gzip", 1 << 20)


def test_members_that_hold_next_to_nothing_are_bounded() -> None:
    member = gzip.compress(b" ")

    assert decoded(member * MEMBERS, b"gzip", MEMBERS) == b" " * MEMBERS
    with pytest.raises(DamagedBody):  # each costs a decoder, which is made on the event loop
        decoded(member * (MEMBERS + 1), b"gzip", 1 << 20)


@pytest.mark.parametrize("size", [16 * 1024 - 40, 16 * 1024, 100_000])
def test_members_end_anywhere(size: int) -> None:
    bodies = [os.urandom(size), b"", os.urandom(3 * size)]

    assert decoded(b"".join(map(gzip.compress, bodies)), b"gzip", 1 << 20) == b"".join(bodies)


def read(limit: int, *pieces: bytes) -> tuple[bytes, bytes] | None:
    """The body and what is behind it, or None if it is not whole."""
    chunked = ChunkedBody(limit)
    for at, piece in enumerate(pieces):
        if chunked.feed(piece):
            assert at == len(pieces) - 1
            return bytes(chunked.body), chunked.unparsed
    return None


WELL_FORMED = [
    (b"0\r\n\r\n", b""),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"00003;x=y\r\nabc\r\n00\r\n\r\n", b"abc"),
    (b'3 ; a="b;c" ;d\r\nabc\r\nA\r\n0123456789\r\n0;last\r\n\r\n', b"abc0123456789"),
    (b"3\r\n\r\n\r\r\n0\r\nTrailer: x\r\nother:\r\n\r\n", b"\r\n\r"),
]


@pytest.mark.parametrize(("framed", "body"), WELL_FORMED)
def test_a_chunked_body_is_read_wherever_it_is_cut(framed: bytes, body: bytes) -> None:
    for at in range(len(framed)):
        assert read(100, framed[:at], framed[at:]) == (body, b"")
    assert read(100, *(framed[at : at + 1] for at in range(len(framed)))) == (body, b"")
    assert read(100, framed + b"\r\nGET ") == (body, b"\r\nGET ")
    assert read(100, framed[:-1]) is None


@pytest.mark.parametrize(
    "framed",
    [
        *(b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"g\r\n"),
        *(
            b"\r\n",
            b" 3\r\nabc\r\n",
            b"-3\r\n",
            b"0x3\r\n",
            b"3 3\r\n",
            b"+3\r\n",
            b"1" * 17 + b"\r\n",
            b"3;a\nb\r\nabc",
        ),
        *(b"3;" + b"x" * 5_000, b"0\r\nbad trailer\r\n\r\n", b"0\r\na: b\n\r\n", b"0\r\n folded\r\n\r\n", b"0\r\n\n"),
        b"0\r\na: " + b"x" * 20_000,
        b"0\r\n" + b"a: b\r\n" * 5_000 + b"\r\n",
    ],
)
def test_what_is_not_chunked_to_the_letter_is_refused(framed: bytes) -> None:
    with pytest.raises(MalformedChunk):
        read(100, framed)
    with pytest.raises(MalformedChunk):
        read(100, *(framed[at : at + 1] for at in range(len(framed))))


def test_others_get_on_between_chunks() -> None:
    count = 3 * CHUNKS_AT_ONCE + 1
    chunked = ChunkedBody(count)

    assert not chunked.feed(b"1\r\nx\r\n" * count + b"0\r\n\r\nGET ")
    for part in (1, 2, 3):
        assert chunked.is_behind
        assert len(chunked.body) == part * CHUNKS_AT_ONCE
        is_whole = chunked.feed(b"")
    assert is_whole
    assert (len(chunked.body), chunked.unparsed) == (count, b"GET ")


def test_a_chunk_over_the_limit_is_refused_by_its_size() -> None:
    assert read(3, b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n") == (b"abc", b"")
    with pytest.raises(TooLarge):
        read(3, b"2\r\nab\r\n2\r\n")
    with pytest.raises(TooLarge):
        read(3, b"ffffffffffffffff\r\n")


@given(
    parts=st.lists(st.binary(min_size=1, max_size=300), max_size=20),
    cuts=st.lists(st.integers(0, 5_000), max_size=10),
)
@settings(max_examples=100, deadline=None)
def test_any_body_comes_back(parts: list[bytes], cuts: list[int]) -> None:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    at = [0, *sorted({cut for cut in cuts if 0 < cut < len(framed)}), len(framed)]
    pieces = [framed[start:end] for start, end in itertools.pairwise(at)]

    assert read(1 << 20, *pieces) == (b"".join(parts), b"")
