"""Jobs that several flows list: none of them vanishes while another flow needs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.errors import Conflict, NotFound
from coordinator.storage.functions import records
from tests.execution.conftest import NewContext
from tests.execution.driver import CALLER, Context, job
from tests.execution.test_deletion import keys_left

Delete = Callable[[Context], object]

DELETIONS: dict[str, Delete] = {
    "job": lambda context: context.delete_job(1),
    "flow": lambda context: context.delete_flow(1),
}


def share(context: Context, status: str = "active") -> None:
    """Flow 1 has ended with job 1 finished, on which job 2 of flow 2 depends."""
    context.submit(1, [job(1)])
    context.finish(context.take_one(), answer="42")
    if status == "submitted":
        context.submit(2, [job(1), job(2, [1])])
        return
    context.create_job(2, [1])
    context.create_flow(2, [1, 2])
    if status == "active":
        context.start(2)


@pytest.mark.parametrize("delete", DELETIONS.values(), ids=DELETIONS)
@pytest.mark.parametrize("how", ["active", "submitted"])
def test_what_an_active_flow_needs_is_not_deleted(context: Context, how: str, delete: Delete) -> None:
    share(context, how)

    with pytest.raises(Conflict) as caught:
        delete(context)

    assert caught.value.data["record"] == "job:7:1"
    assert caught.value.data["run"] == "flow 2"
    attempt = context.take_one()
    assert attempt.assignment["inputs"] == {"1": {"answer": "42"}}
    context.finish(attempt)
    assert context.load_flow(2)["status"] == "Finished"
    assert context.delete_flow(1) == 1
    assert context.load_job(1)["result"] == {"answer": "42"}
    assert context.delete_flow(2) == 3
    assert keys_left(context) == set()


def test_what_an_active_message_needs_is_not_deleted(context: Context) -> None:
    context.submit(1, [job(1)])
    context.finish(context.take_one())
    context.create_message(1, [job(1), job(2, [1])])
    context.send(1)

    for delete in DELETIONS.values():
        with pytest.raises(Conflict) as caught:
            delete(context)
        assert caught.value.data["run"] == "message 7/1"

    context.run_all()
    assert context.delete_flow(1) == 1
    assert context.load_message(1)["job"][0]["id"] == 1
    assert context.delete_message(1) == 3
    assert keys_left(context) == set()


def test_a_message_whose_job_an_active_flow_needs_is_not_deleted(context: Context) -> None:
    context.create_message(1, [job(1)])
    context.send(1)
    context.finish(context.take_one())
    context.submit(2, [job(1), job(2, [1])])

    with pytest.raises(Conflict):
        context.delete_message(1)

    context.run_all()
    assert context.delete_message(1) == 1
    assert context.load_job(1)["status"] == "Finished"


def test_a_flow_is_not_deleted_by_retention_while_another_needs_its_job(new_context: NewContext) -> None:
    context = new_context(retention=100)
    share(context)

    context.later(101)
    assert context.load_flow(1)["status"] == "Finished"
    assert context.load_job(1)["result"] == {"answer": "42"}

    context.run_all()
    for _ in range(2):  # the first goes when it is looked at again, the second when it was kept long enough
        context.later(101)
    assert keys_left(context) == set()


def test_deleting_a_flow_leaves_the_jobs_that_a_flow_lists_which_was_not_started(context: Context) -> None:
    share(context, "not started")

    assert context.delete_flow(1) == 1

    context.start(2)
    context.run_all()
    assert context.load_flow(2)["status"] == "Finished"
    assert context.delete_flow(2) == 3
    assert keys_left(context) == set()


def test_of_two_flows_that_were_not_started_the_first_leaves_what_the_second_lists(context: Context) -> None:
    for id in (1, 2, 3):
        context.create_job(id)
    context.create_flow(1, [1, 2])
    context.create_flow(2, [2, 3])

    assert context.delete_flow(1) == 2

    context.start(2)
    assert len(context.run_all()) == 2
    assert context.delete_flow(2) == 3
    assert keys_left(context) == set()


def test_deleting_the_flow_that_has_a_failed_job_by_then_leaves_it_to_the_one_that_lists_it(context: Context) -> None:
    context.submit(1, [job(1)])
    context.fail(context.take_one())
    context.create_flow(2, [1])
    context.start(2)
    context.fail(context.take_one())

    assert context.delete_flow(2) == 1

    context.retry(1)
    attempt = context.take_one()
    assert attempt.number == 1
    context.finish(attempt)
    assert context.load_flow(1)["status"] == "Finished"


def test_a_flow_that_no_longer_lists_a_job_does_not_keep_it(context: Context) -> None:
    share(context, "not started")
    context.create_flow(2, [2])

    assert context.delete_flow(1) == 2

    with pytest.raises(NotFound):
        context.load_job(1)


def test_a_flow_that_was_not_started_does_not_hinder_the_deletion_of_a_job(context: Context) -> None:
    share(context, "not started")

    assert context.delete_job(1) == 1

    status = context.status(2)
    assert (status["missing"], [progress["id"] for progress in status["jobs"]]) == ([1], [2])


def test_what_flows_need_that_were_started_before_there_was_an_index_is_known(context: Context) -> None:
    share(context)
    context.create_flow(3, [1])
    # Earlier versions have neither of these.
    (_, index) = context.wire.ask(("DEL", f"{context.keys.prefix}unlisted"), ("KEYS", f"{context.keys.prefix}us*"))
    assert index == []

    with pytest.raises(Conflict):
        context.delete_flow(1)
    context.run_all()
    context.delete_flow(2)

    assert context.load_job(1)["status"] == "Finished"
    context.start(3)
    assert context.load_flow(3)["status"] == "Finished"


@pytest.mark.slow
def test_no_call_looks_at_more_than_a_few_thousand_jobs_to_learn_who_needs_what(context: Context) -> None:
    context.create_job(1)
    for flow in range(1, 4):
        context.create_flow(flow, range(1, 8_001))
    calls = 0

    while True:
        (reply,) = context.wire.ask(records.record_delete(context.keys, "flow:1", "a"))
        calls += 1
        if reply[0][0] != b"more":
            break

    assert reply[0] == [b"ok", 1]
    assert calls > 3 * 8_000 / 2_000
    assert context.load_job(1)["status"] == "Dispatched"
    assert [context.delete_flow(flow) for flow in (2, 3)] == [1, 2]
    assert keys_left(context) == set()


def test_a_flow_moved_to_another_caller_keeps_the_jobs_of_that_one(context: Context) -> None:
    context.create_job(1)
    context.create_job(1, caller_id=8)
    context.create_flow(1, [1])
    context.create_flow(2, [1])
    assert context.delete_flow(2) == 1
    context.create_flow(2, [1])
    context.create_flow(1, [1], caller_id=8)

    assert context.delete_flow(2) == 2
    assert context.load_job(1, caller_id=8)["caller_id"] == 8
    assert context.delete_flow(1) == 2
    assert keys_left(context) == set()
    assert CALLER == 7
