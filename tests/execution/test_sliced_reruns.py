"""Large flows are run again in slices: here each slice is a job or two, so that small flows have many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from coordinator import models
from coordinator.errors import Conflict, DagCycleDetected
from coordinator.operations import control
from coordinator.storage.keys import Layout
from tests.execution.conftest import CONTEXT
from tests.execution.driver import Begun, Context, job
from tests.execution.sliced import SOURCE, small_slices
from tests.execution.wire import Wire
from tests.support.server import ValkeyProcess

# A child may be listed before its parent.
JOBS: Final = (job(1), job(2, [1]), job(3, [4]), job(4, [2]), job(5, [1]))
BEHIND_TWO: Final = {2, 3, 4}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def slices() -> Iterator[None]:
    with small_slices():
        yield


@pytest.fixture
def context(store: ValkeyProcess) -> Iterator[Context]:
    layout = Layout("index", coordinator="coordinator 3600000 0")
    wire = Wire(store.port, CONTEXT, SOURCE)
    yield Context(wire, layout, CONTEXT)
    wire.close()


Kept = list[tuple[bytes, bytes]]


def finished(context: Context, kept: Kept | None = None) -> None:
    """A flow that has finished, in an empty store. `kept`: what that was the last time, which costs less."""
    context.wire.ask(("FLUSHDB",))
    if kept:
        context.wire.ask(*(("RESTORE", key, 0, value) for key, value in kept))
        return
    context.submit(1, JOBS)
    while attempts := context.take(9) or context.settle() or context.take(9):
        for attempt in attempts:
            context.finish(attempt, n="1")
    context.settle()
    assert context.load_flow(1)["status"] == "Finished"
    if kept is not None:
        (keys,) = context.wire.ask(("KEYS", "*"))
        kept += zip(keys, context.wire.ask(*(("DUMP", key) for key in keys)), strict=True)


def begin(context: Context, **members: Any) -> Begun:
    params = models.FlowRerunParams.model_validate({"context_id": context.id, "id": 1, **members})
    return Begun(context, control.rerun_flow(context.keys, params))


def boundaries(context: Context, **members: Any) -> Iterator[Begun]:
    """The call after one step, after two, …, each time in a store of its own."""
    kept: Kept = []
    for steps in range(1, 100):
        finished(context, kept)
        rerun = begin(context, **members)
        if not rerun.do(steps):
            assert steps > 10
            return
        yield rerun
    raise AssertionError("it never ends")


def run_again(context: Context) -> list[int]:
    """The jobs that run, in their order."""
    ids = []
    while attempts := context.take(9) or context.settle() or context.take(9):
        for attempt in attempts:
            context.finish(attempt, n="2")
            ids.append(attempt.id)
    context.settle()
    return ids


def test_from_a_job_on_whoever_goes_on_with_it(context: Context) -> None:
    """Its caller, or, should that go away, a timer; and the results are those of before until it starts."""
    for number, rerun in enumerate(boundaries(context, from_job=2, overrides={"jobs": [{"id": 3, "script": "new"}]})):
        if context.load_flow(1)["status"] == "Finished":
            assert context.take(9) == []
        if number % 2:
            assert rerun.finish()["status"] == "Started"
        else:
            context.later(6)
            context.settle()
            if context.load_flow(1)["status"] == "Finished":  # it had not begun
                assert {context.load_job(id)["result"]["n"] for id in range(1, 6)} == {"1"}
                continue
        context.settle()
        assert {id for id in range(1, 6) if context.load_job(id)["result"] == {}} == BEHIND_TWO
        assert context.load_job(3)["script"] == "new"
        assert set(run_again(context)) == BEHIND_TWO
        assert context.load_flow(1)["status"] == "Finished"
        (keys,) = context.wire.ask(("KEYS", "*again:flow*"))
        assert keys == []


def test_all_jobs_run_again(context: Context) -> None:
    finished(context)

    begin(context).finish()
    context.settle()

    assert sorted(run_again(context)) == [1, 2, 3, 4, 5]
    assert context.load_flow(1)["status"] == "Finished"


def test_it_is_not_run_twice_though_it_ends_before_its_caller_asks_again(context: Context) -> None:
    for rerun in boundaries(context, from_job=5):
        context.later(6)
        context.settle()
        if context.load_flow(1)["status"] == "Started":
            run_again(context)
            assert context.load_flow(1)["status"] == "Finished"
            rerun.finish()
            context.settle()
            assert context.take(9) == []
            assert context.load_flow(1)["status"] == "Finished"


@pytest.mark.parametrize("fault", ["cycle", "busy"])
def test_what_is_refused_is_as_it_was(context: Context, fault: str) -> None:
    for rerun in boundaries(context, overrides={"env_vars": {"A": "1"}}):
        if context.load_flow(1)["status"] != "Finished":
            continue
        before = {id: context.load_job(id) for id in range(1, 6)}
        if any(job["status"] != "Finished" for job in before.values()):
            continue
        if fault == "cycle":
            context.create_job(2, [1, 3])
        else:
            context.create_flow(2, [1, 9])
            context.create_job(9, [1])
            context.start(2)
        before = {id: context.load_job(id) for id in range(1, 6)}
        with pytest.raises(DagCycleDetected if fault == "cycle" else Conflict):
            rerun.finish()
        context.later(6)
        context.settle()
        after = {id: context.load_job(id) for id in range(1, 6)}
        for id in before:
            assert after[id] | {"updated_at": 0} == before[id] | {"updated_at": 0}
        assert context.load_flow(1)["status"] == "Finished"
        assert context.load_flow(1)["env_vars"] == {}
        (keys,) = context.wire.ask(("KEYS", "*again:flow*"))
        assert keys == []


def test_how_the_attempts_before_have_ended_is_kept(context: Context) -> None:
    finished(context)

    begin(context, from_job=3).finish()
    context.settle()

    assert [attempt["outcome"] for attempt in context.attempts(3)] == ["finished"]
    run_again(context)
    assert [attempt["outcome"] for attempt in context.attempts(3)] == ["finished", "finished"]
    assert [attempt["outcome"] for attempt in context.attempts(1)] == ["finished"]
