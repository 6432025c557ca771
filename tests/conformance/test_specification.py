"""The examples of the JSON-RPC 2.0 specification, section 7, with methods of ours in place of `subtract` and others.

Source: https://www.jsonrpc.org/specification#examples
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import Client, json_text, request
from tests.support.records import create, fresh_id, sample


def without_detail(response: dict[str, Any]) -> dict[str, Any]:
    """As the specification shows an error: without the `data` that explains it."""
    error = {name: value for name, value in response["error"].items() if name != "data"}
    return {**response, "error": error}


def error(code: int, message: str, id: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": id}


INVALID = error(-32600, "Invalid Request")
NOT_JSON = error(-32700, "Parse error")


@pytest.fixture
def actor(client: Client) -> dict[str, Any]:
    """An actor that is there."""
    id = fresh_id()
    created: dict[str, Any] = client.result(*create("actor", 0, sample("actor", 0, id)))
    return created


def test_rpc_call_with_positional_parameters(client: Client, actor: dict[str, Any]) -> None:
    reply = client.exchange(f'{{"jsonrpc": "2.0", "method": "actor.load", "params": [{actor["id"]}], "id": 1}}')

    assert reply == {"jsonrpc": "2.0", "result": actor, "id": 1}


@pytest.mark.parametrize("params", ['{{"context_id": {0}, "id": 5}}', '{{"id": 5, "context_id": {0}}}'])
def test_rpc_call_with_named_parameters(client: Client, context: int, params: str) -> None:
    flow = client.result(*create("flow", context, sample("flow", context, 5)))

    reply = client.exchange(f'{{"jsonrpc": "2.0", "method": "flow.load", "params": {params.format(context)}, "id": 3}}')

    assert reply == {"jsonrpc": "2.0", "result": flow, "id": 3}


@pytest.mark.parametrize(
    "notification",
    ['{"jsonrpc": "2.0", "method": "actor.load", "params": [1]}', '{"jsonrpc": "2.0", "method": "foobar"}'],
)
def test_a_notification(client: Client, notification: str) -> None:
    assert client.exchange(notification) is None


def test_rpc_call_of_non_existent_method(client: Client) -> None:
    reply = client.exchange('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}')

    assert without_detail(reply) == error(-32601, "Method not found", "1")


def test_rpc_call_with_invalid_json(client: Client) -> None:
    reply = client.exchange('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]')

    assert without_detail(reply) == NOT_JSON


def test_rpc_call_with_invalid_request_object(client: Client) -> None:
    reply = client.exchange('{"jsonrpc": "2.0", "method": 1, "params": "bar"}')

    assert without_detail(reply) == INVALID


def test_rpc_call_batch_invalid_json(client: Client) -> None:
    reply = client.exchange(
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]'
    )

    assert without_detail(reply) == NOT_JSON


def test_rpc_call_with_an_empty_array(client: Client) -> None:
    assert without_detail(client.exchange("[]")) == INVALID


@pytest.mark.parametrize("items", [1, 3])
def test_rpc_call_with_an_invalid_batch_but_not_empty(client: Client, items: int) -> None:
    reply = client.exchange(json_text([*range(1, items + 1)]))

    assert [*map(without_detail, reply)] == [INVALID] * items


def test_rpc_call_batch(client: Client, actor: dict[str, Any]) -> None:
    id = actor["id"]
    batch = [
        request("actor.load", [id], "1"),
        {"jsonrpc": "2.0", "method": "actor.load", "params": [7]},
        request("actor.load", {"id": id}, "2"),
        {"foo": "boo"},
        request("foo.get", {"name": "myself"}, "5"),
        {"jsonrpc": "2.0", "method": "actor.load", "params": [id], "id": "9"},
    ]

    one, two, invalid, unknown, nine = client.exchange(json_text(batch))

    assert (one, two, nine) == tuple({"jsonrpc": "2.0", "result": actor, "id": id} for id in ("1", "2", "9"))
    assert without_detail(invalid) == INVALID
    assert without_detail(unknown) == error(-32601, "Method not found", "5")


def test_rpc_call_batch_all_notifications(client: Client) -> None:
    batch = [{"jsonrpc": "2.0", "method": method, "params": [1, 2, 4]} for method in ("actor.load", "notify_hello")]

    assert client.exchange(json_text(batch)) is None
