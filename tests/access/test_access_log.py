"""The access log: a line for each call, however it comes; and the request ids in it, which responses tell too."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

Line = dict[str, Any]
WAIT = 60.0
LOAD = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": 9}}
CREATE = {"id": 9, "admins": [], "readers": [], "executors": []}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access") / "access.jsonl"


@pytest.fixture(scope="module")
def server(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--access-log", str(kept), "--data-dir", str(tmp_path_factory.mktemp("data"))) as running:
        yield running


def lines_of(kept: Path, wanted: Callable[[Line], bool], count: int) -> list[Line]:
    """Those lines, once there are so many; they are written soon, not at once."""
    ends = time.monotonic() + WAIT
    while True:
        found = [line for line in map(json.loads, kept.read_text().splitlines()) if wanted(line)]
        if len(found) >= count or time.monotonic() > ends:
            assert len(found) == count, found
            return found
        time.sleep(0.02)


def of(request_id: str) -> Callable[[Line], bool]:
    return lambda line: bool(line["request_id"] == request_id)


def post(server: CoordinatorProcess, message: Any, request_id: str | None = None) -> httpx.Response:
    headers = {} if request_id is None else {"x-request-id": request_id}
    return httpx.post(server.http, json=message, headers=headers, timeout=WAIT, verify=False)


def test_each_call_of_a_message_has_a_line(server: CoordinatorProcess, kept: Path) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": "new", "method": "context.create", "params": {"context": CREATE}},
        {**LOAD, "id": 2},
        {"jsonrpc": "2.0", "method": "context.load", "params": {"id": 9}},
        {"jsonrpc": "2.0", "id": 4, "method": "job.load", "params": {"context_id": 9, "caller_id": 1, "id": 1}},
        {"jsonrpc": "2.0", "id": 5, "method": "job.load", "params": {"context_id": "nine"}},
        {"jsonrpc": "2.0", "id": 6, "method": "no.such_method"},
        {"jsonrpc": "2.0", "id": 7, "method": "rpc.discover"},
        17,
    ]

    post(server, calls, "batch-1")

    found = lines_of(kept, of("batch-1"), len(calls))
    assert {(line["method"], line["context"], line["outcome"], line["id"]) for line in found} == {
        ("context.create", 9, "ok", "new"),
        ("context.load", 9, "ok", "2"),
        ("context.load", 9, "ok", None),
        ("job.load", 9, -32001, "4"),
        ("job.load", None, -32602, "5"),
        ("no.such_method", None, -32601, "6"),
        ("rpc.discover", None, "ok", "7"),
        (None, None, -32600, "null"),
    }
    assert {(line["principal"], line["address"], line["transport"]) for line in found} == {
        ("anybody", "127.0.0.1", "http")
    }
    assert len({line["client"] for line in found}) == 1
    assert all(line["at"].endswith("Z") and 0 <= line["duration"] < WAIT for line in found)
    assert any(line["duration"] > 0 for line in found)


def test_what_is_no_json_and_what_waits_have_lines_too(server: CoordinatorProcess, kept: Path) -> None:
    headers = {"content-type": "application/json", "x-request-id": "broken-1"}
    httpx.post(server.http, content=b"{", headers=headers)
    post(server, {"jsonrpc": "2.0", "id": 1, "method": "context.create", "params": {"context": CREATE}})
    runner = {"id": 5, "pubkey": "k", "address": "127.0.0.1", "topic": "t", "local": True}
    post(
        server,
        {"jsonrpc": "2.0", "id": 1, "method": "runner.create", "params": {"context_id": 9, "runner": runner}},
    )
    wait = {"context_id": 9, "runner_id": 5, "script_types": ["Python"], "wait": 0.3}
    post(server, {"jsonrpc": "2.0", "id": 1, "method": "job.take", "params": wait}, "long-1")

    [broken] = lines_of(kept, of("broken-1"), 1)
    [waited] = lines_of(kept, of("long-1"), 1)

    assert (broken["method"], broken["outcome"]) == (None, -32700)
    assert (waited["method"], waited["outcome"]) == ("job.take", "ok")
    assert waited["duration"] >= 0.3


def test_a_call_whose_client_has_left_has_a_line(server: CoordinatorProcess, kept: Path) -> None:
    wait = {"context_id": 9, "runner_id": 5, "script_types": ["Python"], "wait": 30}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            server.http,
            json={"jsonrpc": "2.0", "id": 1, "method": "job.take", "params": wait},
            headers={"x-request-id": "gone-1"},
            timeout=1.0,
        )

    [line] = lines_of(kept, of("gone-1"), 1)

    assert (line["method"], line["outcome"]) == ("job.take", "abandoned")


@pytest.mark.parametrize("http2", [False, True])
def test_a_response_tells_the_id_it_was_given(server: CoordinatorProcess, kept: Path, http2: bool) -> None:
    given = f'"told/{http2}:0123-abc'.ljust(128, "x")
    with httpx.Client(http1=not http2, http2=http2) as client:
        reply = client.post(server.http, json=LOAD, headers={"x-request-id": given})
        silent = client.post(
            server.http,
            json={"jsonrpc": "2.0", "method": "context.load", "params": {"id": 9}},
            headers={"x-request-id": given},
        )
        page = client.get(f"{server.http}/healthz", headers={"x-request-id": given})

    assert [each.headers["x-request-id"] for each in (reply, silent, page)] == [given] * 3
    lines_of(kept, of(given), 2)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("given", [None, "", "two words", "x" * 129, "caf\xe9"])
def test_without_one_that_can_be_shown_a_new_one_is_made(
    server: CoordinatorProcess, kept: Path, given: str | None, http2: bool
) -> None:
    headers = [] if given is None else [(b"x-request-id", given.encode("latin-1"))]
    with httpx.Client(http1=not http2, http2=http2) as client:
        told = [client.post(server.http, json=LOAD, headers=headers).headers["x-request-id"] for _ in range(2)]

    assert len({*told}) == 2
    assert given not in told
    for request_id in told:
        [line] = lines_of(kept, of(request_id), 1)
        assert line["client"] == request_id


def test_calls_on_a_websocket_have_ids_of_their_own(server: CoordinatorProcess, kept: Path) -> None:
    with connect(server.ws) as client:
        for id in (1, 2):
            client.send(json.dumps({**LOAD, "id": id}))
            client.recv()
    first = lines_of(kept, lambda line: line["transport"] == "ws", 2)

    assert [line["request_id"] for line in first] == [f"{first[0]['client']}.1", f"{first[0]['client']}.2"]


def test_what_a_caller_sends_makes_no_line_of_its_own(server: CoordinatorProcess, kept: Path) -> None:
    hostile = 'x","principal":"operator"}\n{"a":"\x1b[2J hc_secretsecretsecret'

    post(server, {"jsonrpc": "2.0", "id": hostile, "method": hostile}, "hostile-1")

    [line] = lines_of(kept, of("hostile-1"), 1)
    assert line["principal"] == "anybody"
    assert line["method"] == hostile.replace("hc_secretsecretsecret", "hc_***")[:64]
    assert "\x1b" not in kept.read_text()


def test_without_the_log_no_id_is_made_but_one_that_is_given_is_told(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path)) as server:
        assert "x-request-id" not in post(server, LOAD).headers
        assert post(server, LOAD, "given-1").headers["x-request-id"] == "given-1"
