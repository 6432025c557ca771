"""Notifications are carried out and never answered, whatever becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import Call, Client, json_text
from tests.support.records import create, load, sample


def notification(call: Call) -> dict[str, Any]:
    method, params = call
    return {"jsonrpc": "2.0", "method": method, "params": params}


def test_it_is_carried_out(client: Client, context: int) -> None:
    client.exchange(json_text(notification(create("job", context, sample("job", context, 1)))))

    assert client.result(*load("job", context, 1))["id"] == 1


def test_in_a_batch_it_is_carried_out_and_left_out_of_the_reply(client: Client, context: int) -> None:
    created = notification(create("job", context, sample("job", context, 1)))
    loaded = {**notification(load("job", context, 1)), "id": 1}

    (reply,) = client.exchange(json_text([created, loaded, created]))

    assert reply["result"]["id"] == 1


def test_a_batch_of_them_is_carried_out(client: Client, context: int) -> None:
    batch = [notification(create("job", context, sample("job", context, id))) for id in range(10)]

    assert client.exchange(json_text(batch)) is None

    assert [job["id"] for job in client.results([load("job", context, id) for id in range(10)])] == [*range(10)]


@pytest.mark.parametrize(
    "call",
    [("unknown", {}), ("actor.load", {}), ("actor.load", {"id": "1"}), ("actor.load", {"id": 0}), ("rpc.discover", {}),
     ("actor.load", None), ("context.list", None), ("rpc.discover", None), ("context.load", [2**32 - 1])],
    ids=["unknown", "incomplete", "wrong", "not found", "built in", "null", "null to a list", "null to the built in",
         "refused by the store"],
)  # fmt: skip
def test_what_is_wrong_with_it_is_not_told(client: Client, call: Call) -> None:
    assert client.exchange(json_text(notification(call))) is None
    assert client.exchange(json_text([notification(call)])) is None


def test_an_id_of_null_is_an_id(client: Client, context: int) -> None:
    reply = client.exchange(json_text({**notification(load("job", context, 1)), "id": None}))

    assert reply["error"]["code"] == -32001
