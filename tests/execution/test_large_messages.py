"""Messages with so many jobs that they are sent in slices: here each slice is a job or two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from coordinator import models
from coordinator.errors import Conflict, DagCycleDetected, NotFound
from coordinator.operations import messages
from coordinator.storage.keys import Layout
from tests.execution.conftest import CONTEXT
from tests.execution.driver import CALLER, Begun, Context, job
from tests.execution.sliced import SOURCE, small_slices
from tests.execution.wire import Wire
from tests.support.server import ValkeyProcess

JOBS: Final = (job(1), job(2), job(3, [1, 2]), job(4, [3], prerequisites=["paid"]), job(5, [3]), job(6, [4, 5]))


@pytest.fixture(autouse=True)
def slices() -> Iterator[None]:
    with small_slices():
        yield


@pytest.fixture
def context(store: ValkeyProcess) -> Iterator[Context]:
    """A context whose slices are small, and in which nothing is done that is not asked for."""
    layout = Layout("index", coordinator="coordinator 3600000 0")
    wire = Wire(store.port, CONTEXT, SOURCE)
    wire.ask(("FLUSHDB",))
    yield Context(wire, layout, CONTEXT)
    wire.close()


def begin_send(context: Context) -> Begun:
    params = models.MessageParams(context_id=context.id, caller_id=CALLER, id=1)
    return Begun(context, messages.send_message(context.keys, params))


def stop_in_each_slice(context: Context) -> Iterator[Begun]:
    """A send after one slice, after two, …: each time from the beginning, in an empty store."""
    for slices in range(1, 100):
        context.wire.ask(("FLUSHDB",))
        context.create_message(1, JOBS, timeout=100, timeout_ack=50)
        begun = begin_send(context)
        if not begun.do(slices):
            return
        yield begun
    raise AssertionError("it does not end")


def pass_time(context: Context, ms: int = 40_000) -> None:
    """Let the timers be due that the store has set, and act on them."""
    context.wire.ask(("HINCRBY", f"{context.keys.prefix}engine", "skew", ms))
    for _ in range(200):
        context.tick()


def finish_all(context: Context) -> list[int]:
    """Run all there is. Returns the jobs in their order."""
    finished = []
    while attempts := context.take(1):
        for attempt in attempts:
            context.finish(attempt)
            finished.append(attempt.id)
        for _ in range(20):
            context.tick()
    return finished


def test_it_is_sent_in_many_slices_and_runs_in_the_order_of_its_dag(context: Context) -> None:
    begun = begin_send(context)
    context.create_message(1, JOBS)
    slices = 0
    while begun.go_on():
        slices += 1
    sent = begun.answer

    assert slices > 20
    assert sent["transport_status"] == "Queued"
    assert sent["transport_id"]
    assert {embedded["id"]: embedded["status"] for embedded in sent["job"]} == {
        1: "Dispatched",
        2: "Dispatched",
        **dict.fromkeys((3, 4, 5, 6), "WaitingForPrerequisites"),
    }
    for _ in range(20):
        context.tick()
    assert sorted(finish_all(context)[:2]) == [1, 2]
    context.satisfy("paid")
    for _ in range(20):
        context.tick()
    assert finish_all(context)[-1] == 6
    loaded = context.load_message(1)
    assert loaded["status"] == "Processed"
    assert loaded["transport_status"] == "Read"
    assert {embedded["status"] for embedded in loaded["job"]} == {"Finished"}
    assert context.delete_message(1) == 1 + len(JOBS)
    assert context.list_jobs()["items"] == []


def test_nothing_runs_before_all_is_there(context: Context) -> None:
    for begun in stop_in_each_slice(context):
        if context.load_message(1).get("transport_status") != "Queued":
            assert context.take(10) == []
        assert begun.finish()["transport_status"] == "Queued"
        assert begin_send(context).finish()["transport_status"] == "Queued"


def test_one_that_its_sender_does_not_go_on_with_is_given_up_or_sent(context: Context) -> None:
    seen = set()
    for _ in stop_in_each_slice(context):
        pass_time(context)
        status = context.load_message(1).get("transport_status")
        seen.add(status)
        jobs = context.list_jobs()["items"]
        if status == "Queued":
            assert len(jobs) == len(JOBS)
        else:
            assert jobs == []
            assert context.take(10) == []
            sent = begin_send(context).finish()
            assert sent["transport_status"] == "Queued"
    assert len(seen) == 2


def outcome_of_another(context: Context) -> str:
    """What another is answered that sends it meanwhile, or that he waits."""
    another = begin_send(context)
    while not another.pauses and another.go_on():
        pass
    return "waits" if another.pauses else str(another.answer["transport_status"])


def test_another_that_sends_it_meanwhile_waits_or_goes_on(context: Context) -> None:
    outcomes = set()
    for begun in stop_in_each_slice(context):
        outcomes.add(outcome_of_another(context))
        assert begun.finish()["transport_status"] == "Queued"
        assert len(context.list_jobs()["items"]) == len(JOBS)
    assert outcomes == {"Queued", "waits"}


def test_its_time_limits_begin_when_it_was_sent(context: Context) -> None:
    context.create_message(1, JOBS, timeout_ack=50)
    begin_send(context).finish()

    pass_time(context, 49_000)
    assert context.load_message(1)["status"] == "Dispatched"
    pass_time(context, 2_000)
    assert context.load_message(1)["status"] == "Error"
    assert context.take(10) == []


def test_a_job_in_use_is_in_the_way_and_nothing_is_left_behind(context: Context) -> None:
    context.submit(1, [job(5)])
    context.create_message(1, JOBS)

    with pytest.raises(Conflict) as caught:
        begin_send(context).finish()

    assert caught.value.data["job"] == 5
    assert [listed["id"] for listed in context.list_jobs()["items"]] == [5]
    assert context.load_message(1).get("transport_status") != "Queued"


def test_a_finished_job_counts_as_done_unless_it_is_another(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    finish_all(context)
    before = context.load_job(1)
    context.create_message(1, JOBS)

    begin_send(context).finish()
    for _ in range(20):
        context.tick()

    assert context.load_job(1)["result"] == before["result"]
    assert finish_all(context)[0] == 3
    context.create_message(2, [job(1, timeout=9), *JOBS[1:]])
    params = models.MessageParams(context_id=context.id, caller_id=CALLER, id=2)
    with pytest.raises(Conflict) as caught:
        Begun(context, messages.send_message(context.keys, params)).finish()
    assert caught.value.data["member"] == "timeout"


def test_what_is_no_dag_or_not_there_is_refused(context: Context) -> None:
    context.create_message(1, [job(1, [3]), *JOBS[1:]])
    with pytest.raises(DagCycleDetected):
        begin_send(context).finish()
    context.delete_message(1)
    with pytest.raises(NotFound):
        begin_send(context).finish()


def test_jobs_of_several_callers_are_sent_together(context: Context) -> None:
    others = [{**job(id), "caller_id": 8} for id in (1, 2, 3)]
    context.create_message(1, [*JOBS[:3], *others])

    begin_send(context).finish()
    for _ in range(20):
        context.tick()

    assert {(attempt.caller_id, attempt.id) for attempt in context.take(10)} == {(7, 1), (7, 2), (8, 1), (8, 2), (8, 3)}


def test_one_that_is_changed_while_it_is_sent_is_sent_as_it_was_when_that_began(context: Context) -> None:
    begun = begin_send(context)
    context.create_message(1, JOBS)
    assert begun.do(12)  # it has begun
    context.create_message(1, JOBS[:2])

    begun.finish()

    assert len(context.list_jobs()["items"]) in (2, len(JOBS))
    assert context.load_message(1).get("transport_status") == "Queued"


def test_who_sends_what_is_being_sent_waits_and_is_answered_what_was_done(context: Context) -> None:
    context.create_message(1, JOBS, timeout=100, timeout_ack=50)
    first, again = begin_send(context), begin_send(context)
    first.do(5)
    again.do(6)
    assert again.pauses > 0

    assert first.finish()["transport_status"] == "Queued"

    assert again.finish() == first.answer
