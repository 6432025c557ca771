"""What a follower is sent, read from the store: in order, with a word where something is missing."""

from __future__ import annotations

from coordinator.engine.following import FlowSubscription
from tests.execution.driver import Context, job
from tests.execution.follower import Client, Follower


def new_follower(context: Context, after: str = "0-0") -> Follower:
    client = Client()
    subscription = FlowSubscription(client, context.keys, flow_id=1, after=after, in_batches=False)
    return Follower(context, client, subscription)


def test_a_follower_that_was_too_slow_is_told_that_it_has_missed_some_events_and_where(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    follower = new_follower(context)
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
    follower = new_follower(context)
    follower.look()
    context.delete_flow(1)

    (notice,) = follower.look()

    assert (notice["kind"], notice["status"]) == ("flow", "Deleted")
    assert follower.is_over
    assert follower.subscription.id not in follower.client.subscriptions


def test_a_follower_of_what_the_store_has_lost_begins_again_and_is_told_so(context: Context) -> None:
    context.submit(1, [job(1)])
    follower = new_follower(context, after="9999999999999-0")

    (notice,) = follower.look()

    assert (notice["status"], notice["missed"]) == ("Started", True)
