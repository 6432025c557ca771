"""Assignments made by hand, and running them without a network."""

from __future__ import annotations

from typing import Any

import trio

from coordinator.models import Assignment
from coordinator.runner.execute import Executor
from coordinator.runner.outcome import Outcome
from coordinator.runner.output import Output

__all__ = ["Ran", "assignment", "run"]


def assignment(script: str, script_type: str = "Python", *, timeout: int = 0, **more: Any) -> Assignment:
    """The second attempt at job 3 of caller 7 in context 1."""
    job = {
        "id": 3,
        "caller_id": 7,
        "context_id": 1,
        "script": script,
        "script_type": script_type,
        "timeout": timeout,
        "retries": 0,
        "env_vars": {},
        "prerequisites": [],
        "depends": [],
        "created_at": 0,
        "updated_at": 0,
        "result": {},
        "status": "Started",
    }
    fields = {"context_id": 1, "job": job, "env_vars": {}, "inputs": {}, "attempt": 2, "token": "t", "lease": 30.0}
    return Assignment.model_validate(fields | more)


class Ran:
    """An attempt that has ended: its outcome, and the lines of each stream, and of both in their order."""

    def __init__(self, outcome: Outcome, output: Output) -> None:
        self.outcome = outcome
        self.error = outcome.error
        self.result = outcome.result
        self.logged: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self.lines: list[str] = []
        while batch := output.take():
            for stream, lines in batch:
                self.logged[stream] += lines
                self.lines += lines


async def run(
    executor: Executor,
    script: str,
    script_type: str = "Python",
    *,
    stop: trio.Event | None = None,
    output_limit: int = 1_000_000,
    **more: Any,
) -> Ran:
    """Run a script to its end."""
    output = Output(output_limit)
    outcome = await executor.execute(assignment(script, script_type, **more), output, stop or trio.Event())
    assert output.closed
    return Ran(outcome, output)
