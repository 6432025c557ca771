"""Data that earlier versions of the library have stored: a coordinator of this version serves it and goes on with it.

`tests/fixtures/upgrades/version-N.tar.gz` is the append-only directory of a coordinator with version N of the library:
of context 1, flow 1 is Finished, 2 in Error, of 3 job 31 is running, 4 waits for a prerequisite, 5 was never started, 6
is queued, and so is the job of message 1.
"""

from __future__ import annotations

import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.library import SCHEMA
from tests.support.clients import Client, HttpClient, connected
from tests.support.server import ValkeyProcess, coordinator, valkey
from tests.support.streaming import job

FIXTURES = Path(__file__).parent.parent / "fixtures" / "upgrades"
VERSIONS = (3, 4, 5, 6, 7, 8, 9, 10, 12)


@contextmanager
def served(directory: Path, version: int) -> Iterator[tuple[Client, ValkeyProcess]]:
    """A coordinator on that data, at the time when it was stored."""
    with tarfile.open(FIXTURES / f"version-{version}.tar.gz") as archive:
        archive.extractall(directory, filter="data")
    with valkey(directory, "--appendonly", "yes", "--databases", "1048576") as own:
        store = own.client(db=1)
        skew = int(store.hget("flow:6", "x_started")) + 1000 - int(time.time() * 1000)  # type: ignore[arg-type]
        store.hset("engine", "skew", skew)
        with coordinator("--redis-url", own.url) as server, connected(server, "http") as client:
            yield client, own


def token_of_running(own: ValkeyProcess) -> str:
    """What the runner of job 31 was told, as any of those versions has stored it."""
    store = own.client(db=1)
    token = store.hget("job:7:31", "x_token") or store.hget("job:7:31", "x_attempt").split()[1]  # type: ignore[union-attr]
    return str(token)


def take(client: Client) -> list[dict[str, Any]]:
    params = {"context_id": 1, "runner_id": 3, "script_types": ["Python"], "count": 10, "wait": 0}
    jobs: list[dict[str, Any]] = client.result("job.take", params)["jobs"]
    return jobs


def finish(client: Client, id: int, token: str) -> None:
    call = {"context_id": 1, "caller_id": 7, "id": id, "token": token, "result": {"r": str(id)}}
    assert client.result("job.finish", call) == {"status": "Finished", "attempt": 1}


def code_of(client: Client, method: str, params: Any) -> int:
    """The code of a call's error, which may be one that only runners get."""
    assert isinstance(client, HttpClient)
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return int(client.http.post("/", json=message).json()["error"]["code"])


def finish_all(client: Client) -> list[int]:
    """The jobs that could be run."""
    done: list[int] = []
    while jobs := take(client):
        for taken in jobs:
            finish(client, taken["job"]["id"], taken["token"])
            done.append(taken["job"]["id"])
    return sorted(done)


def status(client: Client, flow: int) -> str:
    shown: dict[str, Any] = client.result("flow.status", {"context_id": 1, "id": flow})
    return str(shown["flow"]["status"])


def check_counts(client: Client) -> None:
    """What context.stats says of flows and jobs is what lists have, also of those that were there before it counted."""
    stats = client.result("context.stats", {"context_id": 1})
    for kind in ("flow", "job"):
        records = client.result(f"{kind}.list", {"context_id": 1, "limit": 1000})["items"]
        there = Counter(record["status"] for record in records)
        assert stats[f"{kind}s"] == {status: there[status] for status in stats[f"{kind}s"]}
    assert stats["script_types"]["Python"]["jobs"] == sum(stats["jobs"].values()) > 5


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_earlier_version_has_begun_goes_on(tmp_path: Path, version: int) -> None:
    with served(tmp_path, version) as (client, own):
        token = token_of_running(own)
        check_counts(client)
        assert [status(client, flow) for flow in range(1, 7)] == [
            "Finished", "Error", "Started", "Started", "Dispatched", "Started",
        ]  # fmt: skip
        events = client.result("flow.events", {"context_id": 1, "id": 3})["events"]
        assert [(event["kind"], event["status"]) for event in events] == [("flow", "Started"), ("job", "Started")]
        assert events[1]["job_id"] == 31
        assert events[1]["runner_id"] == 3
        shown = client.result("flow.status", {"context_id": 1, "id": 3})
        assert next(job for job in shown["jobs"] if job["id"] == 31)["runner_id"] == 3
        beat = {"context_id": 1, "caller_id": 7, "id": 31, "token": token}
        assert client.result("job.heartbeat", beat)["lease"] == 3600.0

        finish(client, 31, token)
        finish(client, 31, token)  # a repeated report is answered like the first
        client.result("prerequisite.satisfy", {"context_id": 1, "name": "disk"})
        client.result("flow.start", {"context_id": 1, "id": 5})
        client.result("flow.retry", {"context_id": 1, "id": 2})

        assert finish_all(client) == [21, 22, 32, 41, 51, 61, 71]
        assert {status(client, flow) for flow in range(1, 7)} == {"Finished"}
        check_counts(client)
        message = client.result("message.load", {"context_id": 1, "caller_id": 7, "id": 1})
        assert message["status"] == "Processed"
        assert own.client(db=1).hget("engine", "schema") is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_flow_an_earlier_version_has_started_is_cancelled_whole(tmp_path: Path, version: int) -> None:
    with served(tmp_path, version) as (client, own):
        token = token_of_running(own)

        assert client.result("flow.cancel", {"context_id": 1, "id": 3})["status"] == "Error"
        assert client.result("flow.cancel", {"context_id": 1, "id": 4})["status"] == "Error"

        late = {"context_id": 1, "caller_id": 7, "id": 31, "token": token, "result": {}}
        assert code_of(client, "job.finish", late) == -32041
        client.result("flow.delete", {"context_id": 1, "id": 3})
        assert finish_all(client) == [61, 71]


def test_data_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    with served(tmp_path, 6) as (client, own):
        client.result("flow.load", {"context_id": 1, "id": 1})  # it has been brought to this layout
        own.client(db=1).hset("engine", "schema", "999")
        own.client().client_kill_filter(_type="normal", skipme=True)
        fault = client.error("flow.load", {"context_id": 1, "id": 1})
        assert fault["code"] == -32010
        assert "layout 999" in fault["data"]["detail"]


@pytest.mark.parametrize("isolation", ["index", "prefix"])
def test_a_context_says_its_layout_from_its_first_record_on(tmp_path: Path, isolation: str) -> None:
    """Else whoever connects next would have to look through all that was stored, and could not on a full disk."""
    with (
        valkey(tmp_path) as own,
        coordinator("--redis-url", own.url, "--isolation", isolation) as server,
        connected(server, "http") as client,
    ):
        store, engine = (own.client(db=3), "engine") if isolation == "index" else (own.client(), "{3}:engine")

        assert client.error("flow.load", {"context_id": 3, "id": 1})["code"] == -32001
        assert client.error("flow.cancel", {"context_id": 3, "id": 1})["code"] == -32001
        assert not store.exists(engine)

        client.result("job.create", job(3, 1))
        assert store.hget(engine, "schema") == str(SCHEMA)
