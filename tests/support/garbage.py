"""Messages no client should send: random bytes, random JSON, and valid requests with a little gone wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from hypothesis import strategies as st

from tests.support.clients import request
from tests.support.records import KINDS, create, dag, load, sample

__all__ = ["any_json", "damaged_messages", "mutated_messages", "places"]

Node = dict[str, Any] | list[Any]
Place = tuple[Node, str | int]

CONTEXT: Final = 3


def any_json() -> st.SearchStrategy[Any]:
    """JSON of any shape."""
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(st.none() | st.booleans() | numbers | any_text(), _containers, max_leaves=15)


def any_text() -> st.SearchStrategy[str]:
    """Text of any kind, now and then with half of a surrogate pair."""
    return st.text(max_size=20) | st.text(st.sampled_from("a\0\\é😀\ud83d\ude00"), max_size=4)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=5) | st.dictionaries(any_text(), inner, max_size=5)


def mutated_messages() -> st.SearchStrategy[str]:
    """A valid request, or a batch, of which some parts have been replaced, dropped or repeated."""
    return st.builds(_mutate, _messages(), st.lists(_mutations(), min_size=1, max_size=4)).map(json.dumps)


def damaged_messages() -> st.SearchStrategy[bytes]:
    """A valid request, or a batch, of whose text some bytes have been replaced, dropped or inserted."""
    text = _messages().map(lambda message: json.dumps(message).encode())
    return st.builds(_damage, text, st.lists(_damages(), min_size=1, max_size=4))


def _valid_requests() -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        members = {"job": [sample("job", CONTEXT, 1)]} if kind == "message" else {}
        yield request(*create(kind, CONTEXT, sample(kind, CONTEXT, 1, **members)), id=kind)
        yield request(*load(kind, CONTEXT, 1), id=1)
    yield request(*dag(CONTEXT, 1), id=1.5)
    yield request("rpc.discover", [], id=None)
    yield {"jsonrpc": "2.0", "method": "context.load", "params": [CONTEXT]}


def _messages() -> st.SearchStrategy[Any]:
    requests = st.sampled_from([*_valid_requests()])
    return requests | st.lists(requests, min_size=1, max_size=4)


Mutation = tuple[int, Callable[[Node, Any], None]]
"""Which of the message's places it changes, and how."""


def _mutations() -> st.SearchStrategy[Mutation]:
    return st.tuples(st.integers(0, 10_000), st.one_of(any_json().map(_put), st.just(_drop), st.just(_repeat)))


def _put(value: Any) -> Callable[[Node, Any], None]:
    def put(holder: Node, key: Any) -> None:
        holder[key] = value

    return put


def _drop(holder: Node, key: Any) -> None:
    del holder[key]


def _repeat(holder: Node, key: Any) -> None:
    if isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[f"{key}_"] = copy.deepcopy(holder[key])


def _mutate(message: Any, mutations: list[Mutation]) -> Any:
    whole = [copy.deepcopy(message)]
    for at, mutation in mutations:
        found = [*places(whole)]
        if found:
            mutation(*found[at % len(found)])
    return whole[0] if whole else None


def places(node: Any) -> Iterator[Place]:
    """Every place in a JSON value, by what holds it and its key there."""
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from places(node[key])


def _damages() -> st.SearchStrategy[tuple[int, int, bytes]]:
    """Where, how many bytes go, and what comes instead."""
    return st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.binary(max_size=4))


def _damage(text: bytes, damages: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, instead in damages:
        start = at % (len(text) + 1)
        text = text[:start] + instead + text[start + length :]
    return text
