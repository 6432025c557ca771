"""One job is cancelled, as specs/execution.md says under States."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import Conflict, NotFound, StaleToken
from tests.execution.driver import Context, job

DIAMOND = [job(1), job(2, [1]), job(3, [1]), job(4, [2, 3])]


def test_a_running_job_is_stopped_and_its_flow_ends_in_error(context: Context) -> None:
    context.submit(1, DIAMOND)
    context.finish(context.take_one())
    second, third = context.take(2)

    cancelled = context.cancel_job(second.id, "too dear")

    assert (cancelled["id"], cancelled["status"]) == (second.id, "Error")
    assert any(effect.startswith(f"cancel:3 job:7:{second.id} {second.token}") for effect in context.wire.effects)
    flow = context.load_flow(1)
    assert flow["status"] == "Error"
    assert flow["result"] == {"error": f"job {second.id}: cancelled: too dear", "job": str(second.id)}
    assert context.progress(1, second.id)["failure"] == "cancelled: too dear"
    assert context.statuses(1) == {1: "Finished", second.id: "Error", third.id: "Started", 4: "WaitingForPrerequisites"}
    context.finish(third)  # what runs may finish


def test_the_runner_of_a_cancelled_job_may_hand_in_its_output_and_result(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    context.cancel_job(1)

    assert context.log(attempt, "last words") == {"lines": 1, "over": True}
    assert context.fail(attempt, result={"partial": "yes"})["status"] == "Error"
    assert context.load_job(1)["result"] == {"partial": "yes"}
    with pytest.raises(StaleToken):
        context.finish(attempt)


@pytest.mark.parametrize("waits_for", ["a runner", "another job", "a prerequisite", "its next attempt"])
def test_a_waiting_job_never_starts(context: Context, waits_for: str) -> None:
    more: dict[str, Any] = {"another job": {"depends": [1]}, "a prerequisite": {"prerequisites": ["paid"]}}
    context.submit(1, [job(1), job(2, **{"retries": 3, **more.get(waits_for, {})})])
    if waits_for == "its next attempt":
        context.fail(next(attempt for attempt in context.take(2) if attempt.id == 2))

    assert context.cancel_job(2)["status"] == "Error"

    context.satisfy("paid")
    context.later(100)
    assert context.take(9) == []
    assert context.load_flow(1)["result"] == {"error": "job 2: cancelled", "job": "2"}
    assert context.prerequisites()["waiting"] == []
    event = next(event for event in reversed(context.events(1)) if event.get("job_id") == 2)
    assert (event["status"], event["reason"]) == ("Error", "cancelled")


def test_cancelled_again_it_stays_as_it_is(context: Context) -> None:
    context.submit(1, [job(1)])
    first = context.cancel_job(1, "once")

    assert context.cancel_job(1, "twice") == first
    assert context.progress(1, 1)["failure"] == "cancelled: once"


def test_a_flow_with_a_cancelled_job_is_started_again_by_a_retry(context: Context) -> None:
    context.submit(1, DIAMOND)
    context.cancel_job(1)

    context.retry(1)
    context.run_all()

    assert context.load_flow(1)["status"] == "Finished"


def test_a_job_that_still_runs_is_cancelled_after_its_flow_has_ended(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)

    assert context.cancel_job(running.id)["status"] == "Error"

    assert context.load_flow(1)["result"]["job"] == str(failing.id)


def test_a_message_whose_job_is_cancelled_has_failed(context: Context) -> None:
    context.create_message(1, [job(1), job(2)])
    context.send(1)

    context.cancel_job(2)

    sent = context.load_message(1)
    assert (sent["status"], sent["transport_status"]) == ("Error", "Failed")
    assert sent["logs"] == ["job 2: cancelled"]


def test_what_neither_waits_nor_runs_is_not_cancelled(context: Context) -> None:
    context.create_job(1)
    context.submit(2, [job(2), job(3), job(4, [3])])
    context.finish(context.take_one())
    context.fail(context.take_one())

    with pytest.raises(NotFound):
        context.cancel_job(9)
    for id, status, why in (
        (1, "Dispatched", "nothing that was started"),
        (2, "Finished", "Finished"),
        (4, "WaitingForPrerequisites", "flow 2"),
    ):
        before = context.load_job(id)
        with pytest.raises(Conflict, match=why) as caught:
            context.cancel_job(id)
        assert caught.value.data["status"] == status
        assert context.load_job(id) == before
