"""Every form in which params may be given means the same to every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.clients import Client
from tests.support.records import KINDS, create, dag, load, sample

FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the object": lambda params: params,
    "by name": lambda params: {"params": params},
    "by position": lambda params: [params],
    "members by position": lambda params: [*params.values()],
    "members by position, by name": lambda params: {"params": [*params.values()]},
    "with members nobody knows": lambda params: {**params, "colour": "red", "": None},
    "beside a member called params": lambda params: {**params, "params": {"id": 0}},
    "in another order": lambda params: dict(reversed(params.items())),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_records_are_created_and_loaded_alike_in_every_form(
    client: Client, context: int, kind: str, form: Callable[[dict[str, Any]], Any]
) -> None:
    record = sample(kind, context, context)
    create_method, create_params = create(kind, context, record)
    load_method, load_params = load(kind, context, context)

    created = client.result(create_method, form(create_params))
    loaded = client.result(load_method, form(load_params))

    assert loaded == created
    assert {name: created[name] for name in record} == record


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_dag_is_asked_for_alike_in_every_form(
    client: Client, context: int, form: Callable[[dict[str, Any]], Any]
) -> None:
    client.result(*create("flow", context, sample("flow", context, 3)))
    method, params = dag(context, 3)

    assert client.result(method, form(params))["flow_id"] == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "params", [{}, [], None, {"params": {}}, {"params": None}, {"params": [None]}, [{}], [None], {"colour": "red"}]
)
def test_params_that_give_nothing_are_missing_members(client: Client, kind: str, params: Any) -> None:
    error = client.error(f"{kind}.create", params)

    assert error["code"] == -32602
    assert "missing" in {fault["type"] for fault in error["data"]}


@pytest.mark.parametrize("params", [None, [None], {"params": None}, {"params": [None]}])
def test_null_is_no_params_to_methods_that_need_none(client: Client, params: Any) -> None:
    assert "methods" in client.result("rpc.discover", params)
    assert client.result("context.list", params).keys() == client.result("context.list", {}).keys()
    assert [*map(len, client.results([("rpc.discover", params), ("context.list", params)]))] == [
        len(client.result("rpc.discover", {})),
        len(client.result("context.list", {})),
    ]


def test_null_for_a_member_is_not_a_member_left_out(client: Client, context: int) -> None:
    error = client.error("job.load", [context, None, 1])

    assert [fault["loc"] for fault in error["data"]] == [["caller_id"]]


def test_too_many_by_position_are_told_which_there_are(client: Client, context: int) -> None:
    error = client.error("job.load", [context, 7, 1, 1])

    (fault,) = error["data"]
    assert "context_id, caller_id, id" in fault["msg"]


def test_unknown_members_are_ignored_at_every_depth(client: Client, context: int) -> None:
    job = sample("job", context, 1, colour="red")
    message = sample("message", context, 1, job=[job], colour="red")

    created = client.result(*create("message", context, message))

    assert "colour" not in created
    assert "colour" not in created["job"][0]
