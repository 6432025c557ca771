"""A context no other test uses, and the API over each transport on the session's coordinator."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.support.api import Api, http_api, ws_api
from tests.support.server import CoordinatorProcess

_contexts: Final = itertools.count(20_000)


@pytest.fixture
def context() -> int:
    return next(_contexts)


@pytest.fixture(params=["http", "ws"])
async def api(request: pytest.FixtureRequest, server: CoordinatorProcess) -> AsyncIterator[Api]:
    opened = http_api(server.http) if request.param == "http" else ws_api(server.ws)
    async with opened as connected:
        yield connected


@pytest.fixture
async def ws(server: CoordinatorProcess) -> AsyncIterator[Api]:
    async with ws_api(server.ws) as connected:
        yield connected


@pytest.fixture
async def http(server: CoordinatorProcess) -> AsyncIterator[Api]:
    async with http_api(server.http) as connected:
        yield connected
