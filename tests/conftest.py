"""Fixtures every part shares: trio as the loop, one real coordinator and one real Valkey for the session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import trio.testing

from coordinator import redaction
from tests.support.clients import PATIENCE, TRANSPORTS, Client, connected, plain_http
from tests.support.records import fresh_id
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, valkey

LONG: Final = frozenset(
    """
    access/test_audit access/test_browser access/test_floods access/test_fuzz access/test_many_connections
    access/test_slow_clients access/test_waiting_calls
    cli/test_bench cli/test_bench_jobs cli/test_bridge cli/test_cert cli/test_demo cli/test_doctor
    cli/test_export cli/test_flow_commands cli/test_flow_views cli/test_foreign_text cli/test_import_original
    cli/test_large_flows cli/test_lists cli/test_serve_config
    clients/test_go clients/test_in_browser clients/test_rust clients/test_typescript clients/test_typing
    cluster/test_fail_over cluster/test_isolation cluster/test_metrics cluster/test_sentinel
    dashboard/test_build dashboard/test_large dashboard/test_login dashboard/test_pages
    execution/test_full_size execution/test_sliced_reruns execution/test_slices execution/test_stateful
    faults/test_backup faults/test_clients_that_go faults/test_damaged_files faults/test_disk
    faults/test_flushed faults/test_full_memory faults/test_outside_calls faults/test_private_files
    faults/test_register faults/test_scale faults/test_secrets
    flows/test_chaos flows/test_clock flows/test_context_events flows/test_request_ids flows/test_restart
    flows/test_scale flows/test_traces
    interop/test_accidents
    runner/test_ended_attempts runner/test_large_inputs
    stateful/test_records
    tests/test_bench_peers tests/test_dist tests/test_examples tests/test_helm tests/test_wheel
    tls/test_reload
    workers/test_clients workers/test_descriptors workers/test_flows workers/test_hung workers/test_lives
    """.split()  # noqa: SIM905 - one line a file would be a page
)
"""Files whose slow tests are `long`: together they take a third of the time of all."""


# By itself httpx waits for 5 s, in which a busy machine may do nothing.
for _phase in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _phase, PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        part = "/".join(item.path.with_suffix("").parts[-2:])
        if part in LONG and item.get_closest_marker("slow") is not None:
            item.add_marker("long")


@pytest.fixture(autouse=True)
def _secrets_of_its_own() -> Iterator[None]:
    """What a test gives away as a secret ("wrong", "token") is not hidden from what other tests of its process say."""
    before = dict(redaction._secrets)
    yield
    redaction._secrets.clear()
    redaction._secrets.update(before)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    if "autojump" in request.fixturenames:
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "trio"


@pytest.fixture
def autojump() -> None:
    """The test runs on a clock that jumps whenever nothing else can happen: a MockClock."""


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
    """The session's Valkey, emptied, also of our library: what tests of slices have loaded does little in one call, and
    a coordinator would take it for ours."""
    shared_valkey.client().flushall()
    shared_valkey.client().function_flush()
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
