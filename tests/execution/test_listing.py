"""Lists and deletion by hand: cursors, limits, filters, and how much one page may cost."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import models
from coordinator.actors.request import Operation
from coordinator.errors import Conflict, InvalidParams
from coordinator.operations import listing
from coordinator.storage import codec
from coordinator.storage.functions import events, records
from coordinator.storage.functions.results import Refused
from tests.execution.by_hand import KEYS, STORED_JOB, asks, ends, outcome_of, transition
from tests.execution.driver import Context, job

DELETE = models.JobLoadParams(context_id=1, caller_id=7, id=1)


def jobs(**params: Any) -> Operation:
    return listing.page_of(codec.JOB)(KEYS, models.JobListParams(context_id=1, **params))


def entry(id: int) -> bytes:
    return b"%010d:%010d" % (7, id)


def stored(id: int, **fields: bytes) -> dict[bytes, bytes]:
    return {**STORED_JOB, b"id": b"%d" % id, **{name.encode(): value for name, value in fields.items()}}


def ids(page: Any) -> list[int]:
    return [item["id"] for item in page["items"]]


def read_of(step: Any) -> list[str]:
    """The names of the records a step reads."""
    names: list[str]
    [(call, function, keys, engine, size, fields, *names)] = step
    assert (call, function, keys, engine, fields) == ("FCALL", "hc_read", 1, "engine", 0)
    assert 0 < size <= listing.PAGE_BYTES
    return names


def test_a_list_asks_for_the_index_and_then_for_the_records() -> None:
    operation = jobs()

    assert asks(operation) == [("ZRANGE", "index:job", "-", "+", "BYLEX", "LIMIT", 0, listing.CHUNK)]
    assert read_of(asks(operation, [[entry(1), entry(2)]])) == ["job:7:1", "job:7:2"]
    page = ends(operation, [[stored(1), stored(2)]])
    assert ids(page) == [1, 2]
    assert "cursor" not in page


def test_an_empty_list_takes_one_step() -> None:
    operation = jobs()
    asks(operation)

    assert ends(operation, [[]]) == {"items": []}


def test_a_full_page_says_where_the_next_one_begins() -> None:
    operation = jobs(limit=1)
    asks(operation)
    asks(operation, [[entry(1), entry(2)]])

    page = ends(operation, [[stored(1)]])

    assert ids(page) == [1]
    assert asks(jobs(cursor=page["cursor"]))[0][2] == f"({entry(1).decode()}"


def test_a_page_that_is_just_full_with_the_last_record_is_the_last() -> None:
    operation = jobs(limit=2)
    asks(operation)
    asks(operation, [[entry(1), entry(2)]])

    assert "cursor" not in ends(operation, [[stored(1), stored(2)]])


@pytest.mark.parametrize("cursor", ["x", "1:", ":", "1:x", "-", "(1", "²"])
def test_a_cursor_of_no_reply_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        next(jobs(cursor=cursor))

    assert caught.value.data[0]["loc"] == ["cursor"]


def test_a_page_of_large_records_is_full_before_its_limit() -> None:
    operation = jobs(limit=10)
    asks(operation)
    asks(operation, [[entry(1), entry(2), entry(3)]])
    large = b"x" * (listing.PAGE_BYTES // 2 + 1)

    page = ends(operation, [[stored(id, script=large) for id in (1, 2, 3)]])

    assert ids(page) == [1, 2]
    assert page["cursor"] == entry(2).decode()


def test_a_record_deleted_in_between_is_left_out() -> None:
    operation = jobs()
    asks(operation)
    asks(operation, [[entry(1), entry(2)]])

    assert ids(ends(operation, [[{}, stored(2)]])) == [2]


def contexts(**params: Any) -> Operation:
    return listing.list_contexts(KEYS, models.ContextListParams(**params))


def test_contexts_are_listed_by_id() -> None:
    operation = contexts(limit=2)
    assert asks(operation) == [("ZRANGE", "contexts", "-inf", "+inf", "BYSCORE", "LIMIT", 0, 3)]

    assert ends(operation, [[b"1", b"7", b"9"]]) == {"items": [1, 7], "cursor": "7"}

    operation = contexts(limit=2, cursor="7")
    assert asks(operation)[0][2] == "(7"
    assert ends(operation, [[b"9"]]) == {"items": [9]}


@pytest.mark.parametrize("cursor", ["x", "-1", "1:2", "²", "1e3"])
def test_a_cursor_of_no_list_of_contexts_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidParams):
        next(contexts(cursor=cursor))


def test_deletion_names_the_record() -> None:
    message = models.MessageLoadParams(context_id=1, caller_id=7, id=1)
    runner = models.RunnerLoadParams(context_id=1, id=1)
    flow = models.FlowParams(context_id=1, id=1)
    tokens = set()

    for operation, name in (
        (listing.delete_job(KEYS, DELETE), "job:7:1"),
        (listing.delete_message(KEYS, message), "message:7:1"),
        (listing.delete_runner(KEYS, runner), "runner:1"),
        (listing.delete_flow(KEYS, flow), "flow:1"),
    ):
        function, (record, token, was_told_more) = transition(asks(operation))
        assert (function, record, was_told_more) == ("hc_record_delete", name, 0)
        tokens.add(token)
    assert len(tokens) == 4


def test_deletion_of_what_is_running_is_a_conflict_that_names_it() -> None:
    with pytest.raises(Conflict) as caught:
        outcome_of(listing.delete_job(KEYS, DELETE), b"busy", b"job:7:1")

    assert caught.value.data["record"] == "job:7:1"


def test_deletion_is_answered_with_how_many_records_went() -> None:
    assert outcome_of(listing.delete_job(KEYS, DELETE), b"ok", 3) == {"deleted": 3}


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_paging_through_stored_records_misses_and_repeats_nothing(context: Context, limit: int) -> None:
    wanted = [1, 2, 9, 10, 11, 99, 100, 4_294_967_295, *range(1000, 1230)]
    for id in wanted:
        context.create_job(id)

    listed: list[int] = []
    page = context.list_jobs(limit=limit)
    while True:
        listed += ids(page)
        if "cursor" not in page:
            break
        page = context.list_jobs(limit=limit, cursor=page["cursor"])

    assert listed == sorted(wanted)


def test_flows_are_listed_by_status(context: Context) -> None:
    for id in (1, 2, 3):
        context.create_flow(id, [])
    context.start(2)

    assert ids(context.list_flows(status="Dispatched")) == [1, 3]
    assert ids(context.list_flows(status="Finished")) == [2]


def test_what_the_store_has_not_read_of_a_step_is_asked_for_again() -> None:
    operation = jobs(limit=1000)
    asks(operation)
    step = asks(operation, [[entry(id) for id in range(5)]])
    assert read_of(step) == [f"job:7:{id}" for id in range(5)]

    step = asks(operation, [[stored(0), stored(1)]])

    assert read_of(step) == [f"job:7:{id}" for id in range(2, 5)]
    assert ids(ends(operation, [[stored(2), stored(3), stored(4)]])) == [*range(5)]


def test_the_store_stops_reading_after_so_many_bytes(context: Context) -> None:
    for id in range(1, 6):
        context.create_job(id, script="x" * (10 if id < 3 else 300_000))

    page = context.list_jobs(limit=100)
    names = [f"job:7:{id}" for id in range(1, 6)]
    (found,) = context.wire.ask(records.read_records(context.keys, names, 400_000))

    assert ids(page) == [1, 2, 3, 4, 5]
    assert len(found) == 4


def test_no_more_records_are_read_than_a_page_may_have() -> None:
    operation = jobs(limit=3)
    asks(operation)

    assert len(read_of(asks(operation, [[entry(id) for id in range(listing.CHUNK)]]))) == 3


@pytest.mark.parametrize("limit", [1, 7, 8, 9, 1000])
def test_events_are_read_until_they_have_so_many_bytes(context: Context, limit: int) -> None:
    context.create_runner(3)
    context.submit(1, [job(1)])
    attempt = context.take_one()
    for at in range(30):
        context.log(attempt, "x" * (10 if at < 20 else 100_000))

    seen: list[Any] = []
    after, is_last = "0-0", False
    while not is_last:
        (reply,) = context.wire.ask(events.flow_read(context.keys, 1, after, limit, 250_000))
        found = events.read_flow_read(reply)
        assert not isinstance(found, Refused)
        is_last = found.is_last
        assert len(found.events) <= limit
        assert sum(len(members) for _, members in found.events) < 250_000 + 101_000
        seen += found.events
        after = seen[-1][0].decode()

    assert [id.decode() for id, _ in seen] == [event["event_id"] for event in context.events(1)]
    assert len(seen) == 32
