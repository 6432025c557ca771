"""Flows that are sent in parts, and what becomes of those that are never started."""

from __future__ import annotations

import pytest

from coordinator.errors import NotFound
from tests.execution.driver import Context, job
from tests.execution.test_deletion import keys_left
from tests.execution.test_timers import timers


def test_a_draft_that_is_never_started_is_deleted_with_its_jobs_and_leaves_nothing(context: Context) -> None:
    context.draft_flow(1, range(1, 1001), abandon_after=300)
    for id in range(1, 701):  # more than one step deletes, and not all of them
        context.create_job(id)
    context.later(200)
    assert context.load_flow(1)["status"] == "Dispatched"

    context.later(101)

    with pytest.raises(NotFound):
        context.load_flow(1)
    assert context.list_flows()["items"] == []
    while timers(context):
        context.tick()
    assert keys_left(context) == set()


def test_each_step_of_it_is_bounded(context: Context) -> None:
    context.draft_flow(1, range(1, 2001), abandon_after=1)
    context.create_jobs(job(id) for id in range(1, 2001))
    context.later(2)

    deleted = []
    while timers(context):
        before = number_of_jobs(context)
        context.tick()
        deleted.append(before - number_of_jobs(context))

    assert max(deleted) <= 300
    assert sum(deleted) == 2000


def number_of_jobs(context: Context) -> int:
    (count,) = context.wire.ask(("ZCARD", context.keys.index_of("job")))
    return int(count)


def test_creating_it_again_begins_its_time_anew(context: Context) -> None:
    context.draft_flow(1, [1], abandon_after=30)
    context.later(20)
    context.draft_flow(1, [1], abandon_after=30)

    context.later(20)

    assert context.load_flow(1)["jobs"] == [1]


def test_a_draft_that_was_started_stays(context: Context) -> None:
    context.draft_flow(1, [1], abandon_after=30)
    context.create_job(1)
    context.start(1)

    context.later(60)

    assert context.load_flow(1)["status"] == "Started"
    assert len(context.run_all()) == 1
    assert timers(context) == []


def test_a_draft_that_was_cancelled_stays_as_it_ended(context: Context) -> None:
    context.draft_flow(1, [1], abandon_after=30)
    context.cancel(1)

    context.later(60)

    assert context.load_flow(1)["status"] == "Error"


def test_a_flow_that_was_there_without_such_a_time_never_gets_one(context: Context) -> None:
    context.create_flow(1, [1])
    context.draft_flow(1, [1, 2], abandon_after=30)

    context.later(60)

    assert context.load_flow(1)["jobs"] == [1, 2]


def test_zero_makes_a_draft_an_ordinary_flow(context: Context) -> None:
    context.draft_flow(1, [1], abandon_after=30)
    context.draft_flow(1, [1], abandon_after=0)

    context.later(60)

    assert context.load_flow(1)["status"] == "Dispatched"
    assert timers(context) == []


def test_an_ordinary_create_leaves_its_time_as_it_is(context: Context) -> None:
    context.draft_flow(1, [1], abandon_after=30)
    context.create_flow(1, [1, 2])

    context.later(60)

    with pytest.raises(NotFound):
        context.load_flow(1)


def test_jobs_that_have_run_and_those_made_before_the_draft_stay(context: Context) -> None:
    context.create_flow(2, [1])
    context.create_job(1)
    context.start(2)
    context.create_job(2)
    context.wire.ask(("HSET", context.keys.job(7, 2), "created_at", "1"))
    context.draft_flow(1, [1, 2, 3], abandon_after=30)
    context.create_job(3)

    context.later(60)
    context.tick()

    assert [left["id"] for left in context.list_jobs()["items"]] == [1, 2]


def test_what_is_created_again_while_an_abandoned_one_is_deleted_stays(context: Context) -> None:
    context.draft_flow(1, [1], abandon_after=30)
    context.create_job(1)
    context.later(60)
    context.draft_flow(1, [1], abandon_after=30)
    context.create_job(1)

    while any(name.startswith("sweep:") for name in timers(context)):
        context.tick()

    assert context.load_job(1)["status"] == "Dispatched"
    assert context.start(1)["status"] == "Started"


def test_the_status_of_a_flow_whose_jobs_are_not_all_there_says_which_are_not(context: Context) -> None:
    context.create_flow(1, [3, 1, 2])
    context.create_job(2)

    report = context.status(1)

    assert report["missing"] == [1, 3]
    assert [progress["id"] for progress in report["jobs"]] == [2]
    assert sum(report["counts"].values()) == 1
    context.create_job(1)
    context.create_job(3)
    assert "missing" not in context.status(1)


def test_deleting_a_draft_leaves_nothing(context: Context) -> None:
    context.draft_flow(1, [1], abandon_after=30)
    context.create_job(1)

    assert context.delete_flow(1) == 2

    context.later(60)
    assert keys_left(context) == set()
