"""What waits to be written to one client: many small frames go out in one system call, large ones without a copy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import trio

from coordinator.budget import Budget
from coordinator.socketio import send_now, send_steadily

__all__ = ["HIGH_WATER", "LARGE", "Outbox"]

HIGH_WATER: Final = 256 * 1024  # unsent bytes above which who writes should wait
LOW_WATER: Final = 64 * 1024  # unsent bytes at which it may go on
LARGE: Final = 64 * 1024  # bytes of a payload that is worth a system call of its own
PONG_ROOM: Final = 16 * 1024  # unsent bytes up to which each ping is answered; above them only the latest is


class Outbox:
    """The way to one client. Writing never waits: callers watch `waiting` themselves.

    What is expected to be the last for now is sent at once. Everything else is gathered, and written by one task, which
    is started when it is first needed. What was not sent when the connection broke is lost, as it would be in the
    kernel's own buffer.

    Args:
        budget: what was written is taken from it until the kernel has accepted it.
        write_timeout: seconds without progress after which the connection counts as broken.
        on_relief: called when `waiting` has fallen to the low-water mark after it was above the high one.
        on_broken: called once when the connection has broken.

    Attributes:
        send_now: as socketio.send_now, to this stream; another that does the same may take its place.
        waiting: bytes written here that the kernel has not accepted.
        is_broken: the connection has broken, or this was closed. What is written is dropped.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        budget: Budget,
        *,
        write_timeout: float,
        on_relief: Callable[[], None] = lambda: None,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self.send_now: Callable[[memoryview], memoryview] = partial(send_now, stream)
        self._budget = budget
        self._write_timeout = write_timeout
        self._on_relief = on_relief
        self._on_broken = on_broken
        self._unsent: deque[bytes] = deque()
        self._pong: bytes | None = None  # that came when there was no room
        self._writers: trio.Nursery | None = None
        self._something: trio.Event | None = None  # to write; None while there is no writer
        self._relieved: trio.Event | None = None  # while somebody has to wait
        self._drained: trio.Event | None = None  # while somebody waits for it
        self.waiting = 0
        self.is_broken = False

    def open(self, writers: trio.Nursery) -> None:
        """Tell it where its writer may run. The nursery must be cancelled in the end, for the writer never returns
        before the connection has broken."""
        self._writers = writers

    def close(self) -> None:
        """Drop what is unsent, and what is written from now on: the writers' nursery ends."""
        self._break()

    # -- writing

    def write(self, frame: bytes, *, is_last: bool = False) -> None:
        """Append a frame. With `is_last`, nothing to gather it with is expected: it is sent now if nothing waits."""
        if is_last and not self.waiting and not self.is_broken:
            try:
                rest = self.send_now(memoryview(frame))
            except OSError:
                self._break()
                return
            if not rest:
                return
            frame = bytes(rest)
        self._append(frame)

    def write_payload(self, head: bytes, *pieces: bytes) -> None:
        """Append a frame whose payload is too large to be copied."""
        self._append(head)
        for piece in pieces:
            self._append(piece)

    def write_pong(self, frame: bytes) -> None:
        """Append a pong, or if much is unsent, have the latest one sent with the next. A flood of pings so holds no
        more than a constant amount here."""
        if self.waiting < PONG_ROOM:
            self._append(frame)
        else:
            self._pong = frame

    def _append(self, data: bytes) -> None:
        if self.is_broken:
            return
        self._unsent.append(data)
        size = len(data)
        self.waiting += size
        self._budget.take(size)
        if self._something is not None:
            self._something.set()
        elif self._writers is not None:
            self._something = trio.Event()
            self._something.set()
            self._writers.start_soon(self._write)
        if self.waiting > HIGH_WATER and self._relieved is None:
            self._relieved = trio.Event()

    # -- waiting

    async def relieved(self) -> None:
        """Wait until `waiting` is at the low-water mark, if it was above the high one, or the connection has broken."""
        if self._relieved is not None:
            await self._relieved.wait()

    async def drained(self) -> None:
        """Wait until the kernel has everything, or the connection has broken."""
        if self.waiting:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()

    # -- the writer

    async def _write(self) -> None:
        assert self._something is not None
        try:
            while True:
                await self._something.wait()
                self._something = trio.Event()
                for data in self._gathered():
                    rest = self.send_now(data)
                    self._accepted(len(data) - len(rest))
                    if rest:
                        await send_steadily(self._stream, rest, self._write_timeout, self._accepted)
                        del rest
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._break()

    def _gathered(self) -> Iterator[memoryview]:
        """What is unsent, in pieces to be sent at once. Small ones are joined, large ones are as they were written."""
        unsent = self._unsent
        while unsent:
            if self.waiting <= HIGH_WATER:
                data = unsent[0] if len(unsent) == 1 else b"".join(unsent)
                unsent.clear()
            elif len(unsent[0]) >= LARGE:
                data = unsent.popleft()
            else:
                data = self._several()
            yield memoryview(data)
            if self._pong is not None and not unsent:
                pong, self._pong = self._pong, None
                self._append(pong)

    def _several(self) -> bytes:
        """The first pieces, up to the next large one."""
        pieces = []
        size = 0
        while self._unsent and size < LARGE and len(self._unsent[0]) < LARGE:
            piece = self._unsent.popleft()
            size += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _accepted(self, size: int) -> None:
        self.waiting -= size
        self._budget.give_back(size)
        if self._relieved is not None and self.waiting <= LOW_WATER:
            self._relieve()
        if not self.waiting and self._drained is not None:
            self._drained.set()
            self._drained = None

    def _relieve(self) -> None:
        if self._relieved is not None:
            self._relieved.set()
            self._relieved = None
            self._on_relief()

    def _break(self) -> None:
        if self.is_broken:
            return
        self.is_broken = True
        self._unsent.clear()
        self._pong = None
        self._budget.give_back(self.waiting)
        self.waiting = 0
        self._on_broken()
        self._relieve()
        if self._drained is not None:
            self._drained.set()
