"""What a script writes: cut into lines to be logged, limited, and its end kept."""

from __future__ import annotations

import json
import re
from collections import deque
from typing import Final

import trio

from coordinator.models import MAX_LOG_LINES, LogStream

__all__ = ["Capture", "Output", "last_lines_fitting"]

LINE_BYTES: Final = 16 * 1024
"""A longer line is logged in pieces of at most this size."""
BATCH_BYTES: Final = 64 * 1024
"""About what a batch of job.log calls carries. As JSON a byte takes at most six, so it stays under a frame's limit."""
BATCH_CALLS: Final = 100
"""How many calls a batch has at most: each time the script changes the stream there is another."""
BATCH_LINES: Final = 4 * MAX_LOG_LINES
"""About how many lines a batch has at most: the time that the coordinator takes goes by them, and heartbeats wait."""
TAIL_BYTES: Final = 64 * 1024
"""What the result keeps of the end of each stream."""
TAIL_JSON_BYTES: Final = 192 * 1024
"""And what that may take as JSON: the whole result must fit into one frame, also of a script that prints zeros."""

_LONGEST_CHARACTER: Final = 4  # bytes, in UTF-8
_RETURNS: Final = re.compile(rb"\r+")


class Output:
    """Both streams of an attempt in the order in which they were read, under one limit.

    Args:
        limit: bytes of both together that are logged; the rest is dropped with a notice, but for the end kept.

    Attributes:
        pressing: set when a batch is full or nothing more will come, so that waiting for more makes no sense.
        ended: set when nothing more will come.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._remaining = limit
        self._something = trio.Event()
        self._runs: deque[tuple[LogStream, bytearray]] = deque()  # whole lines, each ended by a newline
        self._waiting = 0  # bytes of them
        self._last_fed: LogStream = "stderr"
        self.pressing = trio.Event()
        self.captures: dict[LogStream, Capture] = {"stdout": Capture(), "stderr": Capture()}
        self.ended = trio.Event()

    def feed(self, stream: LogStream, data: bytes) -> None:
        capture = self.captures[stream]
        capture.remember(data)
        self._last_fed = stream
        if self._remaining >= 0:
            kept = data[: self._remaining]
            self._remaining -= len(data)
            self._add(stream, capture.feed(kept))
            if self._remaining < 0:
                self._remaining = -1
                notice = b"[more than %d bytes of output; the rest is not logged]\n" % self._limit
                self._add(stream, capture.close() + notice)

    def note(self, line: str) -> None:
        """Add a line of our own to the log of stderr."""
        self._add("stderr", self.captures["stderr"].close() + line.encode(errors="replace") + b"\n")

    def close(self) -> None:
        """Nothing more will come: unfinished lines are lines."""
        self.ended.set()
        for stream in sorted(self.captures, key=lambda stream: stream == self._last_fed):
            self._add(stream, self.captures[stream].close())
        self._something.set()
        self.pressing.set()

    def _add(self, stream: LogStream, lines: bytes) -> None:
        if not lines:
            return
        if not self._runs or self._runs[-1][0] != stream:
            self._runs.append((stream, bytearray()))
        self._runs[-1][1].extend(lines)
        self._waiting += len(lines)
        self._something.set()
        if self._waiting >= BATCH_BYTES:
            self.pressing.set()

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self.ended.is_set()

    @property
    def ready(self) -> bool:
        """Whether `wait` would return at once."""
        return self._something.is_set()

    async def wait(self) -> None:
        """Until there is a line to take, or none will ever come. A checkpoint."""
        await self._something.wait()

    def take(self) -> list[tuple[LogStream, list[str]]]:
        """The next lines, without their ends, in their order: as much as one batch carries, each item as one call does.
        Invalid UTF-8 is U+FFFD. Empty when there are none for now.
        """
        taken: list[tuple[LogStream, list[str]]] = []
        room, count = BATCH_BYTES, 0
        while self._runs and room > 0 and len(taken) < BATCH_CALLS and count < BATCH_LINES:
            stream, lines = self._runs[0]
            end = lines.rfind(b"\n", 0, room) + 1 or lines.find(b"\n") + 1
            if taken and end > room:
                break
            whole = bytes(lines[:end]).split(b"\n", MAX_LOG_LINES)
            end -= len(whole.pop())
            taken.append((stream, [line.decode(errors="replace") for line in whole]))
            del lines[:end]
            if not lines:
                self._runs.popleft()
            room -= end
            count += len(whole)
            self._waiting -= end
        if not self.closed:
            if not self._runs:
                self._something = trio.Event()
            if self._waiting < BATCH_BYTES and count < BATCH_LINES:
                self.pressing = trio.Event()
        return taken


class Capture:
    """One stream: the line that is not complete yet, and the last bytes seen.

    A line ends with a newline, or with the carriage returns by which programs show their progress; those before a
    newline belong to it. Of carriage returns alone comes no line.
    """

    def __init__(self) -> None:
        self._partial = bytearray()
        self._is_after_return = False  # of a line that was returned: a newline that follows is a part of its end
        self._last = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete now, each ended by a newline."""
        if self._is_after_return:
            data = data.lstrip(b"\r")
            if not data:
                return b""
            self._is_after_return = False
            data = data.removeprefix(b"\n")
        self._partial += data
        if b"\r" in self._partial:
            self._make_newlines()
        end = self._partial.rfind(b"\n") + 1
        lines = bytes(self._partial[:end])
        del self._partial[:end]
        return _cut_lines(lines) + self._pieces()

    def _make_newlines(self) -> None:
        """Make newlines of all carriage returns, unless it is open yet what comes of the last one."""
        data = bytes(self._partial)
        text = data.rstrip(b"\r")
        if len(text) < len(data) and text and not text.endswith(b"\n"):
            self._is_after_return = True
            text += b"\n"
        if b"\r\r" in text:
            text = _RETURNS.sub(b"\r", text)
        text = text.replace(b"\r\n", b"\n")
        text = text.removeprefix(b"\r").replace(b"\n\r", b"\n").replace(b"\r", b"\n")
        is_open = len(data) > len(data.rstrip(b"\r")) and not self._is_after_return
        self._partial = bytearray(text + b"\r" if is_open else text)

    def _pieces(self) -> bytes:
        """What is too long already of the line that is not complete."""
        if len(self._partial) <= LINE_BYTES:
            return b""
        *pieces, rest = _cut(bytes(self._partial)).split(b"\n")
        self._partial = bytearray(rest)
        return b"".join([piece + b"\n" for piece in pieces])

    def remember(self, data: bytes) -> None:
        self._last += data
        del self._last[:-TAIL_BYTES]

    def close(self) -> bytes:
        """The line that was not complete, if there is one, as `feed` returns it."""
        line = bytes(self._partial).strip(b"\r")
        self._partial.clear()
        self._is_after_return = False
        return line + b"\n" if line else b""

    @property
    def tail(self) -> str:
        """The end of all that was fed, from the first whole character on."""
        start = 0
        if len(self._last) == TAIL_BYTES:
            while start < _LONGEST_CHARACTER and _is_continuation(self._last[start]):
                start += 1
        return last_lines_fitting(self._last[start:].decode(errors="replace"), TAIL_JSON_BYTES)


