"""A client of the session's coordinator, and contexts nobody else uses."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Final

import pytest

from coordinator.client import Client, connect
from coordinator.models import ContextCreate, FlowCreate, JobCreate, RunnerCreate
from tests.support.server import CoordinatorProcess

CALLER: Final = 7
_CONTEXTS: Final = itertools.count(50_000)


@pytest.fixture(autouse=True)
def _on_trio(anyio_backend: str) -> None:
    """Coroutine tests run on trio."""


@pytest.fixture
def context_id() -> int:
    return next(_CONTEXTS)


@pytest.fixture
async def client(server: CoordinatorProcess) -> AsyncIterator[Client]:
    async with connect(server.ws) as client:
        yield client


def context(id: int) -> ContextCreate:
    return ContextCreate(id=id, admins=[CALLER], readers=[], executors=[CALLER])


def job(
    context_id: int,
    id: int,
    *,
    depends: list[int] | None = None,
    retries: int = 0,
    lost_retries: int = 3,
    script: str = "",
) -> JobCreate:
    return JobCreate(
        id=id,
        caller_id=CALLER,
        context_id=context_id,
        script=script,
        script_type="Python",
        timeout=0,
        retries=retries,
        lost_retries=lost_retries,
        env_vars={},
        prerequisites=[],
        depends=depends or [],
    )


def flow(context_id: int, id: int, jobs: list[int]) -> FlowCreate:
    return FlowCreate(id=id, caller_id=CALLER, context_id=context_id, jobs=jobs, env_vars={})


def runner(id: int) -> RunnerCreate:
    return RunnerCreate(id=id, pubkey="k", address="::1", topic=f"runner{id}", local=True)


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])
