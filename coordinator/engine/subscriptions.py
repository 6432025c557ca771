"""What a client's connection is subscribed to: jobs for a runner, events of a flow or of a context.

Each is one endless operation that parks while there is nothing to do, so it is served in its context's rounds like any
other request, and a lost connection to the store is none of its business.
"""

from __future__ import annotations

import secrets
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final, NamedTuple

import structlog
import trio
from pydantic_core import from_json, to_json

from coordinator.actors.request import Operation, Parking, RawJson, Request
from coordinator.budget import Budget
from coordinator.errors import CoordinatorError
from coordinator.measures import COUNTS, START_WAITS
from coordinator.operations.events import ENTRIES_A_STEP, EVENT_BYTES, EVENTS_A_STEP, FEED_KEPT_FOR
from coordinator.storage import codec
from coordinator.storage.connection import Command
from coordinator.storage.functions import attempts, events
from coordinator.storage.functions.attempts import Told
from coordinator.storage.functions.effects import Cancel, Silent, read_origin
from coordinator.storage.functions.events import ReadEvents
from coordinator.storage.functions.results import Effects, Refused, Word, read_effects
from coordinator.storage.keys import Keyspace
from coordinator.tracing import traceparent_of_attempt

__all__ = [
    "TAKE_BYTES",
    "Caller",
    "ContextSubscription",
    "FlowSubscription",
    "Opening",
    "RunnerSubscription",
    "Session",
    "Subscription",
    "SubscriptionRequest",
    "take",
]

log = structlog.get_logger("coordinator.subscriptions")

TAKE_AT_LEAST: Final = 16  # jobs; half of a larger capacity, so that a runner has one half while the other is under way
TAKE_BYTES: Final = 256 * 1024  # of assignments handed out in one take, unless a single one is larger
LAPSE_KNOWN_AFTER: Final = 2.0  # seconds after the end of a lease; by then the store has said so, unless it ended well
ENDED_EARLY: Final = 1000  # reports remembered of a client whose subscription is on its way
BEGINNING: Final = "0-0"
_LOG: Final = b'"kind":"log"'
SECRET_BYTES: Final = 16  # random ones in the tokens of each take, so that nobody guesses an attempt's
_ENV_VARS_AT: Final = codec.JOB.field_names.index(b"env_vars")
_SCRIPT_TYPE_AT: Final = codec.JOB.field_names.index(b"script_type")


class Session(ABC):
    """A client's connection, as subscriptions see it.

    Attributes:
        budget: the client's.
        subscriptions: by id.
        is_closed: the connection is gone.
        silent: subscriptions that get nothing until the client has said anything.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.subscriptions: dict[str, Subscription] = {}
        self.is_closed = False
        self.silent: list[RunnerSubscription] = []
        self._freed: list[RunnerSubscription] = []
        self._ended_early: deque[str] = deque(maxlen=ENDED_EARLY)

    @property
    @abstractmethod
    def is_congested(self) -> bool:
        """Whether the client takes what it is sent too slowly; `relieved` is called once it no longer is."""

    @abstractmethod
    def notify(self, notifications: Sequence[bytes], *, in_batches: bool, is_last: bool = False) -> None:
        """Send notifications: one a message, or `in_batches` for a client that asked for that. Never blocks. With
        `is_last` no others are expected to follow soon, for which a single one would have to wait."""

    def end_subscription(self, subscription: Subscription, reason: str) -> None:
        """End one of the connection's, and say so to the client if there is a way. Never blocks."""
        subscription.close()

    def relieved(self) -> None:
        """The client has caught up."""
        for subscription in self.subscriptions.values():
            subscription.wake()

    def ended(self, token: str) -> None:
        """The client has reported an attempt's end: its place is free once the message it came in is dealt with."""
        for subscription in self.subscriptions.values():
            if isinstance(subscription, RunnerSubscription) and subscription.held.pop(token, None) is not None:
                self._freed.append(subscription)
                return
        self._ended_early.append(token)

    def has_ended(self, token: str) -> bool:
        """Whether the client has reported, before it had a subscription that held it, this attempt's end."""
        return token in self._ended_early

    def renewed(self, token: str) -> None:
        """The client has given an attempt's sign of life."""
        for subscription in self.subscriptions.values():
            if isinstance(subscription, RunnerSubscription) and token in subscription.held:
                subscription.held[token] = trio.current_time() + subscription.lease

    def message_done(self) -> None:
        """Every call of a message is in its mailbox."""
        if self.silent:
            heard, self.silent = self.silent, []
            for subscription in heard:
                subscription.is_silent = False
                subscription.wake()
        if self._freed:
            for subscription in self._freed:
                subscription.wake()
            self._freed.clear()

    def close(self) -> None:
        """The connection is gone."""
        self.is_closed = True
        for subscription in [*self.subscriptions.values()]:
            subscription.close()


