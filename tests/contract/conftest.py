"""A coordinator whose store can be looked into, and changed as by somebody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clients import TRANSPORTS, Client, connected
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, valkey

ALLOWED_ORIGIN = "https://app.example"
ALLOWED_HOST = "coordinator.example"


@pytest.fixture(scope="package")
def open_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """The store of `open_server`, with a database for every context any test may use."""
    with valkey(tmp_path_factory.mktemp("valkey"), "--databases", "1048576") as running:
        yield running


@pytest.fixture(scope="package")
def open_server(open_store: ValkeyProcess) -> Iterator[CoordinatorProcess]:
    """A coordinator on `open_store`, which lets one origin and one host name in."""
    arguments = ("--allowed-origins", ALLOWED_ORIGIN, "--allowed-hosts", ALLOWED_HOST)
    with coordinator("--redis-url", open_store.url, *arguments) as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
def open_client(request: pytest.FixtureRequest, open_server: CoordinatorProcess) -> Iterator[Client]:
    """A client of `open_server`, once of each transport."""
    with connected(open_server, request.param) as client:
        yield client
