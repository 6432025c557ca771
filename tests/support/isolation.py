"""Whether attempts can have sandboxes here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

import trio

from coordinator.models import ScriptType
from coordinator.runner.execute import PYTHON, Executor, Interpreter
from coordinator.runner.isolate import CannotIsolate, Isolation, find_bubblewrap
from coordinator.runner.spawn import open_spawner

__all__ = ["INTERPRETERS", "why_not"]

INTERPRETERS: Final[Mapping[ScriptType, Interpreter]] = {"Python": PYTHON, "Sal": Interpreter(("/bin/sh",))}


@cache
def why_not() -> str:
    """Why there can be no sandboxes here; empty if there can."""

    async def check() -> None:
        async with open_spawner() as spawner:
            await Executor(spawner, {"Python": PYTHON}, isolation=Isolation(find_bubblewrap())).check()

    try:
        trio.run(check)
    except CannotIsolate as error:
        return str(error)
    return ""
