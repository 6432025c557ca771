"""A call that was admitted and waits in a queue is not carried out if its caller's role has ended meanwhile."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.access import callers
from tests.access.callers import Caller, caller
from tests.support.server import ValkeyProcess, coordinator

CONTEXT, EXECUTOR, ADMIN = 1, 7, 8
CALLS = 12_000
LATENCY = 0.1  # seconds by which everything reaches the store later

pytestmark = pytest.mark.slow


@contextmanager
def _slow_way_to(port: int) -> Iterator[int]:
    """A port that leads to that one, but what is sent there takes a while."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                store = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=_relay, args=(client, store, LATENCY), daemon=True).start()
                threading.Thread(target=_relay, args=(store, client, 0), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def _relay(source: socket.socket, sink: socket.socket, latency: float) -> None:
    try:
        while data := source.recv(1 << 16):
            time.sleep(latency)
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        end.close()


def _create(id: int) -> str:
    params = {"context_id": CONTEXT, "job": callers.job(CONTEXT, EXECUTOR, id)}
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": "job.create", "params": params})


def _outcomes(one: Caller, count: int) -> Iterator[str]:
    for _ in range(count):
        reply = one.next_reply()
        yield "done" if "result" in reply else str(reply["error"]["code"])


def test_calls_that_wait_end_with_the_role_that_admits_them(store: ValkeyProcess, tmp_path: Path) -> None:
    operators = tmp_path / "operators"
    with ExitStack() as stack:
        port = stack.enter_context(_slow_way_to(store.port))
        arguments = "--redis-url", f"redis://127.0.0.1:{port}", "--auth", "keys", "--workers", "1"
        more = "--operator-token-file", str(operators), "--max-in-flight", str(2 * CALLS)
        server = stack.enter_context(coordinator(*arguments, *more))
        with caller(server, "http", operators.read_text().split()[0]) as operator:
            for id in (EXECUTOR, ADMIN):
                operator.result("actor.create", callers.actor(id))
            members = callers.context(CONTEXT, admins=[ADMIN], executors=[EXECUTOR], readers=[])
            operator.result("context.create", members)
            token = operator.result("token.create", {"label": "t", "principal": f"actor:{EXECUTOR}"})["token"]
            other = operator.result("token.create", {"label": "t", "principal": f"actor:{ADMIN}"})["token"]
        one = stack.enter_context(caller(server, "ws", token))
        admin = stack.enter_context(caller(server, "ws", other))
        one.result("job.create", json.loads(_create(CALLS + 1))["params"])
        admin.result("context.load", {"id": CONTEXT})
        assert one.ws is not None
        sending = one.ws

        def send() -> None:
            for id in range(1, CALLS + 1):
                sending.send(_create(id))

        sender = threading.Thread(target=send)
        sender.start()
        outcomes = _outcomes(one, CALLS)
        done = [next(outcomes) for _ in range(CALLS // 20)]
        assert {*done} == {"done"}
        sender.join()
        store.client(CONTEXT).hset(f"context:{CONTEXT}", "executors", "[]")
        began = time.monotonic()
        rest: list[tuple[float, str]] = [(time.monotonic() - began, outcome) for outcome in outcomes]
        refused = [outcome for _, outcome in rest if outcome != "done"]
        assert {*refused} == {"-32001"}, "nobody is anybody's executor any more"
        assert len(refused) > CALLS // 4
        stored = store.client(CONTEXT).zcard("index:job")
        assert stored == CALLS + 1 - len(refused), "what was refused was not carried out"
        assert "result" in admin.call("context.load", {"id": CONTEXT})
