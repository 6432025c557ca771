"""Asyncio, as what serves both loops asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from coordinator.client.errors import ClientError
from coordinator.client.loop import Event

__all__ = ["AsyncioLoop"]


class AsyncioLoop:
    """The running event loop."""

    def event(self) -> Event:
        return asyncio.Event()

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait_until(self, event: Event, deadline: float) -> bool:
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                await event.wait()
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        return True

    async def together(self, act: Callable[[], Awaitable[object]], count: int) -> None:
        tasks = [asyncio.ensure_future(act()) for _ in range(count)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def last_words(self, say: Callable[[], Awaitable[object]], seconds: float) -> None:
        # A cancellation is raised once, so what is awaited after it goes on.
        with suppress(ClientError, TimeoutError):
            async with asyncio.timeout(seconds):
                await say()
