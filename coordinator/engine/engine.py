"""What makes flows move: runners and followers are woken when there is something for them, timers in the store are
handled when they are due, and coordinators sharing a store learn from each other.

Nothing here must survive. Queues, leases, pauses and events are in the store; in memory is only who waits for them.
"""

from __future__ import annotations

import math
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
from coordinator.engine.membership import Membership
from coordinator.engine.places import Places
from coordinator.engine.pubsub import PubSub
from coordinator.engine.subscriptions import (
    TAKE_BYTES,
    FlowSubscription,
    Opening,
    RunnerSubscription,
    Session,
    Subscription,
    SubscriptionRequest,
    take,
)
from coordinator.engine.timers import Timers
from coordinator.engine.waiters import Waiter, Waiters
from coordinator.errors import CoordinatorError, NotFound, NotSubscribed, Overloaded
from coordinator.measures import COUNTS
from coordinator.models.execution import (
    FlowSubscribeParams,
    JobTakeParams,
    RunnerSubscribeParams,
    SubscriptionParams,
)
from coordinator.operations.execution import cannot_read_events
from coordinator.storage import functions
from coordinator.storage.connection import Command, Store
from coordinator.storage.faults import ReplyError
from coordinator.storage.functions import Cancel, Due, Effects, Ended, Events, Other, Ready, Refused, Silent, Trouble
from coordinator.storage.keys import GLOBAL, ContextKey, Keyspace, Layout
from coordinator.supervision import report, supervise

__all__ = ["Engine"]

log = structlog.get_logger("coordinator.engine")

MEMBERSHIP_EVERY: Final = 2.0  # seconds between signs of life
FOLLOWED_FOR: Final = 30.0  # seconds a flow's events are announced after each time we say that somebody follows
RETRY_AFTER: Final = 1.0  # seconds after which what the store refused, or what failed, is tried again
KEPT_FOR_OTHERS: Final = 5.1  # seconds until a job may go to the runner that failed it (ELSEWHERE in attempts.lua)
THERE_FOR: Final = 5.0  # seconds a runner counts as there after each time we say so
FAILED_IN_A_ROW: Final = 5  # attempts after which a runner gets less; attempts.lua has it too
TICK_LIMIT: Final = 200  # timers acted on in one step


