"""Timers that the store keeps of a context (leases, pauses, retention) are handled when they are due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
import trio

from coordinator.actors.directory import CallSoon
from coordinator.actors.request import Operation, Outcome, WithEffects
from coordinator.engine.timers import CallIn
from coordinator.errors import BeingDeleted, CoordinatorError
from coordinator.measures import COUNTS
from coordinator.storage.connection import Store
from coordinator.storage.faults import ReplyError
from coordinator.storage.functions import upkeep
from coordinator.storage.keys import ContextKey
from coordinator.supervision import report

__all__ = ["Ticks"]

log = structlog.get_logger("coordinator.engine")

RETRY_AFTER: Final = 1.0  # seconds after which timers that could not be handled are handled again
TICK_LIMIT: Final = 200  # timers acted on in one step


class Ticks:
    """Has them handled for the contexts that one coordinator knows of.

    Args:
        call_soon: carries out an operation of ours in a context, unless that has been deleted; Directory.call_soon.
        call_in: calls a function later; Timers.call_in.
        go_on: goes on with the deletion of a context; Deletions.go_on.
    """

    def __init__(
        self,
        store: Store,
        call_soon: CallSoon,
        call_in: CallIn,
        go_on: Callable[[int], None],
    ) -> None:
        self._store = store
        self._call_soon = call_soon
        self._call_in = call_in
        self._go_on = go_on
        self._due: dict[ContextKey, float] = {}  # contexts → when the next timer is due, on trio's clock
        self._under_way: set[ContextKey] = set()

    @property
    def contexts(self) -> set[ContextKey]:
        """Those that have timers, as far as we know."""
        return self._due.keys() | self._under_way

    def is_known(self, context_key: ContextKey) -> bool:
        """Whether it is one of those."""
        return context_key in self._due or context_key in self._under_way

    def arm(self, context_key: ContextKey, seconds: float) -> None:
        """Have the context's timers handled in so many seconds, or before."""
        at = trio.current_time() + seconds
        due = self._due.get(context_key)
        if due is None or at < due:
            self._due[context_key] = at
            self._call_in(seconds, lambda: self._tick_if_due(context_key))

    def _tick_if_due(self, context_key: ContextKey) -> None:
        due = self._due.get(context_key)
        if due is not None and due <= trio.current_time() and context_key not in self._under_way:
            self.tick(context_key, lambda: None)

    def tick(self, context_key: ContextKey, done: Callable[[], None]) -> None:
        """Have the context's timers handled now, as often as it takes to succeed; then call `done`."""
        self._under_way.add(context_key)
        self._due.pop(context_key, None)

        def try_again() -> None:
            self._call_in(RETRY_AFTER, lambda: self.tick(context_key, done))

        def end(outcome: Outcome) -> None:
            if isinstance(outcome, BeingDeleted) and context_key is not None:
                self._go_on(context_key)  # whoever has begun it may be gone
                try_again()
                return
            if isinstance(outcome, CoordinatorError):
                if self._store.write_fault is None:  # why it takes no writes at all was said once, for all
                    log.warning("timers could not be handled; trying again", context=context_key, error=outcome.data)
                try_again()
                return
            self._under_way.discard(context_key)
            self._tick_if_due(context_key)
            done()

        try:
            self._call_soon(context_key, self._handle(context_key), end)
        except Exception as error:
            report("handling timers", error, context=context_key)
            try_again()

    def _handle(self, context_key: ContextKey) -> Operation:
        (reply,) = yield [upkeep.tick(self._store.layout.keyspace(context_key), TICK_LIMIT)]
        ticked, effects = upkeep.read_tick(reply)
        COUNTS.attempts_lost += ticked.lost
        COUNTS.attempts_timed_out += ticked.timed_out
        COUNTS.attempts_retried += ticked.retried
        for fault in ticked.faults:
            report("a timer in the store", ReplyError(fault), context=context_key)
        return WithEffects(b"", effects)
