"""What is done with large flows, in slices: here each slice is a job or two, so that small flows have many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import ValidationError

from coordinator import models
from coordinator.errors import Conflict, DagCycleDetected, DagMissingDependency, NotFound
from coordinator.operations import flows, listing
from coordinator.storage.functions import records
from coordinator.storage.keys import Isolation, Layout
from tests.execution.conftest import CONTEXT, SHARED_DATABASE
from tests.execution.driver import CALLER, RUNNER, Attempt, Begun, Context, Runner, job
from tests.execution.machine import Machine
from tests.execution.sliced import SOURCE, SettledWire, small_slices
from tests.execution.wire import Wire
from tests.support.server import ValkeyProcess


@pytest.fixture(autouse=True)
def slices() -> Iterator[None]:
    with small_slices():
        yield


@pytest.fixture
def settled(store: ValkeyProcess, isolation: Isolation) -> Iterator[Context]:
    """A context in which everything is done that a call has set going before the next."""
    layout = Layout(isolation, SHARED_DATABASE, "coordinator 3600000 0")
    wire = SettledWire(store.port, layout, CONTEXT)
    yield Context(wire, layout, CONTEXT)
    wire.close()


@pytest.mark.slow
def test_in_slices_flows_behave_as_their_model_whatever_happens(settled: Context) -> None:
    class Fresh(Machine):
        def __init__(self) -> None:
            settled.wire.ask(("FLUSHDB",), ("FUNCTION", "LOAD", "REPLACE", SOURCE))  # whose memory begins anew
            super().__init__(settled)

    run_state_machine_as_test(Fresh, settings=settings(settings.get_profile("execution"), phases=[Phase.generate]))


# -- between slices


def begin(context: Context, method: Any, **members: Any) -> Begun:
    params = models.FlowParams(context_id=context.id, id=1)
    if method is flows.cancel_flow:
        params = models.FlowCancelParams(context_id=context.id, id=1)
    return Begun(context, method(context.keys, params))


def begin_submit(context: Context, jobs: list[dict[str, Any]]) -> Begun:
    flow = {"id": 1, "caller_id": CALLER, "context_id": context.id, "jobs": [job["id"] for job in jobs], "env_vars": {}}
    params = models.FlowSubmitParams.model_validate({"context_id": context.id, "flow": flow, "jobs": jobs})
    return Begun(context, flows.submit_flow(context.keys, params))


@pytest.fixture
def context(store: ValkeyProcess) -> Iterator[Context]:
    """A context whose slices are small, and in which nothing is done that is not asked for."""
    layout = Layout("index", coordinator="coordinator 3600000 0")
    wire = Wire(store.port, CONTEXT, SOURCE)
    yield Context(wire, layout, CONTEXT)
    wire.close()


JOBS: Final = (job(1), job(2), job(3, [1, 2]), job(4, [3], prerequisites=["paid"]), job(5, [3]), job(6, [4, 5]))


def boundaries(context: Context, begun: Callable[[], Begun], most: int = 100) -> Iterator[Begun]:
    """The method after one slice, after two, …: each time from the beginning, in an empty store."""
    for slices in range(1, most):
        context.wire.ask(("FLUSHDB",))
        it = begun()
        if not it.do(slices):
            assert slices > 3, "it is not done in slices at all"
            return
        yield it
    raise AssertionError("it never ends")


def created(context: Context) -> None:
    context.create_jobs(JOBS)
    context.create_flow(1, range(1, 7))


def failed(context: Context) -> tuple[Attempt, Attempt]:
    """A flow in Error of which two jobs run still."""
    context.create_jobs((*JOBS, job(7, retries=1), job(8)))
    context.create_flow(1, range(1, 9))
    context.start(1)
    context.settle()
    attempts = {attempt.id: attempt for attempt in context.take(9)}
    assert attempts.keys() == {1, 2, 7, 8}
    context.finish(attempts[1])
    context.fail(attempts[2])
    context.settle()
    return attempts[7], attempts[8]


def end_well(context: Context) -> None:
    """A runner that works, and everything outside satisfied."""
    context.satisfy("paid")
    context.run_all()
    context.later(100)  # a pause between attempts
    context.run_all()
    flow = context.load_flow(1)
    assert flow["status"] == "Finished", flow
    assert "6" in flow["result"]
    assert context.under_way() == []


def test_what_a_coordinator_has_begun_to_start_a_timer_goes_on_with(context: Context) -> None:
    def begun() -> Begun:
        created(context)
        return begin(context, flows.start_flow)

    for _ in boundaries(context, begun):
        if context.load_flow(1)["status"] == "Dispatched":
            assert context.take(9) == []
            context.tick()
            assert context.load_flow(1)["status"] == "Dispatched"  # somebody may be about to go on with it
        context.later(6)
        end_well(context)


def test_somebody_else_goes_on_with_a_start(context: Context) -> None:
    def begun() -> Begun:
        created(context)
        return begin(context, flows.start_flow)

    for first in boundaries(context, begun):
        assert context.start(1)["status"] == "Started"
        assert first.finish()["status"] == "Started"
        end_well(context)


def test_nothing_runs_before_all_is_there_whatever_is_satisfied_meanwhile(context: Context) -> None:
    def begun() -> Begun:
        created(context)
        return begin(context, flows.start_flow)

    for first in boundaries(context, begun):
        context.satisfy("paid")
        if context.load_flow(1)["status"] == "Dispatched":
            assert context.take(9) == []
        assert first.finish()["status"] == "Started"
        assert [attempt.id for attempt in context.run_all()][-1] == 6
        assert context.load_flow(1)["status"] == "Finished"


@pytest.mark.parametrize("how", ["finish", "fail", "fail for good", "lose", "give back", "beat"])
def test_what_runs_may_end_at_any_time_while_its_flow_is_retried(context: Context, how: str) -> None:
    """And the flow ends well, or in Error because of just that, and then another retry helps."""

    def begun() -> Begun:
        running[:] = failed(context)
        return begin(context, flows.retry_flow)

    running: list[Attempt] = []
    for retry in boundaries(context, begun):
        seventh, eighth = running
        if how == "finish":
            context.finish(seventh)
            context.finish(eighth)
        elif how == "fail":
            context.fail(seventh)
        elif how == "fail for good":
            context.fail(eighth)
        elif how == "lose":
            context.pass_time(31)
            context.tick()
        elif how == "give back":
            context.resume(RUNNER, seventh.token)
        else:
            context.heartbeat(eighth)
        retry.finish()
        context.settle()
        for attempt in running:
            if context.progress(1, attempt.id)["status"] == "Started":
                context.finish(attempt)
        if context.load_flow(1)["status"] == "Error":
            assert how in ("fail for good", "lose")
            assert context.load_flow(1)["result"]["job"] in ("7", "8")
            context.run_all()
            context.retry(1)
        end_well(context)


@pytest.mark.parametrize("fault", ["cycle", "missing", "busy", "not listed"])
def test_what_cannot_be_started_is_as_it_was(context: Context, fault: str) -> None:
    jobs = {spec["id"]: dict(spec) for spec in JOBS}
    errors = {"cycle": DagCycleDetected, "missing": NotFound, "busy": Conflict, "not listed": DagMissingDependency}

    def begun() -> Begun:
        if fault == "cycle":
            jobs[1]["depends"] = [6]
        if fault == "not listed":
            jobs[6]["depends"] = [9]
        context.create_jobs(spec for spec in jobs.values() if fault != "missing" or spec["id"] != 6)
        context.create_flow(1, range(1, 7))
        if fault == "busy":
            context.create_flow(2, [6])
            context.create_job(6)
            context.start(2)
        return begin(context, flows.start_flow)

    def visible() -> Any:
        return [
            {name: value for name, value in record.items() if name not in ("created_at", "updated_at")}
            for record in context.list_jobs()["items"]
        ]

    begun()
    before = visible()
    for outcomes, start in enumerate(boundaries(context, begun)):
        context.later(6)
        context.settle()
        assert context.load_flow(1)["status"] == "Dispatched"
        assert visible() == before
        assert [attempt.id for attempt in context.take(9)] in ([], [6])  # that is flow 2's
        with pytest.raises(errors[fault]):
            start.finish()
        context.settle()
        assert visible() == before or fault == "busy"
        if outcomes > 7:
            break
    (names,) = context.wire.ask(("KEYS", "*"))
    assert not [name for name in names if b":flow:1" in name]
    (fields,) = context.wire.ask(("HKEYS", "flow:1"))
    assert b"x_active" not in fields
    if fault == "cycle":
        context.create_job(1)
        context.start(1)
        end_well(context)


def test_a_flow_that_fails_is_in_error_at_once_and_its_jobs_soon(context: Context) -> None:
    created(context)
    context.start(1)
    context.settle()
    first, _ = context.take(2)

    context.fail(first)

    assert context.load_flow(1)["status"] == "Error"
    assert context.take(9) == []
    context.create_flow(2, [5])
    with pytest.raises((Conflict, DagMissingDependency)):
        context.start(2)
    context.settle()
    assert set(context.statuses(1).values()) == {"Error", "Started", "WaitingForPrerequisites"}
    assert context.prerequisites()["waiting"] == []


def test_a_cancelled_flow_is_in_error_at_once_and_a_timer_stops_its_jobs(context: Context) -> None:
    def begun() -> Begun:
        created(context)
        context.start(1)
        context.settle()
        context.take(2)
        return begin(context, flows.cancel_flow)

    for cancel in boundaries(context, begun):
        assert context.load_flow(1)["status"] == "Error"
        context.settle()
        assert set(context.statuses(1).values()) == {"Error", "WaitingForPrerequisites"}
        assert cancel.finish()["status"] == "Error"
        assert context.retry(1)["status"] == "Started"
        end_well(context)


def test_a_job_that_finishes_while_its_flow_is_cancelled_does_not_finish_the_flow(context: Context) -> None:
    context.create_jobs([job(1), job(2), job(3)])
    context.create_flow(1, [1, 2, 3])
    context.start(1)
    context.settle()
    attempts = context.take(3)
    cancel = begin(context, flows.cancel_flow)
    cancel.go_on()

    for attempt in attempts:
        context.finish(attempt)

    assert cancel.finish()["status"] == "Error"
    context.settle()
    assert context.load_flow(1)["status"] == "Error"


@pytest.mark.parametrize("started", [True, False])
def test_a_deletion_counts_all_records_whoever_ends_it(context: Context, started: bool) -> None:
    def begun() -> Begun:
        created(context)
        if started:
            context.start(1)
            end_well(context)
        return begin(context, listing.delete_flow)

    for who, deletion in enumerate(boundaries(context, begun)):
        if who % 3 == 0:
            context.later(6)
            context.settle()
        elif who % 3 == 1:
            (is_there,) = context.wire.ask(("EXISTS", "flow:1"))
            assert context.delete_flow(1) == 7 * is_there
        deletion.finish()
        with pytest.raises(NotFound):
            context.load_flow(1)
        assert deletion.answer == {"deleted": 7}
        (names,) = context.wire.ask(("KEYS", "*"))
        assert {name for name in names if not name.startswith((b"deleted:", b"take:", b"satisfied:-"))} <= {
            *(b"engine", b"counts", b"prerequisites", b"index:prerequisite"),
        }


def test_a_deletion_that_is_refused_leaves_all_as_it_was(context: Context) -> None:
    failed(context)
    (before,) = context.wire.ask(("HGETALL", "flow:1"))

    with pytest.raises(Conflict) as caught:
        context.delete_flow(1)

    assert caught.value.data["record"] == "job:7:7"
    (after,) = context.wire.ask(("HGETALL", "flow:1"))
    assert after == before
    assert context.under_way() == []


@pytest.mark.parametrize("record", ["flow", "job", "runner"])
def test_a_deletion_whose_reply_is_lost_is_answered_the_same(context: Context, record: str) -> None:
    context.submit(1, [job(1)])
    context.run_all()
    context.create_runner(1)
    ids: dict[str, int] = {"flow": 2, "job": 1, "runner": 1}
    name = {"flow": "flow:1", "job": "job:7:1", "runner": "runner:1"}[record]
    command = records.record_delete(context.keys, name, "a token")

    replies = [records.read_record_delete(context.wire.ask(command)[0])[0] for _ in range(3)]

    assert replies == [ids[record]] * 3
    other = records.record_delete(context.keys, name, "another")
    assert records.read_record_delete(context.wire.ask(other)[0])[0] == 0


def test_of_a_submitted_flow_that_was_abandoned_nothing_is_left(context: Context) -> None:
    for submit in boundaries(context, lambda: begin_submit(context, list(JOBS))):
        (is_there,) = context.wire.ask(("EXISTS", "flow:1"))
        context.later(31)
        context.settle()
        (names,) = context.wire.ask(("KEYS", "*"))
        stored = {name for name in names if not name.startswith((b"take:", b"engine", b"counts"))}
        if stored:  # all was there: it is started
            end_well(context)
        elif is_there:
            with pytest.raises(Conflict):
                submit.finish()


def test_nobody_starts_or_deletes_what_is_being_submitted(context: Context) -> None:
    submit = begin_submit(context, list(JOBS))
    submit.do(5)

    for refused in (context.start, context.cancel, context.delete_flow):
        with pytest.raises(Conflict):
            refused(1)

    assert submit.finish()["status"] == "Started"
    end_well(context)


def test_who_submits_what_is_being_submitted_waits_and_is_answered_what_was_done(context: Context) -> None:
    """As a client does that has lost its connection meanwhile."""
    submit, again = begin_submit(context, list(JOBS)), begin_submit(context, list(JOBS))
    submit.do(5)
    again.do(6)
    assert again.pauses == 3

    assert submit.finish()["status"] == "Started"

    assert again.finish() == submit.answer
    end_well(context)


def test_what_is_submitted_in_the_place_of_another_that_is_being_submitted_is_refused_once_that_is_there(
    context: Context,
) -> None:
    submit, other = begin_submit(context, list(JOBS)), begin_submit(context, list(JOBS[:-1]))
    submit.do(5)
    other.do(2)
    submit.finish()

    with pytest.raises(Conflict):
        other.finish()
    end_well(context)


def test_what_was_abandoned_is_submitted_again_a_little_later(context: Context) -> None:
    submit = begin_submit(context, list(JOBS))
    submit.do(4)
    context.pass_time(4)

    context.submit(1, list(JOBS[:3]))

    with pytest.raises(Conflict):
        submit.finish()
    assert [attempt.id for attempt in context.run_all()] == [1, 2, 3]
    assert context.load_flow(1)["status"] == "Finished"
    with pytest.raises(NotFound):
        context.load_job(4)


def test_what_was_abandoned_is_deleted_a_little_later(context: Context) -> None:
    begin_submit(context, list(JOBS)).do(4)
    with pytest.raises(Conflict):
        context.delete_flow(1)
    context.pass_time(4)

    context.delete_flow(1)

    (names,) = context.wire.ask(("KEYS", "*"))
    assert set(names) == {b"engine", b"counts"}


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_a_message_of_many_jobs_ends_in_slices(context: Context, how: str) -> None:
    context.create_message(1, [job(id, prerequisites=["paid"]) for id in range(1, 9)] + [job(9), job(10)], timeout=100)
    context.send(1)
    context.settle()
    first, second = context.take(9, Runner(lease=3600))

    if how == "fail":
        context.fail(first)
    else:
        context.pass_time(101)
        context.tick()

    assert context.load_message(1)["status"] == "Error"
    assert context.under_way() == ["step:message:7:1"]
    context.settle()
    statuses = {record["id"]: record["status"] for record in context.load_message(1)["job"]}
    assert statuses == {
        **dict.fromkeys(range(1, 9), "WaitingForPrerequisites"),
        first.id: "Error",
        second.id: "Started" if how == "fail" else "Error",
    }
    assert context.prerequisites()["waiting"] == []


def test_a_job_has_only_so_many_prerequisites() -> None:
    names = [str(number) for number in range(1001)]

    with pytest.raises(ValidationError) as caught:
        models.JobCreateParams.model_validate({"context_id": 1, "job": job(1, prerequisites=names)})

    (error,) = caught.value.errors()
    assert error["loc"] == ("job", "prerequisites")
    assert "1000" in error["msg"]


def test_many_that_wait_for_one_are_released_and_none_is_forgotten(context: Context) -> None:
    context.create_jobs([job(1), *(job(id, [1]) for id in range(2, 30)), job(30, range(2, 30))])
    context.create_flow(1, range(1, 31))
    context.start(1)
    context.settle()
    (attempt,) = context.take(9)
    context.finish(attempt, of="1")

    assert [attempt.id for attempt in context.run_all()][-1] == 30

    assert context.load_flow(1)["result"] == {"30": "{}"}
    assert context.load_flow(1)["status"] == "Finished"
    assert context.delete_flow(1) == 31
    (names,) = context.wire.ask(("KEYS", "*"))
    assert not [name for name in names if name.startswith((b"next:", b"free:", b"plan:", b"ready:"))]


def slices_of_a_start(context: Context) -> int:
    start = begin(context, flows.start_flow)
    return sum(1 for _ in iter(start.go_on, False))


def fields_of_jobs(context: Context) -> list[dict[bytes, bytes]]:
    """All that is stored of each but when, and which of its flow's jobs it is."""
    own = ("x_was", "x_queued", "created_at", "updated_at")
    found = context.wire.ask(*(("HGETALL", f"job:{CALLER}:{id}") for id in range(1, 7)))
    return [{name: value for name, value in one.items() if name.decode() not in own} for one in found]


