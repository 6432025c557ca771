"""The cases of the Autobahn test suite for servers, sections 1 to 7, 9 and 10, each to its strict outcome.

Autobahn's server under test echoes. Ours answers JSON-RPC, so where the suite sends a text of its own, a call is sent,
padded to the size that the case wants, and where the suite expects the echo, the reply to it. A message too small to be
a call, or one whose bytes the case prescribes, is answered with a parse error. Everything else is the same: which
frames come, in which order, with which code the connection is closed by whom, and that its end is no reset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import pytest

from tests.support.clients import json_text, request
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameClient, close_payload, frame
from tests.support.jsonrpc import check_reply
from tests.support.records import load
from tests.support.server import CoordinatorProcess, coordinator

KIB: Final = 1024
MIB: Final = 1024 * KIB
QUIET: Final = 0.2  # seconds in which nothing may come
CALL: Final = json_text(request(*load("actor", 0, 0), id=1))
NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
INVALID_DATA: Final = 1007


def call(size: int) -> bytes:
    """A message of this many bytes; a call if there is room for one."""
    head, tail = f'{CALL[:-1]},"x":"', '"}'
    room = size - len(head) - len(tail)
    return (f"{head}{'*' * room}{tail}" if room >= 0 else "*" * size).encode()


HELLO: Final = call(120)


@dataclass(frozen=True)
class Reply:
    """Comes: the reply to this message."""

    message: bytes


@dataclass(frozen=True)
class APong:
    """Comes: a pong with this payload."""

    payload: bytes


Coming = Reply | APong


@dataclass(frozen=True)
class Wait:
    """Send no more until this has come, and nothing else."""

    coming: tuple[Coming, ...] = ()


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        steps: what is sent, as it is cut, and when.
        coming: what comes for it, beyond what was waited for, before the Close frame.
        code: that the server closes with, by itself or in answer to our own Close frame; None for no code.
        closes: whether we close once everything has come.
    """

    name: str
    steps: tuple[bytes | Wait, ...]
    coming: tuple[Coming, ...] = ()
    code: int | None = NORMAL
    closes: bool = True
    reason: bytes = b""


def fails(name: str, *steps: bytes | Wait, coming: Sequence[Coming] = (), code: int = PROTOCOL_ERROR) -> Case:
    """A case in which the server closes by itself."""
    return Case(name, steps, tuple(coming), code, closes=False)


def octets(*frames: bytes) -> tuple[bytes, ...]:
    """These, each byte sent by itself."""
    return tuple(bytes([byte]) for one in frames for byte in one)


def chops(data: bytes, size: int) -> tuple[bytes, ...]:
    """This, sent in pieces of so many bytes."""
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def fragments(payload: bytes, size: int, opcode: int = TEXT) -> tuple[bytes, ...]:
    """This as a message in fragments of so many bytes."""
    pieces = chops(payload, size)
    return tuple(
        frame(CONTINUATION if at else opcode, piece, fin=at == len(pieces) - 1) for at, piece in enumerate(pieces)
    )


# -- 1: framing


def _framing() -> Iterator[Case]:
    for section, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield Case(f"1.{section}.{number}", (frame(opcode, call(size)),), (Reply(call(size)),))
        message = call(65536)
        yield Case(f"1.{section}.8", chops(frame(opcode, message), 997), (Reply(message),))


# -- 2: pings and pongs


