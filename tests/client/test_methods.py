"""The typed methods are those of the API, and take and give its models."""

from __future__ import annotations

import inspect
from typing import Final

import pydantic
import pytest
import trio

from coordinator import models
from coordinator.client import Client, Conflict, InvalidParams, MethodNotFound, NotFound, RpcError, errors
from coordinator.client.methods import Methods, _Method
from coordinator.rpc.methods import METHODS
from tests.client.conftest import CALLER, context, flow, job, runner

SUBSCRIPTIONS: Final = {f"{of}.{way}" for of in ("flow", "context", "runner") for way in ("subscribe", "unsubscribe")}
WRITTEN_BY_HAND: Final = {"job.take", *SUBSCRIPTIONS}


def rows() -> dict[str, _Method[..., models.Model]]:
    return {row.name: row for row in vars(Methods).values() if isinstance(row, _Method)}


def test_every_method_of_the_api_has_a_row_with_its_params_and_result() -> None:
    assert {name: (row.params, row.result) for name, row in rows().items()} == {
        name: (method.params, method.result) for name, method in METHODS.items() if name not in WRITTEN_BY_HAND
    }


def test_a_method_is_called_as_the_api_calls_it() -> None:
    names = {row.name: name for name, row in vars(Methods).items() if isinstance(row, _Method)}

    assert names == {name: name.replace(".", "_") for name in rows()}


def test_every_error_a_client_may_be_answered_with_has_its_class() -> None:
    for cls in errors._BY_CODE.values():
        assert type(errors.rpc_error({"code": next(c for c, k in errors._BY_CODE.items() if k is cls)})) is cls
    assert set(errors._BY_CODE) >= {error.code for method in METHODS.values() for error in method.errors}


def test_an_unknown_code_is_an_rpc_error_all_the_same() -> None:
    error = errors.rpc_error({"code": -1, "message": "no", "data": {"detail": "because"}})

    assert type(error) is RpcError
    assert str(error) == "no (-1): because"


async def test_methods_take_and_return_models(client: Client, context_id: int) -> None:
    made = await client.context_create(context=context(context_id))
    assert made == await client.context_load(id=context_id)
    assert isinstance(made, models.Context)

    created = await client.job_create(context_id=context_id, job=job(context_id, 1, script="print('é')"))
    assert created.script == "print('é')"
    await client.job_create(context_id=context_id, job=job(context_id, 2, depends=[1]))
    await client.flow_create(context_id=context_id, flow=flow(context_id, 1, [1, 2]))
    dag = await client.flow_dag(context_id=context_id, id=1)

    assert dag.edges == [(1, 2)]
    assert dag.nodes["2"].depends == [1]


async def test_what_is_left_out_of_a_model_is_not_sent_so_it_stays_as_it_is(client: Client, context_id: int) -> None:
    first = job(context_id, 1).model_copy(update={"result": {"kept": "yes"}})
    await client.job_create(context_id=context_id, job=models.JobCreate(**first.model_dump()))

    again = await client.job_create(context_id=context_id, job=job(context_id, 1))

    assert again.result == {"kept": "yes"}


async def test_errors_are_raised_as_their_class_with_the_data(client: Client, context_id: int) -> None:
    with pytest.raises(NotFound) as not_found:
        await client.job_load(context_id=context_id, caller_id=7, id=1)
    assert not_found.value.data["ids"] == {"context_id": context_id, "caller_id": 7, "id": 1}
    assert f"no job with context_id {context_id}" in str(not_found.value)

    with pytest.raises(InvalidParams, match="context_id: Input should be a valid integer"):
        await client.call("job.load", {"context_id": "1", "caller_id": 7, "id": 1})
    with pytest.raises(MethodNotFound):
        await client.call("job.lode")


async def test_arguments_are_checked_before_anything_is_sent(client: Client) -> None:
    with pytest.raises(pydantic.ValidationError):
        await client.job_load(context_id=-1, caller_id=7, id=1)


def test_methods_tell_their_arguments_and_result(client: Client) -> None:
    signature = inspect.signature(client.job_load)

    assert list(signature.parameters) == ["context_id", "caller_id", "id"]
    assert signature.return_annotation is models.Job


async def test_jobs_are_taken_and_finished_without_a_subscription(client: Client, context_id: int) -> None:
    await client.runner_create(context_id=context_id, runner=runner(3))
    submitted = await client.flow_submit(
        context_id=context_id, flow=flow(context_id, 1, [1]), jobs=[job(context_id, 1)]
    )
    assert submitted.status == "Started"

    (taken,) = await client.job_take(context_id=context_id, runner_id=3, script_types=["Python"])
    await client.job_heartbeat(context_id=context_id, caller_id=CALLER, id=1, token=taken.token)
    outcome = await client.job_finish(
        context_id=context_id, caller_id=CALLER, id=1, token=taken.token, result={"answer": "42"}
    )

    assert outcome == models.AttemptOutcome(status="Finished", attempt=1)
    report = await client.flow_status(context_id=context_id, id=1)
    assert report.flow.status == "Finished"
    assert report.counts["Finished"] == 1
    with pytest.raises(Conflict):
        await client.flow_retry(context_id=context_id, id=1)


async def test_calls_go_on_while_one_waits_for_a_job(client: Client, context_id: int) -> None:
    """The reply to a batch waits for its slowest call, so a call that waits goes alone."""
    await client.runner_create(context_id=context_id, runner=runner(3))
    took: list[models.Assignment] = []

    async def take() -> None:
        took.extend(await client.job_take(context_id=context_id, runner_id=3, script_types=["Python"], wait=50))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            nursery.start_soon(lambda: client.runner_load(context_id=context_id, id=3))
            await client.runner_load(context_id=context_id, id=3)
            await client.flow_submit(context_id=context_id, flow=flow(context_id, 1, [1]), jobs=[job(context_id, 1)])
    assert [assignment.job.id for assignment in took] == [1]
