"""An id comes back as it was given; what may not be one is answered without."""

from __future__ import annotations

import json

import pytest

from tests.support.clients import Client
from tests.support.jsonrpc import read_json

IDS = [
    *("0", "1", "-1", "-0", "4294967296", "9007199254740993", str(2**64), "1" + "0" * 300),
    *("0.5", "-1.5", "1.0", "1e3", "1E-7", "0.1", "123456789.123456789", "-0.0", "1e2", "1E308", "5e-324", "1e-400"),
    *("0.30000000000000004", "9" * 4_300),
    *('""', '"1"', '"null"', '"a b"', r'"\u0000\n\"\\\/"', '"ключ 😀"', r'"\ud83d\ude00"', f'"{"long" * 2_000}"'),
    "null",
]


@pytest.mark.parametrize("id", IDS, ids=[id[:20] for id in IDS])
@pytest.mark.parametrize(
    ("method", "params", "member"),
    [("rpc.discover", "{}", "result"), ("actor.load", "[0]", "error"), ("actor.load", "{}", "error"),
     ("unknown", "{}", "error")],
    ids=["a result", "an error", "wrong params", "an unknown method"],
)  # fmt: skip
def test_an_id_comes_back_as_given_with(client: Client, id: str, method: str, params: str, member: str) -> None:
    reply = client.exchange(f'{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}')

    assert member in reply
    assert (type(reply["id"]), reply["id"]) == (type(json.loads(id)), json.loads(id))


@pytest.mark.parametrize("id", IDS, ids=[id[:20] for id in IDS])
def test_the_id_of_a_malformed_request_comes_back_too(client: Client, id: str) -> None:
    reply = client.exchange(f'{{"jsonrpc":"1.0","id":{id},"method":"rpc.discover"}}')

    assert reply["error"]["code"] == -32600
    assert reply["id"] == read_json(id)


@pytest.mark.parametrize("id", ["true", "false", "[]", "[1]", "{}", '{"id":1}', "1e400", "-1e400"])
def test_what_may_not_be_an_id_is_answered_with_null(client: Client, id: str) -> None:
    reply = client.exchange(f'{{"jsonrpc":"2.0","id":{id},"method":"rpc.discover"}}')

    assert reply["error"]["code"] == -32600
    assert reply["id"] is None


def test_calls_of_one_id_are_each_answered(client: Client) -> None:
    call = '{"jsonrpc":"2.0","id":"same","method":"actor.load","params":[0]}'

    replies = client.exchange(f"[{call},{call},{call}]")

    assert [reply["id"] for reply in replies] == ["same"] * 3
