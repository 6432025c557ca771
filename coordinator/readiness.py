"""Waits for what arrives on many sockets, with one task and without a system call for each wait.

A socket is registered once, for as long as it is open. Each time that more arrives, its owner is told once, and has to
remember that until it has read the socket empty (edge-triggered epoll, see epoll(7)). Waiting for a socket with trio
takes a system call and a switch of tasks each time.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from typing import Final

import trio

from coordinator.socketio import RECEIVE_BYTES, Bytes

__all__ = ["Readiness", "WatchedSocket", "is_available"]

AT_ONCE: Final = 64  # sockets that are told of before others get on

_ENDING: Final = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)


def is_available() -> bool:
    """Whether this system has epoll."""
    return hasattr(select, "epoll")


class Readiness:
    """Knows the sockets. `run` it while they are in use.

    Args:
        told_all: called after it has told of some of what has arrived. It must not block, and must not raise.

    Attributes:
        is_telling: it tells of what has arrived, and will call that.
    """

    def __init__(self, told_all: Callable[[], None] = lambda: None) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, WatchedSocket] = {}
        self._told_all = told_all
        self.is_telling = False

    def watch(self, descriptor: int, incoming: WatchedSocket) -> None:
        """Tell of what arrives on a socket from now on, and of what has before. Raises OSError."""
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        self._watched[descriptor] = incoming

    def forget(self, descriptor: int, incoming: WatchedSocket) -> None:
        """Tell this one no more of a socket that is about to be closed, as its number may be another's then; it may be
        already, if the socket was closed without a word."""
        if self._watched.get(descriptor) is incoming:
            del self._watched[descriptor]
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Tell of what arrives. Never returns."""
        watched = self._watched
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self.is_telling = True
            try:
                for descriptor, events in self._epoll.poll(0, AT_ONCE):
                    incoming = watched.get(descriptor)
                    if incoming is not None:
                        incoming.has_arrived = True
                        if events & _ENDING:
                            incoming.is_ending = True
                        incoming.told()
            finally:
                self.is_telling = False
                self._told_all()

    def close(self) -> None:
        """Nothing is watched any more."""
        self._watched.clear()
        self._epoll.close()


class WatchedSocket:
    """A socket that is watched: it is read when more has arrived, and written to, without trio's detours.

    Args:
        told: called each time that more has arrived. It must not block, and must not raise.

    Attributes:
        told: that; another may take its place.
        has_arrived: something may have that was not read.
        is_ending: nothing comes after what has arrived.

    Raises:
        OSError: it cannot be watched.
    """

    __slots__ = ("_descriptor", "_readiness", "has_arrived", "is_ending", "told")

    def __init__(self, readiness: Readiness, stream: trio.SocketStream, told: Callable[[], None]) -> None:
        self._readiness = readiness
        self._descriptor = stream.socket.fileno()
        self.told = told
        self.is_ending = False
        self.has_arrived = True
        readiness.watch(self._descriptor, self)

    def read_now(self, max_bytes: int = RECEIVE_BYTES) -> bytes | None:
        """What has arrived: nothing at its end, None if nothing has yet.

        Raises:
            trio.BrokenResourceError: the connection broke.
        """
        if not self.has_arrived:
            return None
        try:
            data = os.read(self._descriptor, max_bytes)
        except BlockingIOError:
            self.has_arrived = False
            return None
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
        # Less than was asked for is all there is: what comes later is told. The end may have been told already.
        self.has_arrived = self.is_ending or len(data) == max_bytes
        return data

    def write_now(self, data: Bytes) -> Bytes:
        """Send what the kernel accepts at once. Returns what remains. Raises OSError: the connection broke."""
        try:
            return data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            return data

    def forget(self) -> None:
        """Be told no more. The socket is about to be closed."""
        self._readiness.forget(self._descriptor, self)
        self._descriptor = -1
        self.has_arrived = False
