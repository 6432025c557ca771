"""Single commands that travel together, driven by hand."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing

from coordinator.actors.pipeline import Together
from coordinator.actors.request import Answerable, Operation, Outcome, RawJson, WithEffects
from coordinator.errors import InternalError, NotFound, StorageError


def asks(name: str, effects: list[bytes] | None = None) -> Answerable:
    """Asks for this command; its answer is the command's name and the reply."""

    def finish(reply: bytes, asked: bytes) -> bytes | WithEffects:
        answer = asked + b":" + reply
        return answer if effects is None else WithEffects(answer, effects)

    return (name,), finish, name.encode()


def fails(name: str, error: Exception) -> Answerable:
    def finish(reply: Any, asked: Any) -> bytes:
        raise error

    return (name,), finish, None


def begun(*answerables: Answerable) -> tuple[Operation, list[Outcome]]:
    """What they are together, and where their outcomes will be."""
    outcomes: list[Outcome] = []
    return Together(answerables, 1, outcomes), outcomes


def end(operation: Operation, replies: Any) -> RawJson | WithEffects:
    with pytest.raises(StopIteration) as finished:
        operation.send(replies)
    value: RawJson | WithEffects = finished.value.value
    return value


def test_each_gets_the_reply_to_its_own_command() -> None:
    operation, outcomes = begun(asks("A"), asks("B"), asks("C"))

    assert end(operation, [b"1", b"2", b"3"]) == b""

    assert outcomes == [b"A:1", b"B:2", b"C:3"]


def test_an_error_is_the_outcome_of_its_own_command_only() -> None:
    missing = NotFound("job", id=1)
    operation, outcomes = begun(asks("A"), fails("B", missing), asks("C"))

    end(operation, [b"1", b"2", b"3"])

    assert outcomes == [b"A:1", missing, b"C:3"]


def test_a_fault_of_ours_is_logged_and_harms_no_other() -> None:
    operation, outcomes = begun(fails("A", ZeroDivisionError()), asks("B"))

    with structlog.testing.capture_logs() as logs:
        end(operation, [b"1", b"2"])

    fault, other = outcomes
    assert isinstance(fault, InternalError)
    assert other == b"B:2"
    (entry,) = logs
    assert (entry["incident"], entry["context"]) == (fault.incident, 1)
    assert isinstance(entry["exc_info"], ZeroDivisionError)


def test_a_refused_command_is_the_outcome_of_its_own_command_only() -> None:
    refusal = StorageError("refused", may_have_been_applied=False)
    operation, outcomes = begun(asks("A"), asks("B"), asks("C"))

    end(operation, [b"1", refusal, b"3"])

    assert outcomes == [b"A:1", refusal, b"C:3"]


def test_effects_are_those_of_all_of_them() -> None:
    operation, outcomes = begun(asks("A", [b"x"]), asks("B"), asks("C", [b"y", b"z"]))

    ended = end(operation, [b"1", b"2", b"3"])
    assert isinstance(ended, WithEffects)
    assert ended.effects == [b"x", b"y", b"z"]
    assert outcomes == [b"A:1", b"B:2", b"C:3"]
