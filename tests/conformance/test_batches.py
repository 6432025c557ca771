"""Batches: their order, their limits, and that one call of them is no matter to the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import Client, json_text, request
from tests.support.jsonrpc import MAX_BATCH
from tests.support.records import create, fresh_id, load, sample


def test_calls_of_one_context_take_effect_in_order(client: Client, context: int) -> None:
    calls = [
        call
        for script in ("first", "second", "third")
        for call in (create("job", context, sample("job", context, 1, script=script)), load("job", context, 1))
    ]

    results = client.results(calls)

    assert [job["script"] for job in results] == ["first", "first", "second", "second", "third", "third"]


def test_replies_keep_the_order_of_the_calls_over_many_contexts(client: Client) -> None:
    contexts = [fresh_id() for _ in range(20)]

    replies = client.batch([load("context", context, 0) for context in contexts] * 2)

    assert [reply["error"]["data"]["ids"]["id"] for reply in replies] == contexts * 2


def test_each_call_is_answered_for_itself(client: Client, context: int) -> None:
    job = create("job", context, sample("job", context, 1))
    batch = [
        request(*job, id=1),
        request("unknown", {}, id=2),
        request("job.create", {"job": 1}, id=3),
        request(*load("job", context, 404), id=4),
        [],
        [request(*job, id=5)],
        None,
        {"jsonrpc": "2.0", "id": 6},
        request(*load("job", context, 1), id=7),
    ]

    replies = client.exchange(json_text(batch))

    codes = [reply.get("error", {}).get("code") for reply in replies]
    assert codes == [None, -32601, -32602, -32001, -32600, -32600, -32600, -32600, None]
    assert [reply["id"] for reply in replies] == [1, 2, 3, 4, None, None, None, 6, 7]


def test_the_longest_batch_is_answered(client: Client) -> None:
    replies = client.batch([load("actor", 0, 0)] * MAX_BATCH)

    assert len(replies) == MAX_BATCH


def test_a_longer_one_is_refused_as_a_whole_naming_the_limit(client: Client, context: int) -> None:
    calls: list[Any] = [request(*create("job", context, sample("job", context, 1)), id=1), *[None] * MAX_BATCH]

    reply = client.exchange(json_text(calls))

    assert (reply["id"], reply["error"]["code"]) == (1, -32600)
    assert (reply["error"]["data"]["limit"], reply["error"]["data"]["setting"]) == (MAX_BATCH, "max_batch_length")
    assert client.error(*load("job", context, 1))["code"] == -32001


@pytest.mark.parametrize(
    ("first", "id"),
    [
        ([{"jsonrpc": "2.0", "method": "actor.load", "params": [0]}, request("actor.load", [0], "b")], "b"),
        ([None, 1, {}, {"id": []}, {"id": True}, {"id": 2}, {"id": 3}], 2),
        ([{"id": None}, {"id": 1}], None),
        ([], None),
    ],
    ids=["behind a notification", "behind nonsense", "null", "none"],
)
def test_the_refusal_of_a_longer_one_has_the_first_id_in_it(client: Client, first: list[Any], id: Any) -> None:
    reply = client.exchange(json_text([*first, *[None] * (MAX_BATCH + 1)]))

    assert (reply["id"], reply["error"]["code"]) == (id, -32600)


def test_the_first_id_of_a_longer_one_may_have_half_of_a_surrogate_pair(client: Client) -> None:
    reply = client.exchange(r'[{"id":"\\\ud83d"}' + ",1" * MAX_BATCH + "]")

    assert (reply["id"], reply["error"]["code"]) == ("\\\ud83d", -32600)


def test_replies_beyond_the_limit_are_left_out_of_a_batch_and_say_so(client: Client, context: int) -> None:
    script = "x" * 500_000
    created = client.result(*create("job", context, sample("job", context, 1, script=script)))

    replies = client.batch([load("job", context, 1)] * 40)

    whole = [reply["result"] for reply in replies if "result" in reply]
    errors = [reply["error"] for reply in replies if "error" in reply]
    assert whole == [created] * len(whole)
    assert len(whole) * len(script) <= 16 * 2**20 < (len(whole) + 1) * (len(script) + 1_000)
    assert {(error["code"], error["data"]["setting"]) for error in errors} == {(-32030, "max_batch_reply_bytes")}


@pytest.mark.parametrize("batch", ["[[]]", "[[[]]]", "[null]", "[true]", '["a"]', "[1.5]"])
def test_items_that_are_no_objects_are_invalid_each(client: Client, batch: str) -> None:
    (reply,) = client.exchange(batch)

    assert reply["error"]["code"] == -32600
