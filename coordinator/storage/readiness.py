"""Waits for what arrives on many sockets, with one task and without a system call for each wait.

A socket is registered once, for as long as it is open. Each time that more arrives, its owner is told once, and has to
remember that until it has read the socket empty (edge-triggered epoll, see epoll(7)). Waiting for a socket with trio
takes a system call and a switch of tasks each time.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable
from typing import Final

import trio

__all__ = ["Arrived", "Readiness", "is_available"]

AT_ONCE: Final = 64  # sockets that are told of before others get on

_ENDING: Final = getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)

Arrived = Callable[[bool], None]
"""Is told that something has arrived, and whether nothing comes after it. It must not block, and must not raise."""


def is_available() -> bool:
    """Whether this system has epoll."""
    return hasattr(select, "epoll")


class Readiness:
    """Knows the sockets. `run` it while they are in use."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._arrived: dict[int, Arrived] = {}

    def watch(self, descriptor: int, arrived: Arrived) -> None:
        """Tell of what arrives on a socket from now on, and of what has before. Raises OSError."""
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        self._arrived[descriptor] = arrived

    def forget(self, descriptor: int) -> None:
        """The socket is about to be closed, and its number may be another's then."""
        if self._arrived.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Tell of what arrives. Never returns."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for descriptor, events in self._epoll.poll(0, AT_ONCE):
                arrived = self._arrived.get(descriptor)
                if arrived is not None:
                    arrived(bool(events & _ENDING))

    def close(self) -> None:
        """Nothing is watched any more."""
        self._arrived.clear()
        self._epoll.close()
