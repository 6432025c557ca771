"""A coordinator for strangers' clients, what they send to have jobs to run, and Node's scripts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import node as node_scripts
from tests.support.flows import submission, wide
from tests.support.server import CoordinatorProcess
from tests.support.workers import SOME_RUNNER

Play = Callable[..., Any]


@pytest.fixture
def anyio_backend() -> str:
    """aiohttp and picows know asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session")
def node_installed() -> None:
    """The packages from npm. Without Node and npm the test is skipped, and the summary warns of it."""
    if not node_scripts.is_there():
        warnings.warn("Node or npm is missing: NO test of Node's clients runs (fetch, ws, …)", stacklevel=1)
        pytest.skip("Node or npm is missing")
    node_scripts.install()


@pytest.fixture
def node(node_installed: None, server: CoordinatorProcess) -> Play:
    """Plays a scenario of a script, which is told where the coordinator is."""

    def play(script: str, scenario: str, **given: Any) -> Any:
        return node_scripts.play(script, scenario, **{"http": server.http, "ws": server.ws, **given})

    return play


@pytest.fixture
def work(context: int) -> dict[str, Any]:
    """Params of runner.create, of runner.subscribe and of flow.submit for twenty jobs that can run at once."""
    return {
        "runner": {"context_id": context, "runner": {**SOME_RUNNER, "id": 3, "topic": "runner3"}},
        "subscription": {"context_id": context, "runner_id": 3, "script_types": ["Python"], "capacity": 20},
        "submission": submission(context, wide(20)),
    }
