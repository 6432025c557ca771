"""A job is stored without what its key tells and what it has nothing of, and nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from coordinator import models
from coordinator.operations import records
from tests.execution.driver import CALLER, Context, job

PLAIN = job(1)
FULL = job(2, [1], timeout=50, retries=2, env_vars={"A": "1"}, prerequisites=["paid"], lost_retries=1, result={"r": ""})
TIMES = {"created_at", "updated_at"}


def stored(context: Context, id: int) -> Mapping[bytes, bytes]:
    (fields,) = context.wire.ask(("HGETALL", context.keys.job(CALLER, id)))
    return fields  # type: ignore[no-any-return] # what the parser gives is untyped


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in TIMES}


def create(context: Context, id: int, given: Mapping[str, Any]) -> Any:
    members = {name: value for name, value in given.items() if name not in ("id", "caller_id", "context_id")}
    return context.create_job(id, members.pop("depends"), **members)


def fields(context: Context, id: int) -> set[str]:
    """Those that a job is stored with, without the engine's."""
    return {name.decode() for name in stored(context, id) if not name.startswith(b"x_")}


@pytest.mark.parametrize("is_submitted", [True, False])
def test_a_job_has_only_the_fields_that_say_something(context: Context, is_submitted: bool) -> None:
    if is_submitted:
        context.submit(1, [PLAIN, FULL])
    else:
        for id, given in ((1, PLAIN), (2, FULL)):
            create(context, id, given)

    assert fields(context, 1) == {"status", "created_at", "script", "script_type"}
    assert fields(context, 2) == {"status", "created_at", *FULL} - {"id", "caller_id", "context_id"}


def test_one_that_is_created_again_is_what_is_given(context: Context) -> None:
    first = create(context, 1, FULL)
    again = create(context, 1, {**PLAIN, "result": {}})

    assert again == context.load_job(1) == {**first, **PLAIN, "result": {}, "updated_at": again["updated_at"]}


def test_it_is_read_as_one_that_has_all_of_them(context: Context) -> None:
    context.submit(1, [PLAIN, FULL])
    for id, given in ((11, PLAIN), (12, FULL)):
        for _ in range(2):  # all of it is stored when it is created again
            create(context, id, given)
    assert fields(context, 11) == {"status", "created_at", "updated_at", *PLAIN}
    lean, whole = ([context.load_job(id) for id in ids] for ids in ((1, 2), (11, 12)))

    for one, other in zip(lean, whole, strict=True):
        assert [*one] == [*other]
        assert timeless(one) == {**timeless(other), "id": one["id"], "status": one["status"]}
        assert one["updated_at"] >= one["created_at"]
    assert context.list_jobs()["items"][:2] == lean
    dag = context._call(records.flow_dag, models.FlowLoadParams, id=1)
    assert dag["nodes"]["1"] == {name: PLAIN[name] for name in ("id", "depends", "prerequisites", "script_type")}
    assert dag["edges"] == [[1, 2]]
    assert [progress["depends"] for progress in context.status(1)["jobs"]] == [[], [1]]
    told = context.take_one().assignment["job"]
    assert told == {**lean[0], "status": "Started", "updated_at": told["updated_at"]}


def test_one_that_fails_without_retries_is_in_error(context: Context) -> None:
    context.submit(1, [PLAIN])
    context.fail(context.take_one())

    assert context.load_flow(1)["status"] == "Error"
    context.retry(1)
    context.finish(context.take_one())
    assert context.load_flow(1)["status"] == "Finished"


def test_what_is_written_over_it_is_kept_and_can_be_taken_back(context: Context) -> None:
    context.submit(1, [PLAIN, job(3, prerequisites=["paid"])])
    context.create_job(3, retries=5, env_vars={"B": "2"})
    assert context.load_job(3)["retries"] == 5

    context.cancel(1)
    context.submit(2, [job(3)])  # it is there, so all of it is written
    assert (context.load_job(3)["retries"], context.load_job(3)["env_vars"]) == (0, {})
    (attempt,) = context.take(5)
    assert (attempt.id, attempt.assignment["job"]["prerequisites"]) == (3, [])


def test_a_message_can_take_it_over(context: Context) -> None:
    context.submit(1, [PLAIN])
    context.cancel(1)
    context.create_message(4, [PLAIN])
    context.send(4)

    (embedded,) = context.load_message(4)["job"]
    assert timeless(embedded) == {**timeless(context.load_job(1)), "status": "Dispatched"}
    context.finish(context.take_one(), r="1")
    assert context.load_message(4)["status"] == "Processed"
