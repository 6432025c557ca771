"""What the store forgets unless it is said again: which runners are there, and what is followed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

import trio

from coordinator.actors.directory import Directory
from coordinator.actors.request import Operation
from coordinator.engine.contexts import Contexts
from coordinator.engine.following import ContextSubscription
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
FOLLOWED_AGAIN: Final = FOLLOWED_FOR / 3  # seconds between saying what is followed
CONTEXTS_AT_ONCE: Final = 8  # in which that is said: most are idle, and one that is called is to wait for no more


class Renewals:
    """Says these again for those who wait at one coordinator."""

    def __init__(self, layout: Layout, contexts: Contexts, directory: Directory) -> None:
        self._layout = layout
        self._contexts = contexts
        self._directory = directory

    def renew_runners(self) -> None:
        """Say it again of all runners that are here."""
        now = trio.current_time()
        for context_key, context in [*self._contexts.by_key.items()]:
            for runner in [*context.runners.values()]:
                runner.forget_expired(now)
            if context.runners or context.waiters:
                there = self._runners_there(context_key, context.there(), context.subscribed())
                self._directory.call_soon(context_key, there, lambda outcome: None)

    async def keep_followed(self) -> None:
        """Say it of what is followed, again and again. Never returns."""
        limit = trio.CapacityLimiter(CONTEXTS_AT_ONCE)
        while True:
            async with trio.open_nursery() as nursery:
                for context_key in [*self._contexts.by_key]:
                    await limit.acquire_on_behalf_of(context_key)
                    nursery.start_soon(self._keep_followed, context_key, limit)
            await trio.sleep(FOLLOWED_AGAIN)

    async def _keep_followed(self, context_key: ContextKey, limit: trio.CapacityLimiter) -> None:
        """Say it in one context. What the store refuses is said the next time."""
        try:
            context = self._contexts.of(context_key)
            says: list[Operation] = []
            if context.flows:
                says.append(self._flows_followed(context_key, [*context.flows]))
            if context.followers:
                # One who knows that the context was there learns that it was deleted.
                follower = max(context.followers.values(), key=lambda follower: follower.was_there)
                says.append(self._context_followed(context_key, follower))
            for operation in says:
                with suppress(CoordinatorError):
                    await self._directory.call(context_key, operation, timeout=FOLLOWED_AGAIN)
        finally:
            limit.release_on_behalf_of(context_key)

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
