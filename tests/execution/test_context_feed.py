"""What a follower of a whole context is sent, read from the store: of all flows, in order, with a word where something
is missing; and what is written while nobody follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from coordinator.engine.following import ContextSubscription
from coordinator.models import ContextEvent, ContextEventsParams
from coordinator.operations.events import context_events
from coordinator.storage.functions import events
from coordinator.storage.functions.events import Following
from tests.execution.driver import Context, job
from tests.execution.follower import Client, Follower


def follow(context: Context, after: str | None = None) -> Following:
    """Somebody follows the context."""
    (reply,) = context.wire.ask(events.context_follow(context.keys, 300.0, after))
    following = events.read_context_follow(reply)
    assert isinstance(following, Following)
    return following


def page(context: Context, **params: Any) -> Any:
    operation = context_events(context.keys, ContextEventsParams(context_id=context.id, **params))
    return context.wire.run(operation)


def feed_exists(context: Context) -> bool:
    (there,) = context.wire.ask(("EXISTS", f"{context.keys.prefix}feed"))
    return bool(there)


def new_follower(context: Context, after: str | None = None) -> Follower:
    """One who follows from an event on, from now on if it is left out."""
    client, following = Client(), follow(context)
    subscription = ContextSubscription(
        client, context.keys, after=after or following.last, in_batches=False, was_there=following.is_there
    )
    return Follower(context, client, subscription)


def said(told: Sequence[dict[str, Any]]) -> list[tuple[int, int | None, str]]:
    return [(event["flow_id"], event.get("job_id"), event["status"]) for event in told]


def own(event: dict[str, Any]) -> dict[str, Any]:
    """An event as the flow's own events have it."""
    return {name: value for name, value in event.items() if name not in ("event_id", "flow_id")}


def test_a_follower_is_sent_the_events_of_all_flows_in_their_order(context: Context) -> None:
    follower = new_follower(context)
    context.create_job(1)
    context.create_flow(1, [1])
    context.submit(2, [job(20), job(21, [20])])
    context.start(1)
    context.run_all()
    context.delete_flow(1)

    notices = follower.look()

    for notice in notices:
        ContextEvent.model_validate(
            {name: notice[name] for name in notice if name not in ("subscription", "context_id")}
        )
    told = said(notices)
    assert told[:3] == [(1, None, "Dispatched"), (2, None, "Started"), (1, None, "Started")]
    assert told[-1] == (1, None, "Deleted")
    of_second = [own(notice) for notice in notices if notice["flow_id"] == 2]
    for event in of_second:
        del event["subscription"], event["context_id"]
    assert of_second == [own(event) for event in context.events(2)]
    ids = [tuple(map(int, notice["event_id"].split("-"))) for notice in notices]
    assert ids == sorted(set(ids))
    assert {notice["context_id"] for notice in notices} == {context.id}


def test_nothing_is_written_unless_somebody_follows(context: Context) -> None:
    context.submit(1, [job(1)])
    context.run_all()
    assert not feed_exists(context)
    follow(context)
    assert feed_exists(context)
    ((lasts,),) = (context.wire.ask(("PTTL", f"{context.keys.prefix}feed")),)
    assert 0 < lasts <= 300_000


def test_the_pages_are_the_same_events_from_each_of_them_on(context: Context) -> None:
    begin = page(context)
    assert (begin["events"], begin["missed"]) == ([], False)
    context.submit(1, [job(number) for number in range(1, 60)])
    context.run_all()
    whole = page(context, after=begin["last_event"], limit=1000)["events"]
    assert len(whole) == 2 + 2 * 59

    after, read = begin["last_event"], []
    while found := (got := page(context, after=after, limit=7))["events"]:
        assert not got["missed"]
        read += found
        after = got["last_event"]

    assert read == whole
    for at in (0, 1, 30, 31, 32, 33, 100):
        assert page(context, after=whole[at]["event_id"], limit=1000)["events"] == whole[at + 1 :]


