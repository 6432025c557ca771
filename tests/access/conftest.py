"""One coordinator that has its callers log in, with somebody of each role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.access import callers
from tests.access.callers import Caller, Key, caller
from tests.support.server import CoordinatorProcess, coordinator

CONTEXT = 1
OTHER_CONTEXT = 2
NO_CONTEXT = 77
ADMIN, EXECUTOR, READER, STRANGER, OTHER_EXECUTOR, MEMBER_ELSEWHERE, RUNNER = 1, 2, 3, 4, 5, 6, 7
KEYS = {id: Key() for id in range(1, 8)}
RUNNER_KEY = Key()


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="session")
def guarded(directory: Path) -> Iterator[CoordinatorProcess]:
    """With two workers, so that what one is told holds for the other too."""
    with coordinator("--data-dir", str(directory), "--auth", "keys", "--workers", "2") as server:
        with caller(server, "http", callers.operator_token(directory)) as operator:
            for id, key in KEYS.items():
                operator.result("actor.create", callers.actor(id, key.public))
            members = callers.context(CONTEXT, admins=[ADMIN], executors=[EXECUTOR, OTHER_EXECUTOR], readers=[READER])
            operator.result("context.create", members)
            elsewhere = callers.context(OTHER_CONTEXT, admins=[MEMBER_ELSEWHERE], executors=[], readers=[])
            operator.result("context.create", elsewhere)
            for context in (CONTEXT, OTHER_CONTEXT):
                operator.result("runner.create", callers.runner(context, RUNNER, RUNNER_KEY.public))
        yield server


@pytest.fixture(scope="session")
def tokens(guarded: CoordinatorProcess, directory: Path) -> dict[str, str | None]:
    """A token for each role; none for nobody."""
    principals = {
        "admin": f"actor:{ADMIN}",
        "executor": f"actor:{EXECUTOR}",
        "other executor": f"actor:{OTHER_EXECUTOR}",
        "reader": f"actor:{READER}",
        "stranger": f"actor:{STRANGER}",
        "member elsewhere": f"actor:{MEMBER_ELSEWHERE}",
        "runner": f"runner:{CONTEXT}:{RUNNER}",
        "runner elsewhere": f"runner:{OTHER_CONTEXT}:{RUNNER}",
    }
    found: dict[str, str | None] = {"nobody": None, "operator": callers.operator_token(directory)}
    with caller(guarded, "http", found["operator"]) as operator:
        for role, principal in principals.items():
            found[role] = operator.result("token.create", {"label": role, "principal": principal})["token"]
    return found


@pytest.fixture
def operator(guarded: CoordinatorProcess, tokens: dict[str, str | None]) -> Iterator[Caller]:
    with caller(guarded, "http", tokens["operator"]) as one:
        yield one


@pytest.fixture(params=["http", "ws"])
def transport(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named
