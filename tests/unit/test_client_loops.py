"""What both event loops of the clients do for what is written once for both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import trio

from coordinator.client.aio.loop import AsyncioLoop
from coordinator.client.loop import Loop, TrioLoop

Main = Callable[[Loop], Awaitable[None]]


def on_trio(main: Main) -> None:
    trio.run(main, TrioLoop())


def on_asyncio(main: Main) -> None:
    async def run() -> None:
        await main(AsyncioLoop())

    asyncio.run(run())


@pytest.fixture(params=[on_trio, on_asyncio])
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    chosen: Callable[[Main], None] = request.param
    return chosen


def test_tasks_are_under_way_at_the_same_time(run: Callable[[Main], None]) -> None:
    async def main(loop: Loop) -> None:
        all_there, there = loop.event(), 0

        async def act() -> None:
            nonlocal there
            there += 1
            if there == 3:
                all_there.set()
            await all_there.wait()

        await loop.together(act, 3)

    run(main)


def test_what_one_raises_is_raised_as_it_is_once_the_others_have_ended(run: Callable[[Main], None]) -> None:
    ended = []

    async def main(loop: Loop) -> None:
        numbers = iter(range(3))

        async def act() -> None:
            number = next(numbers)
            try:
                await loop.checkpoint()
                if number == 1:
                    raise ValueError("mine")
                await loop.event().wait()
            finally:
                ended.append(number)

        await loop.together(act, 3)

    with pytest.raises(ValueError, match="mine"):
        run(main)
    assert sorted(ended) == [0, 1, 2]
