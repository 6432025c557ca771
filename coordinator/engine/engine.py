"""What makes flows move: runners and followers are woken when there is something for them, timers in the store are
handled when they are due, and coordinators sharing a store learn from each other.

Nothing here must survive. Queues, leases, pauses and events are in the store; in memory is only who waits for them.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import structlog
import trio
from pydantic_core import to_json

from coordinator.actors.directory import Directory
from coordinator.actors.request import Operation, RawJson, WithEffects
from coordinator.budget import Budget
from coordinator.engine.clock import Clock
from coordinator.engine.connected import ConnectedRunners
from coordinator.engine.deletion import Deletions
from coordinator.engine.membership import Membership
from coordinator.engine.places import Places
from coordinator.engine.pubsub import PubSub
from coordinator.engine.subscriptions import (
    TAKE_BYTES,
    ContextSubscription,
    FlowSubscription,
    Opening,
    RunnerSubscription,
    Session,
    Subscription,
    SubscriptionRequest,
    take,
)
from coordinator.engine.timers import Timers
from coordinator.engine.waiters import ANY_TYPE, Waiter, Waiters
from coordinator.errors import BeingDeleted, CoordinatorError, NotFound, NotSubscribed, Overloaded
from coordinator.measures import COUNTS, refused
from coordinator.models.execution import (
    ContextSubscribeParams,
    FlowSubscribeParams,
    JobTakeParams,
    RunnerSubscribeParams,
    SubscriptionParams,
)
from coordinator.operations.execution import FEED_KEPT_FOR, cannot_follow, cannot_read_events
from coordinator.storage.connection import Command, Store
from coordinator.storage.faults import ReplyError
from coordinator.storage.functions import attempts, events, runners, upkeep
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
from coordinator.storage.functions.results import Effects, Refused, read_effects
from coordinator.storage.functions.runners import Subscribed
from coordinator.storage.keys import GLOBAL, ContextKey, Keyspace, Layout
from coordinator.supervision import report, supervise
from coordinator.tracing import Spans

__all__ = ["Engine"]

log = structlog.get_logger("coordinator.engine")

MEMBERSHIP_EVERY: Final = 2.0  # seconds between signs of life
FOLLOWED_FOR: Final = 30.0  # seconds a flow's events are announced after each time we say that somebody follows
RETRY_AFTER: Final = 1.0  # seconds after which what the store refused, or what failed, is tried again
KEPT_FOR_OTHERS: Final = 5.1  # seconds until a job may go to the runner that failed it (ELSEWHERE in attempts.lua)
THERE_FOR: Final = 5.0  # seconds a runner counts as there after each time we say so
SAID_AT_ONCE: Final = 1_000  # runners of which one call of the store is told
FAILED_IN_A_ROW: Final = 5  # attempts after which a runner gets less; attempts.lua has it too
TICK_LIMIT: Final = 200  # timers acted on in one step


class Engine:
    """One for each coordinator. `run` it beside the directory.

    Args:
        max_subscriptions: of one connection, and waiting job.take calls in all.
        is_alone: nobody else uses the store now, so every other coordinator that did is gone.

    Attributes:
        spans: is told of attempts that belong to a trace, if they are traced.
        runners_held_back: how often a runner was to get less because it failed all it had.
    """

    def __init__(self, directory: Directory, store: Store, *, max_subscriptions: int, is_alone: bool = False) -> None:
        self._directory = directory
        self._store = store
        self._layout: Layout = store.layout
        self._max_subscriptions = max_subscriptions
        self._contexts: dict[ContextKey, Waiters] = {}
        self._pubsub = PubSub(store, self._learn)
        self._membership = Membership(
            self._layout,
            directory.call,
            self._tick,
            self._owned_contexts,
            lambda: directory.registered_contexts,
            is_alone=is_alone,
        )
        self._clock = Clock(self._layout, directory.call)
        self._connected = ConnectedRunners(self._layout, directory.call_soon)
        self._timers = Timers()
        call_soon = partial(directory.call_soon, creates=False)
        self._deletions = Deletions(self._layout, call_soon, self._timers.call_in, self.apply_effects)
        self._to_look_at: set[ContextKey] = set()  # contexts a timer will look at because an effect failed
        self._nursery: trio.Nursery
        self._polling: set[Waiter] = set()  # calls of job.take
        self._places = Places(max_subscriptions)  # for those of them that wait for jobs
        self._is_stopping = False
        self.runners_held_back = 0
        self.spans: Spans | None = None
        directory.apply_effects = self.apply_effects
        directory.effects_unknown = self.effects_unknown

    @property
    def subscriptions(self) -> int:
        """Subscriptions open."""
        return sum(
            len(context.runners) + sum(map(len, context.flows.values())) + len(context.followers)
            for context in self._contexts.values()
        )

    def runners(self) -> Iterator[RunnerSubscription]:
        """The runners that are connected to us, once for each context they take jobs of."""
        return (runner for context in self._contexts.values() for runner in context.runners.values())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Never returns. A task of the engine that crashes is started again."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(supervise, "listening to other coordinators", self._pubsub.run)
            self._nursery.start_soon(supervise, "the timers", self._timers.run)
            self._nursery.start_soon(supervise, "membership", self._renew_membership)
            self._nursery.start_soon(supervise, "the clock", self._clock.run)
            task_status.started()

    def stop(self) -> None:
        """Answer the calls that wait for a job, hand out no more jobs."""
        self._is_stopping = True
        self._membership.is_stopping = True
        for context in self._contexts.values():
            for runner in [*context.runners.values()]:
                runner.close()
        for polling in [*self._polling]:
            polling.wake()

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

    def _apply(self, context_key: ContextKey, effect: bytes) -> None:  # noqa: PLR0912 - one for each kind of effect
        match read_effect(effect):
            case Ready(script_type):
                self._wake_runner(context_key, script_type)
            case Due(seconds):
                self._arm(context_key, seconds)
            case Events(flow_id):
                self._wake_followers(context_key, flow_id)
            case Feed():
                self._wake_feed(context_key)
            case Cancel() as cancel:
                self._cancel(context_key, cancel)
            case Silent() as silent:
                if context_key in self._contexts:
                    self._contexts[context_key].silence(silent)
            case Other(script_type, runner_id):
                self._wake_other(context_key, script_type, runner_id)
            case Trouble(runner_id, failed):
                self._note_trouble(context_key, runner_id, failed)
            case Ended() as ended:
                COUNTS.runs_ended[ended] += 1
            case AttemptEnded() as attempt:
                self._trace(context_key, attempt)
            case Deleted():
                if context_key in self._contexts:
                    self._contexts[context_key].end_all()

    def _trace(self, context_key: ContextKey, attempt: AttemptEnded) -> None:
        if self.spans is not None:
            self.spans.attempt(context_key, attempt)

    def _learn(self, context_key: ContextKey, effects: Effects | None) -> None:
        """Act on what another coordinator has done. None: we may have missed something. Never blocks or raises."""
        if effects is not None:
            self.apply_effects(context_key, effects)
            return
        try:
            self._wake_all(context_key)
        except Exception as error:
            report("waking those who wait", error, context=context_key)
            self._look_later(context_key)

    def expect_job(self, context_key: ContextKey, script_type: str) -> None:
        """A call that is in the context's mailbox may queue a job of this type, or ANY_TYPE. Whoever is next to be
        woken when it has asks right behind it, in the same round: so the job need not wait for another one. Never
        blocks."""
        context = self._contexts.get(context_key)
        if context is not None and script_type == ANY_TYPE:
            context.wake_idle_of_each_type()
        elif context is not None:
            context.wake_idle(script_type)

    def effects_unknown(self, context_key: ContextKey, wrote: bool) -> None:
        """Look at a context in which something may have happened of which we heard nothing. Never blocks or raises."""
        self._learn(context_key, None)
        if context_key is not GLOBAL and (wrote or context_key in self._contexts):
            self._arm(context_key, 0.0)

    def _look_later(self, context_key: ContextKey) -> None:
        """Have everybody in the context look, and its timers looked at, soon. Once for all that failed until then."""

        def look() -> None:
            self._wake_all(context_key)
            self._to_look_at.discard(context_key)
            self.effects_unknown(context_key, True)

        if context_key not in self._to_look_at:
            self._to_look_at.add(context_key)
            self._timers.call_in(RETRY_AFTER, look)

    def _wake_all(self, context_key: ContextKey) -> None:
        if context_key in self._contexts:
            self._contexts[context_key].wake_all()

    def _wake_runner(self, context_key: ContextKey, script_type: str) -> None:
        if context_key in self._contexts:
            self._contexts[context_key].wake_runner(script_type)

    def _note_trouble(self, context_key: ContextKey, runner_id: int, failed: int) -> None:
        self.runners_held_back += 1
        if math.log2(failed).is_integer() or failed == FAILED_IN_A_ROW:  # now and then
            log.warning(
                "a runner fails all it gets: it gets less", context=context_key, runner=runner_id, in_a_row=failed
            )

    def _wake_other(self, context_key: ContextKey, script_type: str, runner_id: int) -> None:
        """There is a job for another runner than this one, which gets it only if nobody else has taken it."""
        context = self._contexts.get(context_key)
        if context is not None and not context.wake_runner(script_type, runner_id):
            self._timers.call_in(KEPT_FOR_OTHERS, lambda: self._wake_runner(context_key, script_type))

    def _wake_runners(self, context_key: ContextKey, script_types: Iterable[str]) -> None:
        """There may be jobs of these types for somebody else."""
        for script_type in script_types:
            self._wake_runner(context_key, script_type)

    def _wake_followers(self, context_key: ContextKey, flow_id: int) -> None:
        if context_key in self._contexts:
            self._contexts[context_key].wake_followers(flow_id)

    def _wake_feed(self, context_key: ContextKey) -> None:
        if context_key in self._contexts:
            self._contexts[context_key].wake_feed()

    def _cancel(self, context_key: ContextKey, cancel: Cancel) -> None:
        if context_key in self._contexts:
            self._contexts[context_key].cancel(cancel)

    # -- subscriptions

    def subscribe_runner(
        self, session: Session, opening: Opening | None, keys: Keyspace, params: RunnerSubscribeParams
    ) -> Operation:
        """Begin to supply a runner with jobs."""
        self._check_room(session)
        (topic,) = yield [("HGET", keys.runner(params.runner_id), "topic")]
        if topic is None:
            raise NotFound("runner", context_id=params.context_id, id=params.runner_id)
        gone: set[str] | None = None
        since = time.time_ns() // 1_000_000
        commands: list[Command] = [
            runners.runners_there(keys, THERE_FOR, params.script_types, [params.runner_id]),
            # If the runner is subscribed here already, this is soon said again, for both subscriptions.
            runners.runners_subscribed(keys, THERE_FOR, [Subscribed(params.runner_id, since, params.capacity)]),
        ]
        if params.session or params.holding:
            commands.append(attempts.resume(keys, params.runner_id, params.session, params.holding))
        while gone is None:
            replies = yield commands
            gone, effects = attempts.read_resume(replies[-1]) if len(commands) > 2 else (set(), ())
            self.apply_effects(keys.context_key, effects)
        subscription = RunnerSubscription(
            session,
            keys,
            runner_id=params.runner_id,
            topic=topic.decode(),
            runner_session=params.session,
            script_types=params.script_types,
            capacity=params.capacity,
            since=since,
            lease=params.lease,
            in_batches=params.batch,
            took=self._took,
        )
        until = trio.current_time() + params.lease
        held = (token for token in params.holding if token not in gone and not session.has_ended(token))
        subscription.held.update((token, until) for token in held)
        self._listened_to(keys.context_key).runners[subscription.id] = subscription
        self._connected.came(subscription)
        self._open(subscription, opening)
        answer: RawJson = to_json({"subscription": subscription.id, "lease": params.lease, "lost": sorted(gone)})
        return answer

    def follow_flow(
        self,
        session: Session,
        opening: Opening | None,
        keys: Keyspace,
        params: FlowSubscribeParams,
        *,
        sees_logs: bool = True,
    ) -> Operation:
        """Begin to stream a flow's events, with its log lines or without."""
        self._check_room(session)
        (reply,) = yield [events.flow_follow(keys, params.id, FOLLOWED_FOR, params.after)]
        has_missed = events.read_flow_follow(reply)
        if isinstance(has_missed, Refused):
            raise cannot_read_events(has_missed.word, params.context_id, params.id)
        subscription = FlowSubscription(
            session, keys, flow_id=params.id, after=params.after, in_batches=params.batch, sees_logs=sees_logs
        )
        self._listened_to(keys.context_key).flows.setdefault(params.id, {})[subscription.id] = subscription
        self._open(subscription, opening)
        answer: RawJson = to_json({"subscription": subscription.id, "missed": has_missed})
        return answer

    def follow_context(
        self, session: Session, opening: Opening | None, keys: Keyspace, params: ContextSubscribeParams
    ) -> Operation:
        """Begin to stream the events of all flows of a context."""
        self._check_room(session)
        (reply,) = yield [events.context_follow(keys, FEED_KEPT_FOR, params.after)]
        following = events.read_context_follow(reply)
        if isinstance(following, Refused):
            raise cannot_follow(params.context_id)
        after = following.last if params.after is None else params.after
        subscription = ContextSubscription(
            session, keys, after=after, in_batches=params.batch, was_there=following.is_there
        )
        self._listened_to(keys.context_key).followers[subscription.id] = subscription
        self._open(subscription, opening)
        answer: RawJson = to_json({"subscription": subscription.id, "last_event": after, "missed": following.missed})
        return answer

    def unsubscribe(self, session: Session, kind: str, params: SubscriptionParams) -> RawJson:
        """End a subscription of this connection. Raises NotSubscribed."""
        subscription = session.subscriptions.get(params.subscription)
        if subscription is None or subscription.kind != kind:
            raise NotSubscribed(params.subscription)
        subscription.close()
        return to_json({"subscription": params.subscription})

    def _check_room(self, session: Session) -> None:
        limit = self._max_subscriptions
        if len(session.subscriptions) >= limit:
            refused("max_subscriptions", id(session))
            raise Overloaded(f"this connection has {limit} subscriptions", limit, "max_subscriptions")

    def _open(self, subscription: Subscription, opening: Opening | None) -> None:
        """Serve the subscription once the client knows its name."""
        subscription.on_begin = lambda: self._serve(subscription)
        if opening is None or subscription.is_closed:
            subscription.begin()
        else:
            opening.opened(subscription)

    def _serve(self, subscription: Subscription) -> None:
        """Put the subscription's operation into its context's mailbox, again whenever it ends before its time."""

        def failed(error: CoordinatorError) -> None:
            if isinstance(error, BeingDeleted) and not subscription.is_closed:
                subscription.context_deleted()
            if subscription.is_closed:
                self._forget(subscription)
            else:
                self._log_refusal("a subscription failed; trying again", kind=subscription.kind, error=error.data)
                self._timers.call_in(RETRY_AFTER, lambda: self._serve(subscription))

        if subscription.is_closed:
            self._forget(subscription)
            return
        operation = self._until_closed(subscription)
        request = SubscriptionRequest(operation, deadline=math.inf, writes=False)
        request.failed = failed
        self._directory.post_soon(subscription.keys.context_key, request)

    def _log_refusal(self, event: str, **details: object) -> None:
        """Say that the store has refused something of ours. Why it takes no writes at all was said once, for all."""
        if self._store.write_fault is None:
            log.warning(event, **details)

    def _until_closed(self, subscription: Subscription) -> Operation:
        answer = yield from subscription.serve()
        self._forget(subscription)
        return answer

    def _forget(self, subscription: Subscription) -> None:
        context_key = subscription.keys.context_key
        self._context(context_key).forget(subscription)
        if isinstance(subscription, RunnerSubscription):
            self._connected.left(subscription)
            self._wake_runners(context_key, subscription.script_types)  # it may have been woken for a job
        self._drop_if_unused(context_key)

    def _took(self, runner: RunnerSubscription, effects: Effects, is_empty: bool) -> None:
        """A runner has taken jobs. If it may have left some, somebody else gets a turn."""
        self.apply_effects(runner.keys.context_key, effects)
        if not is_empty:
            self._wake_runners(runner.keys.context_key, runner.script_types)

    # -- job.take

    def take_job(self, budget: Budget, keys: Keyspace, params: JobTakeParams, address: str = "") -> Operation:
        """Jobs for a runner that has no WebSocket; waits for one if there is none.

        Args:
            address: where the runner is, if that is not where its connection is from.
        """
        (topic,) = yield [("HGET", keys.runner(params.runner_id), "topic")]
        if topic is None:
            raise NotFound("runner", context_id=params.context_id, id=params.runner_id)
        self._connected.polled(keys.context_key, params.runner_id, params.script_types)
        ends = trio.current_time() + params.wait
        waiter = Waiter(params, topic.decode())
        # With the runner in it, for what a take has brought is nobody's who only knows, or chances on, its take_id.
        holder = f"{params.runner_id}:{params.take_id or uuid.uuid4().hex}"
        is_taking = False
        self._polling.add(waiter)
        try:
            while True:
                waiter.look()
                if waiter.is_over:
                    raise NotFound("context", id=params.context_id)
                with budget.reserve(TAKE_BYTES, waiter.wake) as reservation:
                    if not reservation.is_granted:
                        self._stop_waiting(keys.context_key, waiter)  # a job it is woken for would be lost on it
                    while not reservation.is_granted:
                        if trio.current_time() >= ends or self._is_stopping:
                            return b'{"jobs":[]}'
                        self._wake_at(waiter, ends)
                        yield waiter.park()
                    is_taking = True
                    is_all, assignments, effects = yield from take(
                        keys, waiter, count=params.count, holder=holder, number="1"
                    )
                    is_taking = False
                self.apply_effects(keys.context_key, effects)
                if assignments and not (is_all and len(assignments) < params.count):
                    self._wake_runners(keys.context_key, params.script_types)
                if assignments or trio.current_time() >= ends or self._is_stopping:
                    jobs = b",".join(b"{" + members for _, members in assignments)
                    return b'{"jobs":[%b]}' % jobs
                self._wait(keys.context_key, waiter, budget, address)
                self._wake_at(waiter, ends)
                yield waiter.park()
        except GeneratorExit:
            # Nobody waits for the answer any more, so what was taken, or what we were woken for, is somebody else's.
            if is_taking and not self._is_stopping:
                self._directory.call_soon(keys.context_key, self._give_back(keys, holder), lambda outcome: None)
            raise
        finally:
            self._polling.discard(waiter)
            self._stop_waiting(keys.context_key, waiter)

    def _wake_at(self, waiter: Waiter, ends: float) -> None:
        """Wake the call when its time is over; asked again it does nothing. A call answered at once leaves no timer."""
        if not waiter.is_timed:
            waiter.is_timed = True
            self._timers.call_in(ends - trio.current_time(), waiter.wake)

    def _wait(self, context_key: ContextKey, waiter: Waiter, client: Budget, address: str) -> None:
        """The call waits for jobs from now on, if it did not before. Raises Overloaded."""
        context = self._contexts.get(context_key)
        if context is not None and waiter in context.waiters:
            return
        waiter.place = self._places.take(client, context_key, waiter.runner_id, address)
        self._listened_to(context_key).waiters[waiter] = None

    def _stop_waiting(self, context_key: ContextKey, waiter: Waiter) -> None:
        """What the call may have been woken for is somebody else's."""
        context = self._contexts.get(context_key)
        if context is not None and waiter in context.waiters:
            del context.waiters[waiter]
            if waiter.place is not None:
                waiter.place.give_back()
                waiter.place = None
            self._wake_runners(context_key, waiter.script_types)
            self._drop_if_unused(context_key)

    def _give_back(self, keys: Keyspace, holder: str) -> Operation:
        (reply,) = yield [attempts.untake(keys, holder, "1")]
        return WithEffects(b"", read_effects(reply))

    # -- contexts

    def delete_context(self, context: int) -> Operation:
        """Delete a context with all that is in it."""
        return self._deletions.delete(context)

    def _context(self, context_key: ContextKey) -> Waiters:
        context = self._contexts.get(context_key)
        if context is None:
            context = self._contexts[context_key] = Waiters()
        return context

    def _listened_to(self, context_key: ContextKey) -> Waiters:
        """The context's waiters; its Pub/Sub messages will come, and once they do everybody in it looks once more."""
        self._pubsub.listen(context_key)
        return self._context(context_key)

    def _drop_if_unused(self, context_key: ContextKey) -> None:
        context = self._contexts.get(context_key)
        if context is None or not context.is_empty:
            return
        self._pubsub.ignore(context_key)
        if context.due == math.inf and not context.is_ticking:
            del self._contexts[context_key]

    # -- time

    def _arm(self, context_key: ContextKey, seconds: float) -> None:
        """Have the context's timers handled in so many seconds, or before."""
        context = self._context(context_key)
        at = trio.current_time() + seconds
        if at < context.due:
            context.due = at
            self._timers.call_in(seconds, lambda: self._tick_if_due(context_key))

    def _tick_if_due(self, context_key: ContextKey) -> None:
        context = self._contexts.get(context_key)
        if context is not None and context.due <= trio.current_time() and not context.is_ticking:
            self._tick(context_key, lambda: None)

    def _tick(self, context_key: ContextKey, done: Callable[[], None]) -> None:
        """Have the context's timers handled now, as often as it takes to succeed; then call `done`."""
        context = self._context(context_key)
        context.is_ticking = True
        context.due = math.inf

        def try_again() -> None:
            self._timers.call_in(RETRY_AFTER, lambda: self._tick(context_key, done))

        def end(outcome: RawJson | CoordinatorError) -> None:
            if isinstance(outcome, BeingDeleted) and context_key is not None:
                self._deletions.go_on(context_key)  # whoever has begun it may be gone
                try_again()
                return
            if isinstance(outcome, CoordinatorError):
                self._log_refusal("timers could not be handled; trying again", context=context_key, error=outcome.data)
                try_again()
                return
            context.is_ticking = False
            self._tick_if_due(context_key)
            self._drop_if_unused(context_key)
            done()

        def operation() -> Operation:
            (reply,) = yield [upkeep.tick(self._layout.keyspace(context_key), TICK_LIMIT)]
            ticked, effects = upkeep.read_tick(reply)
            COUNTS.attempts_lost += ticked.lost
            COUNTS.attempts_timed_out += ticked.timed_out
            COUNTS.attempts_retried += ticked.retried
            for fault in ticked.faults:
                report("a timer in the store", ReplyError(fault), context=context_key)
            return WithEffects(b"", effects)

        try:
            # It may have been deleted, and must not be listed again.
            self._directory.call_soon(context_key, operation(), end, creates=False)
        except Exception as error:
            report("handling timers", error, context=context_key)
            try_again()

    # -- membership

    def _owned_contexts(self) -> list[int]:
        """The contexts whose timers are ours to handle, as far as we know."""
        known = {*self._contexts, *self._directory.contexts}
        return [context for context in known if context is not None]

    async def _renew_membership(self) -> None:
        """Say that we live, take over from coordinators that do not, and keep up what our own clients wait for."""
        while True:
            await self._membership.renew()
            now = trio.current_time()
            for context_key, context in [*self._contexts.items()]:
                for runner in [*context.runners.values()]:
                    runner.forget_expired(now)
                if context.runners or context.waiters:
                    self._directory.call_soon(
                        context_key,
                        self._say_who_is_there(context_key, context.there(), context.subscribed()),
                        lambda outcome: None,
                    )
                if context.flows:
                    operation = self._keep_followed(context_key, [*context.flows])
                    self._directory.call_soon(context_key, operation, lambda outcome: None)
                if context.followers:
                    # One who knows that the context was there learns that it was deleted.
                    follower = max(context.followers.values(), key=lambda follower: follower.was_there)
                    operation = self._keep_feed(context_key, follower)
                    self._directory.call_soon(context_key, operation, lambda outcome: None)
            self._connected.renew(self._contexts)
            await trio.sleep(MEMBERSHIP_EVERY)

    def _say_who_is_there(
        self, context_key: ContextKey, there: Mapping[str, Collection[int]], subscribed: Sequence[Subscribed]
    ) -> Operation:
        keys = self._layout.keyspace(context_key)
        says: list[Command] = [runners.runners_there(keys, THERE_FOR, [type], ids) for type, ids in there.items()]
        for start in range(0, len(subscribed), SAID_AT_ONCE):
            said = subscribed[start : start + SAID_AT_ONCE]
            says.append(runners.runners_subscribed(keys, THERE_FOR, said))
        yield says
        return b""

    def _keep_followed(self, context_key: ContextKey, flows: Sequence[int]) -> Operation:
        keys = self._layout.keyspace(context_key)
        duration = int(FOLLOWED_FOR * 1000)
        kept = yield [("SET", f"{keys.prefix}followed:{flow}", "1", "PX", duration, "GET") for flow in flows]
        for flow, was_followed in zip(flows, kept, strict=True):
            if was_followed is None:  # so events may not have been announced
                self._wake_followers(context_key, flow)
        return b""

    def _keep_feed(self, context_key: ContextKey, follower: ContextSubscription) -> Operation:
        (reply,) = yield [follower.follow()]
        following = events.read_context_follow(reply)
        if isinstance(following, Refused) or following.is_new:  # so something may not have been announced
            self._wake_feed(context_key)
        return b""