def test_a_new_flow_that_lists_each_job_behind_what_it_waits_for_is_read_once(context: Context) -> None:
    context.create_jobs(JOBS)
    context.create_flow(1, [6, 5, 4, 3, 2, 1])
    twice = slices_of_a_start(context)
    other_way_round = fields_of_jobs(context)
    context.wire.ask(("FLUSHDB",))
    created(context)

    once = slices_of_a_start(context)

    assert once < twice
    for one, other in zip(fields_of_jobs(context), other_way_round, strict=True):
        assert sorted(one.pop(b"x_next", b"").split()) == sorted(other.pop(b"x_next", b"").split())
        assert sorted(one.pop(b"x_parents", b"").split()) == sorted(other.pop(b"x_parents", b"").split())
        other[b"x_unmet"] = one[b"x_unmet"]  # those have been counted down
        assert one == other
    end_well(context)


def test_what_comes_behind_a_job_that_has_run_before_starts_all_the_same(context: Context) -> None:
    context.create_jobs([job(1), job(2)])
    context.create_flow(2, [1, 2])
    context.start(2)
    context.run_all()
    context.create_jobs([job(3), job(4, [1, 3]), job(5, [4, 2]), job(6, [3])])
    context.create_flow(1, [3, 1, 6, 4, 2, 5])

    context.start(1)
    ran = [attempt.id for attempt in context.run_all()]

    assert sorted(ran) == [3, 4, 5, 6]
    assert ran.index(3) < ran.index(4) < ran.index(5)
    assert ran.index(3) < ran.index(6)
    assert context.load_flow(1)["status"] == "Finished"


