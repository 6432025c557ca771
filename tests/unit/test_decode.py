"""Messages read in one go come out as those that are parsed first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.errors import CoordinatorError, InvalidParams, InvalidRequest, MethodNotFound, ParseError
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.decode import Item, Reader
from coordinator.rpc.methods import METHODS
from coordinator.rpc.openrpc import ServedDocument
from tests.support.clients import request
from tests.support.garbage import any_json, damaged_messages, mutated_messages, places

MAX_BATCH: Final = 5
DOCUMENT = ServedDocument()
READER = Reader(METHODS, MAX_BATCH, DOCUMENT)
EXAMPLES: Final = {name: method.example for name, method in METHODS.items() if method.example is not None}

often = settings(max_examples=600, deadline=None)


def the_long_way(data: str | bytes) -> tuple[int | None, list[Any]]:
    """What a message holds by `protocol` and the methods' ParamsReader."""
    message = protocol.parse(data, MAX_BATCH)
    calls = message if isinstance(message, list) else [message]
    return len(calls) if isinstance(message, list) else None, [*_one_by_one(calls)]


def _one_by_one(calls: list[Any]) -> Iterator[Any]:
    for call in calls:
        if isinstance(call, protocol.Invalid):
            yield told((call.id, None, call.error))
            continue
        method = METHODS.get(call.method)
        try:
            if method is not None:
                yield told((call.id, method, method.reader.read(call.params)))
            elif call.method == "rpc.discover":
                yield told((call.id, None, DOCUMENT))
            else:
                yield call.id, MethodNotFound
        except CoordinatorError as error:
            yield told((call.id, None, error))


def told(item: Item) -> Any:
    """All there is to know of an item, to be compared."""
    id, method, params = item
    if isinstance(params, MethodNotFound):
        return id, MethodNotFound
    if isinstance(params, CoordinatorError):
        return id, type(params), params.data
    if isinstance(params, ServedDocument):
        return id, params
    assert method is not None
    return id, method.name, type(params), params, _given(params)


def _given(value: Any) -> Any:
    """Which members were given, all the way down: one that is left out is not one given as its default."""
    if isinstance(value, list):
        return [_given(item) for item in value]
    if not hasattr(value, "model_fields_set"):
        return None
    return {name: _given(getattr(value, name)) for name in sorted(value.model_fields_set)}


def read(data: str | bytes) -> tuple[int | None, list[Any]]:
    length, items = READER.read(data)
    return length, [told(item) for item in items]


@st.composite
def changed_examples(draw: st.DrawFn) -> str:
    """A valid call of any method, or several, perhaps with one member replaced by something near it."""
    names = draw(st.lists(st.sampled_from([*EXAMPLES]), min_size=1, max_size=4))
    calls = [json.loads(json.dumps(request(name, EXAMPLES[name], at))) for at, name in enumerate(names)]
    if draw(st.booleans()):
        place: tuple[Any, Any] = draw(st.sampled_from([*places(calls)]))
        holder, key = place
        odd = st.sampled_from(
            [
                True,
                1.0,
                1.5,
                "1",
                "",
                None,
                [],
                {},
                -1,
                2**32,
                2**64,
                "Python",
                [1],
                ["a"],
                {"a": "b"},
                "\ud83d",
                [None],
                {"\ude00": None},
                {"params": None},
            ]
        )
        holder[key] = draw(odd | any_json())
    return json.dumps(calls if len(calls) > 1 or draw(st.booleans()) else calls[0])


@pytest.mark.slow
@often
@given(message=changed_examples())
def test_valid_calls_and_near_misses_read_the_same(message: str) -> None:
    assert read(message) == the_long_way(message)
    assert read(message.encode()) == the_long_way(message)


@pytest.mark.slow
@often
@given(message=changed_examples(), before=st.text(st.sampled_from("\ufeff \t\r\n\v\f\0\xa0[{"), max_size=3))
def test_what_stands_before_a_message_reads_the_same(message: str, before: str) -> None:
    assert read(before + message) == the_long_way(before + message)
    assert read((before + message).encode()) == the_long_way((before + message).encode())


@pytest.mark.slow
@often
@given(message=mutated_messages() | damaged_messages())
def test_garbage_reads_the_same(message: str | bytes) -> None:
    assert read(message) == the_long_way(message)


@pytest.mark.slow
@often
@given(params=any_json(), method=st.sampled_from([*METHODS]), id=any_json())
def test_any_params_and_ids_read_the_same(method: str, params: Any, id: Any) -> None:
    message = json.dumps(request(method, params, id))

    assert read(message) == the_long_way(message)


# All of whose members may be left out.
NONE_REQUIRED = {"context.list", "auth.login", "auth.renew"}


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - NONE_REQUIRED))
def test_every_method_is_read_in_one_go(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(request(name, EXAMPLES[name], "a"))
    expected = the_long_way(text)

    def never(*_: Any) -> None:
        raise AssertionError("was parsed first")

    monkeypatch.setattr(protocol, "parse", never)
    assert read(text) == expected
    for before in (" \r\n\t", "\ufeff", "\ufeff "):
        assert read(before + text) == read((before + text).encode()) == expected
        assert read(f"{before}[{text}]") == (1, expected[1])
    assert read(f"[{text},{text}]".encode()) == (2, [*expected[1], *expected[1]])


JOB = '{"jsonrpc":"2.0","method":"job.load","params":{"context_id":1,"caller_id":7,"id":%s},"id":%s}'


@pytest.mark.parametrize("id", ["0", "-1.5", "1e2", str(10**30), '"é\\n"', "null", "true", "[]", "{}", "1e999", "NaN"])
def test_ids_read_the_same(id: str) -> None:
    assert read(JOB % (1, id)) == the_long_way(JOB % (1, id))


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (JOB % (1, '1,"more":NaN'), ParseError),
        (JOB % (1, '1,"more":-Infinity'), ParseError),
        ("[" + JOB % (1, 1) + ",]", ParseError),
        ("[]", InvalidRequest),
        ("[" + ",".join([JOB % (1, 1)] * (MAX_BATCH + 1)) + "]", InvalidRequest),
        (JOB % (2**32, 1), InvalidParams),
        (JOB % ("1.0", 1), InvalidParams),
    ],
)
def test_what_is_wrong_is_told(message: str, error: type[CoordinatorError]) -> None:
    length, items = READER.read(message)
    (item,) = items

    assert length is None
    assert isinstance(item[2], error)
    assert read(message) == the_long_way(message)


def test_the_last_of_a_repeated_member_counts() -> None:
    message = JOB.replace('"id":%s}', '"id":1,"id":%s}', 1) % (2, 3)

    assert read(message) == the_long_way(message)
    assert read(message)[1][0][3].id == 2


def test_one_bad_call_leaves_the_rest_of_a_batch_alone() -> None:
    length, items = read("[" + ",".join([JOB % (1, 1), JOB % ('"x"', 2), JOB % (3, 3)]) + "]")

    assert length == 3
    assert [item[1] for item in items] == ["job.load", InvalidParams, "job.load"]
