"""Large replies that nobody reads: what one client makes us hold is bounded, and everything arrives in the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.clients import JSON, PATIENCE, request
from tests.support.looking import resident
from tests.support.multiprocess import worker_with
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import RawClient, call_frame, job, job_ids

MIB: Final = 1024 * 1024
BUDGET: Final = 4 * MIB
LOADS: Final = 300
RECORD: Final = 900_000  # bytes: 270 MB are asked for
MOST: Final = 8 * BUDGET / MIB + 24  # MiB; several times what a budget allows, a fraction of what is asked for


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path), "--max-unsent-bytes", str(BUDGET)) as running:
        yield running


def post(server: CoordinatorProcess, content: Any) -> Any:
    return httpx.post(server.http, content=json.dumps(content), headers=JSON, timeout=PATIENCE, verify=False).json()


def create(server: CoordinatorProcess, context: int, id: int, size: int) -> None:
    assert "result" in post(server, request("job.create", job(context, id, "x" * size), 1))


@contextmanager
def growth(pid: int) -> Iterator[list[float]]:
    """How many MiB a process has grown by at the most meanwhile; in the list once the block is over."""
    found: list[float] = []
    before = peak = resident(pid)
    is_over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(0.005):
            peak = max(peak, resident(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        is_over.set()
        watching.join()
        found.append(max(peak, resident(pid)) - before)


def loads(context: int, id: int, count: int = LOADS) -> bytes:
    return b"".join(call_frame(at, "job.load", job_ids(context, id)) for at in range(count))


def received(client: RawClient, count: int) -> list[int]:
    """Read so many replies with a result; their ids in the order they came."""
    ids: list[int] = []
    buffer = bytearray()
    while len(ids) < count:
        data = client.socket.recv(1 << 20)
        assert data, f"closed after {len(ids)} of {count} replies"
        buffer += data
        while len(buffer) >= 10:
            length, start = buffer[1], 2
            if length > 125:
                start = 4 if length == 126 else 10
                length = int.from_bytes(buffer[2:start])
            if len(buffer) < start + length:
                break
            head = bytes(buffer[start : start + 60])
            del buffer[: start + length]
            assert b'"result"' in head, head
            ids.append(int(head.partition(b'"id":')[2].split(b",")[0]))
    return ids


def flood(server: CoordinatorProcess, pid: int, clients: int = 1) -> None:
    """Ask for far more than we may hold, do not read, then do: it is bounded meanwhile, and all of it comes."""
    flooding = [RawClient(server.ws) for _ in range(clients)]
    for client in flooding:
        client.upgrade()
    with growth(pid) as grown:
        for client in flooding:
            client.socket.sendall(loads(1, 1))
        with connect(server.ws) as other:  # whose calls go on
            for at in range(50):
                other.send(json.dumps(request("job.load", job_ids(2, 1), at)))
                assert json.loads(other.recv(PATIENCE))["id"] == at
        for client in flooding:
            assert received(client, LOADS) == [*range(LOADS)]
    for client in flooding:
        client.close()
    assert grown[0] < MOST * clients


@pytest.mark.parametrize("clients", [1, 3])
def test_loads_of_a_large_record_that_nobody_reads(server: CoordinatorProcess, clients: int) -> None:
    create(server, 1, 1, RECORD)
    create(server, 2, 1, 10)

    flood(server, server.process.pid, clients)


def test_the_same_after_a_restart_when_only_the_store_knows_how_large_it_is(tmp_path: Path) -> None:
    arguments = ("--data-dir", str(tmp_path), "--max-unsent-bytes", str(BUDGET))
    with coordinator(*arguments) as server:
        create(server, 1, 1, RECORD)
        create(server, 2, 1, 10)
    with coordinator(*arguments) as server:
        flood(server, server.process.pid)


def test_the_same_after_many_small_ones_on_a_connection_that_knew_no_large_one(server: CoordinatorProcess) -> None:
    create(server, 1, 2, 10)
    create(server, 2, 1, 10)
    with connect(server.ws) as first:
        for at in range(200):
            first.send(json.dumps(request("job.load", job_ids(1, 2), at)))
        for _ in range(200):
            first.recv(PATIENCE)
    create(server, 1, 1, RECORD)

    flood(server, server.process.pid)


def test_a_large_record_written_through_one_worker_is_known_to_another(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path), "--max-unsent-bytes", str(BUDGET), "--workers", "2") as server:
        clients = [RawClient(server.ws) for _ in range(2)]
        for client in clients:
            client.upgrade()
        here, there = (worker_with(server, server.ws, client.port) for client in clients)
        assert here != there
        create(server, 1, 1, RECORD)
        with growth(here) as grown:
            clients[0].socket.sendall(loads(1, 1))
            assert received(clients[0], LOADS) == [*range(LOADS)]
        with growth(there) as grown_there:
            clients[1].socket.sendall(loads(1, 1))
            assert received(clients[1], LOADS) == [*range(LOADS)]

    assert max(*grown, *grown_there) < MOST


def test_calls_that_arrive_with_the_write_of_a_large_record(server: CoordinatorProcess) -> None:
    create(server, 1, 2, 10)
    client = RawClient(server.ws)
    client.upgrade()
    message = json.dumps(request("job.create", job(1, 1, "x" * RECORD), 1000)).encode()
    frame = b"\x81\xff" + len(message).to_bytes(8, "big") + bytes(4) + message
    with growth(server.process.pid) as grown:
        client.socket.sendall(frame + loads(1, 1))
        assert received(client, LOADS + 1) == [1000, *range(LOADS)]
    client.close()

    assert grown[0] < MOST


def batch_of(method: str, params: dict[str, Any], count: int = LOADS) -> list[dict[str, Any]]:
    return [request(method, params, at) for at in range(count)]


LISTS: Final = [
    ("job.load", job_ids(1, 1)),
    ("job.list", {"context_id": 1, "limit": 1}),
    ("job.list", {"context_id": 1, "limit": 100}),
    ("job.list", {"context_id": 1, "limit": 1, "status": "Dispatched"}),
]


@pytest.mark.parametrize(("method", "params"), LISTS)
def test_a_batch_of_large_replies(server: CoordinatorProcess, method: str, params: dict[str, Any]) -> None:
    for id in range(1, 31):
        create(server, 1, id, RECORD)
    with growth(server.process.pid) as grown:
        replies = post(server, batch_of(method, params))

    assert [reply["id"] for reply in replies] == [*range(LOADS)]
    assert {reply.get("error", {}).get("code") for reply in replies} == {None, -32030}
    assert grown[0] < MOST + 80  # the reply to a batch may have 16 MiB, and is copied on its way


def test_events_of_a_talkative_job(server: CoordinatorProcess) -> None:
    runner = {"id": 3, "pubkey": "", "address": "::1", "topic": "t", "local": True}
    post(server, request("runner.create", {"context_id": 1, "runner": runner}, 1))
    flow = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [1], "env_vars": {}}
    post(server, request("flow.submit", {"context_id": 1, "flow": flow, "jobs": [job(1, 1)["job"]]}, 1))
    taken = post(server, request("job.take", {"context_id": 1, "runner_id": 3, "script_types": ["Python"]}, 1))
    token = taken["result"]["jobs"][0]["token"]
    for _ in range(15):
        lines = {**job_ids(1, 1), "token": token, "stream": "stdout", "lines": ["y" * RECORD]}
        assert "result" in post(server, request("job.log", lines, 1))
    with growth(server.process.pid) as grown:
        replies = post(server, batch_of("flow.events", {"context_id": 1, "id": 1, "limit": 1000}))
    assert {reply.get("error", {}).get("code") for reply in replies} == {None, -32030}
    assert grown[0] < MOST + 80

    after, seen = "0-0", 0
    while page := post(server, request("flow.events", {"context_id": 1, "id": 1, "after": after, "limit": 9}, 1)):
        seen += len(page["result"]["events"])
        if not page["result"]["events"]:
            break
        after = page["result"]["last_event"]
    assert seen >= 15


def test_takes_of_jobs_with_large_inputs(server: CoordinatorProcess) -> None:
    runner = {"id": 3, "pubkey": "", "address": "::1", "topic": "t", "local": True}
    post(server, request("runner.create", {"context_id": 1, "runner": runner}, 1))
    for first in range(0, 200, 10):  # submitted in parts: a message has a limit
        ids = [*range(1000 + first, 1010 + first)]
        flow = {"id": 1 + first, "caller_id": 7, "context_id": 1, "jobs": ids, "env_vars": {}}
        jobs = [job(1, id, "x" * 90_000)["job"] for id in ids]
        assert "result" in post(server, request("flow.submit", {"context_id": 1, "flow": flow, "jobs": jobs}, 1))
    client = RawClient(server.ws)
    client.upgrade()
    take = {"context_id": 1, "runner_id": 3, "script_types": ["Python"], "wait": 20}
    with growth(server.process.pid) as grown:
        client.socket.sendall(b"".join(call_frame(at, "job.take", take) for at in range(200)))
        assert {*received(client, 200)} == {*range(200)}
    client.close()

    assert grown[0] < MOST


def test_a_client_that_leaves_while_it_is_held_back_frees_what_it_held(server: CoordinatorProcess) -> None:
    create(server, 1, 1, RECORD)
    pid = server.process.pid
    before = resident(pid)
    for _ in range(5):
        client = RawClient(server.ws)
        client.upgrade()
        client.socket.sendall(loads(1, 1))
        client.socket.recv(1)
        client.vanish()
    with connect(server.ws, max_size=None) as other:
        for at in range(20):
            other.send(json.dumps(request("job.load", job_ids(1, 1), at)))
            assert json.loads(other.recv(PATIENCE))["id"] == at

    assert resident(pid) - before < MOST
