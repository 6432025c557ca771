"""An id stands for one content: what was submitted or run is not another thing afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.errors import Conflict, NotFound
from tests.execution.conftest import NewContext
from tests.execution.driver import Context, job

Happening = Callable[[Context], None]


def _nothing(context: Context) -> None:
    pass


def _finish(context: Context) -> None:
    context.run_all()


def _fail(context: Context) -> None:
    context.fail(context.take_one())


AFTERWARDS = [_nothing, _finish, _fail]

JOBS = [job(1, env_vars={"A": "1", "B": "2"}, prerequisites=[]), job(2, [1])]


@pytest.mark.parametrize("happen", AFTERWARDS)
def test_submitted_again_with_the_same_content_a_flow_stays_as_it_is(context: Context, happen: Happening) -> None:
    context.submit(1, JOBS, env_vars={"X": "1", "Y": "2"})
    happen(context)
    before = context.status(1)
    events = context.events(1)

    again = [job(2, [1, 1]), job(1, env_vars={"B": "2", "A": "1"})]
    assert context.submit(1, again, env_vars={"Y": "2", "X": "1"}) == before["flow"]

    assert context.status(1) == before
    assert context.events(1) == events


OTHERS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "script": ([job(1, script="other"), job(2, [1])], {}, "job:7:1"),
    "depends": ([job(1), job(2)], {}, "job:7:2"),
    "retries": ([job(1), job(2, [1], retries=1)], {}, "job:7:2"),
    "env_vars": ([job(1), job(2, [1])], {"env_vars": {"A": "1"}}, "flow:1"),
    "jobs": ([job(1)], {}, "flow:1"),
}


@pytest.mark.parametrize("member", OTHERS)
@pytest.mark.parametrize("happen", AFTERWARDS)
def test_submitted_again_with_other_content_a_flow_is_a_conflict_that_names_it(
    context: Context, happen: Happening, member: str
) -> None:
    context.submit(1, [job(1), job(2, [1])])
    happen(context)
    before = context.status(1)
    jobs, members, record = OTHERS[member]

    with pytest.raises(Conflict) as caught:
        context.submit(1, jobs, **members)

    assert (caught.value.data["record"], caught.value.data["member"]) == (record, member)
    assert context.status(1) == before
    assert context.load_job(1)["script"] == "print(1)"


def test_to_submit_a_flow_that_was_created_with_other_jobs_is_a_conflict(context: Context) -> None:
    context.create_flow(1, [1])

    with pytest.raises(Conflict):
        context.submit(1, [job(2)])

    with pytest.raises(NotFound):
        context.load_job(2)
    assert context.submit(1, [job(1)])["status"] == "Started"


def test_submitted_again_without_a_job_that_was_deleted_since_a_flow_stays_as_it_is(context: Context) -> None:
    context.submit(1, JOBS)
    context.run_all()
    context.delete_job(1)

    assert context.submit(1, JOBS)["status"] == "Finished"
    with pytest.raises(NotFound):
        context.load_job(1)


def test_a_finished_job_of_the_same_content_counts_as_done(context: Context) -> None:
    context.submit(1, [job(1)])
    context.finish(context.take_one(), answer="42")

    context.submit(2, [job(1, result={"answer": "none"}), job(2, [1])])

    attempt = context.take_one()
    assert (attempt.id, attempt.assignment["inputs"]) == (2, {"1": {"answer": "42"}})


def _submit(context: Context, **members: Any) -> None:
    context.submit(2, [job(1, **members), job(2, [1])])


def _send(context: Context, **members: Any) -> None:
    context.create_message(1, [job(1, **members), job(2, [1])])
    context.send(1)


@pytest.mark.parametrize("run", [_submit, _send])
@pytest.mark.parametrize("member", [{"script": "other"}, {"env_vars": {"A": "1"}}, {"script_type": "V"}])
def test_a_finished_job_of_other_content_is_a_conflict_that_names_it(
    context: Context, run: Callable[..., None], member: dict[str, Any]
) -> None:
    context.submit(1, [job(1)])
    context.finish(context.take_one(), answer="42")
    before = context.load_job(1)

    with pytest.raises(Conflict) as caught:
        run(context, **member)

    assert caught.value.data["record"] == "job:7:1"
    assert caught.value.data["member"] == next(iter(member))
    assert context.load_job(1) == before
    with pytest.raises(NotFound):
        context.load_job(2)


@pytest.mark.parametrize("run", [_submit, _send])
def test_what_counts_as_done_is_not_written_over(context: Context, run: Callable[..., None]) -> None:
    context.submit(1, [job(1)])
    context.finish(context.take_one(), answer="42")
    before = context.load_job(1)

    run(context, result={"answer": "none"})

    assert context.load_job(1) == before


@pytest.mark.parametrize("run", [_submit, _send])
def test_a_job_that_failed_may_be_run_with_other_content(context: Context, run: Callable[..., None]) -> None:
    context.submit(1, [job(1)])
    context.fail(context.take_one())

    run(context, script="better")

    attempt = context.take_one()
    assert (attempt.number, attempt.assignment["job"]["script"]) == (1, "better")


# -- job.create over a job that has run


@pytest.mark.parametrize("end", [_finish, _fail])
@pytest.mark.parametrize("member", [{"script": "other"}, {"env_vars": {"A": "1"}}, {"script_type": "V"}])
def test_created_with_something_else_to_run_an_ended_job_is_a_new_one(
    context: Context, end: Happening, member: dict[str, Any]
) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()
    if end is _finish:
        context.finish(attempt, answer="42")
    else:
        context.fail(attempt, result={"answer": "41"})

    created = context.create_job(1, **member)

    assert (created["status"], created["result"]) == ("Dispatched", {})
    assert context.load_job(1) == created
    progress = context.progress(1, 1)
    assert (progress["status"], progress["attempt"]) == ("Dispatched", 0)
    assert "failure" not in progress
    context.create_flow(2, [1])
    context.start(2)
    (again,) = context.run_all()
    assert again.number == 1
    assert context.load_flow(2)["status"] == "Finished"


def test_a_result_given_with_it_is_the_new_jobs(context: Context) -> None:
    context.submit(1, [job(1)])
    context.run_all()

    assert context.create_job(1, script="other", result={"a": "1"})["result"] == {"a": "1"}


@pytest.mark.parametrize("end", [_finish, _fail])
def test_created_again_with_the_same_to_run_an_ended_job_stays_what_it_is(context: Context, end: Happening) -> None:
    context.submit(1, [job(1, env_vars={"A": "1", "B": "2"})])
    end(context)
    before = context.load_job(1)

    again = context.create_job(1, env_vars={"B": "2", "A": "1"}, retries=3)

    assert again == {**before, "retries": 3, "updated_at": again["updated_at"]}


def test_a_running_job_is_not_given_something_else_to_run(context: Context) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one()

    with pytest.raises(Conflict) as caught:
        context.create_job(1, script="other")

    assert (caught.value.data["record"], caught.value.data["run"]) == ("job:7:1", "flow 1")
    assert context.load_job(1)["script"] == "print(1)"
    context.create_job(1, retries=2)
    context.finish(attempt)
    assert context.load_flow(1)["status"] == "Finished"


@pytest.mark.parametrize("needed_by", ["its own flow", "another", "one of several others"])
def test_a_finished_job_an_active_flow_needs_is_not_given_something_else_to_run(
    context: Context, needed_by: str
) -> None:
    context.submit(1, [job(1), job(2, [1])] if needed_by == "its own flow" else [job(1)])
    context.finish(context.take_one(), answer="42")
    if needed_by != "its own flow":
        context.submit(2, [job(1), job(2, [1])])
    if needed_by == "one of several others":
        context.submit(3, [job(1)])

    with pytest.raises(Conflict):
        context.create_job(1, script="other")

    assert context.take_one().assignment["inputs"] == {"1": {"answer": "42"}}


def test_a_flow_whose_job_is_a_new_one_no_longer_decides_about_it(new_context: NewContext) -> None:
    context = new_context(retention=100)
    context.submit(1, [job(1)])
    context.run_all()
    context.create_job(1, script="other")
    context.create_flow(2, [1])
    context.start(2)

    context.later(101)

    with pytest.raises(NotFound):
        context.load_flow(1)
    assert len(context.run_all()) == 1
    assert context.load_flow(2)["status"] == "Finished"
