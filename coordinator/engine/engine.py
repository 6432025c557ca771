"""What makes flows move: runners and followers are woken when there is something for them, timers in the store are
handled when they are due, and coordinators sharing a store learn from each other.

Nothing here must survive. Queues, leases, pauses and events are in the store; in memory is only who waits for them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import structlog
import trio

from coordinator.actors.directory import Directory
from coordinator.engine.clock import Clock
from coordinator.engine.contexts import Contexts
from coordinator.engine.deletion import Deletions
from coordinator.engine.membership import Membership
from coordinator.engine.pubsub import PubSub
from coordinator.engine.renewals import Renewals
from coordinator.engine.subscribing import Subscriptions
from coordinator.engine.takes import Takes
from coordinator.engine.ticks import Ticks
from coordinator.engine.timers import Timers
from coordinator.errors import CoordinatorError
from coordinator.measures import COUNTS
from coordinator.storage.connection import Store
from coordinator.storage.functions.effects import (
    AttemptEnded,
    Cancel,
    Deleted,
    Due,
    Ended,
    Events,
    Feed,
    Other,
    Ready,
    Silent,
    Trouble,
    read_effect,
)
from coordinator.storage.functions.results import Effects
from coordinator.storage.keys import GLOBAL, ContextKey
from coordinator.supervision import report, supervise
from coordinator.tracing import Spans

__all__ = ["Engine"]

log = structlog.get_logger("coordinator.engine")

MEMBERSHIP_EVERY: Final = 2.0  # seconds between signs of life
RETRY_AFTER: Final = 1.0  # seconds after which what failed is tried again
KEPT_FOR_OTHERS: Final = 5.1  # seconds until a job may go to the runner that failed it (ELSEWHERE in attempts.lua)
FAILED_IN_A_ROW: Final = 5  # attempts after which a runner gets less; attempts.lua has it too


class Engine:
    """One for each coordinator. `run` it beside the directory.

    Args:
        max_subscriptions: of one connection, and waiting job.take calls in all.
        is_alone: nobody else uses the store now, so every other coordinator that did is gone.

    Attributes:
        contexts: who waits here for jobs and events.
        subscriptions: what clients on a WebSocket call.
        takes: what runners without one call.
        deletions: of contexts.
        spans: is told of attempts that belong to a trace, if they are traced.
        runners_held_back: how often a runner was to get less because it failed all it had.
    """

    def __init__(self, directory: Directory, store: Store, *, max_subscriptions: int, is_alone: bool = False) -> None:
        self._directory = directory
        self._pubsub = PubSub(store, self._learn)
        self._timers = Timers()
        self._clock = Clock(store.layout, directory.call)
        self.contexts = Contexts(self._pubsub)
        self._renewals = Renewals(store.layout, self.contexts, directory)
        self.subscriptions = Subscriptions(
            store,
            self.contexts,
            directory.post_soon,
            self._timers.call_in,
            self.apply_effects,
            limit=max_subscriptions,
        )
        self.takes = Takes(
            self.contexts,
            directory.call_soon,
            self._timers.call_in,
            self.apply_effects,
            limit=max_subscriptions,
        )
        # What these look at may have been deleted, and must not be listed again.
        call_soon = partial(directory.call_soon, creates=False)
        self.deletions = Deletions(store.layout, call_soon, self._timers.call_in, self.apply_effects)
        self._ticks = Ticks(store, call_soon, self._timers.call_in, self.deletions.go_on)
        self._membership = Membership(
            store.layout,
            directory.call,
            self._ticks.tick,
            self._owned_contexts,
            lambda: directory.registered_contexts,
            is_alone=is_alone,
        )
        self._to_look_at: set[ContextKey] = set()  # contexts a timer will look at because an effect failed
        self._nursery: trio.Nursery
        self.runners_held_back = 0
        self.spans: Spans | None = None
        directory.apply_effects = self.apply_effects
        directory.effects_unknown = self.effects_unknown

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Never returns. A task of the engine that crashes is started again."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(supervise, "listening to other coordinators", self._pubsub.run)
            self._nursery.start_soon(supervise, "the timers", self._timers.run)
            self._nursery.start_soon(supervise, "membership", self._renew_membership)
            self._nursery.start_soon(supervise, "keeping up which runners are here", self._renewals.keep_runners)
            self._nursery.start_soon(supervise, "keeping up what is followed", self._renewals.keep_followed)
            self._nursery.start_soon(supervise, "the clock", self._clock.run)
            task_status.started()

    async def _renew_membership(self) -> None:
        """Say that we live, and take over from coordinators that do not."""
        while True:
            await self._membership.renew()
            await trio.sleep(MEMBERSHIP_EVERY)

    def _owned_contexts(self) -> list[int]:
        """The contexts whose timers are ours to handle, as far as we know."""
        known = {*self.contexts.by_key, *self._ticks.contexts, *self._directory.contexts}
        return [context for context in known if context is not None]

    def stop(self) -> None:
        """Answer the calls that wait for a job, hand out no more jobs."""
        self._membership.is_stopping = True
        for runner in [*self.contexts.runners()]:
            runner.close()
        self.takes.stop()

    async def leave(self) -> None:
        """Tell the other coordinators that our contexts are theirs now. Waits for the store."""
        await self._membership.leave()

    def gone(self, coordinator: str) -> None:
        """That coordinator is gone: take over from it without waiting for its silence to last. While `run` runs."""
        take_over = partial(self._take_over, coordinator)
        self._nursery.start_soon(partial(supervise, "a take-over", take_over, coordinator=coordinator))

    async def _take_over(self, coordinator: str) -> None:
        while True:
            try:
                return await self._membership.take_over(coordinator)
            except CoordinatorError as error:
                log.warning("a take-over failed; trying again", coordinator=coordinator, error=error.data)
                await trio.sleep(RETRY_AFTER)

    # -- effects

    def apply_effects(self, context_key: ContextKey, effects: Effects) -> None:
        """Act on what a transition has set going. Never blocks or raises: one that fails, or that nobody knows, is
        reported, and its context looked at a little later instead."""
        for effect in effects:
            try:
                self._apply(context_key, effect)
            except Exception as error:
                report("an effect", error, context=context_key, effect=effect[:100].decode(errors="replace"))
                self._look_later(context_key)

    def _apply(self, context_key: ContextKey, effect: bytes) -> None:
        match read_effect(effect):
            case Ready(script_type):
                self.contexts.of(context_key).wake_runner(script_type)
            case Due(seconds):
                self._ticks.arm(context_key, seconds)
            case Events(flow_id):
                self.contexts.of(context_key).wake_followers(flow_id)
            case Feed():
                self.contexts.of(context_key).wake_feed()
            case Cancel() as cancel:
                self.contexts.of(context_key).cancel(cancel)
            case Silent() as silent:
                self.contexts.of(context_key).silence(silent)
            case Other(script_type, runner_id):
                self._wake_other(context_key, script_type, runner_id)
            case Trouble(runner_id, failed):
                self._note_trouble(context_key, runner_id, failed)
            case Ended() as ended:
                COUNTS.runs_ended[ended] += 1
            case AttemptEnded() as attempt:
                if self.spans is not None:
                    self.spans.attempt(context_key, attempt)
            case Deleted():
                self.contexts.of(context_key).end_all()

    def _wake_other(self, context_key: ContextKey, script_type: str, runner_id: int) -> None:
        """There is a job for another runner than this one, which gets it only if nobody else has taken it."""
        if not self.contexts.of(context_key).wake_runner(script_type, runner_id):
            self._timers.call_in(KEPT_FOR_OTHERS, lambda: self.contexts.of(context_key).wake_runners([script_type]))

    def _note_trouble(self, context_key: ContextKey, runner_id: int, failed: int) -> None:
        self.runners_held_back += 1
        if math.log2(failed).is_integer() or failed == FAILED_IN_A_ROW:  # now and then
            log.warning(
                "a runner fails all it gets: it gets less", context=context_key, runner=runner_id, in_a_row=failed
            )

    def _learn(self, context_key: ContextKey, effects: Effects | None) -> None:
        """Act on what another coordinator has done. None: we may have missed something. Never blocks or raises."""
        if effects is not None:
            self.apply_effects(context_key, effects)
            return
        try:
            self.contexts.of(context_key).wake_all()
        except Exception as error:
            report("waking those who wait", error, context=context_key)
            self._look_later(context_key)

    def effects_unknown(self, context_key: ContextKey, wrote: bool) -> None:
        """Look at a context in which something may have happened of which we heard nothing. Never blocks or raises."""
        self._learn(context_key, None)
        is_known = context_key in self.contexts.by_key or self._ticks.is_known(context_key)
        if context_key is not GLOBAL and (wrote or is_known):
            self._ticks.arm(context_key, 0.0)

    def _look_later(self, context_key: ContextKey) -> None:
        """Have everybody in the context look, and its timers looked at, soon. Once for all that failed until then."""

        def look() -> None:
            self.contexts.of(context_key).wake_all()
            self._to_look_at.discard(context_key)
            self.effects_unknown(context_key, True)

        if context_key not in self._to_look_at:
            self._to_look_at.add(context_key)
            self._timers.call_in(RETRY_AFTER, look)
