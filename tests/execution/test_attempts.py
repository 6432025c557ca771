"""Attempts: how long they may take, how often they are made, what their tokens are good for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.errors import NotFound, StaleToken
from tests.execution.driver import Attempt, Context, Runner, job


def pause_of(context: Context, id: int = 1) -> float:
    """Seconds between the end of a job's last attempt and its next one."""
    progress = context.progress(1, id)
    return float(progress["retry_at"] - progress["ended_at"]) / 1000


def test_an_assignment_is_all_a_runner_needs(context: Context) -> None:
    context.submit(1, [job(1, timeout=60, retries=2)])

    assignment = context.take_one(Runner(lease=12.5)).assignment

    assert assignment.keys() == {"context_id", "job", "env_vars", "inputs", "attempt", "token", "lease", "flow_id"}
    assert (assignment["context_id"], assignment["flow_id"]) == (context.id, 1)
    assert assignment["job"] == context.load_job(1)
    assert assignment["job"]["status"] == "Started"
    assert (assignment["env_vars"], assignment["inputs"], assignment["attempt"]) == ({}, {}, 1)
    assert assignment["lease"] == 12.5


def test_the_environment_is_the_flows_with_the_jobs_own_over_it(context: Context) -> None:
    context.submit(1, [job(1, env_vars={"A": "job", "B": "job"})], env_vars={"A": "flow", "C": "flow"})

    assert context.take_one().assignment["env_vars"] == {"A": "job", "B": "job", "C": "flow"}


def test_inputs_are_the_results_of_the_jobs_it_depends_on(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3, [2, 1, 2]), job(4, [3])])
    for attempt in context.take(2):
        context.finish(attempt, of=str(attempt.id))

    assert context.take_one().assignment["inputs"] == {"1": {"of": "1"}, "2": {"of": "2"}}


def test_retries_is_how_many_attempts_follow_a_failed_one(context: Context) -> None:
    context.submit(1, [job(1, retries=2)])

    outcomes = []
    for _ in range(3):
        outcomes.append(context.fail(context.take_one()))
        context.later(60)

    assert outcomes == [
        {"status": "Dispatched", "attempt": 1},
        {"status": "Dispatched", "attempt": 2},
        {"status": "Error", "attempt": 3},
    ]
    assert context.take(9) == []


def test_a_runner_may_say_that_trying_again_is_of_no_use(context: Context) -> None:
    context.submit(1, [job(1, retries=5)])

    assert context.fail(context.take_one(), retry=False) == {"status": "Error", "attempt": 1}


def test_between_attempts_there_is_a_pause_of_doubling_length(context: Context) -> None:
    context.submit(1, [job(1, retries=8)])

    for longest in (1, 2, 4, 8, 16, 32, 60, 60):
        context.fail(context.take_one())
        assert longest / 2 <= pause_of(context) <= longest
        assert context.take(9) == []
        context.later(longest)


def test_the_pause_is_not_the_same_each_time(context: Context) -> None:
    context.submit(1, [job(id, retries=1) for id in range(1, 21)])
    for attempt in context.take(20):
        context.fail(attempt)

    assert len({pause_of(context, id) for id in range(1, 21)}) > 1