def _pings() -> Iterator[Case]:
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    yield Case("2.1", (frame(PING),), (APong(b""),))
    yield Case("2.2", (frame(PING, b"Hello, world!"),), (APong(b"Hello, world!"),))
    yield Case("2.3", (frame(PING, binary),), (APong(binary),))
    yield Case("2.4", (frame(PING, b"\xfe" * 125),), (APong(b"\xfe" * 125),))
    yield fails("2.5", frame(PING, b"\xfe" * 126))
    yield Case("2.6", octets(frame(PING, b"\xfe" * 125)), (APong(b"\xfe" * 125),))
    yield Case("2.7", (frame(PONG), Wait()))
    yield Case("2.8", (frame(PONG, b"unsolicited pong payload"), Wait()))
    yield Case("2.9", (frame(PONG, b"unsolicited"), frame(PING, b"ping payload")), (APong(b"ping payload"),))
    many = [b"payload-%d" % number for number in range(10)]
    yield Case("2.10", tuple(frame(PING, payload) for payload in many), tuple(map(APong, many)))
    yield Case("2.11", octets(*(frame(PING, payload) for payload in many)), tuple(map(APong, many)))


# -- 3: reserved bits; 4: reserved opcodes


def _reserved() -> Iterator[Case]:
    hello = frame(TEXT, HELLO)
    got = (Reply(HELLO),)
    yield fails("3.1", frame(TEXT, HELLO, rsv=1))
    yield fails("3.2", hello + frame(TEXT, HELLO, rsv=2) + frame(PING), coming=got)
    yield fails("3.3", hello, frame(TEXT, HELLO, rsv=3), frame(PING), coming=got)
    yield fails("3.4", *octets(hello, frame(TEXT, HELLO, rsv=4)), coming=got)
    yield fails("3.5", frame(BINARY, b"\x00\xff\xfe\xfd", rsv=5))
    yield fails("3.6", frame(PING, b"Hello, world!", rsv=6))
    yield fails("3.7", frame(CLOSE, rsv=7))
    for section, first in ((1, 3), (2, 11)):
        yield fails(f"4.{section}.1", frame(first))
        yield fails(f"4.{section}.2", frame(first + 1, b"reserved opcode payload"))
        yield fails(f"4.{section}.3", hello + frame(first + 2) + frame(PING), coming=got)
        yield fails(f"4.{section}.4", hello + frame(first + 3, HELLO) + frame(PING), coming=got)
        yield fails(f"4.{section}.5", *octets(hello, frame(first + 4, b"reserved")), coming=got)


# -- 5: fragmentation


def _fragmentation() -> Iterator[Case]:
    first, last = HELLO[:60], HELLO[60:]
    opening = frame(TEXT, first, fin=False)
    ending = frame(CONTINUATION, last)
    whole = frame(TEXT, HELLO)
    got = (Reply(HELLO),)
    ping = frame(PING, b"ping payload")
    yield fails("5.1", frame(PING, b"fragment1", fin=False), frame(CONTINUATION, b"fragment2"))
    yield fails("5.2", frame(PONG, b"fragment1", fin=False), frame(CONTINUATION, b"fragment2"))
    yield Case("5.3", (opening + ending,), got)
    yield Case("5.4", (opening, ending), got)
    yield Case("5.5", octets(opening, ending), got)
    pong = APong(b"ping payload")
    yield Case("5.6", (opening + ping + ending,), (pong, *got))
    yield Case("5.7", (opening, ping, ending), (pong, *got))
    yield Case("5.8", octets(opening, ping, ending), (pong, *got))
    for number, fin in ((9, True), (12, False)):
        stray = frame(CONTINUATION, b"non-continuation payload", fin=fin)
        yield fails(f"5.{number}", stray + whole)
        yield fails(f"5.{number + 1}", stray, whole)
        yield fails(f"5.{number + 2}", *octets(stray))
    yield fails("5.15", opening + ending + frame(CONTINUATION, b"fragment3", fin=False) + whole, coming=got)
    for number, fin in ((16, False), (17, True)):
        stray = frame(CONTINUATION, b"fragment1", fin=fin)
        yield fails(f"5.{number}", (stray + opening + ending) * 2)
    yield fails("5.18", opening + frame(TEXT, last))
    parts = chops(HELLO, 24)
    for number, is_cut in ((19, False), (20, True)):
        before = [frame(TEXT, parts[0], fin=False), frame(CONTINUATION, parts[1], fin=False), frame(PING, b"1!")]
        after = [frame(CONTINUATION, part, fin=False) for part in parts[2:4]]
        after += [frame(PING, b"2!"), frame(CONTINUATION, parts[4])]
        steps: list[bytes | Wait] = [*before] if is_cut else [b"".join(before)]
        steps += [Wait((APong(b"1!"),)), *(after if is_cut else [b"".join(after)])]
        yield Case(f"5.{number}", tuple(steps), (APong(b"2!"), *got))