def last_lines_fitting(text: str, json_bytes: int) -> str:
    """The end of `text` whose JSON is at most so long; all of it if that fits."""
    while len(json.dumps(text)) > json_bytes:
        text = text[(len(text) + 1) // 2 :]
    return text


def _cut_lines(lines: bytes) -> bytes:
    """Lines with their ends, those that are too long in pieces."""
    at = 0
    while len(lines) - at > LINE_BYTES:
        newline = lines.rfind(b"\n", at, at + LINE_BYTES + 1)
        if newline < 0:
            return b"".join([_cut(line) for line in lines.splitlines(keepends=True)])
        at = newline + 1
    return lines


def _cut(line: bytes) -> bytes:
    """A line in pieces that are not too long, with newlines between them."""
    pieces = []
    at = 0
    while len(line) - line.endswith(b"\n") - at > LINE_BYTES:
        end = _character_start(line, at + LINE_BYTES)
        pieces.append(line[at:end])
        at = end
    return b"\n".join([*pieces, line[at:]])


def _character_start(data: bytes, index: int) -> int:
    """`index`, or up to three before it where a character starts."""
    for candidate in range(index, index - _LONGEST_CHARACTER, -1):
        if not _is_continuation(data[candidate]):
            return candidate
    return index  # no UTF-8 anyway


def _is_continuation(byte: int) -> bool:
    return byte & 0xC0 == 0x80