def test_an_attempt_without_a_sign_of_life_for_its_lease_is_lost(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    attempt = context.take_one(Runner(lease=30))

    context.later(29)
    assert context.statuses(1) == {1: "Started"}
    context.later(2)

    progress = context.progress(1, 1)
    assert progress["status"] == "Dispatched"
    assert progress["failure"] == "lost: runner 3 gave no sign of life for 30 s"
    with pytest.raises(StaleToken):
        context.heartbeat(attempt)


def _heartbeat(context: Context, attempt: Attempt) -> None:
    assert context.heartbeat(attempt) == {"lease": 30.0}


def _log(context: Context, attempt: Attempt) -> None:
    assert context.log(attempt, "still", "here") == {"lines": 2}


def test_an_attempt_begun_by_an_older_library_is_begun_again(context: Context) -> None:
    context.submit(1, [job(1)])
    context.take_one(Runner(lease=10))
    context.wire.ask(("HSET", f"{context.keys.prefix}job:7:1", "x_attempt", "1"))  # as version 4 had it

    context.later(11)

    assert context.take_one().number == 1


@pytest.mark.parametrize("sign_of_life", [_heartbeat, _log])
def test_a_sign_of_life_renews_the_lease(context: Context, sign_of_life: Callable[[Context, Attempt], None]) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one(Runner(lease=30))

    for _ in range(3):
        context.later(20)
        sign_of_life(context, attempt)

    assert context.statuses(1) == {1: "Started"}


def test_an_attempt_that_takes_longer_than_the_jobs_timeout_has_failed_however_alive(context: Context) -> None:
    context.submit(1, [job(1, timeout=50, retries=1)])
    attempt = context.take_one(Runner(lease=30))
    for _ in range(2):
        context.later(24)
        context.heartbeat(attempt)

    context.later(3)
    assert context.statuses(1) == {1: "Started"}  # its runner has some seconds to stop the script and report
    context.later(4)

    assert f'cancel:3 job:7:1 {attempt.token} "timed out after 50 s"' in context.wire.effects
    progress = context.progress(1, 1)
    assert (progress["status"], progress["failure"]) == ("Dispatched", "timed out after 50 s")


def test_a_timeout_of_zero_is_no_limit(context: Context) -> None:
    context.submit(1, [job(1, timeout=0)])
    attempt = context.take_one(Runner(lease=3600))
    for _ in range(48):
        context.later(3599)
        context.heartbeat(attempt)

    assert context.finish(attempt)["status"] == "Finished"


def test_the_runner_of_a_lost_attempt_is_told_to_stop(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()

    context.later(31)

    reason = "lost: runner 3 gave no sign of life for 30 s"
    assert f'cancel:3 job:7:1 {attempt.token} "{reason}"' in context.wire.effects


def test_each_attempt_has_its_own_time_limit(context: Context) -> None:
    context.submit(1, [job(1, timeout=50, retries=1)])
    context.fail(context.take_one())
    context.later(45)
    context.take_one()

    context.later(20)

    assert context.statuses(1) == {1: "Started"}


def _finish(context: Context, attempt: Attempt) -> object:
    return context.finish(attempt, answer="42")


def _fail(context: Context, attempt: Attempt) -> object:
    return context.fail(attempt)


REPORTS = [_heartbeat, _log, _finish, _fail]
Report = Callable[[Context, Attempt], object]


def _lose(context: Context, attempt: Attempt) -> None:
    context.later(31)


def _cancel(context: Context, attempt: Attempt) -> None:
    context.cancel(1)


def _hand_on(context: Context, attempt: Attempt) -> None:
    context.later(31)
    context.later(60)
    context.take_one()


@pytest.mark.parametrize(
    ("happen", "report"),
    [
        *[(happen, report) for happen in (_lose, _hand_on) for report in REPORTS],
        *[(_cancel, report) for report in (_heartbeat, _finish)],
    ],
)
def test_the_token_of_an_attempt_that_was_lost_or_cancelled_is_stale_and_changes_nothing(
    context: Context, happen: Callable[[Context, Attempt], None], report: Report
) -> None:
    context.submit(1, [job(1, retries=1)])
    attempt = context.take_one()
    happen(context, attempt)
    before, events = context.status(1), context.events(1)

    with pytest.raises(StaleToken) as caught:
        report(context, attempt)

    assert caught.value.data["token"] == attempt.token
    assert context.status(1) == before
    assert context.events(1) == events


@pytest.mark.parametrize(
    ("first", "others"), [(_finish, [_heartbeat, _log, _fail]), (_fail, [_heartbeat, _log, _finish])]
)
def test_once_an_attempt_has_ended_its_token_is_stale_for_anything_else(
    context: Context, first: Report, others: list[Report]
) -> None:
    context.submit(1, [job(1, retries=1)])
    attempt = context.take_one()
    first(context, attempt)
    before = context.status(1)

    for report in others:
        with pytest.raises(StaleToken):
            report(context, attempt)

    assert context.status(1) == before


@pytest.mark.parametrize("report", [_finish, _fail])
def test_the_same_outcome_reported_twice_is_answered_as_the_first_time(context: Context, report: Report) -> None:
    context.submit(1, [job(1, retries=1), job(2, [1])])
    attempt = context.take_one()
    answer = report(context, attempt)
    before = context.status(1)

    assert report(context, attempt) == answer

    assert context.status(1) == before


def test_a_failure_reported_again_during_the_next_attempt_is_answered_as_the_first_time(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    first = context.take_one()
    answer = context.fail(first)
    context.later(60)
    second = context.take_one()

    assert context.fail(first) == answer

    assert context.finish(second) == {"status": "Finished", "attempt": 2}


def test_the_tokens_of_a_jobs_attempts_differ(context: Context) -> None:
    context.submit(1, [job(1, retries=1), job(2)])
    first, other = context.take(2, Runner(lease=3600))
    context.fail(first)
    context.later(60)

    assert len({first.token, other.token, context.take_one().token}) == 3


def test_a_token_is_good_for_its_own_job_only(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    first, second = context.take(2)

    with pytest.raises(StaleToken):
        context.finish(Attempt(first.caller_id, first.id, second.token, {}))


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_on_a_job_that_is_not_stored_says_so(context: Context, report: Report) -> None:
    with pytest.raises(NotFound) as caught:
        report(context, Attempt(7, 1, "1-1", {}))

    assert caught.value.data["ids"] == {"context_id": context.id, "caller_id": 7, "id": 1}


def test_a_failed_attempt_may_leave_a_result(context: Context) -> None:
    context.submit(1, [job(1)])

    context.fail(context.take_one(), "broken", result={"line": "3"})

    assert context.load_job(1)["result"] == {"line": "3"}


def test_a_failure_without_a_result_leaves_the_one_there_was(context: Context) -> None:
    context.submit(1, [job(1, result={"old": "1"})])

    context.fail(context.take_one())

    assert context.load_job(1)["result"] == {"old": "1"}


def test_finishing_forgets_earlier_failures(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    context.fail(context.take_one())
    context.later(60)

    context.finish(context.take_one())

    assert "failure" not in context.progress(1, 1)
