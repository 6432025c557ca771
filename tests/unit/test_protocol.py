"""JSON-RPC without a server: bytes in, calls out; outcomes in, bytes out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.errors import InvalidRequest, NotFound, ParseError
from coordinator.rpc.jsonrpc.protocol import (
    LARGE_PIECE,
    MAX_HEAD,
    RESULT,
    Call,
    Invalid,
    first_id,
    parse,
    render_batch,
    render_error,
    render_large_batch,
)

unhurried = settings(deadline=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_a_call_keeps_its_method_params_and_id() -> None:
    assert parse('{"jsonrpc":"2.0","id":"a","method":"m","params":[1]}', 10) == Call(b'"a"', "m", [1])


def test_params_may_be_left_out() -> None:
    assert parse(b'{"jsonrpc":"2.0","id":1,"method":"m"}', 10) == Call(b"1", "m", {})


@pytest.mark.parametrize("params", ["null", "{}", "[]"])
def test_null_is_no_params(params: str) -> None:
    call = parse(f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}', 10)

    assert isinstance(call, Call)
    assert len(call.params) == 0


@pytest.mark.parametrize("mark", ["\ufeff", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("text", ["{}", "[]", " [{}] ", "1"])
def test_one_byte_order_mark_is_skipped(mark: str | bytes, text: str) -> None:
    message = mark + text if isinstance(mark, str) else mark + text.encode()

    assert told(parse(message, 10)) == told(parse(text, 10))


def told(answer: object) -> object:
    if isinstance(answer, list):
        return [*map(told, answer)]
    return (answer.id, answer.error.data) if isinstance(answer, Invalid) else answer


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("{}".encode("utf-16"), "not UTF-8 but UTF-16"),
        (" [1]".encode("utf-16-be"), "not UTF-8 but UTF-16"),
        ('"é"'.encode("utf-16-le"), "not UTF-8 but UTF-16"),
        ("{}".encode("utf-32"), "not UTF-8 but UTF-32"),
        ("\ufeff1".encode("utf-32-be"), "not UTF-8 but UTF-32"),
        ('["é"]'.encode("latin-1"), "not UTF-8: invalid continuation byte at byte 2"),
        (b'{"a":"\xed\xa0\xbd"}', "not UTF-8: invalid continuation byte at byte 6"),
        (b"\0\0\0\0", "not JSON: expected value"),
        (b"\xff\xfe", "not UTF-8"),
        ("", "not JSON: EOF"),
        ("\ufeff", "not JSON: EOF"),
        (b" \t\r\n", "not JSON: EOF"),
    ],
)
def test_what_the_bytes_are_instead_is_told(message: str | bytes, detail: str) -> None:
    answer = parse(message, 10)

    assert isinstance(answer, Invalid)
    assert isinstance(answer.error, ParseError)
    assert answer.error.data["detail"].startswith(detail)


@pytest.mark.parametrize(
    ("head", "id"),
    [
        (b'{"jsonrpc":"2.0","id":12,"met', b"12"),
        (b'{"jsonrpc":"2.0","id":12', b"null"),
        (b'{"jsonrpc":"2.0","id":12.5,"params":{"id":7,"script":"' + b"x" * 10_000, b"12.5"),
        (b'[{"id":"a,b","method":"x"}', b'"a,b"'),
        (b'[{"id":"a,b', b"null"),
        (b'[{"method":"x"},{"id":5,"met', b"5"),
        (b'{"params":{"id":5,"x":3', b"null"),
        (b'{"id":[1],"method":"m"', b"null"),
        (b'\xef\xbb\xbf {"id":"\xc3\xa9","method":"m"', '"é"'.encode()),
        (b'{"more":"%b","id":1,"method":"m"' % (b"x" * MAX_HEAD), b"null"),
        (b'{"more":"\xff","id":1,"method":"m"', b"null"),
        (b"[" * MAX_HEAD, b"null"),
        (b",", b"null"),
        (b"", b"null"),
    ],
)
def test_an_id_is_told_from_the_beginning_of_a_message(head: bytes, id: bytes) -> None:
    assert first_id(head) == id


@unhurried
@given(st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 200))
def test_an_id_that_is_cut_is_not_told(id: object, end: int) -> None:
    data = json.dumps([{"jsonrpc": "2.0", "id": id, "method": "m", "params": {"id": 5}}]).encode()

    whole = parse(data, 10)

    assert isinstance(whole, list)
    assert first_id(data[:end]) in (b"null", whole[0].id)


@unhurried
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_beginning_raises(data: bytes) -> None:
    json.loads(first_id(data))


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
    [b"", b"{", b"NaN", b'{"a":Infinity}', b"[1,]", b"\xff", b"[" * 10_000, b"1" * 5_000, b"{} {}"],
    ids=["empty", "cut", "nan", "inf", "comma", "utf8", "deep", "digits", "two"],
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


@unhurried
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_input_raises(data: bytes) -> None:
    assert isinstance(parse(data, 10), Call | Invalid | list)


def test_responses_are_json_rpc() -> None:
    result = RESULT % (b'"a"', b'{"x":1}')
    error = render_error(b"1", NotFound("job", id=3))

    assert json.loads(result) == {"jsonrpc": "2.0", "id": "a", "result": {"x": 1}}
    answered = json.loads(error)
    assert answered["error"]["code"] == -32001
    assert answered["error"]["data"]["ids"] == {"id": 3}
    assert json.loads(render_batch([result, error])) == [json.loads(result), answered]


@given(st.lists(st.sampled_from([0, 1, 1000, LARGE_PIECE - 1, LARGE_PIECE, 3 * LARGE_PIECE]), min_size=1, max_size=8))
def test_a_large_batch_in_pieces_is_the_same_and_copies_no_large_response(sizes: list[int]) -> None:
    responses = [b'"%b"' % (b"x" * size) for size in sizes]

    pieces = render_large_batch([*responses])

    assert b"".join(pieces) == render_batch(responses)
    large = [response for response in responses if len(response) >= LARGE_PIECE]
    assert [piece for piece in pieces if any(piece is response for response in large)] == large
    assert all(len(piece) <= 2 * LARGE_PIECE + 2 * len(sizes) for piece in pieces if piece not in large)