def test_of_a_start_that_is_taken_back_nothing_is_left_in_jobs(context: Context) -> None:
    context.satisfy("paid")
    context.create_jobs([job(1, prerequisites=["paid"]), job(2, [1]), job(3, [1, 2], prerequisites=["packed"])])
    context.create_flow(1, [1, 2, 3, 4])

    with pytest.raises(NotFound):
        context.start(1)

    context.settle()
    for fields in context.wire.ask(*(("HKEYS", f"job:{CALLER}:{id}") for id in (1, 2, 3))):
        assert not [name for name in fields if name.startswith(b"x_")]
    (names,) = context.wire.ask(("KEYS", "*"))
    assert not [name for name in names if b"await" in name or b"waiting:" in name]


def test_a_flow_listed_the_other_way_round_is_a_dag_all_the_same(context: Context) -> None:
    context.create_jobs(JOBS)
    context.create_flow(1, [6, 5, 4, 3, 2, 1, 6, 6])

    context.start(1)

    end_well(context)


def test_a_flow_kept_long_enough_is_deleted_in_slices_unless_a_job_of_it_runs(store: ValkeyProcess) -> None:
    layout = Layout("index", coordinator="coordinator 3600000 100000")
    wire = Wire(store.port, CONTEXT, SOURCE)
    context = Context(wire, layout, CONTEXT)
    running = failed(context)
    for attempt in running:
        context.pass_time(20)
        context.heartbeat(attempt)

    for _ in range(5):
        context.pass_time(25)
        for attempt in running:
            context.heartbeat(attempt)
    context.tick()
    context.settle()
    assert context.load_flow(1)["status"] == "Error"
    for attempt in running:
        context.finish(attempt)
    context.later(61)
    context.settle()

    with pytest.raises(NotFound):
        context.load_flow(1)
    (names,) = wire.ask(("KEYS", "*"))
    assert {name for name in names if b"flow:1" in name or b"job:" in name} == {b"deleted:flow:1"}
    wire.close()
