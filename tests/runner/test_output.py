"""Cutting output into lines, its limits, and the end that is kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.models import MAX_LOG_LINES, LogStream
from coordinator.runner.output import (
    BATCH_BYTES,
    BATCH_CALLS,
    BATCH_LINES,
    LINE_BYTES,
    TAIL_BYTES,
    TAIL_JSON_BYTES,
    Capture,
    Output,
    last_lines_fitting,
)


def taken(output: Output) -> dict[str, list[str]]:
    """Everything there is to take, by stream."""
    lines: dict[str, list[str]] = {}
    while batch := output.take():
        for stream, some in batch:
            lines.setdefault(stream, []).extend(some)
    return lines


def lines_of(capture: Capture, *pieces: bytes) -> list[bytes]:
    """The lines a stream of these pieces has."""
    lines = b"".join([*[capture.feed(piece) for piece in pieces], capture.close()])
    assert not lines or lines.endswith(b"\n")
    return lines.split(b"\n")[:-1]


def test_a_line_is_there_when_it_is_complete() -> None:
    capture = Capture()

    assert capture.feed(b"one\ntw") == b"one\n"
    assert capture.feed(b"o\r\n\nthree") == b"two\n\n"
    assert capture.close() == b"three\n"
    assert capture.close() == b""


def test_closing_adds_no_line_to_complete_output() -> None:
    assert lines_of(Capture(), b"one\n") == [b"one"]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"1%\r2%\r3%\ndone\n", [b"1%", b"2%", b"3%", b"done"]),
        (b"\r1%\r2%", [b"1%", b"2%"]),
        (b"1%\r", [b"1%"]),
        (b"one\r\ntwo\r\n", [b"one", b"two"]),
        (b"one\r\r\n\r\ntwo", [b"one", b"", b"two"]),
        (b"\r\r\r", []),
    ],
)
def test_a_carriage_return_ends_a_line_too(data: bytes, lines: list[bytes]) -> None:
    assert lines_of(Capture(), data) == lines
    assert lines_of(Capture(), *[data[at : at + 1] for at in range(len(data))]) == lines


def test_progress_is_seen_before_there_is_a_newline() -> None:
    assert Capture().feed(b"10%\r20%\r") == b"10%\n20%\n"


def test_a_long_line_is_cut_between_characters() -> None:
    text = "aé€😀" * 10_000

    pieces = lines_of(Capture(), text.encode() + b"\n")

    assert b"".join(pieces) == text.encode()
    assert all(LINE_BYTES - 4 < len(piece) <= LINE_BYTES for piece in pieces[:-1])
    assert all(piece.decode() for piece in pieces)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300) | st.text(alphabet="a\r\n").map(str.encode)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    assert lines_of(Capture(), *pieces) == lines_of(Capture(), b"".join(pieces))


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"x" * 5000, b"\n", b"\r", "€".encode() * 3000, b"y"])))
def test_nor_do_the_pieces_of_long_ones(pieces: list[bytes]) -> None:
    lines = lines_of(Capture(), *pieces)

    assert lines == lines_of(Capture(), b"".join(pieces))
    assert all(len(line) <= LINE_BYTES for line in lines)


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    output = Output(1000)
    output.feed("stdout", b"caf\xe9 \x00 \xff\n")

    assert output.take() == [("stdout", ["caf\ufffd \x00 \ufffd"])]


@pytest.mark.parametrize("line", [b"\n", b"x" * 100 + b"\n", b"\x00" * 1000 + b"\n", b"\xff" * (3 * LINE_BYTES)])
def test_a_batch_fits_into_a_frame_and_its_calls_into_their_limit(line: bytes) -> None:
    output = Output(10 * BATCH_BYTES)
    for at in range(3 * BATCH_BYTES // len(line)):
        output.feed("stderr" if at % 7 == 0 else "stdout", line)

    batch = output.take()

    assert 0 < len(batch) <= BATCH_CALLS
    assert all(0 < len(lines) <= MAX_LOG_LINES for _, lines in batch)
    assert len(json.dumps(batch)) < 500_000


def test_the_streams_are_taken_in_the_order_in_which_they_were_written() -> None:
    output = Output(1000)
    for number in range(3):
        output.feed("stdout", b"out %d\n" % number)
        output.feed("stderr", b"err %d\n" % number)
    output.feed("stderr", b"more\n")

    batch = output.take()

    assert batch == [
        ("stdout", ["out 0"]),
        ("stderr", ["err 0"]),
        ("stdout", ["out 1"]),
        ("stderr", ["err 1"]),
        ("stdout", ["out 2"]),
        ("stderr", ["err 2", "more"]),
    ]
    assert output.take() == []


def test_unfinished_lines_come_in_the_order_in_which_they_were_written_last() -> None:
    output = Output(1000)
    output.feed("stderr", b"first")
    output.feed("stdout", b"last")
    output.close()

    assert output.take() == [("stderr", ["first"]), ("stdout", ["last"])]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(0, 40_000), st.booleans())))
def test_nothing_is_lost_and_each_stream_keeps_its_order(fed: list[tuple[LogStream, int, bool]]) -> None:
    output = Output(10_000_000)
    expected: dict[str, str] = {"stdout": "", "stderr": ""}
    for number, (stream, size, ends) in enumerate(fed):
        text = f"{number} " + "x" * size
        output.feed(stream, text.encode() + (b"\n" if ends else b""))
        expected[stream] += text
    output.close()

    got = taken(output)

    assert {stream: "".join(got.get(stream, [])) for stream in expected} == expected


@pytest.mark.parametrize("pieces", [[b"0123456789\nabc\n"], [b"0123456789\n", b"abc\n"], [b"0123456789\na", b"bc\n"]])
def test_output_beyond_the_limit_is_dropped_with_one_notice(pieces: list[bytes]) -> None:
    output = Output(11)
    for piece in pieces:
        output.feed("stdout", piece)
    output.feed("stdout", b"more\n")
    output.feed("stderr", b"more\n")
    output.close()

    assert taken(output) == {"stdout": ["0123456789", "[more than 11 bytes of output; the rest is not logged]"]}


def test_output_of_just_the_limit_has_no_notice() -> None:
    output = Output(4)
    output.feed("stdout", b"abc\n")
    output.close()

    assert taken(output) == {"stdout": ["abc"]}


def test_a_line_cut_by_the_limit_is_logged_so_far() -> None:
    output = Output(3)
    output.feed("stdout", b"abcdef\n")

    assert taken(output)["stdout"][0] == "abc"


def test_the_end_is_kept_whatever_the_limit() -> None:
    output = Output(3)
    output.feed("stdout", b"x" * TAIL_BYTES)
    output.feed("stdout", b"the end\n")

    tail = output.captures["stdout"].tail
    assert tail.endswith("xthe end\n")
    assert len(tail) == TAIL_BYTES


def test_the_end_begins_with_a_whole_character() -> None:
    capture = Capture()
    capture.remember("€".encode() * TAIL_BYTES)

    assert set(capture.tail) == {"€"}


def test_the_end_fits_into_a_frame_even_if_every_byte_is_escaped() -> None:
    capture = Capture()
    capture.remember(b"\x00" * TAIL_BYTES)

    assert 0 < len(json.dumps(capture.tail)) <= TAIL_JSON_BYTES


@given(st.text(), st.integers(2, 50))
def test_the_end_that_fits_is_an_end(text: str, size: int) -> None:
    end = last_lines_fitting(text, size)

    assert text.endswith(end)
    assert len(json.dumps(end)) <= size


async def test_waiting_ends_with_a_whole_line() -> None:
    output = Output(1000)
    output.feed("stdout", b"on")
    assert not output.ready

    output.feed("stdout", b"e\n")
    await output.wait()
    output.take()

    assert not output.ready
    output.close()
    await output.wait()


def test_a_full_batch_and_the_end_are_pressing() -> None:
    output = Output(10 * BATCH_BYTES)
    output.feed("stdout", b"x\n")
    assert not output.pressing.is_set()

    output.feed("stdout", b"x\n" * BATCH_BYTES)
    assert output.pressing.is_set()

    assert sum(len(lines) for _, lines in output.take()) == BATCH_LINES  # of such short ones
    assert output.pressing.is_set()
    taken(output)
    assert not output.pressing.is_set()
    output.close()
    assert output.pressing.is_set()