def test_a_follower_that_was_too_slow_is_told_that_it_has_missed_some_events_and_where(context: Context) -> None:
    follower = new_follower(context)
    context.submit(1, [job(number) for number in range(1, 31)])
    attempts = context.take(30)
    assert not any("missed" in notice for notice in follower.look())
    follower.client.is_slow = True
    for attempt in attempts:
        context.finish(attempt)
        assert follower.look() == []
    context.wire.ask(("XTRIM", f"{context.keys.prefix}feed", "MAXLEN", 5))  # as happens to entries beyond those kept
    follower.client.is_slow = False

    notices = follower.look()

    assert said(notices)[-2:] == [(1, 30, "Finished"), (1, None, "Finished")]
    assert [notice.get("missed", False) for notice in notices] == [True] + [False] * (len(notices) - 1)
    context.submit(2, [job(99)])
    assert [notice.get("missed", False) for notice in follower.look()] == [False]


def test_who_goes_on_after_nobody_has_followed_for_long_is_told_that_events_are_missing(context: Context) -> None:
    before = follow(context)
    context.submit(1, [job(1)])
    last = page(context, after=before.last)["last_event"]
    context.wire.ask(("DEL", f"{context.keys.prefix}feed"))  # as it expires
    context.run_all()

    again = page(context, after=last)

    assert (again["missed"], again["events"]) == (True, [])
    context.submit(2, [job(2)])
    assert said(page(context, after=follow(context).last)["events"]) == []
    assert page(context, after=last)["missed"] is True
    assert said(page(context, after=last)["events"]) == [(2, None, "Started")]


def test_a_follower_of_a_feed_that_is_gone_goes_on_with_a_new_one(context: Context) -> None:
    follower = new_follower(context)
    follower.look()
    context.wire.ask(("DEL", f"{context.keys.prefix}feed"))
    assert follower.look() == []
    context.submit(1, [job(1)])

    (notice,) = follower.look()

    assert (notice["status"], notice["missed"]) == ("Started", True)


def test_an_event_there_is_not_yet_is_refused_and_a_follower_begins_again(context: Context) -> None:
    follow(context)
    with pytest.raises(Exception, match="beyond the last event of context"):
        page(context, after="9999999999999-0")
    follower = new_follower(context, after="9999999999999-0")
    follower.look()
    context.submit(1, [job(1)])
    (notice,) = follower.look()
    assert notice["missed"] is True


def test_a_follower_of_a_context_that_is_deleted_is_told_so_and_is_done(context: Context) -> None:
    record = f"{context.keys.prefix}context:{context.id}"
    context.wire.ask(("HSET", record, "admins", "[]"))
    follower = new_follower(context)
    follower.look()
    context.wire.ask(("DEL", record))

    (notice,) = follower.look()

    assert (notice["kind"], notice["status"]) == ("context", "Deleted")
    assert follower.is_over
    assert follower.subscription.id not in follower.client.subscriptions
    ContextEvent.model_validate({name: notice[name] for name in ("event_id", "kind", "at", "status")})


@pytest.mark.parametrize("character", ["x", "ä", "€", "𝄞", '"', "\x01"])
def test_a_long_reason_is_shorter_there_and_whole_in_the_flows_own_events(context: Context, character: str) -> None:
    follower = new_follower(context)
    context.submit(1, [job(1)])
    context.fail(context.take_one(), character * 9_000)

    reason = next(notice["reason"] for notice in follower.look() if notice.get("job_id") and "reason" in notice)

    assert reason == character * (200 // len(character.encode())) + "…"
    assert any(event.get("reason") == character * 9_000 for event in context.events(1))


def test_a_burst_of_events_is_kept_in_few_entries_of_a_bounded_size(context: Context) -> None:
    begin = follow(context)
    context.submit(1, [job(number) for number in range(1, 151)])
    for attempt in context.take(150):
        context.log(attempt, "not among them")
    context.cancel(1, "x" * 900)
    ((entries,),) = (context.wire.ask(("XRANGE", f"{context.keys.prefix}feed", "-", "+")),)
    lines = [entry[1][1].split(b"\n") for entry in entries]
    assert max(map(len, lines)) <= 32
    assert max(len(entry[1][1]) for entry in entries) <= 4096 + 1500
    assert sum(map(len, lines)) == len(page(context, after=begin.last, limit=1000)["events"]) >= 150 * 2
    assert len(entries) <= 30
    assert not any(json.loads(b"{" + line + b"}")["kind"] == "log" for some in lines for line in some)
