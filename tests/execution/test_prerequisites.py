"""Prerequisites: conditions outside, satisfied for a whole context."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.execution.driver import Context, job


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
    assert context.prerequisites()["satisfied"] == [{"name": "paid", "satisfied_at": first["satisfied_at"]}]


def test_the_list_has_the_names_jobs_wait_for(context: Context) -> None:
    context.create_job(9, prerequisites=["never asked for"])
    context.submit(1, [job(1, prerequisites=["paid"]), job(2, prerequisites=["paid", "é approved"])])

    assert context.prerequisites()["waiting"] == [{"name": "paid", "jobs": 2}, {"name": "é approved", "jobs": 1}]

    context.satisfy("paid")
    assert context.prerequisites()["waiting"] == [{"name": "é approved", "jobs": 1}]


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

    assert context.prerequisites()["waiting"] == [{"name": "approved", "jobs": 1}]
    context.satisfy("paid")
    assert context.statuses(1) == {1: "WaitingForPrerequisites"}
    context.satisfy("approved")
    assert context.statuses(1) == {1: "Dispatched"}


def test_satisfying_releases_jobs_of_messages_too(context: Context) -> None:
    context.create_message(1, [job(1, prerequisites=["paid"])])
    context.send(1)

    assert context.satisfy("paid")["released"] == 1

    assert [attempt.id for attempt in context.take(9)] == [1]
