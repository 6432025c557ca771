"""What the store forgets unless it is said again: which runners are there, and what is followed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import trio

from coordinator.actors.directory import Directory
from coordinator.actors.request import Operation
from coordinator.engine.contexts import Contexts
from coordinator.engine.following import ContextSubscription
from coordinator.engine.waiters import Waiters
from coordinator.errors import CoordinatorError
from coordinator.storage.connection import Command
from coordinator.storage.functions import events, runners
from coordinator.storage.functions.results import Refused
from coordinator.storage.functions.runners import Subscribed
from coordinator.storage.keys import ContextKey, Layout

__all__ = ["FOLLOWED_FOR", "THERE_FOR", "Renewals"]

FOLLOWED_FOR: Final = 30.0  # seconds a flow's events are announced after each time we say that somebody follows
THERE_FOR: Final = 5.0  # seconds a runner counts as there after each time we say so
SAID_AT_ONCE: Final = 1_000  # runners of which one call of the store is told
FOLLOWED_AGAIN: Final = 10.0  # seconds between saying what is followed
RUNNERS_AGAIN: Final = 2.0  # and which runners are there
CONTEXTS_AT_ONCE: Final = 8  # in which that is said: most are idle, and one that is called is to wait for no more
TAKES_LONG: Final = 0.2  # seconds


class _Few:
    """The contexts in which it is being said.

    Attributes:
        begun: when that was, on trio's clock.
    """

    def __init__(self) -> None:
        self.begun: dict[ContextKey, float] = {}
        self._ended = trio.Event()

    async def begin(self, context_key: ContextKey) -> None:
        """Wait until there are few enough. Those that take long, as when their server is away, do not count."""
        while True:
            now = trio.current_time()
            recent = [at for at in self.begun.values() if at > now - TAKES_LONG]
            if len(recent) < CONTEXTS_AT_ONCE:
                break
            self._ended = trio.Event()
            with trio.move_on_at(min(recent) + TAKES_LONG):
                await self._ended.wait()
        self.begun[context_key] = now

    def end(self, context_key: ContextKey) -> None:
        del self.begun[context_key]
        self._ended.set()


class Renewals:
    """Says these again for those who wait at one coordinator."""

    def __init__(self, layout: Layout, contexts: Contexts, directory: Directory) -> None:
        self._layout = layout
        self._contexts = contexts
        self._directory = directory

    async def keep_runners(self) -> None:
        """Say it of the runners that are here, again and again. Never returns."""
        await self._keep(RUNNERS_AGAIN, self._of_runners)

    async def keep_followed(self) -> None:
        """The same of what is followed."""
        await self._keep(FOLLOWED_AGAIN, self._of_followers)

    async def _keep(self, every: float, of: Callable[[ContextKey, Waiters], Iterator[Operation]]) -> None:
        few = _Few()
        async with trio.open_nursery() as nursery:
            while True:
                again = trio.current_time() + every
                for context_key in [*self._contexts.by_key]:
                    if context_key in few.begun:
                        continue
                    operations = [*of(context_key, self._contexts.of(context_key))]
                    if operations:
                        await few.begin(context_key)
                        nursery.start_soon(self._say, context_key, operations, few)
                await trio.sleep_until(again)

    async def _say(self, context_key: ContextKey, operations: list[Operation], few: _Few) -> None:
        """Say it in one context. What the store refuses is said the next time."""
        try:
            for operation in operations:
                with suppress(CoordinatorError):
                    await self._directory.call(context_key, operation, timeout=FOLLOWED_AGAIN)
        finally:
            few.end(context_key)

    def _of_runners(self, context_key: ContextKey, context: Waiters) -> Iterator[Operation]:
        now = trio.current_time()
        for runner in [*context.runners.values()]:
            runner.forget_expired(now)
        if context.runners or context.waiters:
            yield self._runners_there(context_key, context.there(), context.subscribed())

    def _of_followers(self, context_key: ContextKey, context: Waiters) -> Iterator[Operation]:
        if context.flows:
            yield self._flows_followed(context_key, [*context.flows])
        if context.followers:
            # One who knows that the context was there learns that it was deleted.
            follower = max(context.followers.values(), key=lambda follower: follower.was_there)
            yield self._context_followed(context_key, follower)

    def _runners_there(
        self, context_key: ContextKey, there: Mapping[str, Collection[int]], subscribed: Sequence[Subscribed]
    ) -> Operation:
        keys = self._layout.keyspace(context_key)
        says: list[Command] = [runners.runners_there(keys, THERE_FOR, [type], ids) for type, ids in there.items()]
        for start in range(0, len(subscribed), SAID_AT_ONCE):
            said = subscribed[start : start + SAID_AT_ONCE]
            says.append(runners.runners_subscribed(keys, THERE_FOR, said))
        yield says
        return b""

    def _flows_followed(self, context_key: ContextKey, flows: Sequence[int]) -> Operation:
        keys = self._layout.keyspace(context_key)
        duration = int(FOLLOWED_FOR * 1000)
        kept = yield [("SET", f"{keys.prefix}followed:{flow}", "1", "PX", duration, "GET") for flow in flows]
        for flow, was_followed in zip(flows, kept, strict=True):
            if was_followed is None:  # so events may not have been announced
                self._contexts.of(context_key).wake_followers(flow)
        return b""

    def _context_followed(self, context_key: ContextKey, follower: ContextSubscription) -> Operation:
        (reply,) = yield [follower.follow()]
        following = events.read_context_follow(reply)
        if isinstance(following, Refused) or following.is_new:  # so something may not have been announced
            self._contexts.of(context_key).wake_feed()
        return b""
