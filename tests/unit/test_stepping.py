"""Operations that travel together, driven by hand."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing

from coordinator.actors.request import Effective, Operation, Outcome
from coordinator.actors.stepping import together
from coordinator.errors import InternalError, NotFound, StorageError


def asks(*steps: list[Any], effects: list[bytes] | None = None) -> Operation:
    """Asks for these commands step by step, and returns all replies."""
    replies = []
    for step in steps:
        replies += yield step
    answer = b",".join(replies)
    return answer if effects is None else Effective(answer, effects)


def fails(error: Exception, *steps: list[Any]) -> Operation:
    yield from asks(*steps)
    raise error


def begun(*operations: Operation) -> tuple[Operation, list[Outcome]]:
    outcomes: list[Outcome] = [b""] * len(operations)
    return together(operations, 1, outcomes), outcomes


def end(operation: Operation, replies: Any) -> Effective:
    with pytest.raises(StopIteration) as finished:
        operation.send(replies)
    value = finished.value.value
    assert isinstance(value, Effective)
    return value


def test_each_gets_the_replies_to_its_own_commands() -> None:
    operation, outcomes = begun(asks([("A",), ("B",)]), asks([("C",)]), asks([("D",), ("E",)]))

    assert operation.send(None) == [("A",), ("B",), ("C",), ("D",), ("E",)]
    end(operation, [b"a", b"b", b"c", b"d", b"e"])
    assert outcomes == [b"a,b", b"c", b"d,e"]


def test_those_with_more_steps_go_on_by_themselves() -> None:
    operation, outcomes = begun(asks([("A",)], [("B",)]), asks([("C",)]), asks([("D",)], [("E",)], [("F",)]))

    assert operation.send(None) == [("A",), ("C",), ("D",)]
    assert operation.send([b"a", b"c", b"d"]) == [("B",), ("E",)]
    assert operation.send([b"b", b"e"]) == [("F",)]
    end(operation, [b"f"])
    assert outcomes == [b"a,b", b"c", b"d,e,f"]


def test_an_error_is_the_outcome_of_its_own_operation_only() -> None:
    missing = NotFound("job", id=1)
    operation, outcomes = begun(asks([("A",)]), fails(missing), fails(missing, [("B",)]), asks([("C",)]))

    assert operation.send(None) == [("A",), ("B",), ("C",)]
    end(operation, [b"a", b"b", b"c"])
    assert outcomes == [b"a", missing, missing, b"c"]


def test_a_fault_of_ours_is_logged_and_harms_no_other() -> None:
    operation, outcomes = begun(fails(ZeroDivisionError(), [("A",)]), asks([("B",)]))
    operation.send(None)

    with structlog.testing.capture_logs() as logs:
        end(operation, [b"a", b"b"])

    fault, other = outcomes
    assert isinstance(fault, InternalError)
    assert other == b"b"
    assert [(entry["incident"], entry["context"]) for entry in logs] == [(fault.incident, 1)]


def test_a_refused_command_ends_its_operation_only() -> None:
    refusal = StorageError("refused", may_have_been_applied=False)
    operation, outcomes = begun(asks([("A",), ("B",)]), asks([("C",)], [("D",)]))
    operation.send(None)

    assert operation.send([b"a", refusal, b"c"]) == [("D",)]
    end(operation, [b"d"])
    assert outcomes == [refusal, b"c,d"]


def test_effects_are_those_of_all_of_them() -> None:
    operation, _ = begun(asks([("A",)], effects=[b"x"]), asks([("B",)]), asks([("C",)], effects=[b"y", b"z"]))
    operation.send(None)

    assert end(operation, [b"a", b"b", b"c"]).effects == [b"x", b"y", b"z"]


def test_without_a_command_there_is_no_step() -> None:
    missing = NotFound("job", id=1)
    operation, outcomes = begun(fails(missing), fails(missing))

    end(operation, None)
    assert outcomes == [missing, missing]
