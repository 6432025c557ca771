"""Calls that come to nothing leave nothing behind: no context, no job that nobody has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.flows import submission
from tests.support.server import ValkeyProcess, coordinator

ATTEMPT = {"caller_id": 7, "id": 1, "token": "1-1"}
RUNNER = {"runner_id": 3, "script_types": ["Python"]}
OF_NOTHING: list[tuple[str, dict[str, Any]]] = [
    *((f"flow.{verb}", {"id": 1}) for verb in ("start", "cancel", "retry", "delete", "status", "events")),
    *((f"{kind}.delete", {"caller_id": 7, "id": 1}) for kind in ("job", "message")),
    ("runner.delete", {"id": 3}),
    ("message.send", {"caller_id": 7, "id": 1}),
    ("prerequisite.satisfy", {"name": "paid", "flow_id": 1}),
    ("prerequisite.revoke", {"name": "paid"}),
    ("prerequisite.revoke", {"name": "paid", "flow_id": 1}),
    ("prerequisite.list", {}),
    ("job.take", RUNNER),
    ("job.heartbeat", ATTEMPT),
    ("job.log", {**ATTEMPT, "lines": ["x"]}),
    ("job.finish", ATTEMPT),
    ("job.fail", {**ATTEMPT, "error": "x"}),
]


@pytest.fixture
def http(store: ValkeyProcess) -> Iterator[httpx.Client]:
    with coordinator("--redis-url", store.url) as server, httpx.Client(base_url=server.http, verify=False) as client:
        yield client


def request(method: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, **more}


def call(http: httpx.Client, method: str, **params: Any) -> Any:
    reply = http.post("/", json=request(method, params, id=1)).json()
    assert "error" not in reply, reply
    return reply["result"]


@pytest.mark.parametrize("together", [True, False])
def test_what_comes_to_nothing_leaves_nothing_in_the_store(
    http: httpx.Client, store: ValkeyProcess, together: bool
) -> None:
    calls = [request(method, {"context_id": 9, **params}, id=1) for method, params in OF_NOTHING]

    for body in [calls] if together else calls:
        http.post("/", json=body)

    assert call(http, "context.list")["items"] == []
    assert store.client(9).keys() == []
    engaged = store.client(0).keys("engaged:*")
    assert all("9" not in store.client(0).smembers(key) for key in engaged)


def test_a_context_is_known_once_something_is_in_it(http: httpx.Client, store: ValkeyProcess) -> None:
    http.post("/", json=request("flow.cancel", {"context_id": 9, "id": 1}, id=1))
    call(http, "prerequisite.satisfy", context_id=9, name="paid")
    http.post("/", json=request("job.delete", {"context_id": 8, "caller_id": 7, "id": 1}, id=1))
    call(http, "flow.submit", **submission(8, {1: []}))

    assert call(http, "context.list")["items"] == [8, 9]
    (engaged,) = store.client(0).keys("engaged:*")
    assert {"8", "9"} <= store.client(0).smembers(engaged)


def test_a_context_another_coordinator_has_made_known_is_owned_once_it_is_written_to(
    http: httpx.Client, store: ValkeyProcess
) -> None:
    call(http, "flow.submit", **submission(8, {1: []}))
    with coordinator("--redis-url", store.url) as second, httpx.Client(base_url=second.http, verify=False) as other:
        call(other, "flow.cancel", context_id=8, id=1)

        engaged = store.client(0).keys("engaged:*")
        assert sum("8" in store.client(0).smembers(key) for key in engaged) == 2


def test_a_job_is_not_taken_by_a_notification(http: httpx.Client) -> None:
    runner = {"id": 3, "pubkey": "", "address": "127.0.0.1", "topic": "runner3", "local": True}
    call(http, "runner.create", context_id=8, runner=runner)
    call(http, "flow.submit", **submission(8, {1: []}))
    taking = request("job.take", {"context_id": 8, **RUNNER})

    http.post("/", json=taking)
    http.post("/", json=[taking, request("flow.status", {"context_id": 8, "id": 1}, id=1)])

    assert call(http, "flow.status", context_id=8, id=1)["counts"]["Dispatched"] == 1
    assert len(call(http, "job.take", context_id=8, **RUNNER)["jobs"]) == 1
