"""Lost is not failed: what happens to a runner is not what its jobs have done."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.storage.keys import Isolation, Layout
from tests.execution.conftest import SHARED_DATABASE
from tests.execution.driver import Context, Runner, job


def lose(context: Context, times: int) -> None:
    for _ in range(times):
        context.take_one()
        context.later(31)
        context.later(60)


def test_lost_attempts_do_not_use_up_the_retries(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    lose(context, 2)

    assert context.fail(context.take_one()) == {"status": "Dispatched", "attempt": 3}
    context.later(60)
    assert context.fail(context.take_one()) == {"status": "Error", "attempt": 4}


def test_failures_do_not_use_up_the_lost_retries(context: Context) -> None:
    context.submit(1, [job(1, retries=9, lost_retries=1)])
    for _ in range(3):
        context.fail(context.take_one())
        context.later(60)
    lose(context, 1)

    assert context.statuses(1) == {1: "Dispatched"}
    lose(context, 1)
    assert context.statuses(1) == {1: "Error"}


@pytest.mark.parametrize(("given", "limit"), [({}, 3), ({"lost_retries": 0}, 0), ({"lost_retries": 5}, 5)])
def test_a_job_is_lost_so_often_and_once_more_then_it_is_in_error(
    context: Context, given: dict[str, Any], limit: int
) -> None:
    context.submit(1, [job(1, **given)])
    lose(context, limit)
    assert context.statuses(1) == {1: "Dispatched"}

    lose(context, 1)

    assert context.load_flow(1)["result"]["error"] == "job 1: lost: runner 3 gave no sign of life for 30 s"


def test_the_setting_of_the_coordinator_is_for_jobs_that_do_not_say(context: Context, isolation: Isolation) -> None:
    layout = Layout(isolation, SHARED_DATABASE, "strict 3600000 0", lost_retries=0)
    strict = Context(context.wire, layout, context.id)
    strict.submit(1, [job(1, lost_retries=1)])
    lose(strict, 1)
    assert strict.statuses(1) == {1: "Dispatched"}

    strict.submit(2, [job(2)])
    strict.later(60)
    strict.take(2)
    strict.later(31)

    assert strict.statuses(2) == {2: "Error"}


def test_status_and_events_tell_lost_from_failed(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    lose(context, 1)
    context.fail(context.take_one())

    progress = context.progress(1, 1)
    assert (progress["attempt"], progress["lost"]) == (2, 1)
    ends = [event for event in context.events(1) if event["kind"] == "job" and "reason" in event]
    assert [(event["status"], event.get("lost", False)) for event in ends] == [
        ("Dispatched", True),
        ("Dispatched", False),
    ]


def test_without_losses_nothing_is_said_of_them(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    context.fail(context.take_one())

    assert "lost" not in context.progress(1, 1)


def test_a_timeout_is_the_jobs_own_fault(context: Context) -> None:
    context.submit(1, [job(1, timeout=5)])
    context.take_one()

    context.later(11)  # the runner is given some seconds to report that by itself

    assert context.statuses(1) == {1: "Error"}
    assert "lost" not in context.progress(1, 1)


def test_a_runner_that_ends_may_say_that_its_attempts_are_lost(context: Context) -> None:
    context.submit(1, [job(1, lost_retries=1)])
    attempt = context.take_one()

    assert context.fail(attempt, "killed", retry=False, lost=True) == {"status": "Dispatched", "attempt": 1}
    assert context.fail(attempt, "killed", retry=False, lost=True) == {"status": "Dispatched", "attempt": 1}

    assert context.progress(1, 1)["lost"] == 1
    context.later(60)
    assert context.fail(context.take_one(), "killed", lost=True)["status"] == "Error"


def test_losses_of_an_earlier_run_are_forgotten(context: Context) -> None:
    context.submit(1, [job(1, lost_retries=1)])
    lose(context, 2)
    context.retry(1)

    lose(context, 1)

    assert context.statuses(1) == {1: "Dispatched"}
    assert context.progress(1, 1)["lost"] == 1


def test_what_a_job_says_of_it_is_stored_loaded_and_handed_out(context: Context) -> None:
    context.submit(1, [job(1, lost_retries=7), job(2)])

    assert context.load_job(1)["lost_retries"] == 7
    assert "lost_retries" not in context.load_job(2)
    first, second = context.take(2, Runner())
    assert first.assignment["job"]["lost_retries"] == 7
    assert "lost_retries" not in second.assignment["job"]


def test_a_message_whose_runner_was_lost_is_processed_by_the_next(context: Context) -> None:
    context.create_message(1, [job(1)])
    context.send(1)
    lose(context, 1)

    context.run_all()

    assert context.load_message(1)["status"] == "Processed"
