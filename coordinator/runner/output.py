"""What a script writes: cut into lines to be logged, limited, and its end kept."""

from __future__ import annotations

import json
from typing import Final

import trio

from coordinator.models import MAX_LOG_LINES, LogStream

__all__ = ["Capture", "Output", "last_lines_fitting"]

LINE_BYTES: Final = 16 * 1024
"""A longer line is logged in pieces of at most this size."""
BATCH_BYTES: Final = 64 * 1024
"""About what one job.log call carries. As JSON a byte takes at most six, so it stays under a frame's limit."""
TAIL_BYTES: Final = 64 * 1024
"""What the result keeps of the end of each stream."""
TAIL_JSON_BYTES: Final = 192 * 1024
"""And what that may take as JSON: the whole result must fit into one frame, also of a script that prints zeros."""

_LONGEST_CHARACTER: Final = 4  # bytes, in UTF-8


class Output:
    """Both streams of an attempt, under one limit.

    Args:
        limit: bytes of both together that are logged; the rest is dropped with a notice, but for the end kept.

    Attributes:
        pressing: set when a batch is full or nothing more will come, so that waiting for more makes no sense.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._something = trio.Event()
        self.pressing = trio.Event()
        self.captures: dict[LogStream, Capture] = {"stdout": Capture(), "stderr": Capture()}
        self.closed = False

    def feed(self, stream: LogStream, data: bytes) -> None:
        capture = self.captures[stream]
        capture.remember(data)
        if self._left >= 0:
            kept = data[: self._left]
            self._left -= len(data)
            capture.feed(kept)
            if self._left < 0:
                self._left = -1
                capture.close()
                capture.feed(b"[more than %d bytes of output; the rest is not logged]\n" % self._limit)
        self._note(capture)

    def note(self, line: str) -> None:
        """Add a line of our own to the log of stderr."""
        capture = self.captures["stderr"]
        capture.close()
        capture.feed(line.encode(errors="replace") + b"\n")
        self._note(capture)

    def close(self) -> None:
        """Nothing more will come: unfinished lines are lines."""
        self.closed = True
        for capture in self.captures.values():
            capture.close()
        self._something.set()
        self.pressing.set()

    def _note(self, capture: Capture) -> None:
        if capture.has_line:
            self._something.set()
        if capture.waiting >= BATCH_BYTES:
            self.pressing.set()

    @property
    def ready(self) -> bool:
        """Whether `wait` would return at once."""
        return self._something.is_set()

    async def wait(self) -> None:
        """Until there is a line to take, or none will ever come. A checkpoint."""
        await self._something.wait()

    def take(self) -> list[tuple[LogStream, list[str]]]:
        """The next lines of each stream that has some; empty when there are none for now."""
        taken = [(stream, lines) for stream, capture in self.captures.items() if (lines := capture.take())]
        if not self.closed:
            if not any(capture.has_line for capture in self.captures.values()):
                self._something = trio.Event()
            if all(capture.waiting < BATCH_BYTES for capture in self.captures.values()):
                self.pressing = trio.Event()
        return taken


class Capture:
    """One stream: the bytes that wait to be taken as lines, and the last ones seen."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._last = bytearray()

    def feed(self, data: bytes) -> None:
        self._pending += data

    def remember(self, data: bytes) -> None:
        self._last += data
        del self._last[:-TAIL_BYTES]

    def close(self) -> None:
        """End an unfinished line."""
        if self._pending and not self._pending.endswith(b"\n"):
            self._pending += b"\n"

    @property
    def waiting(self) -> int:
        """Bytes not taken yet."""
        return len(self._pending)

    @property
    def has_line(self) -> bool:
        return len(self._pending) > LINE_BYTES or b"\n" in self._pending

    def take(self) -> list[str]:
        """The next lines without their ends, as many as one call carries; invalid UTF-8 as U+FFFD."""
        lines: list[str] = []
        start = 0
        while len(lines) < MAX_LOG_LINES and start < BATCH_BYTES:
            newline = self._pending.find(b"\n", start, start + LINE_BYTES + 1)
            if newline >= 0:
                piece, start = self._pending[start:newline].removesuffix(b"\r"), newline + 1
            elif len(self._pending) - start > LINE_BYTES:
                cut = _character_start(self._pending, start + LINE_BYTES)
                piece, start = self._pending[start:cut], cut
            else:
                break
            lines.append(piece.decode(errors="replace"))
        del self._pending[:start]
        return lines

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


def _character_start(data: bytearray, index: int) -> int:
    """`index`, or up to three before it where a character starts."""
    for candidate in range(index, index - _LONGEST_CHARACTER, -1):
        if not _is_continuation(data[candidate]):
            return candidate
    return index  # no UTF-8 anyway


def _is_continuation(byte: int) -> bool:
    return byte & 0xC0 == 0x80
