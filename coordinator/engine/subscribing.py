"""Subscriptions of all connections: opened, served in their contexts' rounds, and ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

import structlog
import trio
from pydantic_core import to_json

from coordinator.actors.request import Operation, RawJson, Request
from coordinator.engine.contexts import Contexts
from coordinator.engine.following import ContextSubscription, FlowSubscription
from coordinator.engine.renewals import FOLLOWED_FOR, THERE_FOR
from coordinator.engine.sessions import Opening, Session, Subscription, SubscriptionRequest
from coordinator.engine.supplying import RunnerSubscription
from coordinator.engine.timers import CallIn
from coordinator.errors import BeingDeleted, CoordinatorError, NotFound, NotSubscribed, Overloaded
from coordinator.measures import refused
from coordinator.models.attempts import RunnerSubscribeParams
from coordinator.models.events import ContextSubscribeParams, FlowSubscribeParams, SubscriptionParams
from coordinator.operations.events import FEED_KEPT_FOR, cannot_follow, cannot_read_events
from coordinator.storage.connection import Command, Store
from coordinator.storage.functions import attempts, events, runners
from coordinator.storage.functions.results import Effects, Refused
from coordinator.storage.functions.runners import Subscribed
from coordinator.storage.keys import ContextKey, Keyspace

__all__ = ["Subscriptions"]

log = structlog.get_logger("coordinator.engine")

RETRY_AFTER: Final = 1.0  # seconds after which what the store refused is tried again


class Subscriptions:
    """Opens, serves and ends those of one coordinator.

    Args:
        post_soon: puts a request into a context's mailbox; Directory.post_soon.
        call_in: calls a function later; Timers.call_in.
        apply_effects: acts on what a transition has set going.
        limit: of one connection.
    """

    def __init__(
        self,
        store: Store,
        contexts: Contexts,
        post_soon: Callable[[ContextKey, Request], None],
        call_in: CallIn,
        apply_effects: Callable[[ContextKey, Effects], None],
        *,
        limit: int,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._post_soon = post_soon
        self._call_in = call_in
        self._apply_effects = apply_effects
        self._limit = limit

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
            self._apply_effects(keys.context_key, effects)
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
        self._contexts.listened_to(keys.context_key).runners[subscription.id] = subscription
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
        self._contexts.listened_to(keys.context_key).flows.setdefault(params.id, {})[subscription.id] = subscription
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
        self._contexts.listened_to(keys.context_key).followers[subscription.id] = subscription
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
        if len(session.subscriptions) >= self._limit:
            refused("max_subscriptions", id(session))
            raise Overloaded(f"this connection has {self._limit} subscriptions", self._limit, "max_subscriptions")

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
                if self._store.write_fault is None:  # why it takes no writes at all was said once, for all
                    log.warning("a subscription failed; trying again", kind=subscription.kind, error=error.data)
                self._call_in(RETRY_AFTER, lambda: self._serve(subscription))

        if subscription.is_closed:
            self._forget(subscription)
            return
        operation = self._until_closed(subscription)
        request = SubscriptionRequest(operation, deadline=math.inf, writes=False)
        request.failed = failed
        self._post_soon(subscription.keys.context_key, request)

    def _until_closed(self, subscription: Subscription) -> Operation:
        answer = yield from subscription.serve()
        self._forget(subscription)
        return answer

    def _forget(self, subscription: Subscription) -> None:
        context_key = subscription.keys.context_key
        context = self._contexts.of(context_key)
        context.forget(subscription)
        if isinstance(subscription, RunnerSubscription):
            context.wake_runners(subscription.script_types)  # it may have been woken for a job
        self._contexts.drop_if_unused(context_key)

    def _took(self, runner: RunnerSubscription, effects: Effects, is_empty: bool) -> None:
        """A runner has taken jobs. If it may have left some, somebody else gets a turn."""
        self._apply_effects(runner.keys.context_key, effects)
        if not is_empty:
            self._contexts.of(runner.keys.context_key).wake_runners(runner.script_types)
