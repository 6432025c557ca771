"""What a follower is sent, read from the store: in order, with a word where something is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from coordinator.actors.request import Park
from coordinator.budget import Budget
from coordinator.engine.following import FlowSubscription
from coordinator.engine.sessions import Session
from tests.execution.driver import Context, job


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
    def __init__(self, context: Context, after: str = "0-0") -> None:
        self.client = Client()
        self.subscription = FlowSubscription(self.client, context.keys, flow_id=1, after=after, in_batches=False)
        self._context = context
        self._operation = self.subscription.serve()
        self.is_over = False

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


def test_a_follower_that_was_too_slow_is_told_that_it_has_missed_some_events_and_where(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    follower = Follower(context)
    assert not any("missed" in notice for notice in follower.look())
    follower.client.is_slow = True
    assert follower.look() == []
    for number in range(6):
        context.log(attempt, "x" * 4_000_000 + str(number))
    follower.client.is_slow = False

    notices = follower.look()

    assert [notice["lines"][0][-1] for notice in notices] == ["2", "3", "4", "5"]
    assert [notice.get("missed", False) for notice in notices] == [True, False, False, False]
    context.finish(attempt)
    assert [notice.get("missed", False) for notice in follower.look()] == [False, False]


def test_a_follower_of_a_deleted_flow_is_told_so_and_is_done(context: Context) -> None:
    context.submit(1, [job(1)])
    context.run_all()
    follower = Follower(context)
    follower.look()
    context.delete_flow(1)

    (notice,) = follower.look()

    assert (notice["kind"], notice["status"]) == ("flow", "Deleted")
    assert follower.is_over
    assert follower.subscription.id not in follower.client.subscriptions


def test_a_follower_of_what_the_store_has_lost_begins_again_and_is_told_so(context: Context) -> None:
    context.submit(1, [job(1)])
    follower = Follower(context, after="9999999999999-0")

    (notice,) = follower.look()

    assert (notice["status"], notice["missed"]) == ("Started", True)
