"""`herocoordinator call`, to any URL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, coordinator

TRANSPORTS = ["http", "ws"]
SCRIPT = "x" * 700_000


@contextmanager
def answering(reply: bytes | None) -> Iterator[int]:
    """The port of a server that answers whatever it reads first with these bytes, and with None never."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            clients.append(client)
            client.recv(65536)
            if reply is not None:
                client.sendall(reply)
                client.close()

    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # so accept ends
            for client in clients:
                client.close()


@pytest.fixture(scope="module")
def on_ipv6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    arguments = ("--api-http-ip", "::1", "--api-ws-ip", "::1")
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("v6")), *arguments) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_ipv6_address_in_brackets_is_reached(on_ipv6: CoordinatorProcess, transport: str) -> None:
    url = getattr(on_ipv6, transport)
    assert "[::1]" in url

    called = herocoordinator("call", "--url", url, "context.list")

    assert called.returncode == 0, called.stderr


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_reply_over_1_mib_is_printed_whole(server: CoordinatorProcess, context: int, transport: str) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = herocoordinator("call", "--url", getattr(server, transport), *arguments)
        assert done.returncode == 0, done.stderr
        return done

    call("context.create", json.dumps([{"id": context, "admins": [7], "readers": [], "executors": [7]}]))
    for id in (1, 2):
        job = {"id": id, "caller_id": 7, "context_id": context, "script": SCRIPT, "script_type": "Python", "timeout": 1}
        params = json.dumps([context, {**job, "retries": 0, "env_vars": {}, "prerequisites": [], "depends": []}])
        created = subprocess.run(
            [sys.executable, "-m", "coordinator", "call", "--url", getattr(server, transport), "job.create", "-"],
            input=params,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert created.returncode == 0, created.stderr

    listed = call("job.list", json.dumps({"context_id": context}))

    assert [job["script"] for job in json.loads(listed.stdout)["items"]] == [SCRIPT, SCRIPT]


def test_the_url_of_either_port_serves_commands_for_websockets(server: CoordinatorProcess, context: int) -> None:
    as_http = server.ws.replace("ws://", "http://") + "/"
    bare = server.ws.removeprefix("ws://")

    for url in (as_http, bare):
        listed = herocoordinator("flow", "list", "--context", str(context), env={"HEROCOORDINATOR_URL": url})
        assert listed.returncode == 0, listed.stderr


REPLIES = [
    (
        "http",
        b"HTTP/1.1 301 Moved\r\nLocation: https://h:9/\r\n\r\n",
        "301 Moved Permanently (it has moved to https://h:9/)",
    ),
    ("http", b"HTTP/1.1 401 No\r\n\r\n", "401 Unauthorized (it asks for credentials: --key FILE"),
    (
        "http",
        b"HTTP/1.1 403 No\r\n\r\nforeign\x1b[31m Host\n",
        "403 Forbidden: foreign [31m Host (it does not let us in)",
    ),
    ("http", b"HTTP/1.1 426 No\r\n\r\n", "426 Upgrade Required (it serves WebSockets only: the URL begins with ws://)"),
    (
        "http",
        b"HTTP/1.1 503 No\r\n\r\nfull",
        "503 Service Unavailable: full (it accepts no more clients at the moment, or a proxy cannot",
    ),
    ("http", b"HTTP/1.1 404 No\r\n\r\n<p>lost</p>", "404 Not Found (this is no coordinator's HTTP API)"),
    ("http", b"HTTP/1.1 200 OK\r\n\r\nhello", "its answer is no JSON-RPC: hello"),
    ("http", b"SSH-2.0-x\r\n", "what listens there is no HTTP server"),
    ("http", b"", "it closed the connection in the handshake; if it speaks TLS, the URL begins with https://"),
    ("http", b"\x15\x03\x01\x00\x02\x02\x16", "it speaks TLS: the URL begins with https://"),
    (
        "ws",
        b"HTTP/1.1 302 Moved\r\nLocation: /login\r\ncontent-length: 0\r\n\r\n",
        "302 Found (it has moved to /login)",
    ),
    ("ws", b"HTTP/1.1 403 No\r\ncontent-length: 4\r\n\r\nhost", "403 Forbidden: host (it does not let us in)"),
    (
        "ws",
        b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nfull",
        "503 Service Unavailable: full (it accepts no more clients",
    ),
    ("ws", b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", "404 Not Found (this is no WebSocket of a coordinator"),
    (
        "ws",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "200 OK: hi (this is no WebSocket of a coordinator, or a proxy before it passes no WebSockets on)",
    ),
    ("ws", b"SSH-2.0-x\r\n", "what listens there is no HTTP server"),
    ("ws", b"HTTP/1.1 what\r\n\r\n", "what listens there is no HTTP server"),
    ("ws", b"", "it closed the connection in the handshake; if it speaks TLS, the URL begins with wss://"),
    ("ws", b"\x15\x03\x01\x00\x02\x02\x16", "it speaks TLS: the URL begins with wss://"),
]


@pytest.mark.parametrize(("transport", "reply", "why"), REPLIES)
def test_what_answers_something_else_is_described_in_one_line(transport: str, reply: bytes, why: str) -> None:
    with answering(reply) as port:
        url = f"{transport}://127.0.0.1:{port}"
        called = herocoordinator("call", "--url", url, "context.list")

    assert f"herocoordinator: no connection to {url}: " in called.stderr
    assert why in called.stderr
    assert called.stderr.count("\n") == 1
    assert called.returncode == (1 if why.startswith(("401", "403")) else 3)


def test_a_name_that_is_unknown_and_a_port_that_is_assumed_are_said() -> None:
    unknown = herocoordinator("call", "--url", "http://nowhere.invalid:1", "context.list")
    assert "there is no host 'nowhere.invalid'" in unknown.stderr
    assert unknown.returncode == 3

    assumed = herocoordinator("call", "--url", "ws://127.9.9.9", "context.list")
    assert "no connection to ws://127.9.9.9:9653: Connection refused (the URL names no port" in assumed.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_is_silent_is_given_up(transport: str) -> None:
    with answering(None) as port:
        called = herocoordinator("call", "--url", f"{transport}://127.0.0.1:{port}", "--timeout", "1", "context.list")

    assert called.returncode == 3
    assert "within 1 s" in called.stderr or "it has not answered yet" in called.stderr
    assert called.stderr.count("\n") == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ctrl_c_ends_a_call_that_waits(transport: str) -> None:
    with answering(None) as port:
        url = f"{transport}://127.0.0.1:{port}"
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator", "call", "--url", url, "context.list"],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for_connection(process.pid, port)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130
    assert stderr == "herocoordinator: interrupted\n"


def wait_for_connection(pid: int, port: int) -> None:
    """Until the process has a connection to this port."""
    ending = f":{port:04X}"
    for _ in range(3000):
        inodes = set()
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                inodes.add(os.readlink(path))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, _, remote, state, *rest = line.split()
            if remote.endswith(ending) and state == "01" and f"socket:[{rest[5]}]" in inodes:
                return
        threading.Event().wait(0.02)
    raise AssertionError("it does not connect")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "ws://me:secret@h:1", "context.list"),
        ("--url", "http:/h:1", "context.list"),
        ("--timeout", "0", "context.list"),
        ("--timeout", "nan", "context.list"),
        ("context.list", '"\\ud83d"'),
        ("context.list", "[NaN]"),
        ("context.list", "[1e999]"),
        ("context.list", "[" * 100_000),
    ],
)
def test_what_cannot_be_sent_is_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    called = herocoordinator("call", *arguments)

    assert called.returncode == 2
    assert "Traceback" not in called.stderr
    assert "secret" not in called.stderr


