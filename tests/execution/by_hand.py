"""Operations driven by hand: what they ask for, and what they make of replies, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import from_json

from coordinator.actors.request import Operation, WithEffects
from coordinator.storage.connection import Command
from coordinator.storage.functions import attempts
from coordinator.storage.keys import Keyspace, Layout, Transition

__all__ = ["KEYS", "STORED_FLOW", "STORED_JOB", "asks", "ends", "outcome_of", "take_one", "transition"]

KEYS: Final = Layout("index").keyspace(1)

STORED_FLOW: Final = {
    b"id": b"5",
    b"caller_id": b"7",
    b"context_id": b"1",
    b"jobs": b"[1,2]",
    b"env_vars": b"{}",
    b"created_at": b"1",
    b"updated_at": b"2",
    b"result": b"{}",
    b"status": b"Started",
}
STORED_JOB: Final = {
    b"id": b"1",
    b"caller_id": b"7",
    b"context_id": b"1",
    b"script": b"x",
    b"script_type": b"Python",
    b"timeout": b"0",
    b"retries": b"0",
    b"env_vars": b"{}",
    b"prerequisites": b"[]",
    b"depends": b"[]",
    b"created_at": b"1",
    b"updated_at": b"2",
    b"result": b"{}",
    b"status": b"Dispatched",
}


def asks(operation: Operation, replies: Any = None) -> list[Command]:
    """The commands it asks for, the first ones or those after these replies."""
    step = operation.send(replies)
    assert isinstance(step, list)
    return step


def ends(operation: Operation, replies: Any) -> Any:
    """What it answers to the replies to its last step, parsed."""
    try:
        operation.send(replies)
    except StopIteration as finished:
        answer = finished.value
        return from_json(answer.answer if isinstance(answer, WithEffects) else answer)
    raise AssertionError("it goes on")


def outcome_of(operation: Operation, *outcome: Any, effects: Sequence[bytes] = ()) -> Any:
    """What it answers when its first step, one transition, ends in this outcome."""
    assert len(asks(operation)) == 1
    return ends(operation, [(list(outcome), list(effects))])


def transition(step: list[Command]) -> tuple[str, tuple[Any, ...]]:
    """The function a step of one transition calls, and its own arguments."""
    ((name, function, keys, engine, channel, _, *arguments),) = step
    assert (name, keys, engine, channel) == ("FCALL", 1, "engine", "herocoordinator:1")
    return str(function), tuple(arguments)


def take_one(keys: Keyspace, holder: str = "h") -> Transition:
    """Runner 3 takes one Python job. Sent twice, it is the same take asked for again."""
    return attempts.take(
        keys,
        runner_id=3,
        session="",
        topic="t",
        lease=30.0,
        count=1,
        max_bytes=1000,
        holder=holder,
        number="1",
        secret="s",
        script_types=["Python"],
    )
