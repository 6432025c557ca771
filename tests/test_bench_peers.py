"""The peers of the benchmarks that need no Node: they answer as the coordinator does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from bench import calls, cargo, servers, stacks
from bench.machine import Cores
from bench.servers import BenchServer
from coordinator.load.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ANYWHERE = Cores(None, None)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchServer]:
    """The coordinator, with the jobs that are asked for."""
    with servers.coordinator(ANYWHERE, tmp_path_factory.mktemp("data"), "--fsync", "everysec") as server:
        server.seed(range(1, 2))
        yield server


@contextmanager
def started(name: str, root: Path) -> Iterator[BenchServer]:
    """A peer, with the same jobs."""
    if lack := stacks.missing(name):
        pytest.skip(f"{lack} is missing")
    with servers.stack(ANYWHERE, root, name, "everysec") as server:
        server.seed(range(1, 2))
        yield server


@pytest.fixture(scope="module", params=["fastapi", "uvicorn", "picows-jobs"])
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchServer]:
    """One in Python."""
    with started(request.param, tmp_path_factory.mktemp("data")) as server:
        yield server


@pytest.fixture(scope="module")
def in_rust(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchServer]:
    if cargo.is_there():
        cargo.built()  # before anything waits for it
    with started("jsonrpsee", tmp_path_factory.mktemp("data")) as server:
        yield server


def over_websocket(server: BenchServer, payload: bytes) -> Any:
    with connect(server.urls["ws"]) as socket:
        socket.send(payload.decode())
        return json.loads(socket.recv(timeout=30))


EXCHANGES: dict[str, Callable[[BenchServer, bytes], Any]] = {"http": BenchServer.post, "ws": over_websocket}


def answers_alike(ours: BenchServer, peer: BenchServer, kind: Kind, batch: int) -> None:
    for payload in calls.samples(kind, batch):
        for scheme in peer.urls:
            expected, found = (calls.comparable(EXCHANGES[scheme](server, payload)) for server in (ours, peer))
            assert found == expected


@pytest.mark.parametrize("kind", ["load", "create"])
@pytest.mark.parametrize("batch", [1, 100])
def test_it_answers_as_the_coordinator(ours: BenchServer, peer: BenchServer, kind: Kind, batch: int) -> None:
    answers_alike(ours, peer, kind, batch)


@pytest.mark.parametrize("kind", ["load", "create"])
@pytest.mark.parametrize("batch", [1, 100])
def test_in_rust_it_answers_as_the_coordinator(ours: BenchServer, in_rust: BenchServer, kind: Kind, batch: int) -> None:
    answers_alike(ours, in_rust, kind, batch)


def test_its_replies_come_with_optional_members_as_the_coordinators(ours: BenchServer, peer: BenchServer) -> None:
    create = json.loads(calls.samples("create", 1)[0])
    create["params"]["job"] |= {"id": 999, "name": 'a "name"', "tags": ["tier"], "result": {"a": "b"}}
    payload = json.dumps(create).encode()

    expected = calls.comparable(ours.post(payload))
    assert "name" in expected["result"]
    assert calls.comparable(peer.post(payload)) == expected


@pytest.mark.parametrize("message", ["{", "[1]", '{"jsonrpc":"2.0","id":1,"method":"job.load","params":{}}'])
def test_what_is_no_call_is_an_invalid_request_and_harms_nobody(peer: BenchServer, message: str) -> None:
    for scheme in peer.urls:
        assert EXCHANGES[scheme](peer, message.encode())["error"]["code"] == -32600
        assert EXCHANGES[scheme](peer, calls.samples("load", 1)[0])["result"]["id"] == 1


def test_in_a_batch_each_call_has_its_own_answer_and_a_notification_none(
    ours: BenchServer, in_rust: BenchServer
) -> None:
    good = json.loads(calls.samples("load", 1)[0])
    absent = json.loads(calls.samples("load", 1)[1])
    bad = {**good, "id": "bad", "params": {"context_id": 1}}
    silent = {name: value for name, value in good.items() if name != "id"}
    batch = json.dumps([good, bad, silent, absent, {**good, "id": "last"}]).encode()

    for server in (ours, in_rust):
        replies = server.post(batch)
        told = {reply["id"]: reply.get("error", {}).get("code") for reply in replies}
        assert told == {good["id"]: None, "bad": -32602, "absent": -32001, "last": None}
