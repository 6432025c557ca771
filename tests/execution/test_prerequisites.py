"""Prerequisites: conditions outside, satisfied for a flow or a whole context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator import models
from coordinator.errors import Conflict, InvalidParams, NotFound
from coordinator.operations import prerequisites
from tests.execution.driver import CALLER, Begun, Context, job


def awaited(context: Context) -> dict[str, int]:
    """Prerequisites → how many jobs wait for each."""
    return {item["name"]: item["jobs"] for item in context.prerequisites()["waiting"]}


def test_a_job_waits_until_each_of_its_prerequisites_is_satisfied(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid", "approved"])])

    context.satisfy("paid")
    assert context.statuses(1) == {1: "WaitingForPrerequisites"}
    assert context.satisfy("approved")["released"] == 1

    assert [attempt.id for attempt in context.take(9)] == [1]


def test_a_prerequisite_named_twice_is_waited_for_once(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid", "paid"])])

    context.satisfy("paid")

    assert context.statuses(1) == {1: "Dispatched"}


def test_a_job_waits_for_its_dependencies_and_its_prerequisites(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1], prerequisites=["paid"])])

    context.satisfy("paid")
    assert context.statuses(1)[2] == "WaitingForPrerequisites"
    context.finish(context.take_one())

    assert context.statuses(1)[2] == "Dispatched"


def test_satisfied_names_are_remembered_with_when_they_first_were(context: Context) -> None:
    first = context.satisfy("paid")
    context.pass_time(10)

    assert context.satisfy("paid") == {**first, "released": 0}

    context.submit(1, [job(1, prerequisites=["paid"])])
    assert context.statuses(1) == {1: "Dispatched"}
    assert context.prerequisites()["satisfied"] == [
        {"name": "paid", "satisfied_at": first["satisfied_at"], "scope": "context"}
    ]


def test_the_list_has_the_names_jobs_wait_for(context: Context) -> None:
    context.create_job(9, prerequisites=["never asked for"])
    context.submit(1, [job(1, prerequisites=["paid"]), job(2, prerequisites=["paid", "é approved"])])

    assert awaited(context) == {"paid": 2, "é approved": 1}

    context.satisfy("paid")
    assert awaited(context) == {"é approved": 1}


def _cancel(context: Context) -> None:
    context.cancel(1)


def _fail(context: Context) -> None:
    context.fail(context.take_one())


@pytest.mark.parametrize("end", [_cancel, _fail])
def test_jobs_of_a_flow_that_has_ended_wait_for_nothing(context: Context, end: Callable[[Context], None]) -> None:
    context.submit(1, [job(1), job(2, prerequisites=["paid"])])

    end(context)

    assert context.prerequisites()["waiting"] == []
    assert context.satisfy("paid")["released"] == 0


def test_a_flow_that_is_retried_waits_for_what_its_jobs_name_by_then(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid"])])
    context.cancel(1)
    context.create_job(1, prerequisites=["approved"])
    context.retry(1)

    assert awaited(context) == {"approved": 1}
    context.satisfy("paid")
    assert context.statuses(1) == {1: "WaitingForPrerequisites"}
    context.satisfy("approved")
    assert context.statuses(1) == {1: "Dispatched"}


def test_satisfying_releases_jobs_of_messages_too(context: Context) -> None:
    context.create_message(1, [job(1, prerequisites=["paid"])])
    context.send(1)

    assert context.satisfy("paid")["released"] == 1

    assert [attempt.id for attempt in context.take(9)] == [1]


# -- for one flow


def test_satisfied_for_a_flow_only_its_jobs_are_released(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid"])])
    context.submit(2, [job(2, prerequisites=["paid"])])

    answer = context.satisfy("paid", 1)

    assert (answer["scope"], answer["flow_id"], answer["released"]) == ("flow", 1, 1)
    assert [attempt.id for attempt in context.take(9)] == [1]
    assert awaited(context) == {"paid": 1}
    wide = context.satisfy("paid")
    assert (wide["scope"], wide["released"]) == ("context", 1)
    assert "flow_id" not in wide
    assert [attempt.id for attempt in context.take(9)] == [2]


def test_satisfied_for_a_flow_before_it_is_started_its_jobs_do_not_wait(context: Context) -> None:
    for flow in (1, 2):
        context.create_job(flow, prerequisites=["paid"])
        context.create_flow(flow, [flow])
    context.satisfy("paid", 1)

    context.start(1)
    context.start(2)

    assert (context.statuses(1), context.statuses(2)) == ({1: "Dispatched"}, {2: "WaitingForPrerequisites"})


def test_a_flow_that_is_not_there_cannot_have_one_satisfied(context: Context) -> None:
    for call in (context.satisfy, context.revoke):
        with pytest.raises(NotFound):
            call("paid", 1)

    assert context.prerequisites()["satisfied"] == []


def test_a_flow_that_is_deleted_takes_along_what_was_satisfied_for_it(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid"])])
    context.satisfy("paid", 1)
    context.run_all()
    context.delete_flow(1)

    assert context.prerequisites() == {"satisfied": [], "waiting": []}
    context.submit(1, [job(1, prerequisites=["paid"])])
    assert context.statuses(1) == {1: "WaitingForPrerequisites"}


def test_the_jobs_of_a_message_wait_for_the_whole_context(context: Context) -> None:
    context.create_message(1, [job(1, prerequisites=["paid"])])
    context.send(1)
    context.create_flow(1, [])

    context.satisfy("paid", 1)

    assert context.take(9) == []
    assert context.prerequisites()["waiting"][0]["waiters"] == [{"caller_id": CALLER, "job_id": 1}]


# -- what jobs get with them


def test_the_job_gets_what_its_prerequisites_were_satisfied_with(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1], prerequisites=["paid", "approved", "paid"])])
    context.satisfy("paid", 1, by='Ada "A."', payload={"order": "4711", "note": 'é ,"payload":{'})
    context.satisfy("approved")
    first = context.take_one()
    assert "prerequisites" not in first.assignment
    context.finish(first)

    met = context.take_one().assignment["prerequisites"]

    assert met.keys() == {"paid", "approved"}
    assert met["paid"] == {
        "satisfied_at": met["paid"]["satisfied_at"],
        "scope": "flow",
        "by": 'Ada "A."',
        "payload": {"order": "4711", "note": 'é ,"payload":{'},
    }
    assert met["approved"] == {"satisfied_at": met["approved"]["satisfied_at"], "scope": "context"}
    (known,) = [item for item in context.prerequisites()["satisfied"] if item["name"] == "paid"]
    assert known == {"name": "paid", "flow_id": 1, **met["paid"]}


def test_what_is_satisfied_for_a_flow_wins_over_the_context(context: Context) -> None:
    context.satisfy("paid", payload={"order": "1"})
    context.create_job(1, prerequisites=["paid"])
    context.create_flow(1, [1])
    context.satisfy("paid", 1, payload={"order": "2"})
    context.start(1)

    assert context.take_one().assignment["prerequisites"]["paid"]["payload"] == {"order": "2"}


def test_an_attempt_that_is_told_again_and_the_next_one_get_the_same(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid"], retries=1)])
    context.satisfy("paid", payload={"order": "1"})
    (attempt,) = context.take(1, holder="h", number=77)
    context.revoke("paid")

    (again,) = context.take(1, holder="h", number=77)
    assert again.assignment == attempt.assignment
    context.fail(again)
    context.later(60)
    assert context.take_one().assignment["prerequisites"] == attempt.assignment["prerequisites"]


def test_satisfied_again_it_stays_as_it_was_and_another_payload_is_a_conflict(context: Context) -> None:
    first = context.satisfy("paid", by="Ada", payload={"a": "1", "b": "2"})

    assert context.satisfy("paid", by="Bob", payload={"b": "2", "a": "1"}) == first
    assert context.satisfy("paid") == first
    with pytest.raises(Conflict):
        context.satisfy("paid", payload={"a": "2"})

    context.revoke("paid")
    assert context.satisfy("paid", payload={"a": "2"})["payload"] == {"a": "2"}


def test_a_payload_has_a_limit(context: Context) -> None:
    with pytest.raises(InvalidParams) as caught:
        context.satisfy("paid", payload={"a": "x" * 70_000})

    assert caught.value.data[0]["loc"] == ["payload"]
    assert context.prerequisites()["satisfied"] == []


# -- revoked


def test_revoked_it_is_waited_for_again_by_what_was_not_released(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid"]), job(2, prerequisites=["paid", "approved"]), job(3)])
    context.submit(2, [job(4), job(5, [4], prerequisites=["paid"])])
    context.satisfy("paid")

    assert context.revoke("paid") == {"name": "paid", "scope": "context", "revoked": True}

    assert awaited(context) == {"approved": 1, "paid": 2}
    context.satisfy("approved")
    released = context.run_all()
    assert {attempt.id for attempt in released} == {1, 3, 4}
    assert context.satisfy("paid")["released"] == 2
    assert {attempt.id for attempt in context.run_all()} == {2, 5}
    assert [context.load_flow(flow)["status"] for flow in (1, 2)] == ["Finished", "Finished"]


def test_what_was_not_satisfied_is_not_revoked(context: Context) -> None:
    context.create_flow(1, [])

    assert context.revoke("paid") == {"name": "paid", "scope": "context", "revoked": False}
    assert context.revoke("paid", 1) == {"name": "paid", "scope": "flow", "flow_id": 1, "revoked": False}


def test_revoked_for_a_flow_it_is_still_satisfied_for_the_context(context: Context) -> None:
    context.create_job(1, prerequisites=["paid"])
    context.create_flow(1, [1])
    context.satisfy("paid")
    context.satisfy("paid", 1)

    assert context.revoke("paid", 1)["revoked"]

    context.start(1)
    assert context.statuses(1) == {1: "Dispatched"}


# -- lists


def all_pages(context: Context, limit: int) -> dict[str, list[Any]]:
    listed: dict[str, list[Any]] = {"waiting": [], "satisfied": []}
    cursor: str | None = ""
    while cursor is not None:
        page = context.prerequisites(cursor=cursor, limit=limit)
        assert len(page["waiting"]) + len(page["satisfied"]) <= limit
        for kind, items in listed.items():
            items.extend(page[kind])
        cursor = page.get("cursor")
    return listed


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_pages_have_each_once_in_order(context: Context, limit: int) -> None:
    names = ["a", "b:c", "é", 's:1:"d"', "nul\0", ""]
    context.submit(1, [job(1, prerequisites=[*names, "never"])])
    context.create_flow(2, [])
    for name in names[1:]:
        context.satisfy(name)
    for name in names[:3]:
        context.satisfy(name, 2)

    listed = all_pages(context, limit)

    assert [item["name"] for item in listed["waiting"]] == ["a", "never"]
    expected = [*((name, None) for name in names[1:]), *((name, 2) for name in names[:3])]
    found = [(item["name"], item.get("flow_id")) for item in listed["satisfied"]]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert listed == all_pages(context, 1000)


def test_the_list_says_who_waits_but_not_more_than_a_few(context: Context) -> None:
    context.submit(1, [job(id, prerequisites=["paid"]) for id in range(1, 31)])
    context.submit(2, [job(40, prerequisites=["approved"])])

    approved, paid = context.prerequisites()["waiting"]

    assert approved["waiters"] == [{"caller_id": CALLER, "job_id": 40, "flow_id": 2}]
    assert paid["jobs"] == 30
    assert len({waiter["job_id"] for waiter in paid["waiters"]}) == 10


# -- many, and earlier versions


def begin_satisfy(context: Context) -> Begun:
    params = models.PrerequisiteSatisfyParams(context_id=context.id, name="paid")
    return Begun(context, prerequisites.satisfy_prerequisite(context.keys, params))


def test_many_jobs_are_released_some_at_a_time(context: Context) -> None:
    context.submit(1, [job(id, prerequisites=["paid"]) for id in range(1, 701)])

    assert context.satisfy("paid")["released"] == 700

    assert "due:0" in context.wire.effects
    assert context.status(1)["counts"]["Dispatched"] == 100
    for _ in range(6):
        context.tick()
    assert context.status(1)["counts"]["Dispatched"] == 700


def test_jobs_of_many_flows_are_released_some_flows_at_a_time(context: Context) -> None:
    flows = range(1, 121)
    for flow in flows:
        context.submit(flow, [job(flow, prerequisites=["paid"])])
    context.submit(200, [job(201), job(202, [201], prerequisites=["paid"])])
    begun = begin_satisfy(context)

    assert begun.go_on()
    first = sum(context.load_job(id)["status"] == "Dispatched" for id in flows)
    assert 0 < first <= 60
    assert begun.finish()["released"] == 121
    for _ in range(10):
        context.tick()
    assert all(context.load_job(id)["status"] == "Dispatched" for id in flows)
    assert context.prerequisites()["waiting"] == []
    assert context.satisfy("paid")["released"] == 0


def test_if_its_caller_goes_away_all_are_released_and_those_that_wait_on_are_known(context: Context) -> None:
    for flow in range(1, 121):
        context.submit(flow, [job(flow, prerequisites=["paid", "signed"])])
    begun = begin_satisfy(context)
    assert begun.go_on()

    context.wire.ask(("HINCRBY", f"{context.keys.prefix}engine", "skew", 6_000))
    for _ in range(30):
        context.tick()

    assert begun.finish()["released"] == 120  # which the store remembers
    (waited,) = context.prerequisites()["waiting"]
    assert (waited["name"], waited["jobs"]) == ("signed", 120)
    context.revoke("paid")
    assert {waited["name"]: waited["jobs"] for waited in context.prerequisites()["waiting"]} == {
        "paid": 120,
        "signed": 120,
    }


def test_jobs_that_were_to_be_released_are_not_once_their_flow_has_ended(context: Context) -> None:
    context.submit(1, [job(id, prerequisites=["paid"]) for id in range(1, 701)])
    context.satisfy("paid")
    context.cancel(1)

    context.tick()

    assert context.status(1)["counts"]["WaitingForPrerequisites"] == 700
    assert context.take(9) == []


def test_what_earlier_versions_have_stored_is_known(context: Context) -> None:
    context.submit(1, [job(1, prerequisites=["paid", "old"])])
    prefix = context.keys.prefix
    awaiting = [f"{prefix}awaiting:flow:1 {name}" for name in ("paid", "old")]
    context.wire.ask(
        ("DEL", *awaiting, f"{prefix}awaits", f"{prefix}waiting:paid", f"{prefix}waiting:old"),
        ("HSET", f"{prefix}prerequisites", "old", "1000"),
        ("SADD", f"{prefix}waiting:paid", "job:7:1"),
        ("SADD", f"{prefix}awaited", "paid"),
        ("HSET", context.keys.job(CALLER, 1), "x_wait", "1"),
    )

    assert context.prerequisites() == {
        "satisfied": [{"name": "old", "satisfied_at": 1000, "scope": "context"}],
        "waiting": [
            {"name": "paid", "jobs": 1, "waiters": [{"caller_id": CALLER, "job_id": 1, "flow_id": 1}]},
        ],
    }
    assert context.satisfy("paid")["released"] == 1
    assert context.take_one().assignment["prerequisites"]["old"]["satisfied_at"] == 1000
    assert context.prerequisites()["waiting"] == []
