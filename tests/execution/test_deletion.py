"""Deletion by hand, deletion when an ended run has been kept long enough, and what must not be deleted."""

from __future__ import annotations

import pytest

from coordinator.errors import Conflict, NotFound
from tests.execution.conftest import NewContext
from tests.execution.driver import Context, Runner, job


def keys_left(context: Context) -> set[str]:
    """What a context still has in the store, beside the engine, its counts, and what is remembered for a while."""
    (keys,) = context.wire.ask(("KEYS", "*"))
    names = {key.decode().removeprefix(context.keys.prefix) for key in keys}
    return {name for name in names if name not in ("engine", "counts") and not name.startswith(("take:", "deleted:"))}


def test_a_flow_is_deleted_with_its_jobs_and_leaves_nothing(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1])])
    context.run_all()

    assert context.delete_flow(1) == 3

    assert keys_left(context) == set()


def test_a_flow_that_was_not_started_is_deleted_with_the_jobs_it_lists(context: Context) -> None:
    context.create_job(1)
    context.create_flow(1, [1, 2])

    assert context.delete_flow(1) == 2

    assert keys_left(context) == set()


@pytest.mark.parametrize("taken", [True, False])
def test_a_cancelled_flow_leaves_only_queue_entries_that_lead_nowhere_and_those_not_for_long(
    context: Context, taken: bool
) -> None:
    context.submit(1, [job(1), job(2, prerequisites=["p"])])
    context.cancel(1)

    context.delete_flow(1)

    assert keys_left(context) == {"queue:python", "timers"}
    if taken:
        assert context.take(9) == []
        assert keys_left(context) == {"timers"}
    context.later(2)
    assert keys_left(context) == set()


def test_deleting_what_is_not_there_deletes_nothing(context: Context) -> None:
    assert context.delete_flow(1) == 0
    assert context.delete_job(1) == 0
    assert context.delete_message(1) == 0
    assert context.delete_runner(1) == 0


def test_a_started_flow_is_not_deleted(context: Context) -> None:
    context.submit(1, [job(1)])

    with pytest.raises(Conflict) as caught:
        context.delete_flow(1)

    assert caught.value.data["record"] == "flow:1"
    context.run_all()
    assert context.load_flow(1)["status"] == "Finished"


def test_a_flow_in_error_is_not_deleted_while_one_of_its_jobs_runs(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)

    with pytest.raises(Conflict) as caught:
        context.delete_flow(1)

    assert caught.value.data["record"] == "job:7:2"
    context.finish(running)
    assert context.delete_flow(1) == 3


def test_a_flow_is_not_deleted_while_a_job_it_no_longer_lists_runs_for_it(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2)
    context.fail(failing)
    context.create_flow(1, [1])

    with pytest.raises(Conflict):
        context.delete_flow(1)

    context.finish(running)
    assert context.delete_flow(1) == 3


def test_a_job_another_flow_has_had_since_stays(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.fail(context.take_one())
    context.create_flow(2, [2])
    context.start(2)

    assert context.delete_flow(1) == 2

    context.run_all()
    assert context.load_flow(2)["status"] == "Finished"


@pytest.mark.parametrize("id", [1, 2, 3], ids=["finished", "queued", "waiting"])
def test_a_job_of_a_started_flow_is_not_deleted(context: Context, id: int) -> None:
    context.submit(1, [job(1), job(2), job(3, [2])])
    context.finish(context.take_one())

    with pytest.raises(Conflict) as caught:
        context.delete_job(id)

    assert caught.value.data["record"] == f"job:7:{id}"
    assert caught.value.data["detail"].startswith(f"job 7/{id} is ")


def test_a_running_job_is_not_deleted(context: Context) -> None:
    context.submit(1, [job(1)])
    context.take_one()

    with pytest.raises(Conflict):
        context.delete_job(1)


def test_a_job_that_was_never_run_is_deleted(context: Context) -> None:
    context.create_job(1)

    assert context.delete_job(1) == 1

    assert context.list_jobs() == {"items": []}
    with pytest.raises(NotFound):
        context.load_job(1)


def test_a_runner_is_deleted(context: Context) -> None:
    context.create_runner(3)

    assert context.delete_runner(3) == 1

    assert keys_left(context) == set()


def test_a_message_is_deleted_with_its_jobs_and_logs(context: Context) -> None:
    context.create_message(1, [job(1)], timeout=100, timeout_ack=100, timeout_result=100)
    context.send(1)
    attempt = context.take_one()
    context.log(attempt, "x")
    with pytest.raises(Conflict):
        context.delete_message(1)
    context.finish(attempt)

    assert context.delete_message(1) == 2

    assert keys_left(context) == set()


def test_ended_runs_are_kept_unless_a_retention_is_set(context: Context) -> None:
    context.submit(1, [job(1)])
    context.run_all()

    context.later(1_000_000)

    assert context.load_flow(1)["status"] == "Finished"


def test_ended_flows_and_messages_are_deleted_with_their_jobs_when_they_were_kept_long_enough(
    new_context: NewContext,
) -> None:
    context = new_context(retention=100)
    context.submit(1, [job(1)])
    context.create_message(1, [job(2)])
    context.send(1)
    context.run_all()
    context.submit(2, [job(3)])

    context.later(99)
    assert context.load_flow(1)["status"] == "Finished"
    context.later(2)

    for load, id in ((context.load_flow, 1), (context.load_message, 1), (context.load_job, 2)):
        with pytest.raises(NotFound):
            load(id)
    assert context.load_flow(2)["status"] == "Started"


def test_a_flow_that_is_retried_is_kept(new_context: NewContext) -> None:
    context = new_context(retention=100)
    context.submit(1, [job(1)])
    context.fail(context.take_one())
    context.retry(1)

    context.later(101)

    assert context.load_flow(1)["status"] == "Started"


def test_a_flow_whose_retry_was_refused_is_deleted_all_the_same(new_context: NewContext) -> None:
    context = new_context(retention=100)
    context.submit(1, [job(1), job(2)])
    context.fail(context.take_one())
    context.submit(2, [job(2)])
    with pytest.raises(Conflict):
        context.retry(1)

    context.later(101)

    with pytest.raises(NotFound):
        context.load_flow(1)


def test_a_flow_in_error_is_deleted_once_what_still_ran_has_ended(new_context: NewContext) -> None:
    context = new_context(retention=100)
    context.submit(1, [job(1), job(2)])
    failing, running = context.take(2, Runner(lease=3600))
    context.fail(failing)

    context.later(101)
    assert context.load_flow(1)["status"] == "Error"
    context.finish(running)
    context.later(101)

    assert keys_left(context) == set()
