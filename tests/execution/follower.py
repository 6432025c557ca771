"""A follower whose subscription is served by hand, and the connection on which it is sent what it follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from coordinator.actors.request import Park
from coordinator.budget import Budget
from coordinator.engine.sessions import Session, Subscription
from tests.execution.driver import Context

__all__ = ["Client", "Follower"]


class Client(Session):
    """A client's connection that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(Budget(100_000_000))
        self.notices: list[dict[str, Any]] = []
        self.is_slow = False

    @property
    def is_congested(self) -> bool:
        return self.is_slow

    def notify(self, notifications: Sequence[bytes], *, in_batches: bool, is_last: bool = False) -> None:
        self.notices += [json.loads(notification)["params"] for notification in notifications]


class Follower:
    """Serves a subscription of this client.

    Attributes:
        is_over: the subscription has ended.
    """

    def __init__(self, context: Context, client: Client, subscription: Subscription) -> None:
        self.client = client
        self.subscription = subscription
        self.is_over = False
        self._context = context
        self._operation = subscription.serve()

    def look(self) -> list[dict[str, Any]]:
        """What it is sent until it waits."""
        self.client.notices = []
        given: Any = None
        try:
            while not isinstance(step := self._operation.send(given), Park):
                assert isinstance(step, list)
                given = self._context.wire.ask(*step)
        except StopIteration:
            self.is_over = True
        return self.client.notices
