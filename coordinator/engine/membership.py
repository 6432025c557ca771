"""Coordinators on one store tell each other that they live; the contexts of one that does not are taken over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

import structlog
import trio

from coordinator.actors.request import Operation, RawJson
from coordinator.errors import CoordinatorError
from coordinator.logs import Seldom
from coordinator.storage.connection import Reply, Store
from coordinator.storage.faults import StoreUnavailable
from coordinator.storage.functions import registration, upkeep
from coordinator.storage.keys import GLOBAL, ContextKey, Layout

__all__ = ["Membership", "left_behind"]

log = structlog.get_logger("coordinator.membership")

DEAD_AFTER: Final = 10.0  # seconds of silence after which another coordinator's contexts are taken over
TAKE_OVER_AT_ONCE: Final = 50  # contexts of a dead coordinator looked at at the same time
LOOK_TIMEOUT: Final = 10.0  # seconds to wait for a context; it goes on being looked at after that


async def left_behind(store: Store) -> list[str]:
    """The coordinators of a store that nobody uses now: all of them are gone.

    They count as heard of just now, so that those who start next do not all look at the same contexts: each is for one
    of them to `take_over`.
    """
    coordinators = store.layout.keyspace(GLOBAL).coordinators()
    replies: list[Reply] = []
    try:
        connection = await store.open(GLOBAL)
        try:
            await connection.exchange([("ZRANGE", coordinators, 0, -1), ("TIME",)], replies)
            found, (seconds, _) = replies
            for name in found:
                await connection.exchange([("ZADD", coordinators, "XX", int(seconds) * 1000, name)], [])
        finally:
            await connection.aclose()
    except StoreUnavailable:
        return []  # they are missed when they have been silent for long enough
    return [name.decode() for name in found]


class Membership:
    """One coordinator's part in this.

    Args:
        call: carries out an operation of ours in a context; Directory.call.
        look_at: handles a context's timers from now on, and calls its last argument when it has done so once.
        owned_contexts: the contexts whose timers we handle.
        registered_contexts: those that we have registered as known.
        is_alone: nobody else uses the store now, so every other coordinator that did is gone.

    Attributes:
        is_stopping: what is under way may be refused.
    """

    def __init__(
        self,
        layout: Layout,
        call: Callable[[ContextKey, Operation], Awaitable[RawJson]],
        look_at: Callable[[ContextKey, Callable[[], None]], None],
        owned_contexts: Callable[[], list[int]],
        registered_contexts: Callable[[], list[int]],
        *,
        is_alone: bool,
    ) -> None:
        self._keys = layout.keyspace(GLOBAL)
        self._name = layout.name
        self._call = partial(call, GLOBAL)
        self._look_at = look_at
        self._owned_contexts = owned_contexts
        self._registered_contexts = registered_contexts
        self._layout = layout
        self._is_alone = is_alone
        self.is_stopping = False
        self._seldom = Seldom()

    async def renew(self) -> None:
        """Say that we live, and take over from those that do not. What the store refuses is logged: the next renewal
        tries again."""
        with self._logging_refusals():
            for other in await self._say_so():
                with self._logging_refusals():
                    await self.take_over(other)

    @contextmanager
    def _logging_refusals(self) -> Iterator[None]:
        try:
            yield
        except CoordinatorError as error:
            if not self.is_stopping and self._seldom.is_due():
                log.warning("the store refused", error=error.data)

    async def leave(self) -> None:
        """Say that we do not live any more. That may fail: others miss us when we have been silent for long enough."""

        def operation() -> Operation:
            yield [("ZADD", self._keys.coordinators(), 0, self._name)]
            return b""

        with suppress(CoordinatorError):
            await self._call(operation())

    async def _say_so(self) -> list[str]:
        """Say that we live. Returns the coordinators that no longer do. Raises CoordinatorError."""
        silence = 0 if self._is_alone else DEAD_AFTER
        found: list[str] = []

        def operation() -> Operation:
            (reply,) = yield [upkeep.presence(self._keys, self._name, silence)]
            was_known, dead = upkeep.read_presence(reply)
            if not was_known:
                # Somebody thought us dead, or the store has lost its data: what we own is registered anew.
                if registered := self._registered_contexts():
                    yield [registration.own(self._layout, *registered)]
                yield from self._own(self._owned_contexts())
            found.extend(other for other in dead if other != self._name)
            return b""

        await self._call(operation())
        self._is_alone = False
        return found

    def _own(self, contexts: Sequence[int]) -> Operation:
        if contexts:
            yield [registration.own_known(self._layout, *contexts)]
        return b""

    async def take_over(self, other: str) -> None:
        """Handle the timers of a coordinator that is gone from now on, and forget it. Raises CoordinatorError: some of
        its contexts were not reached, and it is not forgotten."""
        contexts: list[int] = []
        late: list[int] = []

        def owned() -> Operation:
            (found,) = yield [("SMEMBERS", self._keys.owned_contexts(other))]
            contexts.extend(map(int, found))
            return b""

        def forget() -> Operation:
            yield from self._own(late)
            yield [("DEL", self._keys.owned_contexts(other)), ("ZREM", self._keys.coordinators(), other)]
            return b""

        await self._call(owned())
        limit = trio.CapacityLimiter(TAKE_OVER_AT_ONCE)

        async def look(context: int) -> None:
            looked = trio.Event()
            self._look_at(context, looked.set)
            with trio.move_on_after(LOOK_TIMEOUT) as waiting:
                await looked.wait()
            if waiting.cancelled_caught:
                late.append(context)
            limit.release_on_behalf_of(context)

        async with trio.open_nursery() as looking:
            for context in contexts:
                await limit.acquire_on_behalf_of(context)
                looking.start_soon(look, context)
        await self._call(forget())
        if contexts:
            log.info("took over from a coordinator that is gone", coordinator=other, contexts=len(contexts))