class Caller(NamedTuple):
    """Who calls: what it may make us hold, and if it can have subscriptions, its connection and what holds back the one
    that the call opens. `sees_logs`: whether it may read log lines. `address`: where it is, if not where its connection
    is from."""

    budget: Budget
    session: Session | None
    opening: Opening | None
    sees_logs: bool = True
    address: str = ""


class SubscriptionRequest(Request):
    """The request of a subscription, which is never answered unless something went wrong."""

    __slots__ = ("failed",)

    failed: Callable[[CoordinatorError], None]

    def reply(self, outcome: RawJson | CoordinatorError) -> None:
        if isinstance(outcome, CoordinatorError):
            self.failed(outcome)


class Opening:
    """Makes a subscription begin only when the reply that names it is on its way to the client, before which it could
    make nothing of a notification. A reply in a batch is on its way when all of the batch are."""

    def __init__(self) -> None:
        self._subscription: Subscription | None = None
        self._is_replied = False

    def opened(self, subscription: Subscription) -> None:
        """This is what the call has opened."""
        self._subscription = subscription
        if self._is_replied:
            subscription.begin()

    def replied(self) -> None:
        """The call's reply is on its way, or there will be none."""
        self._is_replied = True
        if self._subscription is not None:
            self._subscription.begin()


class Subscription(Parking, ABC):
    """One subscription of a session, in one context.

    Args:
        in_batches: whether the client wants several notifications in one message.

    Attributes:
        is_closed: its operation ends when it next looks.
        has_begun: the client knows its name, so it may be notified.
        on_begin: called once, when it begins or is closed before that.
    """

    kind: str

    def __init__(self, session: Session, keys: Keyspace, *, in_batches: bool) -> None:
        super().__init__()
        self.id = uuid.uuid4().hex
        self.session = session
        self.keys = keys
        self.in_batches = in_batches
        self.has_begun = False
        self.on_begin: Callable[[], None] = lambda: None
        self.is_closed = session.is_closed
        if not self.is_closed:
            session.subscriptions[self.id] = self

    def begin(self) -> None:
        """The client is told its name."""
        if not self.has_begun:
            self.has_begun = True
            self.on_begin()

    def notify(self, notifications: Sequence[bytes]) -> None:
        """Send these to the client. Never blocks."""
        self.session.notify(notifications, in_batches=self.in_batches)

    @abstractmethod
    def serve(self) -> Operation:
        """The endless operation."""

    def context_deleted(self) -> None:
        """Its context is being deleted: say so to the client, and end."""
        self.session.end_subscription(self, f"context {self.keys.context_key} is deleted")

    def close(self) -> None:
        self.is_closed = True
        self.session.subscriptions.pop(self.id, None)
        self.wake()
        self.begin()


