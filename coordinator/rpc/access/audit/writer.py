"""The lines of this process on their way to the file of a log."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import structlog
import trio

from coordinator.logs import Seldom
from coordinator.rpc.access.audit.file import LogFile
from coordinator.supervision import supervise

__all__ = ["LogWriter"]

log = structlog.get_logger("coordinator.audit")

WAITING_BYTES: Final = 4 * 1024 * 1024  # of lines that are not written yet
GATHER: Final = 0.05  # seconds in which lines come together: a thread is asked that seldom
RETRY_EVERY: Final = 0.5  # seconds, while they cannot be written
FLUSH_TIMEOUT: Final = 5.0  # seconds for what remains in the end


class LogWriter:
    """The lines of this process, on their way to the file.

    They are held in memory while they cannot be written, up to a bound. Beyond that they are lost: calls go on.

    Args:
        log: which one it is.

    Attributes:
        lost: lines.
    """

    def __init__(self, path: Path, log: str = "audit log") -> None:
        self.lost = 0
        self._log = log
        self._file = LogFile(path)
        self._lines: list[str] = []
        self._unwritten = b""  # of those that were taken from there
        self._size = 0  # of both
        self._gap = 0  # lines lost of which the file does not tell yet
        self._wake = trio.Event()
        self._end = trio.Event()
        self._name = secrets.token_hex(4)
        self._clients = count(1)
        self._now = self._second = (0, "")
        self._failing = Seldom()

    def client(self) -> str:
        """A new client's name, which no other one has."""
        return f"{self._name}-{next(self._clients)}"

    def now(self) -> str:
        """As lines have it."""
        now = int(time.time() * 1000)
        if now != self._now[0]:
            second, milliseconds = divmod(now, 1000)
            if second != self._second[0]:
                self._second = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._now = now, f"{self._second[1]}.{milliseconds:03d}Z"
        return self._now[1]

    def add(self, line: str) -> None:
        """Have a line written, which is ASCII. Never blocks."""
        size = len(line)
        if self._size + size > WAITING_BYTES:
            self.lost += 1
            self._gap += 1
            return
        if self._gap:
            line = self._gap_line() + line
            size = len(line)
        if not self._lines:
            self._wake.set()
        self._size += size
        self._lines.append(line)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While this lasts lines are written, and in the end those that remain."""
        writing, is_over = trio.CancelScope(shield=True), trio.Event()

        async def write() -> None:
            with writing:
                await supervise(f"writing the {self._log}", self._write_lines)
            is_over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            try:
                yield
            finally:
                self._end.set()
                self._wake.set()
                with trio.move_on_after(FLUSH_TIMEOUT, shield=True):
                    await is_over.wait()
                writing.cancel()
                if is_over.is_set():  # else a thread may still be at it
                    self._file.close()
                self._give_up_the_rest()

    def _gap_line(self) -> str:
        lost, self._gap = self._gap, 0
        return f'{{"at":"{self.now()}","lost":{lost}}}\n'

    async def _write_lines(self) -> None:
        while True:
            if not self._size and not self._gap:
                if self._end.is_set():
                    return
                await self._wake.wait()
            with trio.move_on_after(GATHER):
                await self._end.wait()
            self._wake = trio.Event()
            lines = self._unwritten + "".join(self._lines).encode()
            if self._gap and self._size <= WAITING_BYTES // 2:
                told = self._gap_line()
                lines += told.encode()
                self._size += len(told)
            self._lines.clear()
            self._unwritten = lines
            written, fault = await trio.to_thread.run_sync(self._file.append, lines, abandon_on_cancel=True)
            self._unwritten = lines[written:]
            self._size -= written
            if fault is None:
                continue
            if self._end.is_set():
                return
            if self._failing.is_due():
                log.error(
                    f"the {self._log} cannot be written; calls go on, and lines are lost once too many wait",
                    reason=fault,
                    waiting_bytes=self._size,
                    lost=self.lost,
                )
            with trio.move_on_after(RETRY_EVERY):
                await self._end.wait()

    def _give_up_the_rest(self) -> None:
        rest = self._unwritten.count(b"\n") + sum(line.count("\n") for line in self._lines)
        if rest:
            self.lost += rest
            log.error(f"the {self._log} could not be written to its end", lost=self.lost)
