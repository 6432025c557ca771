"""The rows of the table of methods: what each begins is what its kind says."""

from __future__ import annotations

from inspect import isgenerator
from typing import Any

import pytest

from coordinator.rpc.methods import METHODS
from coordinator.rpc.methods.method import Live, Method, OneCommand, Steps
from coordinator.storage.keys import Layout

PARAMS = {
    **{name: method.example for name, method in METHODS.items() if method.example is not None},
    "actor.load": {"id": 7},
    "context.load": {"id": 1},
    "runner.load": {"context_id": 1, "id": 3},
    "flow.load": {"context_id": 1, "id": 1},
    "flow.dag": {"context_id": 1, "id": 1},
    "job.load": {"context_id": 1, "caller_id": 7, "id": 1},
    "message.load": {"context_id": 1, "caller_id": 7, "id": 1},
}


def of_kind(kind: type) -> list[Method]:
    return [method for method in METHODS.values() if type(method.does) is kind]


def begun(method: Method) -> Any:
    assert isinstance(method.does, OneCommand | Steps)
    params = method.params.model_validate(PARAMS[method.name])
    return method.does.begin(Layout().keyspace(method.context(params)), params)


@pytest.mark.parametrize("method", of_kind(OneCommand), ids=lambda method: method.name)
def test_one_command_begins_with_a_command_and_what_makes_the_answer_of_its_reply(method: Method) -> None:
    command, finish, _ = begun(method)

    assert all(isinstance(word, str | bytes | int | float) for word in command)
    assert callable(finish)


@pytest.mark.parametrize("method", of_kind(Steps), ids=lambda method: method.name)
def test_steps_begin_with_an_operation(method: Method) -> None:
    operation = begun(method)

    assert isgenerator(operation)
    operation.close()


def test_what_needs_a_reply_or_may_take_long_is_live() -> None:
    live = {method.name for method in of_kind(Live)}

    subscriptions = {f"{of}.{way}" for of in ("flow", "context", "runner") for way in ("subscribe", "unsubscribe")}
    assert live == {*subscriptions, "job.take"}
