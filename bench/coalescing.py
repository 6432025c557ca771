"""A stream whose writes are gathered, many small frames in one system call: what the coalesced echo runs on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Final

import trio

from coordinator.budget import Budget
from coordinator.socketio import RECEIVE_BYTES, receive_next, send_now

__all__ = ["CoalescingStream"]

HIGH_WATER: Final = 256 * 1024  # bytes waiting above which writers wait
LOW_WATER: Final = 64 * 1024  # bytes waiting at which they go on


class CoalescingStream(trio.abc.HalfCloseableStream):
    """Wraps a stream so that `send_all` and `write` append to a buffer which one flusher task writes out.

    `run_flusher` must run in a nursery that lives as long as the stream. What was buffered when the connection broke
    is lost, as it would be in the kernel's own buffer; `aclose` writes out what there is, within `write_timeout`.

    Args:
        budget: what was written is taken from it until the kernel has it.
        write_timeout: seconds the peer may take to accept one flush; past them the connection counts as broken.
    """

    def __init__(self, stream: trio.abc.Stream, budget: Budget, *, write_timeout: float = math.inf) -> None:
        self._stream = stream
        self.budget = budget
        self._write_timeout = write_timeout
        self._buffer: list[bytes | bytearray | memoryview] = []
        self._size = 0
        self._in_kernel = 0
        self._something = trio.Event()  # to write; replaced by the flusher
        self._relieved = trio.Event()  # set whenever the buffer is below LOW_WATER
        self._relieved.set()
        self._flushed = trio.Event()  # set whenever the buffer is empty
        self._flushed.set()
        self._conflict = False
        self._broken = False
        self._closed = False
        self._sent_eof = False
        self.on_relief: Callable[[], None] = lambda: None
        """Called whenever the buffer falls below its low-water mark after `waiting` was above the high one."""
        self.hung_up = trio.Event()
        """Set once the peer sends nothing more, as far as `receive_some` was told, or can be sent nothing more."""

    @property
    def waiting(self) -> int:
        """Bytes accepted and not yet taken by the kernel."""
        return self._size + self._in_kernel

    def write(self, data: bytes, *, is_last: bool = False) -> None:
        """Append without waiting; ignored once the stream has ended. Callers watch `waiting` themselves.

        With `is_last`, nothing to gather it with is expected: it is sent now if nothing waits before it.
        """
        if self._broken or self._closed:
            return
        if is_last and not self.waiting:
            with contextlib.suppress(OSError):  # which the flusher gets as well, and ends the stream
                data = send_now(self._stream, data)
            if not data:
                return
        self._buffer.append(data)
        self._size += len(data)
        self.budget.take(len(data))
        if not self._something.is_set():
            self._something.set()
            self._flushed = trio.Event() if self._flushed.is_set() else self._flushed
        if self.waiting > HIGH_WATER and self._relieved.is_set():
            self._relieved = trio.Event()

    async def relieved(self) -> None:
        """Wait until the buffer is below its low-water mark, or the stream has ended."""
        await self._relieved.wait()

    async def run_flusher(self) -> None:
        """Write out what gathers, until the stream has ended."""
        try:
            while not self._closed:
                await self._something.wait()
                if self._closed:
                    break
                data = b"".join(self._buffer)  # and nothing else holds it while the peer takes its time
                self._buffer.clear()
                self._in_kernel, self._size = self._size, 0
                self._something = trio.Event()
                data = send_now(self._stream, data)
                if data:
                    with trio.move_on_after(self._write_timeout) as limit:
                        await self._stream.send_all(data)
                    if limit.cancelled_caught:
                        break
                self.budget.give_back(self._in_kernel)
                self._in_kernel = 0
                if self._size <= LOW_WATER and not self._relieved.is_set():
                    self._relieved.set()
                    self.on_relief()
                if not self._buffer:
                    self._flushed.set()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._end()
            if not self._closed:
                # Wakes whoever reads from it, too.
                await trio.aclose_forcefully(self._stream)

    def _end(self) -> None:
        self._broken = True
        self._buffer.clear()
        self.budget.give_back(self._size + self._in_kernel)
        self._size = self._in_kernel = 0
        self._relieved.set()
        self._flushed.set()
        self.hung_up.set()

    # -- trio.abc.HalfCloseableStream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Append; waits while the buffer is above its high-water mark. Cancelled, the data may still be sent."""
        if self._conflict:
            raise trio.BusyResourceError("another task is sending")
        self._check_open()
        self._conflict = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if data:
                self.write(bytes(data))
            if self._relieved.is_set():
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
                await self._relieved.wait()
            self._check_open()
        finally:
            self._conflict = False

    async def wait_send_all_might_not_block(self) -> None:
        if self._conflict:
            raise trio.BusyResourceError("another task is sending")
        self._check_open()
        self._conflict = True
        try:
            await self._relieved.wait()
            self._check_open()
        finally:
            self._conflict = False

    async def send_eof(self) -> None:
        if self._conflict:
            raise trio.BusyResourceError("another task is sending")
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        self._conflict = True
        try:
            await self._flushed.wait()
            if not self._sent_eof and isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            self._sent_eof = True
        finally:
            self._conflict = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        try:
            data = await receive_next(self._stream, RECEIVE_BYTES if max_bytes is None else max_bytes)
        except trio.BrokenResourceError:
            self.hung_up.set()
            raise
        if not data:
            self.hung_up.set()
        return data

    async def aclose(self) -> None:
        """Write out what is buffered, then close. Cancelled, it closes at once."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._flushed.wait()  # bounded by the flusher's write_timeout
        finally:
            self._closed = True
            self._something.set()
            self._end()
            await self._stream.aclose()

    def _check_open(self) -> None:
        if self._closed or self._sent_eof:
            raise trio.ClosedResourceError("this stream was closed")
        if self._broken:
            raise trio.BrokenResourceError("the connection broke")
