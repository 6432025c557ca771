"""What the runner of an attempt that was cancelled or timed out may still hand in: output and a result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.errors import NotFound, StaleToken
from tests.execution.driver import Attempt, Context, Runner, job


def _cancel(context: Context) -> Attempt:
    context.submit(1, [job(1, timeout=50, retries=1), job(2)])
    attempt = context.take_one(Runner(lease=3600))
    context.cancel(1)
    return attempt


def _time_out(context: Context) -> Attempt:
    context.submit(1, [job(1, timeout=50, retries=1)])
    attempt = context.take_one(Runner(lease=3600))
    context.later(56)
    return attempt


def _lines(context: Context) -> list[tuple[int, list[str]]]:
    return [(event["attempt"], event["lines"]) for event in context.events(1) if event["kind"] == "log"]


ENDS = pytest.mark.parametrize("end", [_cancel, _time_out])
End = Callable[[Context], Attempt]


@ENDS
def test_its_last_output_is_kept_and_its_runner_learns_that_it_is_over(context: Context, end: End) -> None:
    attempt = end(context)
    before = context.statuses(1)

    assert context.log(attempt, "the end", stream="stderr") == {"lines": 1, "over": True}

    assert _lines(context) == [(1, ["the end"])]
    assert context.statuses(1) == before


@ENDS
def test_its_result_is_kept_and_its_status_stays(context: Context, end: End) -> None:
    attempt = end(context)
    before = context.status(1)

    outcomes = [context.fail(attempt, "killed", result={"stdout": "half"}) for _ in range(2)]

    status = before["jobs"][0]["status"]
    assert outcomes == [{"status": status, "attempt": 1}] * 2
    assert context.load_job(1)["result"] == {"stdout": "half"}
    assert context.status(1)["jobs"] == before["jobs"]
    assert context.status(1)["last_event"] == before["last_event"]


@ENDS
def test_success_comes_too_late(context: Context, end: End) -> None:
    attempt = end(context)

    for report in (context.finish, context.heartbeat):
        with pytest.raises(StaleToken):
            report(attempt)


@ENDS
def test_after_half_a_minute_it_has_nothing_more_to_say(context: Context, end: End) -> None:
    attempt = end(context)
    before = context.events(1)
    context.pass_time(31)

    for report in (context.log, context.fail):
        with pytest.raises(StaleToken):
            report(attempt)

    assert context.events(1) == before


def test_another_token_has_nothing_to_say(context: Context) -> None:
    attempt = _cancel(context)

    with pytest.raises(StaleToken):
        context.log(Attempt(attempt.caller_id, attempt.id, "1-1", {}), "x")


def test_the_output_of_a_timed_out_attempt_is_kept_beside_that_of_the_next_but_not_its_result(context: Context) -> None:
    first = _time_out(context)
    context.later(2)
    second = context.take_one(Runner(lease=3600))

    context.log(second, "second")
    context.log(first, "first")
    with pytest.raises(StaleToken):
        context.fail(first, result={"by": "first"})
    context.finish(second, by="second")
    with pytest.raises(StaleToken):
        context.fail(first, result={"by": "first"})

    assert _lines(context) == [(2, ["second"]), (1, ["first"])]
    assert context.load_job(1)["result"] == {"by": "second"}


def test_a_flow_that_is_started_again_at_once_still_gets_the_output(context: Context) -> None:
    attempt = _cancel(context)
    context.retry(1)

    assert context.log(attempt, "the end") == {"lines": 1, "over": True}
    with pytest.raises(StaleToken):
        context.fail(attempt, result={"by": "first"})

    assert context.load_job(1)["result"] == {}


def test_of_a_deleted_flow_nothing_is_made_again(context: Context) -> None:
    attempt = _cancel(context)
    context.delete_flow(1)

    for report in (context.log, context.fail):
        with pytest.raises(NotFound):
            report(attempt)

    (keys,) = context.wire.ask(("KEYS", f"{context.keys.prefix}*"))
    assert not [key for key in keys if b"flow" in key or b"events" in key or b"job" in key]


def test_the_output_of_a_messages_job_goes_to_its_logs(context: Context) -> None:
    context.create_message(1, [job(1)], timeout=10)
    context.send(1)
    attempt = context.take_one()
    context.later(11)

    context.log(attempt, "the end")

    assert context.load_message(1)["logs"][-1] == "the end"


def test_what_its_runner_says_within_the_grace_is_the_attempts_end(context: Context) -> None:
    context.submit(1, [job(1, timeout=50, retries=0)])
    attempt = context.take_one(Runner(lease=3600))
    context.later(53)

    context.log(attempt, "the end")
    context.fail(attempt, "timed out after 50 s", result={"exit_code": "-15"})

    assert (context.progress(1, 1)["failure"], context.statuses(1)) == ("timed out after 50 s", {1: "Error"})
    assert context.load_job(1)["result"] == {"exit_code": "-15"}