class Engine:
    """One for each coordinator. `run` it beside the directory.

    Args:
        max_subscriptions: of one connection, and waiting job.take calls in all.
        is_alone: nobody else uses the store now, so every other coordinator that did is gone.

    Attributes:
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
        self._to_look_at: set[ContextKey] = set()  # contexts a timer will look at because an effect failed
        self._nursery: trio.Nursery
        self._polling: set[Waiter] = set()  # calls of job.take
        self._places = Places(max_subscriptions)  # for those of them that wait for jobs
        self._is_stopping = False
        self.runners_held_back = 0
        directory.apply_effects = self.apply_effects
        directory.effects_unknown = self.effects_unknown

    @property
    def subscriptions(self) -> int:
        """Subscriptions open."""
        return sum(len(context.runners) + sum(map(len, context.flows.values())) for context in self._contexts.values())

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

    def apply_effects(self, address: ContextKey, effects: Effects) -> None:
        """Act on what a transition has set going. Never blocks or raises: one that fails, or that nobody knows, is
        reported, and its context looked at a little later instead."""
        for effect in effects:
            try:
                self._apply(address, effect)
            except Exception as error:
                report("an effect", error, context=address, effect=effect[:100].decode(errors="replace"))
                self._look_later(address)

    def _apply(self, address: ContextKey, effect: bytes) -> None:
        match functions.read_effect(effect):
            case Ready(script_type):
                self._wake_runner(address, script_type)
            case Due(seconds):
                self._arm(address, seconds)
            case Events(flow_id):
                self._wake_followers(address, flow_id)
            case Cancel() as cancel:
                self._cancel(address, cancel)
            case Silent() as silent:
                if address in self._contexts:
                    self._contexts[address].silence(silent)
            case Other(script_type, runner_id):
                self._wake_other(address, script_type, runner_id)
            case Trouble(runner_id, failed):
                self._note_trouble(address, runner_id, failed)
            case Ended() as ended:
                COUNTS.runs_ended[ended] += 1

    def _learn(self, address: ContextKey, effects: Effects | None) -> None:
        """Act on what another coordinator has done. None: we may have missed something. Never blocks or raises."""
        if effects is not None:
            self.apply_effects(address, effects)
            return
        try:
            self._wake_all(address)
        except Exception as error:
            report("waking those who wait", error, context=address)
            self._look_later(address)

    def expect_job(self, address: ContextKey, script_type: str) -> None:
        """A call that is in the context's mailbox may queue a job of this type. Whoever is next to be woken when it has
        asks right behind it, in the same round: so the job need not wait for another one. Never blocks."""
        if address in self._contexts:
            self._contexts[address].wake_idle(script_type)

    def effects_unknown(self, address: ContextKey, wrote: bool) -> None:
        """Look at a context in which something may have happened of which we heard nothing. Never blocks or raises."""
        self._learn(address, None)
        if address is not GLOBAL and (wrote or address in self._contexts):
            self._arm(address, 0.0)

    def _look_later(self, address: ContextKey) -> None:
        """Have everybody in the context look, and its timers looked at, soon. Once for all that failed until then."""

        def look() -> None:
            self._wake_all(address)
            self._to_look_at.discard(address)
            self.effects_unknown(address, True)

        if address not in self._to_look_at:
            self._to_look_at.add(address)
            self._timers.call_in(RETRY_AFTER, look)

    def _wake_all(self, address: ContextKey) -> None:
        if address in self._contexts:
            self._contexts[address].wake_all()

    def _wake_runner(self, address: ContextKey, script_type: str) -> None:
        if address in self._contexts:
            self._contexts[address].wake_runner(script_type)

    def _note_trouble(self, address: ContextKey, runner_id: int, failed: int) -> None:
        self.runners_held_back += 1
        if math.log2(failed).is_integer() or failed == FAILED_IN_A_ROW:  # now and then
            log.warning("a runner fails all it gets: it gets less", context=address, runner=runner_id, in_a_row=failed)

    def _wake_other(self, address: ContextKey, script_type: str, runner_id: int) -> None:
        """There is a job for another runner than this one, which gets it only if nobody else has taken it."""
        context = self._contexts.get(address)
        if context is not None and not context.wake_runner(script_type, runner_id):
            self._timers.call_in(KEPT_FOR_OTHERS, lambda: self._wake_runner(address, script_type))

    def _wake_runners(self, address: ContextKey, script_types: Iterable[str]) -> None:
        """There may be jobs of these types for somebody else."""
        for script_type in script_types:
            self._wake_runner(address, script_type)

    def _wake_followers(self, address: ContextKey, flow_id: int) -> None:
        if address in self._contexts:
            self._contexts[address].wake_followers(flow_id)

    def _cancel(self, address: ContextKey, cancel: Cancel) -> None:
        if address in self._contexts:
            self._contexts[address].cancel(cancel)

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
        commands: list[Command] = [functions.runners_there(keys, THERE_FOR, params.script_types, [params.runner_id])]
        if params.session or params.holding:
            commands.append(functions.resume(keys, params.runner_id, params.session, params.holding))
        while gone is None:
            replies = yield commands
            gone, effects = functions.read_resume(replies[-1]) if len(commands) > 1 else (set(), ())
            self.apply_effects(keys.address, effects)
        subscription = RunnerSubscription(
            session,
            keys,
            runner_id=params.runner_id,
            topic=topic.decode(),
            runner_session=params.session,
            script_types=params.script_types,
            capacity=params.capacity,
            lease=params.lease,
            in_batches=params.batch,
            took=self._took,
        )
        until = trio.current_time() + params.lease
        held = (token for token in params.holding if token not in gone and not session.has_ended(token))
        subscription.held.update((token, until) for token in held)
        self._listened_to(keys.address).runners[subscription.id] = subscription
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
        (reply,) = yield [functions.flow_follow(keys, params.id, FOLLOWED_FOR, params.after)]
        has_missed = functions.read_flow_follow(reply)
        if isinstance(has_missed, Refused):
            raise cannot_read_events(has_missed.word, params.context_id, params.id)
        subscription = FlowSubscription(
            session, keys, flow_id=params.id, after=params.after, in_batches=params.batch, sees_logs=sees_logs
        )
        self._listened_to(keys.address).flows.setdefault(params.id, {})[subscription.id] = subscription
        self._open(subscription, opening)
        answer: RawJson = to_json({"subscription": subscription.id, "missed": has_missed})
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
        self._directory.post_soon(subscription.keys.address, request)

    def _log_refusal(self, event: str, **details: object) -> None:
        """Say that the store has refused something of ours. Why it takes no writes at all was said once, for all."""
        if self._store.write_fault is None:
            log.warning(event, **details)

    def _until_closed(self, subscription: Subscription) -> Operation:
        answer = yield from subscription.serve()
        self._forget(subscription)
        return answer

    def _forget(self, subscription: Subscription) -> None:
        address = subscription.keys.address
        self._context(address).forget(subscription)
        if isinstance(subscription, RunnerSubscription):
            self._connected.left(subscription)
            self._wake_runners(address, subscription.script_types)  # it may have been woken for a job
        self._drop_if_unused(address)

    def _took(self, runner: RunnerSubscription, effects: Effects, is_empty: bool) -> None:
        """A runner has taken jobs. If it may have left some, somebody else gets a turn."""
        self.apply_effects(runner.keys.address, effects)
        if not is_empty:
            self._wake_runners(runner.keys.address, runner.script_types)

    # -- job.take

    def take_job(self, budget: Budget, keys: Keyspace, params: JobTakeParams) -> Operation:
        """Jobs for a runner that has no WebSocket; waits for one if there is none."""
        (topic,) = yield [("HGET", keys.runner(params.runner_id), "topic")]
        if topic is None:
            raise NotFound("runner", context_id=params.context_id, id=params.runner_id)
        self._connected.polled(keys.address, params.runner_id, params.script_types)
        ends = trio.current_time() + params.wait
        waiter = Waiter(params, topic.decode())
        # With the runner in it, for what a take has brought is nobody's who only knows, or chances on, its take_id.
        holder = f"{params.runner_id}:{params.take_id or uuid.uuid4().hex}"
        is_taking = False
        self._polling.add(waiter)
        try:
            while True:
                waiter.look()
                with budget.reserve(TAKE_BYTES, waiter.wake) as reservation:
                    if not reservation.is_granted:
                        self._stop_waiting(keys.address, waiter)  # a job it is woken for would be lost on it
                    while not reservation.is_granted:
                        if trio.current_time() >= ends or self._is_stopping:
                            return b'{"jobs":[]}'
                        self._wake_at(waiter, ends)
                        yield waiter.park()
                    is_taking = True
                    is_all, attempts, effects = yield from take(
                        keys, waiter, count=params.count, holder=holder, number="1"
                    )
                    is_taking = False
                self.apply_effects(keys.address, effects)
                if attempts and not (is_all and len(attempts) < params.count):
                    self._wake_runners(keys.address, params.script_types)
                if attempts or trio.current_time() >= ends or self._is_stopping:
                    jobs = b",".join(b"{" + members for _, members in attempts)
                    return b'{"jobs":[%b]}' % jobs
                self._wait(keys.address, waiter, budget)
                self._wake_at(waiter, ends)
                yield waiter.park()
        except GeneratorExit:
            # Nobody waits for the answer any more, so what was taken, or what we were woken for, is somebody else's.
            if is_taking and not self._is_stopping:
                self._directory.call_soon(keys.address, self._give_back(keys, holder), lambda outcome: None)
            raise
        finally:
            self._polling.discard(waiter)
            self._stop_waiting(keys.address, waiter)

    def _wake_at(self, waiter: Waiter, ends: float) -> None:
        """Wake the call when its time is over; asked again it does nothing. A call answered at once leaves no timer."""
        if not waiter.is_timed:
            waiter.is_timed = True
            self._timers.call_in(ends - trio.current_time(), waiter.wake)

    def _wait(self, address: ContextKey, waiter: Waiter, client: Budget) -> None:
        """The call waits for jobs from now on, if it did not before. Raises Overloaded."""
        context = self._contexts.get(address)
        if context is not None and waiter in context.waiters:
            return
        waiter.place = self._places.take(client, address, waiter.runner_id)
        self._listened_to(address).waiters[waiter] = None

    def _stop_waiting(self, address: ContextKey, waiter: Waiter) -> None:
        """What the call may have been woken for is somebody else's."""
        context = self._contexts.get(address)
        if context is not None and waiter in context.waiters:
            del context.waiters[waiter]
            if waiter.place is not None:
                waiter.place.give_back()
                waiter.place = None
            self._wake_runners(address, waiter.script_types)
            self._drop_if_unused(address)

    def _give_back(self, keys: Keyspace, holder: str) -> Operation:
        (reply,) = yield [functions.untake(keys, holder, "1")]
        return WithEffects(b"", functions.read_effects(reply))

    # -- contexts

    def _context(self, address: ContextKey) -> Waiters:
        context = self._contexts.get(address)
        if context is None:
            context = self._contexts[address] = Waiters()
        return context

    def _listened_to(self, address: ContextKey) -> Waiters:
        """The context's waiters; its Pub/Sub messages will come, and once they do everybody in it looks once more."""
        self._pubsub.listen(address)
        return self._context(address)

    def _drop_if_unused(self, address: ContextKey) -> None:
        context = self._contexts.get(address)
        if context is None or not context.is_empty:
            return
        self._pubsub.ignore(address)
        if context.due == math.inf and not context.is_ticking:
            del self._contexts[address]

    # -- time

    def _arm(self, address: ContextKey, seconds: float) -> None:
        """Have the context's timers handled in so many seconds, or before."""
        context = self._context(address)
        at = trio.current_time() + seconds
        if at < context.due:
            context.due = at
            self._timers.call_in(seconds, lambda: self._tick_if_due(address))

    def _tick_if_due(self, address: ContextKey) -> None:
        context = self._contexts.get(address)
        if context is not None and context.due <= trio.current_time() and not context.is_ticking:
            self._tick(address, lambda: None)

    def _tick(self, address: ContextKey, done: Callable[[], None]) -> None:
        """Have the context's timers handled now, as often as it takes to succeed; then call `done`."""
        context = self._context(address)
        context.is_ticking = True
        context.due = math.inf

        def try_again() -> None:
            self._timers.call_in(RETRY_AFTER, lambda: self._tick(address, done))

        def end(outcome: RawJson | CoordinatorError) -> None:
            if isinstance(outcome, CoordinatorError):
                self._log_refusal("timers could not be handled; trying again", context=address, error=outcome.data)
                try_again()
                return
            context.is_ticking = False
            self._tick_if_due(address)
            self._drop_if_unused(address)
            done()

        def operation() -> Operation:
            (reply,) = yield [functions.tick(self._layout.keyspace(address), TICK_LIMIT)]
            ticked, effects = functions.read_tick(reply)
            COUNTS.attempts_lost += ticked.lost
            COUNTS.attempts_timed_out += ticked.timed_out
            COUNTS.attempts_retried += ticked.retried
            for fault in ticked.faults:
                report("a timer in the store", ReplyError(fault), context=address)
            return WithEffects(b"", effects)

        try:
            self._directory.call_soon(address, operation(), end)
        except Exception as error:
            report("handling timers", error, context=address)
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
            for address, context in [*self._contexts.items()]:
                for runner in [*context.runners.values()]:
                    runner.forget_expired(now)
                if context.runners or context.waiters:
                    self._directory.call_soon(
                        address, self._say_who_is_there(address, context.there()), lambda outcome: None
                    )
                if context.flows:
                    operation = self._keep_followed(address, [*context.flows])
                    self._directory.call_soon(address, operation, lambda outcome: None)
            self._connected.renew(self._contexts)
            await trio.sleep(MEMBERSHIP_EVERY)

    def _say_who_is_there(self, address: ContextKey, there: Mapping[str, Collection[int]]) -> Operation:
        keys = self._layout.keyspace(address)
        yield [functions.runners_there(keys, THERE_FOR, [type], runners) for type, runners in there.items()]
        return b""

    def _keep_followed(self, address: ContextKey, flows: Sequence[int]) -> Operation:
        keys = self._layout.keyspace(address)
        duration = int(FOLLOWED_FOR * 1000)
        kept = yield [("SET", f"{keys.prefix}followed:{flow}", "1", "PX", duration, "GET") for flow in flows]
        for flow, was_followed in zip(flows, kept, strict=True):
            if was_followed is None:  # so events may not have been announced
                self._wake_followers(address, flow)
        return b""
