"""JSON-RPC without a server: bytes in, calls out; outcomes in, bytes out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import InvalidRequest, NotFound, ParseError
from coordinator.rpc.jsonrpc.protocol import Call, Invalid, parse, render_batch, render_error, render_result

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_a_call_keeps_its_method_params_and_id() -> None:
    assert parse('{"jsonrpc":"2.0","id":"a","method":"m","params":[1]}', 10) == Call(b'"a"', "m", [1])


def test_params_may_be_left_out() -> None:
    assert parse(b'{"jsonrpc":"2.0","id":1,"method":"m"}', 10) == Call(b"1", "m", {})


def test_without_an_id_it_is_a_notification() -> None:
    assert parse(b'{"jsonrpc":"2.0","method":"m"}', 10) == Call(None, "m", {})


@pytest.mark.parametrize(
    ("id", "rendered"),
    [("null", b"null"), ("0", b"0"), ("-1.5", b"-1.5"), (str(10**30), b"1" + b"0" * 30), ('"é\\n"', '"é\\n"'.encode())],
)
def test_an_id_is_echoed_as_given(id: str, rendered: bytes) -> None:
    call = parse(f'{{"jsonrpc":"2.0","id":{id},"method":"m"}}', 10)

    assert call == Call(rendered, "m", {})


@pytest.mark.parametrize("id", ["true", "[]", "{}", "1e400"])
def test_an_id_of_another_type_is_invalid_and_answered_with_null(id: str) -> None:
    answer = parse(f'{{"jsonrpc":"2.0","id":{id},"method":"m"}}', 10)

    assert isinstance(answer, Invalid)
    assert answer.id == b"null"
    assert isinstance(answer.error, InvalidRequest)


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", b"NaN", b'{"a":Infinity}', b"[1,]", b"\xff", b"[" * 10_000, b'"\\ud800"', b"1" * 5_000, b"{} {}"],
    ids=["empty", "cut", "nan", "inf", "comma", "utf8", "deep", "surrogate", "digits", "two"],
)
def test_what_is_not_json_is_a_parse_error(broken: bytes) -> None:
    answer = parse(broken, 10)

    assert isinstance(answer, Invalid)
    assert isinstance(answer.error, ParseError)
    assert answer.id == b"null"


@pytest.mark.parametrize(
    "request_object",
    [
        {"id": 1, "method": "m"},
        {"jsonrpc": 2.0, "id": 1, "method": "m"},
        {"jsonrpc": "1.0", "id": 1, "method": "m"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": None},
        {"jsonrpc": "2.0", "id": 1, "method": "m", "params": "x"},
        {"jsonrpc": "2.0", "id": 1, "method": "m", "params": None},
    ],
)
def test_a_malformed_request_is_answered_under_its_own_id(request_object: object) -> None:
    answer = parse(json.dumps(request_object), 10)

    assert isinstance(answer, Invalid)
    assert isinstance(answer.error, InvalidRequest)
    assert answer.id == b"1"


def test_a_batch_keeps_its_order_and_its_invalid_items() -> None:
    batch = parse('[{"jsonrpc":"2.0","id":1,"method":"a"},1,{"jsonrpc":"2.0","id":2,"method":"b"}]', 10)

    assert isinstance(batch, list)
    assert [type(item) for item in batch] == [Call, Invalid, Call]


@pytest.mark.parametrize("batch", ["[]", "[1,2,3]"])
def test_an_empty_or_too_long_batch_is_one_error(batch: str) -> None:
    answer = parse(batch, 2)

    assert isinstance(answer, Invalid)
    assert isinstance(answer.error, InvalidRequest)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_input_raises(data: bytes) -> None:
    assert isinstance(parse(data, 10), Call | Invalid | list)


def test_responses_are_json_rpc() -> None:
    result = render_result(b'"a"', b'{"x":1}')
    error = render_error(b"1", NotFound("job", id=3))

    assert json.loads(result) == {"jsonrpc": "2.0", "id": "a", "result": {"x": 1}}
    answered = json.loads(error)
    assert answered["error"]["code"] == -32001
    assert answered["error"]["data"]["ids"] == {"id": 3}
    assert json.loads(render_batch([result, error])) == [json.loads(result), answered]
