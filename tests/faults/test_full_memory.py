"""A store whose memory is used up: creates are refused with the reason, and what empties it, or ends work, goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.storage import library
from coordinator.storage.functions.kinds import GROWING
from tests.support.clients import JSON, Client, connected
from tests.support.records import create, sample
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, valkey
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow

MEMORY = "out of memory"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ValkeyProcess]:
    with valkey(tmp_path) as running:
        yield running


def fill(own: ValkeyProcess) -> None:
    own.client().config_set("maxmemory", "1")


def flow_of(client: Client, flow: int, job: int) -> None:
    member = {**sample("job", 1, job), "prerequisites": [], "timeout": 0}
    client.result(*create("job", 1, member))
    client.result(*create("flow", 1, {**sample("flow", 1, flow), "jobs": [job]}))
    client.result("flow.start", {"context_id": 1, "id": flow})


def take(client: Client) -> dict[str, Any]:
    params = {"context_id": 1, "runner_id": 1, "script_types": ["Python"], "wait": 0}
    (taken,) = client.result("job.take", params)["jobs"]
    taken_job: dict[str, Any] = taken
    return taken_job


def attempt(taken: dict[str, Any], **more: Any) -> dict[str, Any]:
    ids = {"context_id": 1, "caller_id": taken["job"]["caller_id"], "id": taken["job"]["id"]}
    return {**ids, "token": taken["token"], **more}


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_a_full_store_can_be_emptied(own: ValkeyProcess, transport: str) -> None:
    with coordinator("--redis-url", own.url) as server, connected(server, transport) as client:
        client.result(*create("runner", 1, sample("runner", 1, 1)))
        for number in (1, 2, 3, 4, 5):
            flow_of(client, number, number)
        first, second, third = take(client), take(client), take(client)
        fill(own)

        fault = client.error(*create("job", 1, sample("job", 1, 99)))
        assert fault["code"] == -32010
        assert MEMORY in fault["data"]["detail"]
        assert fault["data"]["may_have_been_applied"] is False
        assert readiness(server)[0] == 503
        assert MEMORY in readiness(server)[1]["reason"]

        client.result("job.heartbeat", attempt(first))
        assert client.result("job.finish", attempt(first, result={"done": "yes"}))["status"] == "Finished"
        assert client.result("job.fail", attempt(second, error="no", retry=False))["status"] == "Error"
        assert client.result("flow.cancel", {"context_id": 1, "id": 3})["status"] == "Error"
        assert client.result("flow.delete", {"context_id": 1, "id": 1})["deleted"] == 2
        assert third["job"]["id"] == 3
        assert client.result("job.finish", attempt(take(client), result={}))["status"] == "Finished"

        own.client().config_set("maxmemory", "0")
        client.result(*create("job", 1, sample("job", 1, 99)))
        assert readiness(server)[0] == 200


def test_what_empties_a_full_store_goes_on_beside_what_is_refused(own: ValkeyProcess) -> None:
    with coordinator("--redis-url", own.url) as server, connected(server, "ws") as client:
        for number in (1, 2):
            flow_of(client, number, number)
        fill(own)

        replies = client.batch(
            [
                create("job", 1, sample("job", 1, 99)),
                ("flow.cancel", {"context_id": 1, "id": 1}),
                create("job", 1, sample("job", 1, 98)),
                ("flow.cancel", {"context_id": 1, "id": 2}),
            ]
        )

        assert [reply.get("error", {}).get("code") for reply in replies] == [-32010, None, -32010, None]


def test_retention_goes_on_in_a_full_store_after_a_restart(own: ValkeyProcess) -> None:
    options = "--redis-url", own.url, "--retention", "1"
    with coordinator(*options) as server, connected(server, "http") as client:
        flow_of(client, 1, 1)
        server.kill()
    fill(own)
    with coordinator(*options) as server, connected(server, "http") as client:
        client.result("flow.cancel", {"context_id": 1, "id": 1})
        until_sync(lambda: own.client(db=1).exists("flow:1", "job:7:1") == 0)
        names = [name for name in own.client().keys("engaged:*") if own.client().sismember(name, "1")]
        assert names


def test_an_eviction_policy_is_warned_of_at_start(own: ValkeyProcess) -> None:
    own.client().config_set("maxmemory-policy", "allkeys-lru")
    with coordinator("--redis-url", own.url) as server:
        warnings = [entry for entry in server.logs if "noeviction" in entry["event"]]
        assert [entry["policy"] for entry in warnings] == ["allkeys-lru"]


def test_the_transitions_that_grow_the_store_are_those_of_the_library() -> None:
    growing = {
        line.split("'")[1] for line in library.SOURCE.splitlines() if line.startswith("register(") and "GROWS" in line
    }
    assert growing == GROWING


def readiness(server: CoordinatorProcess) -> tuple[int, dict[str, Any]]:
    response = httpx.get(f"{server.http}/readyz", headers=JSON, timeout=30, verify=False)
    return response.status_code, response.json()
