"""What one caller may use of the coordinator, and that others get theirs meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.access import callers
from tests.access.callers import Caller, caller
from tests.support.server import CoordinatorProcess, coordinator

OVERLOADED = -32043
CALLS = 40  # a second of one caller
BURST = 2 * CALLS
TRANSPORTS = ["http", "http2", "ws"]
GREEDY, MODEST = 1, 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limits")


@pytest.fixture(scope="module")
def limited(home: Path) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(home), "--auth", "keys", "--caller-calls", str(CALLS)) as server:
        yield server


@pytest.fixture
def tokens(limited: CoordinatorProcess, home: Path) -> tuple[str, str]:
    """The tokens of two actors who have used nothing of their limits."""
    with caller(limited, "http", callers.operator_token(home)) as operator:
        found = []
        for _ in range(2):
            id = next(_ids)
            _patiently(operator, "actor.create", callers.actor(id))
            found.append(_patiently(operator, "token.create", {"label": "t", "principal": f"actor:{id}"})["token"])
    return found[0], found[1]


_ids = iter(range(100, 10_000))


def _patiently(one: Caller, method: str, params: Any) -> Any:
    """The result of a call, which waits as long as it is told to."""
    while True:
        reply = one.call(method, params)
        if "result" in reply:
            return reply["result"]
        assert reply["error"]["code"] == OVERLOADED, reply
        time.sleep(reply["error"]["data"]["retry_after"])


def _open(
    server: CoordinatorProcess, transport: str, token: str | None, headers: dict[str, str] | None = None
) -> Caller:
    one = Caller(server, transport.removesuffix("2"), token, headers)
    if transport == "http2":
        assert one.http is not None
        shown = dict(one.http.headers)
        one.http.close()
        one.http = httpx.Client(base_url=one.url, headers=shown, timeout=30, verify=False, http1=False, http2=True)
    return one


WHOAMI = {"jsonrpc": "2.0", "id": 1, "method": "auth.whoami", "params": {}}


def _flood(one: Caller) -> dict[str, Any]:
    """Call until a call is refused. Returns the error."""
    for _ in range(20 * BURST):
        reply = one.send(WHOAMI)
        if "error" in reply:
            assert reply["error"]["code"] == OVERLOADED, reply
            assert reply["id"] == 1
            data: dict[str, Any] = reply["error"]["data"]
            return data
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_floods_is_refused_and_nobody_else(
    limited: CoordinatorProcess, tokens: tuple[str, str], transport: str
) -> None:
    greedy, modest = (_open(limited, transport, token) for token in tokens)
    try:
        refused = _flood(greedy)
        assert refused["setting"] == "caller_calls"
        assert refused["limit"] == CALLS
        assert 0 < refused["retry_after"] <= 2
        for _ in range(BURST // 2):
            assert "result" in modest.send(WHOAMI)
    finally:
        greedy.close()
        modest.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_after_the_time_that_is_named_calls_succeed(
    limited: CoordinatorProcess, tokens: tuple[str, str], transport: str
) -> None:
    one = _open(limited, transport, tokens[0])
    try:
        for _ in range(5):
            time.sleep(_flood(one)["retry_after"])
            assert "result" in one.send(WHOAMI)
    finally:
        one.close()


def test_a_caller_is_the_same_over_every_transport(limited: CoordinatorProcess, tokens: tuple[str, str]) -> None:
    with caller(limited, "ws", tokens[0]) as ws, caller(limited, "http", tokens[0]) as http:
        began, sent = time.monotonic(), 0
        while "result" in ws.send(WHOAMI) and "result" in http.send(WHOAMI):
            sent += 2
        assert sent <= BURST + CALLS * (time.monotonic() - began)


def test_a_batch_is_carried_out_as_a_whole_or_not_at_all(limited: CoordinatorProcess, tokens: tuple[str, str]) -> None:
    for transport in TRANSPORTS:
        one = _open(limited, transport, tokens[0])
        try:
            batch = [{**WHOAMI, "id": f"call {number}"} for number in range(BURST - 1)]
            refused = None
            for _ in range(3):
                reply = one.send(batch)
                if isinstance(reply, dict):
                    refused = reply
                    break
                assert all("result" in item for item in reply)
            assert refused is not None
            assert refused["id"] == "call 0"
            assert refused["error"]["code"] == OVERLOADED
            time.sleep(refused["error"]["data"]["retry_after"])
            assert len(one.send(batch)) == BURST - 1
        finally:
            one.close()


def test_a_batch_that_is_more_than_the_burst_waits_until_nothing_is_owed(
    limited: CoordinatorProcess, tokens: tuple[str, str]
) -> None:
    with caller(limited, "ws", tokens[0]) as one:
        batch = [{**WHOAMI, "id": number} for number in range(BURST + 20)]
        assert len(one.send(batch)) == len(batch)
        refused = one.send(batch)
        assert refused["error"]["code"] == OVERLOADED
        time.sleep(refused["error"]["data"]["retry_after"])
        assert len(one.send(batch)) == len(batch)


def test_notifications_count(limited: CoordinatorProcess, tokens: tuple[str, str]) -> None:
    notification = {"jsonrpc": "2.0", "method": "auth.whoami", "params": {}}
    with caller(limited, "ws", tokens[0]) as one:
        assert one.ws is not None
        for _ in range(BURST + CALLS):
            one.ws.send(json.dumps(notification))
        reply = one.next_reply()
        assert reply["id"] is None
        assert reply["error"]["code"] == OVERLOADED
    with caller(limited, "http", tokens[1]) as one:
        statuses = [one.post(notification).status_code for _ in range(2 * BURST)]
        assert set(statuses) == {204, 429}


def test_over_http_the_status_is_429_and_says_when_to_come_back(
    limited: CoordinatorProcess, tokens: tuple[str, str]
) -> None:
    for transport in ("http", "http2"):
        one = _open(limited, transport, tokens[0])
        try:
            for _ in range(20 * BURST):
                response = one.post(WHOAMI)
                if response.status_code != 200:
                    break
            assert response.status_code == 429
            assert response.headers["content-type"] == "application/json"
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["data"]["retry_after"] <= int(response.headers["retry-after"])
        finally:
            one.close()


def test_a_websocket_that_floods_on_is_not_read(limited: CoordinatorProcess, tokens: tuple[str, str]) -> None:
    """What it has sent is answered as fast as it may call, and not refused as fast as it sends."""
    with caller(limited, "ws", tokens[0]) as one:
        assert one.ws is not None
        sent = BURST * 3
        began = time.monotonic()
        for _ in range(sent):
            one.ws.send(json.dumps(WHOAMI))
        replies = [one.next_reply() for _ in range(sent)]
        took = time.monotonic() - began
        done = sum("result" in reply for reply in replies)
        assert done >= BURST
        assert done <= BURST + CALLS * took + 1
        assert sent - done <= BURST + CALLS * took  # refusals are paced, too


def test_strangers_are_counted_by_address_and_cost_nobody_who_has_logged_in(
    limited: CoordinatorProcess, tokens: tuple[str, str]
) -> None:
    with caller(limited, "http") as stranger, caller(limited, "ws") as other:
        _flood(stranger)
        assert "error" in other.send(WHOAMI) or "error" in other.send(WHOAMI)  # it is at the same address
        assert stranger.http is not None
        garbage = stranger.http.post("/", content=b"{", headers={"content-type": "application/json"})
        refused = [garbage.json()["error"]["code"], stranger.send(WHOAMI).get("error", {}).get("code")]
        assert OVERLOADED in refused
        # Whose these tokens are is not known to the coordinator yet when their first request comes.
        for transport in ("http", "ws"):
            with caller(limited, transport, tokens[1]) as one:
                for _ in range(BURST // 4):
                    assert "result" in one.send(WHOAMI)


def test_bytes_of_messages_and_of_replies_count() -> None:
    limit = 100_000
    with coordinator("--caller-bytes", str(limit)) as server, caller(server, "http") as one:
        large = {"jsonrpc": "2.0", "id": 7, "method": "absent", "params": {"text": "x" * 60_000}}
        codes = [one.send(large)["error"] for _ in range(6)]
        refused = [error for error in codes if error["code"] == OVERLOADED]
        assert len(refused) >= 2
        assert refused[0]["data"]["setting"] == "caller_bytes"
        assert refused[0]["data"]["limit"] == limit
    with coordinator("--caller-bytes", str(limit)) as server, caller(server, "ws") as one:
        discover = {"jsonrpc": "2.0", "id": 7, "method": "rpc.discover"}
        replies = [one.send(discover) for _ in range(8)]
        refused = [reply for reply in replies if "error" in reply]
        assert refused, "the document is large, and the requests are small"
        assert refused[0]["error"]["data"]["setting"] == "caller_bytes"
        assert refused[0]["id"] == 7


def test_each_of_several_workers_gives_its_share(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path), "--workers", "2", "--caller-calls", str(CALLS)) as server:
        began, done = time.monotonic(), 0
        for _ in range(8):  # the connections go to both
            with caller(server, "ws") as one:
                while "result" in one.send(WHOAMI):
                    done += 1
        assert done <= BURST + CALLS * (time.monotonic() - began) + 2
        assert done >= BURST // 2


def test_without_limits_nothing_is_refused() -> None:
    with coordinator() as server, caller(server, "ws") as one:
        for _ in range(10 * BURST):
            assert "result" in one.send(WHOAMI)


@pytest.mark.parametrize(("proxy", "counts"), [("127.0.0.0/8", True), ("192.0.2.0/24", False)])
def test_an_address_that_a_proxy_tells_counts_and_no_other(proxy: str, counts: bool) -> None:
    """The test calls from 127.0.0.1, which is the proxy or is not."""
    arguments = "--caller-calls", str(CALLS), "--behind-proxy", proxy
    for transport in TRANSPORTS:
        with coordinator(*arguments) as server:
            one, same, other = (
                _open(server, transport, None, {"x-forwarded-for": f"198.51.100.9, {address}"})
                for address in ("203.0.113.1", "203.0.113.1", "203.0.113.2")
            )
            try:
                # Each in one message, however slow this machine is.
                assert _served(one) >= BURST
                assert _served(same) < BURST
                assert (_served(other) >= BURST) is counts
            finally:
                for client in (one, same, other):
                    client.close()


def _served(one: Caller) -> int:
    """How many calls of a batch succeed that has twice as many as a caller may do at once."""
    replies = one.send([{**WHOAMI, "id": id} for id in range(2 * BURST)])
    return sum("result" in reply for reply in replies)
