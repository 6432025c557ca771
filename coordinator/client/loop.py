"""What followers, runner subscriptions and submissions need of an event loop, so that one text of each serves both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import trio

from coordinator.client.errors import ClientError

__all__ = ["Event", "Loop", "TrioLoop"]


class Event(Protocol):
    """Set once."""

    def set(self) -> object: ...
    async def wait(self) -> object: ...


class Loop(Protocol):
    """An event loop. Its clock is that of the deadlines of calls."""

    def event(self) -> Event: ...

    def now(self) -> float: ...

    async def checkpoint(self) -> None:
        """Let others run."""

    async def sleep(self, seconds: float) -> None: ...

    async def wait_until(self, event: Event, deadline: float) -> bool:
        """Wait for the event; false if the deadline passed before it."""

    async def together(self, act: Callable[[], Awaitable[object]], count: int) -> None:
        """Do this in so many tasks. What the first one raises that fails is raised, and the others are cancelled."""

    async def last_words(self, say: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Do this although the task has been cancelled, for so long. That it fails says nothing: the caller is to
        learn what went wrong before."""


class TrioLoop:
    """Trio."""

    def event(self) -> Event:
        return trio.Event()

    def now(self) -> float:
        return trio.current_time()

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def wait_until(self, event: Event, deadline: float) -> bool:
        with trio.move_on_at(deadline):
            await event.wait()
            return True
        return False

    async def together(self, act: Callable[[], Awaitable[object]], count: int) -> None:
        failed: list[Exception] = []

        async def one() -> None:
            try:
                await act()
            except Exception as error:
                failed.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
        if failed:
            raise failed[0]

    async def last_words(self, say: Callable[[], Awaitable[object]], seconds: float) -> None:
        limit = trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)
        with limit, suppress(ClientError, trio.ClosedResourceError):
            await say()
