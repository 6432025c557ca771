"""Fixtures every part shares: trio as the loop, one real coordinator and one real Valkey for the session."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.clients import TRANSPORTS, Client, connected, plain_http
from tests.support.records import fresh_id
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, valkey


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    """A coordinator on its embedded default, as `make serve` runs it. Shared: use contexts and ids of your own."""
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("data"))) as running:
        yield running


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with valkey(tmp_path_factory.mktemp("valkey"), "--databases", "4096") as running:
        yield running


@pytest.fixture
def store(shared_valkey: ValkeyProcess) -> ValkeyProcess:
    """The session's Valkey, emptied."""
    shared_valkey.client().flushall()
    return shared_valkey


@pytest.fixture(params=TRANSPORTS)
def client(request: pytest.FixtureRequest, server: CoordinatorProcess) -> Iterator[Client]:
    """A client of the session's coordinator, once of each transport."""
    with connected(server, request.param) as client:
        yield client


@pytest.fixture
def http(server: CoordinatorProcess) -> Iterator[httpx.Client]:
    """A bare HTTP client of the session's coordinator."""
    with plain_http(server) as http:
        yield http


@pytest.fixture
def context() -> int:
    """The id of a context nobody else uses."""
    return fresh_id()
