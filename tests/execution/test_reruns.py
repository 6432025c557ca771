"""Flows that have ended are run again, all of them or from a job on."""

from __future__ import annotations

import pytest

from coordinator.errors import Conflict, DagMissingDependency, InvalidParams, NotFound
from tests.execution.driver import Context, job

CHAINS = [job(1), job(2, [1]), job(3, [2]), job(4, [1]), job(5, [3, 4])]


def finished(context: Context, id: int = 1) -> None:
    """A flow of which each job has the result {"n": "1"}."""
    context.submit(id, CHAINS)
    while attempts := context.take(9):
        for attempt in attempts:
            context.finish(attempt, n="1")
    assert context.load_flow(id)["status"] == "Finished"


def test_all_of_a_finished_flow_runs_again(context: Context) -> None:
    finished(context)

    flow = context.rerun(1)

    assert (flow["status"], flow["result"]) == ("Started", {})
    assert [context.load_job(id)["result"] for id in range(1, 6)] == [{}] * 5
    assert context.progress(1, 1)["attempt"] == 0
    assert [attempt.id for attempt in context.run_all()] == [1, 2, 4, 3, 5]
    assert context.load_flow(1)["result"] == {"5": "{}"}


def test_from_a_job_on_the_results_of_the_others_are_kept(context: Context) -> None:
    finished(context)

    context.rerun(1, from_job=2)

    assert context.statuses(1) == {
        1: "Finished",
        2: "Dispatched",
        3: "WaitingForPrerequisites",
        4: "Finished",
        5: "WaitingForPrerequisites",
    }
    second = context.take_one()
    assert second.assignment["inputs"] == {"1": {"n": "1"}}
    context.finish(second, n="2")
    third = context.take_one()
    assert third.assignment["inputs"] == {"2": {"n": "2"}}
    context.finish(third, n="2")
    fifth = context.take_one()
    assert fifth.assignment["inputs"] == {"3": {"n": "2"}, "4": {"n": "1"}}
    context.finish(fifth)
    assert context.load_flow(1)["status"] == "Finished"


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_flow_in_error_is_run_again_with_its_finished_jobs(context: Context, how: str) -> None:
    context.submit(1, CHAINS)
    context.finish(context.take_one())
    if how == "failed":
        context.fail(context.take_one())
    else:
        context.cancel(1)

    context.rerun(1)

    assert [attempt.id for attempt in context.run_all()] == [1, 2, 4, 3, 5]
    assert context.load_flow(1)["status"] == "Finished"


def test_what_has_failed_beside_that_job_runs_too(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3, [1])])
    context.finish(context.take_one())
    context.fail(context.take_one())

    context.rerun(1, from_job=3)

    assert sorted(attempt.id for attempt in context.run_all()) == [2, 3]
    assert context.load_flow(1)["status"] == "Finished"


def test_overrides_are_what_runs_from_then_on(context: Context) -> None:
    context.submit(1, [job(1, env_vars={"A": "1", "B": "1"}), job(2, [1])], env_vars={"STAGE": "test", "DAY": "1"})
    context.run_all()

    flow = context.rerun(
        1,
        overrides={
            "env_vars": {"STAGE": "live"},
            "jobs": [{"id": 1, "script": "print(9)", "env_vars": {"B": "2", "C": "3"}}],
        },
    )

    assert flow["env_vars"] == {"STAGE": "live", "DAY": "1"}
    attempt = context.take_one()
    assert attempt.assignment["env_vars"] == {"STAGE": "live", "DAY": "1", "A": "1", "B": "2", "C": "3"}
    assert attempt.assignment["job"]["script"] == "print(9)"
    assert context.load_job(1)["script"] == "print(9)"


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"from_job": 9}, ["from_job"]),
        ({"overrides": {"jobs": [{"id": 9}]}}, ["overrides", "jobs", 0, "id"]),
        ({"overrides": {"jobs": [{"id": 2}, {"id": 2}]}}, ["overrides", "jobs", 1, "id"]),
        ({"from_job": 5, "overrides": {"jobs": [{"id": 1, "script": "x"}]}}, ["overrides", "jobs", 0, "id"]),
    ],
)
def test_what_does_not_run_again_is_not_overridden(context: Context, members: dict[str, object], place: object) -> None:
    finished(context)

    with pytest.raises(InvalidParams) as caught:
        context.rerun(1, **members)

    assert caught.value.data[0]["loc"] == place
    assert context.load_flow(1)["status"] == "Finished"


def test_only_a_flow_that_has_ended_is_run_again(context: Context) -> None:
    context.submit(1, [job(1)])
    context.create_job(2)
    context.create_flow(2, [2])

    for flow, status in ((1, "Started"), (2, "Dispatched")):
        with pytest.raises(Conflict) as caught:
            context.rerun(flow)
        assert caught.value.data["status"] == status
    with pytest.raises(NotFound):
        context.rerun(3)


def test_a_job_whose_result_an_active_flow_needs_does_not_run_again(context: Context) -> None:
    finished(context)
    before = context.load_job(1)
    context.create_job(9, [1])
    context.create_flow(2, [1, 9])
    context.start(2)

    with pytest.raises(Conflict) as caught:
        context.rerun(1)

    assert (caught.value.data["job"], caught.value.data["run"]) == (1, "flow 2")
    assert context.load_job(1) == before
    context.rerun(1, from_job=2)  # which that flow does not need
    context.run_all()
    assert context.load_flow(2)["status"] == "Finished"
    context.rerun(1)
    context.run_all()
    assert context.load_flow(1)["status"] == "Finished"


def test_a_job_that_still_runs_does_not_run_again(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)

    with pytest.raises(Conflict) as caught:
        context.rerun(1)

    assert (caught.value.data["job"], caught.value.data["run"]) == (running.id, "flow 1")
    context.cancel_job(running.id)
    context.rerun(1)
    assert len(context.run_all()) == 2


def test_a_flow_whose_dag_is_none_any_more_is_as_it_was(context: Context) -> None:
    finished(context)
    before = [context.load_job(id) for id in (1, 3, 4, 5)]
    context.create_job(2, [9])

    with pytest.raises(DagMissingDependency):
        context.rerun(1)

    assert [context.load_job(id) for id in (1, 3, 4, 5)] == before
    assert context.load_flow(1)["status"] == "Finished"
    (keys,) = context.wire.ask(("KEYS", "*again:flow*"))
    assert keys == []


def test_an_ended_flow_keeps_its_events_when_it_runs_again(context: Context) -> None:
    finished(context)
    last = context.status(1)["last_event"]

    context.rerun(1)

    assert [event["status"] for event in context.events(1, last) if event["kind"] == "flow"] == ["Started"]
    assert len(context.events(1)) > 5
