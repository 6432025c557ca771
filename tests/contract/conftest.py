"""A coordinator whose store can be looked into, and changed as by somebody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clients import TRANSPORTS, Client, connected
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator

ALLOWED_ORIGIN = "https://app.example"
ALLOWED_HOST = "coordinator.example"


@pytest.fixture(scope="session")
def open_server(shared_valkey: ValkeyProcess) -> Iterator[CoordinatorProcess]:
    """A coordinator on `shared_valkey`, which lets one origin and one host name in."""
    arguments = ("--allowed-origins", ALLOWED_ORIGIN, "--allowed-hosts", ALLOWED_HOST)
    with coordinator("--redis-url", shared_valkey.url, *arguments) as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
def open_client(request: pytest.FixtureRequest, open_server: CoordinatorProcess) -> Iterator[Client]:
    """A client of the coordinator on `shared_valkey`, once of each transport."""
    with connected(open_server, request.param) as client:
        yield client