# -- the command line as a whole


@pytest.mark.parametrize("asked", ["--version", "-V", "version"])
def test_the_version_is_printed_however_it_is_asked_for(asked: str) -> None:
    done = herocoordinator(asked)

    assert done.returncode == 0
    assert done.stdout.startswith("herocoordinator, version ")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(("flwo",), "'flow'"), (("flow", "lst"), "'list'"), (("call", "--ulr", "x", "m"), "'--url'")],
)
def test_what_was_probably_meant_is_said(arguments: tuple[str, ...], meant: str) -> None:
    done = herocoordinator(*arguments)

    assert done.returncode == 2
    assert f"Did you mean {meant}" in done.stderr


COMMANDS = [(), ("serve",), ("runner",), ("call",), ("demo",), ("openrpc",), ("version",), ("flow",)]
COMMANDS += [("flow", name) for name in ("run", "list", "show", "follow", "logs", "cancel", "retry")]
COMMANDS += [("job", name) for name in ("list", "attempts")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_h_and_where_it_connects_the_same_options(command: tuple[str, ...]) -> None:
    shown = herocoordinator(*command, "-h").stdout

    assert shown.startswith("Usage: ")
    if command[:1] in (("runner",), ("call",)) or command[1:]:
        assert "HEROCOORDINATOR_URL" in shown
        assert "HEROCOORDINATOR_CA" in shown


def test_each_command_but_the_smallest_shows_an_example() -> None:
    for command in ((), ("serve",), ("runner",), ("call",), ("demo",), ("flow",), ("job",)):
        lines = herocoordinator(*command, "--help").stdout.splitlines()
        assert any(line.strip().startswith(" ".join(("herocoordinator", *command))) for line in lines[1:]), command
