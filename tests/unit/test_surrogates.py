"""Half of a surrogate pair, which JavaScript's `slice` makes, spoils the call it is in and no other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.errors import InvalidParams, InvalidRequest, ParseError
from coordinator.rpc.jsonrpc.protocol import Call, Invalid, parse
from coordinator.rpc.jsonrpc.surrogates import MAX_HALVES, MAX_NODES, replace_halves

MAX_BATCH = 20
HALF = r"\ud83d"


def has_half(value: Any) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False))


def call(**members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "m", **members}


@pytest.mark.parametrize(
    "text",
    [HALF, HALF.upper().replace("U", "u", 1), r"\ude00", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\ud83d\ude00\ude00",
     r"\ud83d\n\ude00", r"\ud83d\\ude00", r"\\\ud83d", r"\ud83d😀", r"\ud83d\u0041", r"\ud800", r"\udbff", r"\udc00",
     r"\udfff"],
)  # fmt: skip
def test_a_half_is_found_and_put_back(text: str) -> None:
    data = f'["{text}"]'.encode()

    found = replace_halves(data)

    assert found is not None
    replaced, halves = found
    assert not has_half(json.loads(replaced))
    assert halves.are_in(json.loads(replaced))
    assert halves.restored(replaced) == data


@pytest.mark.parametrize(
    "text",
    ["", "a", r"\ud83d\ude00", r"\uD83D\uDE00\ud83d\ude00", r"\\ud83d", r"\\\\ud83d", r"\\\\\\ude00", r"\ud7ff\ue000",
     "ud83d"],
)  # fmt: skip
def test_what_is_no_half_is_not_found(text: str) -> None:
    assert replace_halves(f'["{text}"]'.encode()) is None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["\\", "\\\\", "\\ud83d", "\\ude00", "\\n", "u", "d83d", "\\u005c", '\\"', "é"])))
def test_halves_are_found_as_python_finds_them(parts: list[str]) -> None:
    text = "".join(parts)
    data = f'["{text}"]'
    try:
        content = json.loads(data)
    except ValueError:
        return

    found = replace_halves(data.encode())

    assert (found is not None) == has_half(content)
    if found is not None:
        replaced, halves = found
        assert not has_half(json.loads(replaced))
        assert json.loads(halves.restored(replaced)) == content


@pytest.mark.parametrize(
    ("members", "error", "place"),
    [
        ({"params": {"job": {"env_vars": {"A": "x\ud83d"}}}}, InvalidParams, ["job", "env_vars", "A"]),
        ({"params": [1, [], {}, [{"a": 1, "b": [2, "\ude00"]}]]}, InvalidParams, [3, 0, "b", 1]),
        ({"params": {"a": {"\ud83dx": 1}}}, InvalidParams, ["a", "\ufffdx"]),
        ({"method": "m\ud83d"}, InvalidRequest, "`method`"),
        ({"more": {"a": ["\ud83d"]}}, InvalidRequest, "`more.a.0`"),
        ({"\ud83d": 1}, InvalidRequest, "`\ufffd`"),
    ],
)
def test_the_place_of_a_half_is_told(members: dict[str, Any], error: type[Exception], place: Any) -> None:
    answer = parse(json.dumps(call(**members)), MAX_BATCH)

    assert isinstance(answer, Invalid)
    assert answer.id == b"1"
    assert isinstance(answer.error, error)
    data = answer.error.data
    assert data[0]["loc"] == place if isinstance(data, list) else place in data["detail"]


def test_an_id_with_a_half_comes_back_as_it_was_sent() -> None:
    answer = parse(rb'{"jsonrpc":"2.0","id":"a\uD83D\\\udE00\n","method":"m"}', MAX_BATCH)

    assert isinstance(answer, Invalid)
    assert answer.id == rb'"a\uD83D\\\udE00\n"'


@pytest.mark.parametrize("members", [{"params": ["\ud83d"]}, {"method": "\ud83d"}, {"more": "\ud83d"}])
def test_a_notification_with_a_half_gets_no_answer(members: dict[str, Any]) -> None:
    notification = call(**members)
    del notification["id"]

    answer = parse(json.dumps(notification), MAX_BATCH)

    assert isinstance(answer, Invalid)
    assert answer.id is None


def test_a_half_that_a_later_member_replaces_spoils_nothing() -> None:
    text = r'{"jsonrpc":"2.0","id":"\ud83d","id":1,"method":"\ud83d","method":"m","params":["\ud83d"],"params":[]}'

    assert parse(text, MAX_BATCH) == Call(b"1", "m", [])


SPOILED = [call(params=["\ud83d"]), call(id="\ude00"), "\ud83d"]
CLEAN = [call(id=2), call(method=1), {}, 1]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*SPOILED, *CLEAN]), min_size=1, max_size=10))
def test_the_rest_of_a_batch_is_as_it_would_be_without(batch: list[Any]) -> None:
    answers = parse(json.dumps(batch), MAX_BATCH)

    assert isinstance(answers, list)
    for item, answer in zip(batch, answers, strict=True):
        if has_half(item):
            assert isinstance(answer, Invalid)
        else:
            alone = parse(json.dumps(item), MAX_BATCH)
            assert type(answer) is type(alone)
            assert answer[0] == alone[0]


@pytest.mark.parametrize("rest", [",", "}", "]", '"', "x"])
def test_with_anything_else_wrong_the_message_is_not_json(rest: str) -> None:
    answer = parse(json.dumps(call(params=["\ud83d"])) + rest, MAX_BATCH)

    assert isinstance(answer, Invalid)
    assert isinstance(answer.error, ParseError)


@pytest.mark.parametrize("depth", [197, 198, 199, 200])
def test_the_bounds_are_those_of_other_messages(depth: int) -> None:
    def answer(text: str) -> Any:
        return parse(f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{"[" * depth}"{text}"{"]" * depth}}}', MAX_BATCH)

    plain, spoiled = answer("x"), answer(HALF)

    is_json = isinstance(plain, Call)
    assert isinstance(spoiled.error, InvalidParams if is_json else ParseError)


def test_the_place_is_looked_for_no_longer_than_is_good_for_others() -> None:
    answer = parse(json.dumps(call(params=[*range(MAX_NODES), "\ud83d"])), MAX_BATCH)

    assert isinstance(answer, Invalid)
    assert isinstance(answer.error, InvalidParams)
    assert answer.error.data[0]["loc"] == []


def test_halves_without_number_are_not_json() -> None:
    most, more = (
        parse(json.dumps(call(params=["\ud83d"] * count)), MAX_BATCH) for count in (MAX_HALVES, MAX_HALVES + 1)
    )

    assert isinstance(most, Invalid)
    assert isinstance(most.error, InvalidParams)
    assert isinstance(more, Invalid)
    assert isinstance(more.error, ParseError)
