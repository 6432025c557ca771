"""The JSON parsing test suite, as messages and in calls: what is JSON is no parse error, and the rest always is one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.json_cases import ACCEPTED, EITHER, REFUSED
from tests.support.clients import Client
from tests.support.records import load

PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS, NOT_FOUND = -32700, -32600, -32602, -32001
IDS = {name: text for name, text in ACCEPTED.items() if text.strip()[:1] == b"[" and isinstance(json.loads(text), list)
       and len(json.loads(text)) == 1 and type(json.loads(text)[0]) in (str, int, float, type(None))}  # fmt: skip


def forms(message: bytes) -> list[str | bytes]:
    """As bytes, and as text where it is text: WebSocket sends one as a binary and the other as a text message."""
    try:
        return [message, message.decode()]
    except UnicodeDecodeError:
        return [message]


def codes(reply: Any) -> set[int]:
    return {one["error"]["code"] for one in (reply if isinstance(reply, list) else [reply])}


def inside_call(text: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"actor.load","params":{"id":0,"more":%b}}' % text


def is_served(client: Client) -> bool:
    return codes(client.reply(*load("actor", 0, 0))) == {NOT_FOUND}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_json_is_parsed(client: Client, name: str) -> None:
    for message in forms(ACCEPTED[name]):
        assert codes(client.exchange(message)) == {INVALID_REQUEST}
    for message in forms(inside_call(ACCEPTED[name])):
        assert codes(client.exchange(message)) == {NOT_FOUND}
    assert is_served(client)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_json_is_a_parse_error(client: Client, name: str) -> None:
    for message in [*forms(REFUSED[name]), *forms(inside_call(REFUSED[name]))]:
        assert codes(client.exchange(message)) == {PARSE_ERROR}
    assert is_served(client)


@pytest.mark.parametrize("name", EITHER)
def test_what_parsers_differ_about_harms_nobody(client: Client, name: str) -> None:
    for message in forms(EITHER[name]):
        assert codes(client.exchange(message)) in ({PARSE_ERROR}, {INVALID_REQUEST})
    for message in forms(inside_call(EITHER[name])):
        assert codes(client.exchange(message)) in ({PARSE_ERROR}, {INVALID_PARAMS}, {NOT_FOUND})
    assert is_served(client)


@pytest.mark.parametrize("name", IDS)
def test_a_text_or_number_comes_back_as_an_id(client: Client, name: str) -> None:
    id = IDS[name].strip()[1:-1]

    reply = client.exchange(inside_call(b"0").replace(b'"id":1', b'"id":%b' % id, 1))

    assert reply["id"] == json.loads(id)
    assert codes(reply) == {NOT_FOUND}


def test_the_table_holds_the_whole_suite() -> None:
    assert (len(ACCEPTED), len(EITHER)) == (95, 35)
    assert len(REFUSED) >= 188
