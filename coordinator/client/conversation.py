"""What a client says and is told, but for the waiting: calls line up, notifications find who has subscribed, and what a
lost connection means for both. Nothing here waits, so it serves trio and asyncio alike."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import from_json

from coordinator import models
from coordinator.client.address import Address
from coordinator.client.errors import rpc_error
from coordinator.client.ledger import Call, Finish, Ledger, encode
from coordinator.client.loop import Event, Loop
from coordinator.client.reasons import one_line
from coordinator.client.subscriptions import Notification, Subscription
from coordinator.errors import InvalidRequest

__all__ = ["Conversation", "Outcome", "outcome_of", "result_of"]

log = logging.getLogger("coordinator.client")

MESSAGE_TOO_BIG: Final = 1009
LOGIN_ENDED: Final = "auth.ended"

Outcome = dict[str, Any] | Exception
"""What becomes of a call: the reply object, or why there is none."""


def outcome_of(outcome: Outcome) -> Any:
    """The result, or the error as an exception."""
    if type(outcome) is dict:
        return outcome["result"] if "result" in outcome else rpc_error(outcome.get("error"))
    return outcome


def result_of(outcome: Outcome) -> Any:
    """The result. Raises the error."""
    if type(outcome) is dict and "result" in outcome:
        return outcome["result"]
    raise outcome_of(outcome)


class Conversation(ABC):
    """The base of the client on either loop.

    Attributes:
        loop: the event loop.
        timeout: seconds until a call raises NoReply, unless it gives its own.
        connections: how many there have been.
    """

    _something: Event
    """Set when there is something to write, or room for it."""

    def __init__(
        self,
        loop: Loop,
        address: Address,
        ledger: Ledger,
        *,
        timeout: float,
        on_connect: Callable[[], None] | None,
        on_disconnect: Callable[[], None] | None,
    ) -> None:
        self.loop = loop
        self.timeout = timeout
        self.connections = 0
        self._address = address
        self._ledger = ledger
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._earliest = math.inf  # deadline
        self._ended: Exception | None = None
        self._trouble = "it has not answered yet"
        self._was_useful = False  # whether anything came over the last connection
        self._routes: dict[str, Notification] = {}
        self._subscriptions: dict[Subscription, None] = {}

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether there is a connection."""

    @abstractmethod
    def drop(self, why: str) -> None:
        """Give up the present connection for a new one."""

    @abstractmethod
    def _notify_change(self) -> None:
        """Wake who waits for a connection."""

    @abstractmethod
    def _set_alarm(self, deadline: float) -> None:
        """Have deadlines enforced at this time, which is the earliest now."""

    # -- calls

    def post(
        self,
        method: str,
        params: bytes | None,
        finish: Finish,
        *,
        timeout: float | None = None,
        resend: bool = True,
        alone: bool = False,
        first: bool = False,
        notification: bool = False,
    ) -> Call:
        """Line a call up without waiting; `finish` gets its outcome, never before this returns."""
        if self._ended is not None:
            raise self._ended
        deadline = self.loop.now() + (self.timeout if timeout is None else timeout)
        call = self._ledger.put(
            method,
            params,
            finish,
            deadline=deadline,
            resend=resend,
            alone=alone,
            first=first,
            notification=notification,
        )
        self._something.set()
        if deadline < self._earliest:
            self._set_alarm(deadline)
        return call

    def _abandon(self, *calls: Call) -> None:
        for call in calls:
            self._ledger.abandon(call)
        self._something.set()  # there may be room for others

    def _expire(self) -> float:
        """Fail the calls whose deadlines are over. Returns the next deadline."""
        earliest = self._ledger.expire(self.loop.now(), self._why_no_reply())
        self._something.set()  # there may be room for others
        return earliest

    def _why_no_reply(self) -> str:
        if self.connected:
            return f"{self._address.url} did not answer in time"
        return f"no connection to {self._address.url}: {self._trouble}"

    def _end(self, error: Exception) -> None:
        if self._ended is None:
            self._ended = error
            self._ledger.fail_all(error)
            for subscription in list(self._subscriptions):
                subscription.end(error)
            self._notify_change()

    # -- subscriptions

    def attach(self, subscription: Subscription) -> None:
        """Have it resumed on every new connection, beginning with the present one if there is one."""
        self._subscriptions[subscription] = None
        if self.connected:
            subscription.resume()

    def detach(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)

    def route(self, subscription: str, handler: Notification) -> None:
        """Give the notifications of this subscription to `handler`, while the present connection lasts."""
        self._routes[subscription] = handler

    def unroute(self, subscription: str) -> bool:
        """Ignore its notifications from now on; whether there was such a route."""
        return self._routes.pop(subscription, None) is not None

    def unsubscribe(self, method: str, subscription: str) -> None:
        """Take no more of its notifications and tell the server so, without waiting for the answer."""
        if self.unroute(subscription) and self._ended is None:
            params = encode(models.SubscriptionParams(subscription=subscription))
            self.post(method, params, lambda _: None, resend=False)

    # -- a connection

    def _connection_begun(self) -> None:
        """There is a new connection, on which nothing was sent yet but the login."""
        self.connections += 1
        self._notify_change()

    def _resume(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.resume()
        if self._on_connect is not None:
            self._on_connect()

    def _connection_ended(self, closed: tuple[int, str | None] | None) -> None:
        """The connection is gone. `closed`: the code and the reason it was closed with, if it was."""
        self._routes.clear()
        if closed is not None:
            code, reason = closed
            self._trouble = f"closed with {code} {one_line(reason or '')}".strip()
            if code == MESSAGE_TOO_BIG:
                # Sent again, the same frame would end the next connection too.
                error = {"code": InvalidRequest.code, "message": InvalidRequest.message}
                error |= {"data": {"detail": self._trouble, "setting": "max_frame_bytes"}}
                self._ledger.settle({"id": None, "error": error})
        self._ledger.connection_lost(self._trouble)
        for subscription in list(self._subscriptions):
            subscription.suspend()
        self._notify_change()
        if self._on_disconnect is not None:
            self._on_disconnect()

    def _received(self, data: str | bytes) -> bool:
        """Read a message. Returns false if the connection was given up for it."""
        try:
            message = from_json(data)
        except ValueError as error:
            self.drop(f"what the server sent is not JSON: {error}")
            return False
        is_single = type(message) is not list
        for item in (message,) if is_single else message:
            if type(item) is not dict:
                log.warning("%s sent something that is no JSON-RPC message", self._address.url)
            elif "method" in item:
                self._notified(item)
            else:
                self._ledger.settle(item, is_single=is_single)
        self._something.set()  # there is room for more, and something may have to be sent again
        return True

    def _notified(self, notification: dict[str, Any]) -> None:
        params = notification.get("params")
        if notification["method"] == LOGIN_ENDED:
            what = "a subscription" if type(params) is dict and "subscription" in params else "the login"
            self.drop(f"the coordinator has ended {what}")  # what is asked for on the next connection says why
        elif type(params) is dict:
            handler = self._routes.get(str(params.get("subscription")))
            if handler is not None:
                handler(notification["method"], params)
