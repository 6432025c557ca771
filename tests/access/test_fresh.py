"""What is known of the store for a moment is asked for again while it is in use, so that nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from coordinator.errors import StorageError
from coordinator.rpc.access.fresh import ASKED_AGAIN, FRESH_FOR, Fresh


class Store:
    """Answers with how often it was asked, when it is let.

    Attributes:
        asked: how often.
        is_away: it fails instead.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.is_away = False
        self.answers = trio.Event()

    async def fetch(self, key: str) -> int:
        self.asked += 1
        await self.answers.wait()
        if self.is_away:
            raise StorageError("the store is away")
        return self.asked


@asynccontextmanager
async def asked_ahead(age: float) -> AsyncIterator[tuple[Store, Fresh[str, int]]]:
    """An answer, 0, of that age in seconds, and who asks for it again."""
    store = Store()
    fresh: Fresh[str, int] = Fresh(store.fetch)
    async with trio.open_nursery() as nursery:
        fresh.start = nursery.start_soon
        fresh.learn("it", 0, time.monotonic() - age)
        yield store, fresh
        nursery.cancel_scope.cancel()


OLD = FRESH_FOR - ASKED_AGAIN + 0.001


async def test_what_is_in_use_is_asked_for_again_once_and_nobody_waits_for_it() -> None:
    async with asked_ahead(OLD) as (store, fresh):
        for _ in range(3):
            fresh.keep("it")
            await trio.testing.wait_all_tasks_blocked()
        assert store.asked == 1
        store.answers.set()
        await trio.testing.wait_all_tasks_blocked()
        known = fresh.known("it")
        assert known is not None
        assert known.value == 1
        fresh.keep("it")
        await trio.testing.wait_all_tasks_blocked()
        assert store.asked == 1, "the answer is young"


async def test_what_is_not_known_or_young_or_has_nobody_to_ask_for_it_is_not_asked_for() -> None:
    async with asked_ahead(0.0) as (store, fresh):
        fresh.keep("it")
        fresh.keep("something else")
        fresh.learn("it", 0, time.monotonic() - OLD)
        fresh.start = None
        fresh.keep("it")
        await trio.testing.wait_all_tasks_blocked()
        assert store.asked == 0


async def test_who_needs_it_when_it_is_too_old_waits_with_who_asks_already() -> None:
    async with asked_ahead(OLD) as (store, fresh):
        fresh.keep("it")
        fresh.learn("it", 0, time.monotonic() - FRESH_FOR)  # it is asked for: nobody else's answer counts
        await trio.sleep(ASKED_AGAIN)
        assert fresh.known("it") is None
        values: list[int] = []

        async def get() -> None:
            values.append((await fresh.get("it")).value)

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(get)
            await trio.testing.wait_all_tasks_blocked()
            store.answers.set()
        assert values == [1, 1]
        assert store.asked == 1


async def test_an_answer_that_was_on_its_way_when_it_changed_is_not_believed() -> None:
    async with asked_ahead(OLD) as (store, fresh):
        fresh.keep("it")
        await trio.testing.wait_all_tasks_blocked()
        fresh.forget("it")
        store.answers.set()
        await trio.testing.wait_all_tasks_blocked()
        assert fresh.known("it") is None
        assert (await fresh.get("it")).value == 2


async def test_a_store_that_is_away_ends_nothing_and_is_asked_again_by_who_needs_it() -> None:
    async with asked_ahead(OLD) as (store, fresh):
        store.is_away = True
        store.answers.set()
        fresh.keep("it")
        await trio.testing.wait_all_tasks_blocked()
        assert store.asked == 1
        await trio.sleep(ASKED_AGAIN)
        with pytest.raises(StorageError):
            await fresh.get("it")
        store.is_away = False
        assert (await fresh.get("it")).value == 3
