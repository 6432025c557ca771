"""Clients' connections as the engine sees them: what each has subscribed to, and who it is that calls.

A subscription is one endless operation that parks while there is nothing to do, so it is served in its context's rounds
like any other request, and a lost connection to the store is none of its business.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import trio

from coordinator.actors.request import Operation, Parking, RawJson, Request
from coordinator.budget import Budget
from coordinator.errors import CoordinatorError
from coordinator.storage.keys import Keyspace

__all__ = ["Caller", "Holder", "Opening", "Session", "Subscription", "SubscriptionRequest"]

LAPSE_KNOWN_AFTER: Final = 2.0  # seconds after the end of a lease; by then the store has said so, unless it ended well
ENDED_EARLY: Final = 1000  # reports remembered of a client whose subscription is on its way


class Session(ABC):
    """A client's connection, as subscriptions see it.

    Attributes:
        budget: the client's.
        subscriptions: by id.
        holders: those of them whose client holds attempts, by id.
        is_closed: the connection is gone.
        silent: subscriptions that get nothing until the client has said anything.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.subscriptions: dict[str, Subscription] = {}
        self.holders: dict[str, Holder] = {}
        self.is_closed = False
        self.silent: list[Holder] = []
        self._freed: list[Holder] = []
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
        for holder in self.holders.values():
            if holder.held.pop(token, None) is not None:
                self._freed.append(holder)
                return
        self._ended_early.append(token)

    def has_ended(self, token: str) -> bool:
        """Whether the client has reported, before it had a subscription that held it, this attempt's end."""
        return token in self._ended_early

    def renewed(self, token: str) -> None:
        """The client has given an attempt's sign of life."""
        for holder in self.holders.values():
            if token in holder.held:
                holder.held[token] = trio.current_time() + holder.lease

    def message_done(self) -> None:
        """Every call of a message is in its mailbox."""
        if self.silent:
            heard, self.silent = self.silent, []
            for holder in heard:
                holder.is_silent = False
                holder.wake()
        if self._freed:
            for holder in self._freed:
                holder.wake()
            self._freed.clear()

    def close(self) -> None:
        """The connection is gone."""
        self.is_closed = True
        for subscription in [*self.subscriptions.values()]:
            subscription.close()


class Caller(NamedTuple):
    """Who makes a call.

    Attributes:
        budget: bounds what it may make us hold.
        session: its connection, if it can have subscriptions.
        opening: holds back the subscription that the call opens, if it can have any.
        sees_logs: whether it may read log lines.
        address: where it is, if that is not where its connection is from.
    """

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
        """End it. Never blocks."""
        self.is_closed = True
        self.session.subscriptions.pop(self.id, None)
        self.wake()
        self.begin()


class Holder(Subscription, ABC):
    """A subscription whose client holds attempts.

    Args:
        lease: seconds for which an attempt is held without a sign of life.

    Attributes:
        held: tokens of the attempts it holds → when we stop counting them, on trio's clock, if we hear nothing more.
        is_silent: the client let a lease lapse, and nothing was heard on its connection since. Whatever it got now
            would be lost as well.
    """

    def __init__(self, session: Session, keys: Keyspace, *, lease: float, in_batches: bool) -> None:
        super().__init__(session, keys, in_batches=in_batches)
        self.lease = lease
        self.held: dict[str, float] = {}
        self.is_silent = False
        if not self.is_closed:
            session.holders[self.id] = self

    def forget_expired(self, now: float) -> None:
        """Stop counting attempts that ended on another connection, or were lost."""
        expired = [token for token, until in self.held.items() if until < now - LAPSE_KNOWN_AFTER]
        for token in expired:
            del self.held[token]
        if expired:
            self.wake()

    def close(self) -> None:
        self.session.holders.pop(self.id, None)
        super().close()