# -- 6: UTF-8

KOSME: Final = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"  # a Greek word of 11 bytes
SEQUENCES: Final[list[list[tuple[bool, bytes]]]] = [
    # 6.5: some valid sequences
    [
        (True, text.encode())
        for text in ("hello\u0024world", "hello\u00a2world", "hello\u20acworld", "hello\U00024b62world", KOSME.decode())
    ],
    # 6.6: all prefixes of a valid string
    [(len(KOSME[:end].decode(errors="ignore").encode()) == end, KOSME[:end]) for end in range(1, len(KOSME) + 1)],
    # 6.7: the first sequence of each length; 6.8: of five and six bytes
    [(True, text) for text in (b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80")],
    [(False, text) for text in (b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80")],
    # 6.9: the last sequence of each length; 6.10: of four, five and six bytes
    [(True, text) for text in (b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf")],
    [(False, text) for text in (b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf")],
    # 6.11: other boundaries
    [
        *((True, text) for text in (b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf")),
        (False, b"\xf4\x90\x80\x80"),
    ],
    # 6.12: continuation bytes alone
    [
        *((False, text) for text in (b"\x80", b"\xbf")),
        *((False, (b"\x80\xbf" * 3)[:size]) for size in range(2, 7)),
        (False, bytes(range(0x80, 0xBF))),
    ],
    # 6.13: first bytes alone
    [
        (False, b"".join(bytes([byte, 0x20]) for byte in range(first, last)))
        for first, last in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ],
    # 6.14: the last byte is missing; 6.15: several of those
    [(False, first + b"\x80" * more) for more, first in enumerate((b"\xc0", b"\xe0", b"\xf0", b"\xf8", b"\xfc"))]
    + [(False, first + b"\xbf" * more) for more, first in enumerate((b"\xdf", b"\xef", b"\xf7", b"\xfb", b"\xfd"))],
    [(False, b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf")],
    # 6.16: impossible bytes
    [(False, text) for text in (b"\xfe", b"\xff", b"\xfe\xfe\xff\xff")],
    # 6.17: overlong ASCII; 6.18: the largest overlong sequences; 6.19: an overlong NUL
    *(
        [(False, first + bytes([filler]) * more + last) for more, first in enumerate(firsts)]
        for firsts, filler, last in (
            ((b"\xc0", b"\xe0", b"\xf0", b"\xf8", b"\xfc"), 0x80, b"\xaf"),
            ((b"\xc1", b"\xe0\x9f", b"\xf0\x8f", b"\xf8\x87", b"\xfc\x83"), 0xBF, b"\xbf"),
            ((b"\xc0", b"\xe0", b"\xf0", b"\xf8", b"\xfc"), 0x80, b"\x80"),
        )
    ),
    # 6.20: halves of surrogates; 6.21: pairs of them
    [
        (False, b"\xed" + rest)
        for rest in (b"\xa0\x80", b"\xad\xbf", b"\xae\x80", b"\xaf\xbf", b"\xb0\x80", b"\xbe\x80", b"\xbf\xbf")
    ],
    [
        (False, b"\xed" + high + b"\xed" + low)
        for high in (b"\xa0\x80", b"\xad\xbf", b"\xae\x80", b"\xaf\xbf")
        for low in (b"\xb0\x80", b"\xbf\xbf")
    ],
    # 6.22: code points that are no characters, which is valid UTF-8
    [(True, chr(plane << 16 | 0xFFFE | last).encode()) for plane in range(17) for last in (0, 1)],
    # 6.23: the specials
    [(True, chr(code).encode()) for code in range(0xFFF9, 0x10000)],
]
UNFIT: Final = KOSME + b"\xf4\x90\x80\x80" + b"edited"  # its 13th byte is the first that spoils it


def _texts() -> Iterator[Case]:
    empty = frame(CONTINUATION, fin=False)
    yield Case("6.1.1", (frame(TEXT),), (Reply(b""),))
    yield Case("6.1.2", (frame(TEXT, fin=False) + empty + frame(CONTINUATION),), (Reply(b""),))
    middle = frame(TEXT, fin=False) + frame(CONTINUATION, HELLO, fin=False) + frame(CONTINUATION)
    yield Case("6.1.3", (middle,), (Reply(HELLO),))
    text = HELLO[:-2] + "-µ@ßöäüàá-UTF-8!!".encode() + b'"}'
    yield Case("6.2.1", (frame(TEXT, text),), (Reply(text),))
    cut = text.index("ö".encode())
    yield Case("6.2.2", (frame(TEXT, text[:cut], fin=False), frame(CONTINUATION, text[cut:])), (Reply(text),))
    yield Case("6.2.3", fragments(text, 1), (Reply(text),))
    yield Case("6.2.4", fragments(KOSME, 1), (Reply(KOSME),))
    spoilt = KOSME + b"\xed\xa0\x80edited"
    yield fails("6.3.1", frame(TEXT, spoilt), code=INVALID_DATA)
    yield fails("6.3.2", b"".join(fragments(spoilt, 1)), code=INVALID_DATA)
    for number, ends in ((1, (11, 15)), (2, (12, 13))):
        pieces = UNFIT[: ends[0]], UNFIT[ends[0] : ends[1]]
        in_frames = frame(TEXT, pieces[0], fin=False), Wait(), frame(CONTINUATION, pieces[1], fin=False)
        yield fails(f"6.4.{number}", *in_frames, code=INVALID_DATA)
        one = frame(TEXT, UNFIT)
        start = len(one) - len(UNFIT)
        in_chops = one[: start + ends[0]], Wait(), one[start + ends[0] : start + ends[1]]
        yield fails(f"6.4.{number + 2}", *in_chops, code=INVALID_DATA)
    for section, sequences in enumerate(SEQUENCES, 5):
        for number, (is_valid, sequence) in enumerate(sequences, 1):
            name = f"6.{section}.{number}"
            sent = frame(TEXT, sequence)
            yield Case(name, (sent,), (Reply(sequence),)) if is_valid else fails(name, sent, code=INVALID_DATA)


# -- 7: closing


def _closing() -> Iterator[Case]:
    close = frame(CLOSE, close_payload(NORMAL))
    hello = frame(TEXT, HELLO)
    first, last = frame(TEXT, HELLO[:60], fin=False), frame(CONTINUATION, HELLO[60:])
    large = call(256 * KIB)

    def closed(name: str, sent: bytes, code: int | None = NORMAL, reason: bytes = b"", *coming: Coming) -> Case:
        return Case(name, (sent,), coming, code, closes=False, reason=reason)

    yield closed("7.1.1", hello + close, NORMAL, b"", Reply(HELLO))
    yield closed("7.1.2", close + close)
    yield closed("7.1.3", close + frame(PING))
    yield closed("7.1.4", close + hello)
    yield closed("7.1.5", first + close + last)
    yield closed("7.1.6", frame(TEXT, large) + hello + close + frame(PING), NORMAL, b"", Reply(large), Reply(HELLO))
    yield closed("7.3.1", frame(CLOSE), None)
    yield fails("7.3.2", frame(CLOSE, b"a"))
    yield closed("7.3.3", close)
    yield closed("7.3.4", frame(CLOSE, close_payload(NORMAL, b"Hello World!")), NORMAL, b"Hello World!")
    yield closed("7.3.5", frame(CLOSE, close_payload(NORMAL, b"*" * 123)), NORMAL, b"*" * 123)
    yield fails("7.3.6", frame(CLOSE, close_payload(NORMAL, b"*" * 124)))
    yield fails("7.5.1", frame(CLOSE, close_payload(NORMAL, KOSME + b"\xed\xa0\x80edited")), code=INVALID_DATA)
    valid = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for number, code in enumerate(valid, 1):
        yield closed(f"7.7.{number}", frame(CLOSE, close_payload(code)), code)
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield fails(f"7.9.{number}", frame(CLOSE, close_payload(code)))
    yield fails("7.13.1", frame(CLOSE, close_payload(5000)))
    yield fails("7.13.2", frame(CLOSE, close_payload(65535)))


# -- 9: limits; 10: fragments made by a library


def _limits() -> Iterator[Case]:
    for section, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate((64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB), 1):
            yield Case(f"9.{section}.{number}", (frame(opcode, call(size)),), (Reply(call(size)),))
    message = call(4 * MIB)
    for section, opcode in ((3, TEXT), (4, BINARY)):
        sizes = (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
        for number, size in enumerate(sizes, 1):
            sent = b"".join(fragments(message, size, opcode))
            yield Case(f"9.{section}.{number}", (sent,), (Reply(message),))
    message = call(MIB)
    for section, opcode in ((5, TEXT), (6, BINARY)):
        for number, size in enumerate((64, 128, 256, 512, 1024, 2048), 1):
            yield Case(f"9.{section}.{number}", chops(frame(opcode, message), size), (Reply(message),))
    for section, opcode in ((7, TEXT), (8, BINARY)):
        for number, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
            steps = (frame(opcode, call(size)) * 100, Wait((Reply(call(size)),) * 100)) * 10
            yield Case(f"9.{section}.{number}", steps)
    message = call(65536)
    yield Case("10.1.1", (b"".join(fragments(message, 1300)),), (Reply(message),))


CASES: Final = [
    case for section in (_framing, _pings, _reserved, _fragmentation, _texts, _closing, _limits) for case in section()
]


@pytest.fixture(scope="module")
def large_frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    """A coordinator that takes messages as large as the suite sends them."""
    data = str(tmp_path_factory.mktemp("data"))
    with coordinator("--data-dir", data, "--max-frame-bytes", str(17 * MIB)) as running:
        yield running


@cache
def check(message: bytes, reply: bytes) -> None:
    """The reply is what JSON-RPC demands of one to this message. To see that takes a while."""
    check_reply(message, reply)


def expect(client: FrameClient, coming: Sequence[Coming]) -> None:
    for expected in coming:
        got = client.next()
        assert got is not None, f"closed instead of {expected}"
        if isinstance(expected, APong):
            assert got == (PONG, expected.payload)
        else:
            assert got.opcode == TEXT, f"{got} instead of a reply"
            check(expected.message, got.payload)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(large_frames: CoordinatorProcess, case: Case) -> None:
    client = FrameClient(large_frames.ws)
    for step in case.steps:
        if isinstance(step, bytes):
            client.send(step)
        else:
            expect(client, step.coming)
            assert step.coming or client.is_quiet(QUIET), "something came that was not due, or the end"
    expect(client, case.coming)
    if case.closes:
        client.send(frame(CLOSE, close_payload(NORMAL)))
    (close,) = client.until_end()
    assert close.opcode == CLOSE
    assert close.code == case.code
    if case.code == NORMAL:
        assert close.payload[2:] == case.reason


def test_the_table_is_the_suites() -> None:
    """As many cases of each section as the suite has."""
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    sections = [name.split(".")[0] for name in names]

    counts = {section: sections.count(section) for section in dict.fromkeys(sections)}

    assert counts == {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}
