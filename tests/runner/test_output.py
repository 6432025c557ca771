"""Cutting output into lines, its limits, and the end that is kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.models import MAX_LOG_LINES
from coordinator.runner.output import (
    BATCH_BYTES,
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


def test_a_line_is_taken_when_it_is_complete() -> None:
    capture = Capture()

    capture.feed(b"one\ntw")
    assert capture.take() == ["one"]
    assert not capture.has_line

    capture.feed(b"o\r\n\nthree")
    assert capture.take() == ["two", ""]

    capture.close()
    assert capture.take() == ["three"]
    assert capture.take() == []


def test_closing_adds_no_line_to_complete_output() -> None:
    capture = Capture()
    capture.feed(b"one\n")

    capture.close()

    assert capture.take() == ["one"]


def test_a_long_line_is_cut_between_characters() -> None:
    capture = Capture()
    text = "aé€😀" * 10_000
    capture.feed(text.encode() + b"\n")

    pieces: list[str] = []
    while some := capture.take():
        pieces += some

    assert "".join(pieces) == text
    assert all(LINE_BYTES - 4 < len(piece.encode()) <= LINE_BYTES for piece in pieces[:-1])


@given(st.lists(st.binary(max_size=300)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    at_once, by_pieces = Capture(), Capture()
    at_once.feed(b"".join(pieces))
    at_once.close()

    lines: list[str] = []
    for piece in pieces:
        by_pieces.feed(piece)
        lines += by_pieces.take()
    by_pieces.close()
    lines += by_pieces.take()

    assert lines == at_once.take()


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    capture = Capture()
    capture.feed(b"caf\xe9 \x00 \xff\n")

    assert capture.take() == ["caf\ufffd \x00 \ufffd"]


@pytest.mark.parametrize("line", [b"\n", b"x" * 100 + b"\n", b"\x00" * 1000 + b"\n", b"\xff" * (3 * LINE_BYTES)])
def test_a_batch_fits_into_a_call_and_a_frame(line: bytes) -> None:
    capture = Capture()
    capture.feed(line * (3 * BATCH_BYTES // len(line)))

    lines = capture.take()

    assert len(lines) <= MAX_LOG_LINES
    assert len(json.dumps(lines)) < 500_000


def test_streams_are_taken_apart() -> None:
    output = Output(1000)
    output.feed("stdout", b"out\n")
    output.feed("stderr", b"err\n")

    assert output.take() == [("stdout", ["out"]), ("stderr", ["err"])]
    assert output.take() == []


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

    taken(output)
    assert not output.pressing.is_set()
    output.close()
    assert output.pressing.is_set()
