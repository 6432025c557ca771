"""The judge of replies that the other tests rely on: it lets nothing wrong pass."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.support.jsonrpc import NotJson, check_reply

CALL = '{"jsonrpc":"2.0","id":1,"method":"m"}'
NOTIFICATION = '{"jsonrpc":"2.0","method":"m"}'
NOT_FOUND = {"code": -32001, "message": "Not Found", "data": {"kind": "job", "ids": {"id": 1}, "detail": "no job"}}


def response(id: Any = 1, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, **(members or {"result": None})}


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (CALL, response()),
        (CALL, response(error=NOT_FOUND)),
        (f"[{CALL}]", [response()]),
        (f"[{NOTIFICATION},{CALL}]", [response()]),
        (NOTIFICATION, None),
        (f"[{NOTIFICATION},{NOTIFICATION}]", None),
    ],
)
def test_a_right_reply_passes(message: str, reply: Any) -> None:
    assert check_reply(message, None if reply is None else json.dumps(reply)) == reply


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (CALL, None),
        (NOTIFICATION, response(id=None)),
        (CALL, [response()]),
        (f"[{CALL}]", response()),
        (f"[{CALL}]", None),
        (f"[{CALL}]", []),
        (f"[{CALL}]", [response(), response()]),
        (f"[{CALL},{CALL.replace('1', '2')}]", [response(2), response(1)]),
        (f"[{NOTIFICATION}]", []),
        (CALL, response("1")),
        (CALL, response(1.0)),
        (CALL, response(True)),
        (CALL, response(None)),
        (CALL, {"jsonrpc": "2.0", "result": None}),
        (CALL, {"id": 1, "result": None}),
        (CALL, {"jsonrpc": "1.0", "id": 1, "result": None}),
        (CALL, {"jsonrpc": "2.0", "id": 1}),
        (CALL, response(result=None, error=NOT_FOUND)),
        (CALL, response(result=None, error=None)),
        (CALL, response(result=None, more=1)),
        (CALL, response(error={**NOT_FOUND, "code": "-32001"})),
        (CALL, response(error={**NOT_FOUND, "message": "not there"})),
        (CALL, response(error={**NOT_FOUND, "data": {}})),
        (CALL, response(error={"code": -32603, "message": "Internal error", "data": {"detail": "x", "incident": "y"}})),
        (CALL, response(error={"code": -32600, "message": "Invalid Request", "data": {"detail": "x"}})),
        ("{", response(None, error={"code": -32600, "message": "Invalid Request", "data": {"detail": "x"}})),
        ("{}", response(None, error={"code": -32700, "message": "Parse error", "data": {"detail": "x"}})),
    ],
)
def test_a_wrong_reply_does_not(message: str, reply: Any) -> None:
    assert not passes(message, None if reply is None else json.dumps(reply))


@pytest.mark.parametrize(
    "reply",
    [
        '{"jsonrpc":"2.0","id":1,"result":NaN}',
        '{"jsonrpc":"2.0","id":1,"result":"\\ud800"}',
        '{"jsonrpc":"2.0","id":1,"id":1,"result":1}',
        '{"jsonrpc":"2.0","id":1,"result":1}{}',
        '\ufeff{"jsonrpc":"2.0","id":1,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"result":"\xff"}',
        "",
    ],
)
def test_what_is_not_quite_json_does_not(reply: str | bytes) -> None:
    assert not passes(CALL, reply)


def passes(message: str, reply: str | bytes | None) -> bool:
    try:
        check_reply(message, reply)
    except (AssertionError, NotJson, jsonschema.ValidationError):
        return False
    return True
