"""JavaScript cuts an emoji in two and sends one half: only the call that holds it is spoiled, on either transport."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.clients import Client, request
from tests.support.records import create, load, sample

HALF = "\ud83d"


def escaped(content: Any) -> str:
    """As JavaScript's JSON.stringify writes halves."""
    return json.dumps(content)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "bytes"])
def test_a_text_cut_in_two_is_wrong_params_with_its_place(client: Client, context: int, binary: bool) -> None:
    method, params = create("job", context, sample("job", context, 1, env_vars={"TITLE": f"cut {HALF}"}))
    message = escaped(request(method, params, 1))

    reply = client.exchange(message.encode() if binary else message)

    assert reply["id"] == 1
    assert reply["error"]["code"] == -32602
    assert reply["error"]["data"][0]["loc"] == ["job", "env_vars", "TITLE"]
    assert client.error(*load("job", context, 1))["code"] == -32001


@pytest.mark.parametrize(
    "spoiled",
    [
        request("actor.load", {"id": 0, "more": HALF}, "own"),
        request("actor.load", {"id": 0, HALF: 1}, "own"),
        request("actor.load", [HALF], "own"),
        request("actor.load" + HALF, [0], "own"),
        request("rpc.discover", [HALF], "own"),
        request("actor.load", [0], "own" + HALF),
        {**request("actor.load", [0], "own"), "more": [HALF]},
        {**request("actor.load", [0], "own"), HALF: None},
    ],
    ids=["value", "key", "position", "method", "discovery", "id", "another member", "another member's name"],
)
def test_the_rest_of_its_batch_is_carried_out(client: Client, context: int, spoiled: dict[str, Any]) -> None:
    before = request(*create("job", context, sample("job", context, 1)), id=1)
    after = request(*load("job", context, 1), id=2)

    first, second, third = client.exchange(escaped([before, spoiled, after]))

    assert first["result"] == third["result"]
    assert second["id"] == spoiled["id"]
    assert second["error"]["code"] in (-32600, -32602)


def test_a_notification_that_is_spoiled_is_not_answered_nor_carried_out(client: Client, context: int) -> None:
    notification = request(*create("job", context, sample("job", context, 1, script=HALF)), id=None)
    del notification["id"]

    assert client.exchange(escaped(notification)) is None
    (loaded,) = client.exchange(escaped([notification, request(*load("job", context, 1), id=3), notification]))

    assert (loaded["id"], loaded["error"]["code"]) == (3, -32001)


def test_a_whole_pair_is_a_character_wherever_it_stands(client: Client, context: int) -> None:
    text = escaped(request(*create("job", context, sample("job", context, 1, env_vars={"😀": "😀"})), id="😀"))
    assert r"\ud83d\ude00" in text

    reply = client.exchange(text)

    assert (reply["id"], reply["result"]["env_vars"]) == ("😀", {"😀": "😀"})


@pytest.mark.parametrize("escape", [r"\u0000", r"\\ud83d", r"\ufffd", r"\uffff", r"\ufdd0"])
def test_other_odd_characters_are_text(client: Client, context: int, escape: str) -> None:
    text = escaped(request(*create("job", context, sample("job", context, 1, script="@")), id="@")).replace("@", escape)

    reply = client.exchange(text)

    assert reply["id"] == reply["result"]["script"] == json.loads(f'"{escape}"')
