"""Who opens a new connection for each call is counted by where it is."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.access import callers
from tests.access.callers import caller
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

THREADS, SECONDS = 20, 3.0
A_SECOND, FREE = 50, 10
LOAD = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": 1}}
OVERLOADED = -32043


def test_a_new_connection_for_each_bad_token_helps_nobody(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path), "--auth", "keys", "--workers", "1") as server:
        token = callers.operator_token(tmp_path)
        with caller(server, "http", token) as known, caller(server, "ws", token) as connected:
            for one in (known, connected):
                one.result("actor.create", callers.actor(1))
            began, ends = time.monotonic(), time.monotonic() + SECONDS
            sent = [0] * THREADS

            def flood(number: int) -> None:
                while time.monotonic() < ends:
                    with _posted(server, LOAD, f"Authorization: Bearer hc_{secrets.token_urlsafe(32)}") as one:
                        assert one.recv(65536).startswith(b"HTTP/1.1 401")
                    sent[number] += 1

            threads = [threading.Thread(target=flood, args=(number,)) for number in range(THREADS)]
            for thread in threads:
                thread.start()
            served = 0
            while time.monotonic() < ends:  # from the same address, with tokens that are good
                for one in (known, connected):
                    one.result("actor.load", {"id": 1})
                    served += 1
            for thread in threads:
                thread.join()
            assert sum(sent) <= A_SECOND * (time.monotonic() - began) + FREE + 2 * THREADS
            assert served > 4
            # Somebody who is new there waits a moment.
            with caller(server, "http", token) as new:
                assert "result" in new.call("actor.load", {"id": 1})


def test_places_of_waiting_calls_are_those_of_the_address_a_proxy_tells() -> None:
    most = 16  # half of the places are no fewer
    arguments = "--behind-proxy", "127.0.0.0/8", "--max-subscriptions", str(2 * most), "--workers", "1"
    with coordinator(*arguments) as server, caller(server, "http") as one:
        one.result("context.create", callers.context(1, admins=[], executors=[], readers=[]))
        for id in range(1, most + 3):
            one.result("runner.create", callers.runner(1, id))
        waiting = [_take(server, runner, "203.0.113.1") for runner in range(1, most + 1)]
        try:
            refused = _take(server, most + 1, "203.0.113.1")
            reply = json.loads(refused.recv(65536).partition(b"\r\n\r\n")[2])
            assert reply["error"]["code"] == OVERLOADED
            assert "203.0.113.1" in reply["error"]["data"]["detail"]
            refused.close()
            other = _take(server, most + 2, "203.0.113.2")
            waiting.append(other)
            other.settimeout(1)
            with pytest.raises(TimeoutError):
                other.recv(65536)
        finally:
            for client in waiting:
                client.close()


def _take(server: CoordinatorProcess, runner: int, address: str) -> socket.socket:
    """A call that waits for a job."""
    params = {"context_id": 1, "runner_id": runner, "script_types": ["Python"], "wait": 20}
    call = {"jsonrpc": "2.0", "id": 1, "method": "job.take", "params": params}
    one = _posted(server, call, f"X-Forwarded-For: {address}")
    time.sleep(0.05)
    return one


def _posted(server: CoordinatorProcess, call: Any, header: str) -> socket.socket:
    """A connection of its own for this call."""
    parts, body = urlsplit(server.http), json.dumps(call).encode()
    one = socket.create_connection((parts.hostname, parts.port), timeout=30)
    head = f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\n{header}\r\nContent-Type: application/json\r\n"
    one.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return one
