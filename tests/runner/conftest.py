"""A spawner with its warden, and an executor of Python and shell scripts on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from coordinator.runner.execute import PYTHON, Executor, Interpreter
from coordinator.runner.spawn import Spawner, open_spawner


@pytest.fixture
async def spawner() -> AsyncIterator[Spawner]:
    async with open_spawner() as running:
        yield running


@pytest.fixture
def executor(spawner: Spawner) -> Executor:
    return Executor(spawner, {"Python": PYTHON, "Sal": Interpreter(("/bin/sh",))}, grace=0.2)
