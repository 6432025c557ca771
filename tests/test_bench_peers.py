"""The peer of the benchmarks that is written in Rust: it answers as the coordinator does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from bench import calls, cargo, servers
from bench.machine import Cores
from bench.servers import BenchServer
from coordinator.load.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ANYWHERE = Cores(None, None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BenchServer, BenchServer]]:
    """The coordinator and the peer, each with the jobs that are asked for."""
    if not cargo.is_there():
        pytest.skip("cargo is missing")
    cargo.built()  # before anything waits for it
    root = tmp_path_factory.mktemp("data")
    with servers.coordinator(ANYWHERE, root, "--fsync", "everysec") as ours:
        with servers.stack(ANYWHERE, root, "jsonrpsee", "everysec") as peer:
            for server in (ours, peer):
                server.seed(range(1, 2))
            yield ours, peer


def over_websocket(server: BenchServer, payload: bytes) -> Any:
    with connect(server.urls["ws"]) as socket:
        socket.send(payload.decode())
        return json.loads(socket.recv(timeout=30))


@pytest.mark.parametrize("kind", ["load", "create"])
@pytest.mark.parametrize("batch", [1, 100])
def test_it_answers_as_the_coordinator(pair: tuple[BenchServer, BenchServer], kind: Kind, batch: int) -> None:
    for payload in calls.samples(kind, batch):
        ours, theirs = (calls.comparable(server.post(payload)) for server in pair)
        assert theirs == ours
        ours, theirs = (calls.comparable(over_websocket(server, payload)) for server in pair)
        assert theirs == ours


def test_in_a_batch_each_call_has_its_own_answer_and_a_notification_none(
    pair: tuple[BenchServer, BenchServer],
) -> None:
    good = json.loads(calls.samples("load", 1)[0])
    absent = json.loads(calls.samples("load", 1)[1])
    bad = {**good, "id": "bad", "params": {"context_id": 1}}
    silent = {name: value for name, value in good.items() if name != "id"}
    batch = json.dumps([good, bad, silent, absent, {**good, "id": "last"}]).encode()

    for server in pair:
        replies = server.post(batch)
        told = {reply["id"]: reply.get("error", {}).get("code") for reply in replies}
        assert told == {good["id"]: None, "bad": -32602, "absent": -32001, "last": None}
