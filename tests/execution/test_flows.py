"""Flows from started to ended, as specs/execution.md says under States."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from coordinator.errors import (
    Conflict,
    CoordinatorError,
    DagCycleDetected,
    DagMissingDependency,
    InvalidParams,
    NotFound,
)
from tests.execution.driver import CALLER, Context, Runner, job

DIAMOND = [job(1), job(2, [1]), job(3, [1]), job(4, [2, 3])]


def test_jobs_without_an_unmet_dependency_are_dispatched_and_the_others_wait(context: Context) -> None:
    flow = context.submit(1, DIAMOND)

    assert flow["status"] == "Started"
    assert context.statuses(1) == {
        1: "Dispatched",
        2: "WaitingForPrerequisites",
        3: "WaitingForPrerequisites",
        4: "WaitingForPrerequisites",
    }


def test_jobs_run_in_the_order_of_the_dag_and_the_flow_is_finished_with_the_last(context: Context) -> None:
    context.submit(1, DIAMOND)

    order = [attempt.id for attempt in context.run_all()]

    assert order[0] == 1
    assert sorted(order[1:3]) == [2, 3]
    assert order[3:] == [4]
    assert context.load_flow(1)["status"] == "Finished"


def test_a_job_goes_onto_the_queue_of_its_script_type(context: Context) -> None:
    context.submit(1, [job(1, script_type="Sal"), job(2, script_type="V")])

    assert context.take(9, Runner(script_types=("Python", "Osis"))) == []
    assert [attempt.id for attempt in context.take(9, Runner(script_types=("V",)))] == [2]


def test_a_job_whose_type_has_changed_in_the_queue_is_not_given_to_a_runner_of_the_old_one(context: Context) -> None:
    context.submit(1, [job(1, script_type="Sal")])
    context.create_job(1, script_type="V")

    assert context.take(9, Runner(script_types=("Sal",))) == []
    assert [attempt.id for attempt in context.take(9, Runner(script_types=("V",)))] == [1]


def test_a_flow_without_jobs_is_finished_at_once(context: Context) -> None:
    flow = context.submit(1, [])

    assert (flow["status"], flow["result"]) == ("Finished", {})


@pytest.mark.parametrize(
    ("depends", "error"),
    [([2], DagMissingDependency), ([1], DagCycleDetected)],
    ids=["missing dependency", "cycle"],
)
def test_start_checks_the_dag(context: Context, depends: list[int], error: type[CoordinatorError]) -> None:
    context.create_job(1, depends)
    context.create_flow(1, [1])

    with pytest.raises(error):
        context.start(1)

    assert context.load_flow(1)["status"] == "Dispatched"


def test_start_of_what_is_not_stored_says_what_is_missing(context: Context) -> None:
    with pytest.raises(NotFound, match="flow"):
        context.start(1)
    context.create_flow(1, [5])

    with pytest.raises(NotFound, match="job"):
        context.start(1)


def _finish(context: Context) -> None:
    context.run_all()


def _fail(context: Context) -> None:
    context.fail(context.take_one())


def _cancel(context: Context) -> None:
    context.cancel(1)


def _nothing(context: Context) -> None:
    pass


@pytest.mark.parametrize("happen", [_nothing, _finish, _fail, _cancel])
def test_starting_a_flow_again_changes_nothing_whatever_became_of_it(
    context: Context, happen: Callable[[Context], None]
) -> None:
    context.submit(1, [job(1), job(2, [1])])
    happen(context)
    before, events = context.status(1), context.events(1)

    assert context.start(1) == before["flow"]

    assert context.status(1) == before
    assert context.events(1) == events


def test_starting_a_flow_again_changes_nothing_even_if_its_jobs_are_no_dag_any_more(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.create_job(1, [2])
    context.create_job(2, [1])

    assert context.start(1)["status"] == "Started"


def test_submit_stores_the_flow_and_its_jobs(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1], retries=3)], env_vars={"A": "1"})

    assert context.load_flow(1)["env_vars"] == {"A": "1"}
    assert context.load_job(2)["retries"] == 3


def test_submit_of_other_jobs_than_the_flow_lists_is_refused(context: Context) -> None:
    with pytest.raises(InvalidParams):
        context.submit(1, [job(1), job(1)])


def test_submit_of_a_job_of_another_caller_is_refused_and_stores_nothing(context: Context) -> None:
    with pytest.raises(InvalidParams):
        context.submit(1, [job(1, caller_id=8)])

    with pytest.raises(NotFound):
        context.load_flow(1)


def test_a_job_that_is_finished_is_not_run_again(context: Context) -> None:
    context.submit(1, [job(1)])
    context.finish(context.take_one(), answer="42")
    context.create_job(2, [1])
    context.create_flow(2, [1, 2])

    context.start(2)

    attempt = context.take_one()
    assert attempt.id == 2
    assert attempt.assignment["inputs"] == {"1": {"answer": "42"}}
    context.finish(attempt)
    assert context.load_flow(2)["status"] == "Finished"


def test_a_flow_of_finished_jobs_is_finished_at_once(context: Context) -> None:
    context.submit(1, [job(1)])
    context.finish(context.take_one(), answer="42")
    context.create_flow(2, [1])

    flow = context.start(2)

    assert flow["status"] == "Finished"
    assert json.loads(flow["result"]["1"]) == {"answer": "42"}


def test_a_flow_with_a_job_of_another_started_flow_is_a_conflict_that_names_it(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1])])
    context.create_flow(2, [1, 2])

    with pytest.raises(Conflict) as caught:
        context.start(2)

    assert caught.value.data["job"] == 1
    assert caught.value.data["run"] == "flow 1"
    assert context.load_flow(2)["status"] == "Dispatched"


def test_a_conflicting_submit_stores_nothing(context: Context) -> None:
    context.submit(1, [job(2)])

    with pytest.raises(Conflict):
        context.submit(2, [job(1), job(2, script="other")])

    assert context.load_job(2)["script"] == "print(2)"
    with pytest.raises(NotFound):
        context.load_job(1)
    with pytest.raises(NotFound):
        context.load_flow(2)


def test_a_job_of_a_flow_that_has_failed_may_be_run_by_another(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1])])
    context.fail(context.take_one())
    context.create_flow(2, [1, 2])

    context.start(2)

    context.run_all()
    assert context.load_flow(2)["status"] == "Finished"
    assert context.load_flow(1)["status"] == "Error"


def test_changing_depends_and_jobs_of_a_started_flow_changes_nothing(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1]), job(3)])
    context.create_job(2)
    context.create_job(3, [1, 2])
    context.create_flow(1, [1])

    first = context.take(9)

    assert [attempt.id for attempt in first] == [1, 3]
    for attempt in first:
        assert attempt.assignment["inputs"] == {}
        context.finish(attempt, by=str(attempt.id))
    second = context.take_one()
    assert second.id == 2
    assert second.assignment["inputs"] == {"1": {"by": "1"}}
    context.finish(second)
    flow = context.load_flow(1)
    assert flow["status"] == "Finished"
    assert flow["result"].keys() == {"2", "3"}


def test_the_result_of_a_flow_has_an_entry_for_each_leaf(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1]), job(3, [1])])
    context.finish(context.take_one(), who="root")
    for attempt in context.take(2):
        context.finish(attempt, who=f'leaf "{attempt.id}" é')

    result = context.load_flow(1)["result"]

    assert {id: json.loads(text) for id, text in result.items()} == {
        "2": {"who": 'leaf "2" é'},
        "3": {"who": 'leaf "3" é'},
    }


def test_a_job_out_of_attempts_puts_itself_and_its_flow_in_error(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1])])

    outcome = context.fail(context.take_one(), 'it "broke"')

    assert outcome == {"status": "Error", "attempt": 1}
    flow = context.load_flow(1)
    assert flow["status"] == "Error"
    assert flow["result"] == {"error": 'job 1: it "broke"', "job": "1"}


def test_after_a_failure_what_has_not_started_waits(context: Context) -> None:
    context.submit(1, [job(1, retries=1), job(2), job(3, [1]), job(4)])
    pausing, failing = context.take(2)
    context.fail(pausing)

    context.fail(failing)

    assert context.statuses(1) == {
        1: "WaitingForPrerequisites",
        2: "Error",
        3: "WaitingForPrerequisites",
        4: "WaitingForPrerequisites",
    }


def test_after_a_failure_queued_jobs_are_not_handed_out(context: Context) -> None:
    context.submit(1, [job(1), job(2)])

    context.fail(context.take_one())

    assert context.statuses(1)[2] == "WaitingForPrerequisites"
    assert context.take(9) == []


def test_after_a_failure_running_jobs_may_finish(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3, [2])])
    failing, running = context.take(2)
    context.fail(failing)

    context.heartbeat(running)
    outcome = context.finish(running, answer="42")

    assert outcome == {"status": "Finished", "attempt": 1}
    assert context.load_job(2)["result"] == {"answer": "42"}
    assert context.statuses(1)[3] == "WaitingForPrerequisites"
    assert context.load_flow(1)["status"] == "Error"


def test_after_a_failure_running_jobs_that_fail_are_not_tried_again(context: Context) -> None:
    context.submit(1, [job(1), job(2, retries=5)])
    failing, running = context.take(2)
    context.fail(failing)

    assert context.fail(running) == {"status": "Error", "attempt": 1}


def test_cancel_ends_the_flow_in_error_with_the_reason(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1])])

    flow = context.cancel(1, "no longer wanted")

    assert flow["status"] == "Error"
    assert flow["result"] == {"error": "cancelled: no longer wanted"}
    assert context.take(9) == []
    assert context.statuses(1) == {1: "WaitingForPrerequisites", 2: "WaitingForPrerequisites"}


def test_cancel_tells_the_runner_and_makes_its_attempt_an_error(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()

    context.cancel(1, "enough")

    assert f'cancel:3 job:7:1 {attempt.token} "cancelled: enough"' in context.wire.effects
    assert context.statuses(1) == {1: "Error"}


def test_cancel_of_a_flow_in_error_stops_what_still_runs(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)

    flow = context.cancel(1)

    assert f'cancel:3 job:7:2 {running.token} "cancelled"' in context.wire.effects
    assert flow["result"]["error"] == "job 1: broken"
    assert context.statuses(1)[2] == "Error"


def test_cancel_of_a_flow_in_error_does_not_touch_a_job_another_flow_runs(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.fail(context.take_one())
    context.create_flow(2, [2])
    context.start(2)
    running = context.take_one()

    context.cancel(1)

    assert context.heartbeat(running)
    context.finish(running)
    assert context.load_flow(2)["status"] == "Finished"


def test_cancel_of_a_flow_that_was_not_started_puts_it_in_error(context: Context) -> None:
    context.create_job(1)
    context.create_flow(1, [1])

    assert context.cancel(1)["status"] == "Error"
    assert context.start(1)["status"] == "Error"


def test_cancel_of_a_finished_flow_is_a_conflict(context: Context) -> None:
    context.submit(1, [])

    with pytest.raises(Conflict) as caught:
        context.cancel(1)

    assert caught.value.data["status"] == "Finished"


def test_retry_keeps_what_is_finished_and_runs_the_rest(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1]), job(3, [2])])
    context.finish(context.take_one(), answer="42")
    context.fail(context.take_one())

    flow = context.retry(1)

    assert flow["status"] == "Started"
    assert flow["result"] == {}
    assert context.load_job(1)["result"] == {"answer": "42"}
    assert [attempt.id for attempt in context.run_all()] == [2, 3]
    assert context.load_flow(1)["status"] == "Finished"


def test_retry_gives_all_attempts_anew(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    for _ in range(2):
        context.fail(context.take_one())
        context.later(60)

    context.retry(1)

    assert context.take_one().number == 1


def test_retry_goes_on_with_what_still_runs(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3, [1])])
    failing, running = sorted(context.take(2), key=lambda attempt: attempt.id, reverse=True)
    context.fail(failing)

    context.retry(1)

    assert context.statuses(1)[1] == "Started"
    context.finish(running)
    context.run_all()
    assert context.load_flow(1)["status"] == "Finished"


def test_retry_obeys_what_the_jobs_depend_on_by_then(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.cancel(1)
    context.create_job(1, [2])

    context.retry(1)

    assert [attempt.id for attempt in context.run_all()] == [2, 1]


def test_retry_hands_out_a_job_that_was_queued_before_the_cancel_only_once(context: Context) -> None:
    context.submit(1, [job(1)])
    context.cancel(1)
    context.retry(1)

    assert len(context.take(9)) == 1


def test_retry_stops_what_the_flow_no_longer_lists(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3, prerequisites=["p"])])
    dropped, failing = context.take(2)
    context.fail(failing)
    context.create_flow(1, [failing.id])

    context.retry(1)

    assert f'cancel:3 job:7:1 {dropped.token} "the flow no longer lists it"' in context.wire.effects
    context.satisfy("p")
    assert [attempt.id for attempt in context.take(9)] == [failing.id]
    assert context.load_flow(1)["status"] == "Started"


def test_retry_without_a_time_limit_is_not_held_to_the_one_before(context: Context) -> None:
    context.submit(1, [job(1, timeout=10)])
    context.take_one()
    context.cancel(1)
    context.create_job(1, timeout=0)
    context.pass_time(20)
    context.retry(1)
    attempt = context.take_one()
    context.heartbeat(attempt)

    context.later(5)

    assert context.statuses(1) == {1: "Started"}


def test_retry_of_a_started_flow_changes_nothing(context: Context) -> None:
    context.submit(1, [job(1)])
    before = context.status(1)

    context.retry(1)

    assert context.status(1) == before


@pytest.mark.parametrize("status", ["Dispatched", "Finished"])
def test_retry_of_a_flow_that_is_neither_in_error_nor_started_is_a_conflict(context: Context, status: str) -> None:
    context.create_flow(1, [])
    if status == "Finished":
        context.start(1)

    with pytest.raises(Conflict) as caught:
        context.retry(1)

    assert caught.value.data["status"] == status


@pytest.mark.parametrize("method", [Context.retry, Context.cancel, Context.status, Context.events])
def test_a_flow_that_is_not_stored_is_not_found(context: Context, method: Callable[[Context, int], object]) -> None:
    with pytest.raises(NotFound) as caught:
        method(context, 1)

    assert caught.value.data["kind"] == "flow"


def test_status_has_counts_and_the_progress_of_each_job(context: Context) -> None:
    context.submit(1, DIAMOND)
    context.finish(context.take_one())
    context.take_one(Runner(runner_id=5))

    report = context.status(1)

    assert report["flow"] == context.load_flow(1)
    assert report["counts"] == {
        "Dispatched": 1,
        "WaitingForPrerequisites": 1,
        "Started": 1,
        "Error": 0,
        "Finished": 1,
    }
    finished, *rest = report["jobs"]
    assert finished["attempt"] == 1
    assert finished["started_at"] <= finished["ended_at"]
    running = next(progress for progress in rest if progress["status"] == "Started")
    assert running["runner_id"] == 5
    assert "ended_at" not in running
    assert report["last_event"] == context.events(1)[-1]["event_id"]


def test_status_of_a_second_attempt_does_not_show_the_end_of_the_first(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    context.fail(context.take_one(), "first")
    waiting = context.progress(1, 1)
    context.later(60)
    context.take_one()

    running = context.progress(1, 1)

    assert waiting["ended_at"] <= waiting["retry_at"]
    assert "ended_at" not in running
    assert "retry_at" not in running
    assert running["failure"] == "first"


@pytest.mark.slow
def test_a_flow_of_ten_thousand_jobs_is_started_and_runs(context: Context) -> None:
    size = 10_000
    context.create_jobs(job(id, [id - 100] if id > 100 else []) for id in range(1, size + 1))
    context.create_flow(1, range(1, size + 1))

    context.start(1)

    counts = context.status(1)["counts"]
    assert (counts["Dispatched"], counts["WaitingForPrerequisites"]) == (100, size - 100)
    assert len(context.run_all()) == size
    assert context.load_flow(1)["status"] == "Finished"


def test_a_job_run_by_another_flow_releases_only_jobs_of_that_flow(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1])])
    context.fail(context.take_one())
    context.create_flow(2, [1])
    context.start(2)

    assert [attempt.id for attempt in context.run_all()] == [1]

    assert context.load_flow(2)["status"] == "Finished"
    assert context.statuses(1) == {1: "Finished", 2: "WaitingForPrerequisites"}


def test_retry_does_not_queue_a_running_job_again_when_what_it_depends_on_by_then_finishes(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)
    context.create_job(2, [1])
    context.retry(1)

    context.finish(context.take_one())

    assert context.take(9) == []
    context.finish(running)
    assert context.load_flow(1)["status"] == "Finished"


def test_what_a_flow_no_longer_lists_when_it_is_retried_is_free_for_others(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.cancel(1)
    context.create_flow(1, [2])
    context.retry(1)
    context.create_flow(2, [1])

    context.start(2)

    context.run_all()
    assert context.load_flow(2)["status"] == "Finished"


def test_a_job_that_still_runs_for_a_flow_in_error_is_a_conflict_for_others(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)
    context.create_flow(2, [2])

    with pytest.raises(Conflict) as caught:
        context.start(2)

    assert caught.value.data["run"] == "flow 1"
    context.finish(running)
    assert context.start(2)["status"] == "Finished"


def test_a_failure_does_not_put_back_a_job_that_is_another_flows_by_then(context: Context) -> None:
    context.submit(1, [job(1)])
    context.run_all()
    context.create_job(2)
    context.create_flow(2, [1, 2])
    context.start(2)
    context.wire.ask(("DEL", context.keys.job(CALLER, 1)))  # as earlier versions let anybody do
    context.submit(3, [job(1, script_type="V")])

    context.fail(context.take_one())

    assert context.statuses(3) == {1: "Dispatched"}