class RunnerSubscription(Subscription):
    """Keeps a runner supplied with at most `capacity` unfinished attempts.

    Attributes:
        since: when it has subscribed (ms).
        held: tokens of attempts the runner has → when we stop counting them, on trio's clock, if we hear nothing more.
        is_hungry: parked because the queues were empty.
        is_silent: it let a lease lapse, and nothing was heard on its connection since. Whatever it got now would be
            lost as well.
    """

    kind = "runner"

    def __init__(
        self,
        session: Session,
        keys: Keyspace,
        *,
        runner_id: int,
        topic: str,
        runner_session: str,
        script_types: Iterable[str],
        capacity: int,
        since: int,
        lease: float,
        in_batches: bool,
        took: Callable[[RunnerSubscription, Effects, bool], None],
    ) -> None:
        super().__init__(session, keys, in_batches=in_batches)
        self.runner_id = runner_id
        self.topic = topic
        self.runner_session = runner_session
        self.script_types = list(dict.fromkeys(script_types))
        self.capacity = capacity
        self.since = since
        self.lease = lease
        self.held: dict[str, float] = {}
        self.is_hungry = False
        self.is_silent = False
        self._took = took
        self._takes = 0
        self._early: list[bytes] = []  # cancels from before it has begun, of what it held already

    def begin(self) -> None:
        super().begin()
        early, self._early = self._early, []
        if early and not self.is_closed:
            self.notify(early)

    def serve(self) -> Operation:
        while not self.is_closed:
            self.look()
            free = self.capacity - len(self.held)
            count = min(free, max(TAKE_AT_LEAST, self.capacity // 2))
            if self.is_silent:
                self._took(self, (), False)  # it may have been woken for a job
                while self.is_silent and not self.is_closed:
                    yield self.park()
                    self.look()
                continue
            if free <= 0 or self.session.is_congested:
                yield self.park()
                continue
            with self.session.budget.reserve(TAKE_BYTES, self.wake) as reservation:
                while not (reservation.is_granted or self.is_closed):
                    yield self.park()
                if self.is_closed:
                    break
                is_all, assignments, effects = yield from take(
                    self.keys, self, count=count, holder=self.id, number=str(self._takes)
                )
                if assignments and self.is_closed:
                    (reply,) = yield [attempts.untake(self.keys, self.id, str(self._takes))]
                    self._took(self, [*effects, *read_effects(reply)], True)
                    break
                self._takes += 1
                until = trio.current_time() + self.lease
                self.held.update((token, until) for token, _ in assignments)
                if assignments:
                    head = b'{"jsonrpc":"2.0","method":"runner.job","params":{"subscription":"%b",' % self.id.encode()
                    notifications = [b"%b%b}" % (head, members) for _, members in assignments]
                    self.session.notify(notifications, in_batches=self.in_batches, is_last=True)
            is_empty = is_all and len(assignments) < count
            del assignments  # nobody needs them while we are parked
            self._took(self, effects, is_empty)
            if is_empty and not self.is_closed:
                self.is_hungry = True
                yield self.park()
                self.is_hungry = False
        return b""

    @property
    def is_idle(self) -> bool:
        """It found nothing and waits, and would have room for a job."""
        return self.is_hungry and self.is_parked and not self.session.is_congested

    def forget_expired(self, now: float) -> None:
        """Stop counting attempts that ended on another connection, or were lost."""
        expired = [token for token, until in self.held.items() if until < now - LAPSE_KNOWN_AFTER]
        for token in expired:
            del self.held[token]
        if expired:
            self.wake()

    def silence(self, silent: Silent) -> None:
        """If it was this one that let a lease lapse, hand it nothing until something is heard of it."""
        if silent.token in self.held and not self.is_silent and not self.is_closed:
            self.is_silent, self.is_hungry = True, False
            self.session.silent.append(self)
            self.wake()

    def cancel(self, cancel: Cancel) -> None:
        """Tell the runner to stop an attempt, if it has it."""
        if self.held.pop(cancel.token, None) is None:
            return
        _, caller_id, job_id, token, reason = cancel
        notification = (
            b'{"jsonrpc":"2.0","method":"runner.cancel","params":{"subscription":"%b","context_id":%d,'
            b'"caller_id":%d,"id":%d,"token":"%b","reason":%b}}'
            % (self.id.encode(), self.keys.context_key or 0, caller_id, job_id, token.encode(), reason)
        )
        if self.has_begun:
            self.notify([notification])
        else:
            self._early.append(notification)
        self.wake()


class EventSubscription(Subscription, ABC):
    """Streams events from the store, so that a slow client costs no memory here.

    Args:
        after: the id of the event after which it begins.
    """

    def __init__(self, session: Session, keys: Keyspace, *, after: str, in_batches: bool) -> None:
        super().__init__(session, keys, in_batches=in_batches)
        self._after = after
        self._has_missed = False

    @property
    @abstractmethod
    def _head(self) -> bytes:
        """How each notification begins, up to the event's members."""

    @abstractmethod
    def _command(self) -> Command:
        """Reads what comes next."""

    @abstractmethod
    def _found(self, reply: Any) -> ReadEvents | Refused:
        """What it has read. Refused: NONE, with the time, there will be no more; CHANGED, begin again."""

    @abstractmethod
    def _begin_again(self) -> Generator[list[Command], Any, None]:
        """Go on where the store has anything to go on with."""

    @abstractmethod
    def _gone(self, at: bytes) -> None:
        """There will be no more events, since that time: say so, and close."""

    def context_deleted(self) -> None:
        self._gone(b"%d" % (time.time_ns() // 1_000_000))

    def _tell(self, found: ReadEvents) -> None:
        """Notify the client of these events."""
        COUNTS.events_missed += found.missed
        notices = [b'%b"event_id":"%b",%b}}' % (self._head, *event) for event in found.events]
        if found.missed:
            notices[0] = b'%b,"missed":true}}' % notices[0][:-2]
        self.notify(notices)

    def serve(self) -> Operation:
        while not self.is_closed:
            self.look()
            if self.session.is_congested:
                yield self.park()
                continue
            with self.session.budget.reserve(EVENT_BYTES, self.wake) as reservation:
                while not (reservation.is_granted or self.is_closed):
                    yield self.park()
                if self.is_closed:
                    break
                (reply,) = yield [self._command()]
                if self.is_closed:
                    break
                found = self._found(reply)
                match found:
                    case Refused(Word.NONE, [bytes(at)]):
                        self._gone(at)
                        break
                    case Refused():  # what it has read is not there: a store that lost its last seconds, for one
                        self._has_missed = True
                        yield from self._begin_again()
                        continue
                found = found._replace(missed=found.missed or self._has_missed)
                is_all = found.is_last
                if found.events:
                    self._after, self._has_missed = found.events[-1][0].decode(), False
                    self._tell(found)
            del found, reply  # nobody needs them while we are parked
            if is_all:
                yield self.park()
        return b""


class FlowSubscription(EventSubscription):
    """Streams a flow's events.

    Attributes:
        sees_logs: log lines are among them.
    """

    kind = "flow"

    def __init__(
        self,
        session: Session,
        keys: Keyspace,
        *,
        flow_id: int,
        after: str,
        in_batches: bool,
        sees_logs: bool = True,
    ) -> None:
        super().__init__(session, keys, after=after, in_batches=in_batches)
        self.sees_logs = sees_logs
        self.flow_id = flow_id
        self._opening = (
            b'{"jsonrpc":"2.0","method":"flow.event","params":{"subscription":"%b","context_id":%d,"flow_id":%d,'
            % (self.id.encode(), keys.context_key or 0, flow_id)
        )

    @property
    def _head(self) -> bytes:
        return self._opening

    def _command(self) -> Command:
        return events.flow_read(self.keys, self.flow_id, self._after, EVENTS_A_STEP, EVENT_BYTES)

    def _found(self, reply: Any) -> ReadEvents | Refused:
        return events.read_flow_read(reply)

    def _begin_again(self) -> Generator[list[Command], Any, None]:
        self._after = BEGINNING  # it may be another flow, of the same id
        yield from ()

    def _tell(self, found: ReadEvents) -> None:
        if not self.sees_logs:
            found = found._replace(events=[event for event in found.events if not event[1].startswith(_LOG)])
            if not found.events:
                self._has_missed = found.missed  # the next one says so
                return
        super()._tell(found)

    def _gone(self, at: bytes) -> None:
        """The flow was deleted: that is its last event."""
        self.notify([b'%b"event_id":"%b-0","kind":"flow","at":%b,"status":"Deleted"}}' % (self._head, at, at)])
        self.close()


class ContextSubscription(EventSubscription):
    """Streams the events of all flows of a context.

    Args:
        was_there: so was the context's record when this began. It ends when that is deleted.
    """

    kind = "context"

    def __init__(self, session: Session, keys: Keyspace, *, after: str, in_batches: bool, was_there: bool) -> None:
        super().__init__(session, keys, after=after, in_batches=in_batches)
        self.was_there = was_there
        self._opening = b'{"jsonrpc":"2.0","method":"context.event","params":{"subscription":"%b","context_id":%d,' % (
            self.id.encode(),
            keys.context_key or 0,
        )

    @property
    def _head(self) -> bytes:
        return self._opening

    def _command(self) -> Command:
        return events.context_read(self.keys, self._after, ENTRIES_A_STEP, EVENT_BYTES, was_there=self.was_there)

    def _found(self, reply: Any) -> ReadEvents | Refused:
        return events.read_context_read(reply, self._after)

    def _begin_again(self) -> Generator[list[Command], Any, None]:
        (reply,) = yield [self.follow()]
        following = events.read_context_follow(reply)
        if not isinstance(following, Refused):  # else the next look says so
            self._after = following.last

    def follow(self) -> Command:
        """Has the context's events written for a while."""
        return events.context_follow(self.keys, FEED_KEPT_FOR, was_there=self.was_there)

    def _gone(self, at: bytes) -> None:
        """The context was deleted: that is its last event."""
        self.notify([b'%b"event_id":"%b-0","kind":"context","at":%b,"status":"Deleted"}}' % (self._head, at, at)])
        self.close()


def take(
    keys: Keyspace, runner: Any, *, count: int, holder: str, number: str
) -> Generator[list[Command], Any, tuple[bool, list[tuple[str, bytes]], Effects]]:
    """Take jobs for `runner` (runner_id, runner_session, topic, lease, script_types). Asked again with the same holder
    and number, it gets the same ones.

    The queue to begin with is drawn by lot, so that jobs of one type never starve those of another. Taking turns would
    need a memory shared by calls that may come to different coordinators.

    Returns whether the queues have no more, each attempt's token and the members of its Assignment without the opening
    brace, and effects.
    """
    script_types = list(runner.script_types)
    first = secrets.randbelow(len(script_types)) if len(script_types) > 1 else 0
    command = attempts.take(
        keys,
        runner_id=runner.runner_id,
        session=runner.runner_session,
        topic=runner.topic,
        lease=runner.lease,
        count=count,
        max_bytes=TAKE_BYTES,
        holder=holder,
        number=number,
        secret=secrets.token_urlsafe(SECRET_BYTES),
        script_types=script_types[first:] + script_types[:first],
    )
    effects: list[bytes] = []
    while True:
        (reply,) = yield [command]
        taken, more = attempts.read_take(reply)
        effects += more
        if taken.attempts or not taken.may_be_more:  # else only entries that lead nowhere so far
            for told in taken.attempts:
                if told.waited is not None:
                    START_WAITS[_script_type(told),].observe(told.waited)
            return taken.is_last, [_assignment(keys, told, runner.lease) for told in taken.attempts], effects


def _script_type(told: Told) -> str:
    script_type = told.record[_SCRIPT_TYPE_AT]
    assert script_type is not None, "each job has one"
    return script_type.decode()


def _assignment(keys: Keyspace, told: Told, lease: float) -> tuple[str, bytes]:
    """An attempt's token and the members of its Assignment without the opening brace."""
    context_id = keys.context_key or 0
    caller_id, id = told.job
    env_vars = told.record[_ENV_VARS_AT]
    assert env_vars is not None, "each job has some"
    members = b'"context_id":%d,"job":%b,"env_vars":%b,"inputs":%b,%b"attempt":%b,"token":"%b","lease":%b%b%b%b}' % (
        context_id,
        codec.JOB.spliced((id, caller_id, context_id), told.record),
        _merged(told.env_vars, env_vars),
        told.inputs,
        b'"inputs_from":%b,' % told.inputs_from if told.inputs_from else b"",
        told.number,
        told.token.encode(),
        to_json(lease),
        b"" if told.flow_id is None else b',"flow_id":' + told.flow_id,
        b',"prerequisites":' + told.prerequisites if told.prerequisites else b"",
        _origin(told) if told.origin else b"",
    )
    return told.token, members


def _origin(told: Told) -> bytes:
    """The members that say what has asked for the run."""
    traceparent, request_id = read_origin(told.origin.decode())
    members = b',"request_id":' + to_json(request_id) if request_id else b""
    if traceparent:
        members += b',"traceparent":' + to_json(traceparent_of_attempt(traceparent, told.token))
    return members


def _merged(flow_env: bytes, own: bytes) -> bytes:
    """The flow's environment under the job's."""
    if flow_env == b"{}":
        return own
    return flow_env if own == b"{}" else to_json({**from_json(flow_env), **from_json(own)})
