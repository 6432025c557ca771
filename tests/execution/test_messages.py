"""Messages: sent, their jobs run, their two columns of status, their three time limits."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import Conflict, DagCycleDetected, DagMissingDependency, NotFound
from tests.execution.driver import Context, Runner, job


def columns(context: Context) -> tuple[str, str | None]:
    """The status and the transport status of message 1."""
    message = context.load_message(1)
    return message["status"], message.get("transport_status")


def sent(context: Context, *jobs: dict[str, Any], **members: Any) -> Any:
    context.create_message(1, jobs or (job(1),), **members)
    return context.send(1)


def test_a_message_that_was_not_sent_has_no_transport(context: Context) -> None:
    context.create_message(1, [job(1)])

    message = context.load_message(1)

    assert message["status"] == "Dispatched"
    assert "transport_status" not in message
    assert "transport_id" not in message
    with pytest.raises(NotFound):
        context.load_job(1)


def test_sending_makes_its_jobs_jobs_of_the_context(context: Context) -> None:
    message = sent(context, job(1, script="x", env_vars={"A": "1"}))

    assert message["job"] == [context.load_job(1)]
    assert context.load_job(1)["script"] == "x"
    assert message["transport_id"]
    assert columns(context) == ("Dispatched", "Queued")


def test_a_message_is_acknowledged_when_its_first_job_is_handed_out(context: Context) -> None:
    sent(context)

    context.take_one()

    assert columns(context) == ("Acknowledged", "Sent")


def test_a_message_is_delivered_when_the_runner_answers(context: Context) -> None:
    sent(context, job(1), job(2), job(3, retries=1), job(4))
    heartbeat, log, fail, finish = context.take(4)

    context.heartbeat(heartbeat)
    assert columns(context) == ("Acknowledged", "Delivered")
    context.log(log, "x")
    context.fail(fail)
    context.finish(finish)
    assert columns(context) == ("Acknowledged", "Delivered")


@pytest.mark.parametrize("report", [Context.heartbeat, Context.log, Context.finish, Context.fail])
def test_every_answer_of_a_runner_delivers(context: Context, report: Any) -> None:
    sent(context, job(1, retries=1), job(2))

    report(context, context.take_one())

    assert columns(context) == ("Acknowledged", "Delivered")


def test_a_message_is_processed_when_every_job_is_finished(context: Context) -> None:
    sent(context, job(1), job(2, [1]))

    assert [attempt.id for attempt in context.run_all()] == [1, 2]

    assert columns(context) == ("Processed", "Read")
    assert [embedded["status"] for embedded in context.load_message(1)["job"]] == ["Finished", "Finished"]


def test_a_message_with_a_job_out_of_attempts_is_in_error(context: Context) -> None:
    sent(context, job(1), job(2, [1]))

    context.fail(context.take_one(), "broken")

    assert columns(context) == ("Error", "Failed")
    assert context.load_message(1)["logs"] == ["job 1: broken"]
    assert context.load_job(2)["status"] == "WaitingForPrerequisites"


def test_a_message_without_jobs_is_processed_at_once_and_has_no_time_limit(context: Context) -> None:
    context.create_message(1, [], timeout=10, timeout_ack=10)

    context.send(1)

    context.later(11)
    assert columns(context) == ("Processed", "Read")


def test_sending_again_changes_nothing(context: Context) -> None:
    first = sent(context, job(1), job(2))
    context.finish(context.take_one())
    before = context.load_message(1)

    assert context.send(1) == before

    assert before["transport_id"] == first["transport_id"]
    assert [attempt.id for attempt in context.take(9)] == [2]


def test_sending_again_changes_nothing_even_if_its_jobs_are_others_by_then(context: Context) -> None:
    sent(context)
    before = context.create_message(1, [job(5, [6])])

    assert context.send(1) == before


def test_logs_are_the_messages_own_and_then_the_runners(context: Context) -> None:
    sent(context, logs=["own"])
    attempt = context.take_one()

    context.log(attempt, "one", 'two "é"')
    context.log(attempt, "three", stream="stderr")

    assert context.load_message(1)["logs"] == ["own", "one", 'two "é"', "three"]


def test_a_message_not_handed_out_within_timeout_ack_is_in_error(context: Context) -> None:
    sent(context, timeout_ack=10)

    context.later(9)
    assert columns(context) == ("Dispatched", "Queued")
    context.later(2)

    assert columns(context) == ("Error", "Failed")
    assert context.load_message(1)["logs"] == ["not acknowledged within 10 s"]
    assert context.take(9) == []


def test_a_message_that_is_acknowledged_need_not_be_any_more(context: Context) -> None:
    sent(context, timeout_ack=10)
    context.take_one()

    context.later(20)

    assert columns(context) == ("Acknowledged", "Sent")


def test_a_message_not_processed_within_timeout_result_of_being_acknowledged_is_in_error(context: Context) -> None:
    sent(context, timeout_result=10)
    context.later(20)
    attempt = context.take_one()

    context.later(9)
    assert columns(context) == ("Acknowledged", "Sent")
    context.later(2)

    reason = "no result within 10 s of the acknowledgement"
    assert f'cancel:3 job:7:1 {attempt.token} "{reason}"' in context.wire.effects
    assert columns(context) == ("Error", "Failed")
    assert context.load_message(1)["logs"] == [reason]
    assert context.load_job(1)["status"] == "Error"


def test_a_message_not_processed_within_timeout_is_in_error(context: Context) -> None:
    sent(context, timeout=50)
    attempt = context.take_one(Runner(lease=3600))

    context.later(49)
    assert columns(context) == ("Acknowledged", "Sent")
    context.later(2)

    assert f'cancel:3 job:7:1 {attempt.token} "not processed within 50 s"' in context.wire.effects
    assert columns(context) == ("Error", "Failed")


def test_limits_of_zero_are_none(context: Context) -> None:
    sent(context, timeout=0, timeout_ack=0, timeout_result=0)
    context.later(1_000_000)
    attempt = context.take_one(Runner(lease=3600))
    context.later(3599)

    context.finish(attempt)

    assert columns(context) == ("Processed", "Read")


def test_a_processed_message_stays_processed_when_its_limits_pass(context: Context) -> None:
    sent(context, timeout=50, timeout_result=10)
    context.run_all()

    context.later(60)

    assert columns(context) == ("Processed", "Read")


@pytest.mark.parametrize(("depends", "error"), [([2], DagMissingDependency), ([1], DagCycleDetected)])
def test_sending_jobs_that_are_no_dag_is_refused(context: Context, depends: list[int], error: type[Exception]) -> None:
    context.create_message(1, [job(1, depends)])

    with pytest.raises(error):
        context.send(1)

    assert context.load_message(1)["status"] == "Dispatched"


def test_sending_a_job_of_a_started_flow_is_a_conflict_and_changes_no_job(context: Context) -> None:
    context.submit(1, [job(2)])
    context.create_message(1, [job(1), job(2, script="other")])

    with pytest.raises(Conflict) as caught:
        context.send(1)

    assert caught.value.data["run"] == "flow 1"
    assert context.load_job(2)["script"] == "print(2)"
    with pytest.raises(NotFound):
        context.load_job(1)


def test_starting_a_flow_with_a_job_of_a_sent_message_is_a_conflict(context: Context) -> None:
    sent(context)
    context.create_flow(1, [1])

    with pytest.raises(Conflict) as caught:
        context.start(1)

    assert caught.value.data["run"] == "message 7/1"


def test_sending_what_is_not_stored_is_not_found(context: Context) -> None:
    with pytest.raises(NotFound) as caught:
        context.send(1)

    assert caught.value.data["kind"] == "message"


def test_updating_a_sent_message_keeps_its_status_and_its_jobs(context: Context) -> None:
    sent(context)
    context.take_one()

    updated = context.create_message(1, [job(5)])

    assert (updated["status"], updated["transport_status"]) == ("Acknowledged", "Sent")
    assert [embedded["id"] for embedded in updated["job"]] == [1]


def test_jobs_of_a_message_are_tried_again(context: Context) -> None:
    sent(context, job(1, retries=1))
    context.fail(context.take_one())
    context.later(60)

    context.finish(context.take_one())

    assert columns(context) == ("Processed", "Read")
