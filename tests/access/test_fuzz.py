"""A hundred thousand messages with something wrong in them, as frames and as HTTP: others are served all the while,
nothing is an internal fault, and no memory is kept."""

from __future__ import annotations

import json
import random
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.access import callers
from tests.access.callers import caller
from tests.support.server import CoordinatorProcess, coordinator

MESSAGES: Final = 100_000
OF_A_SESSION: Final = 500
HTTP_SESSIONS: Final = 40
OF_HTTP: Final = 50
STRANGERS: Final = 40
PATIENCE: Final = 30.0
MEMORY: Final = 96 * 1024 * 1024  # that one worker may have more at the end than after a tenth of it
MARK: Final = b'"id":"the last one"'
KEY: Final = b"\x12\x34\x56\x78"
DOCUMENT: Final = json.loads((Path(__file__).parents[2] / "specs" / "openrpc.json").read_text())

pytestmark = pytest.mark.slow


def _valid() -> list[bytes]:
    """A call of each method that has an example, but for those about logins."""
    found: list[dict[str, Any]] = []
    for method in DOCUMENT["methods"]:
        for example in method.get("examples", [])[:1]:
            params = {param["name"]: param["value"] for param in example["params"]}
            if not method["name"].startswith("auth."):
                found.append({"jsonrpc": "2.0", "id": 1, "method": method["name"], "params": params})
    return [json.dumps(call).encode() for call in found]


VALID: Final = _valid()
PIECES: Final = [
    *(b"", b"null", b"-1", b"1e999", b"18446744073709551616", b'"\\ud800"', b"\xff\xfe", b"[", b"}", b'"', b"\x00"),
    *(b"[" * 200, b'{"a":' * 200, b"9" * 5000, b'"' + b"x" * 3000 + b'"', b"true", b"{}", b"[]", b"\\u0000", b"NaN"),
]
VALUE: Final = re.compile(rb'"[^"]*"|\d+|\[|\]|\{|\}')


def _mutated(chance: random.Random) -> bytes:
    """A call of which one to three places are another."""
    text = chance.choice(VALID)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(6):
            case 0:
                text = text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
            case 1:
                text = text[:at] + text[at + chance.randint(1, 20) :]
            case 2:
                text = text[:at] + chance.choice(PIECES) + text[at:]
            case 3:
                text = text[:at]
            case 4:  # a value is another
                places = [*VALUE.finditer(text)]
                if places:
                    place = chance.choice(places)
                    text = text[: place.start()] + chance.choice(PIECES) + text[place.end() :]
            case 5:
                text = b"[" + b",".join([text] * chance.randint(1, 3)) + b"]"
    return text


def _frame(payload: bytes, first: int = 0x82) -> bytes:
    """Binary, so that it need not be UTF-8."""
    length = len(payload)
    head = b"%c%c" % (first, 0x80 | length) if length < 126 else b"%c\xfe%b" % (first, length.to_bytes(2))
    mask = (KEY * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(length)
    return head + KEY + masked


def _broken(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(min(len(data), 12))
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


@contextmanager
def _connected(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as one:
        yield one


def _exchange(one: socket.socket, data: bytes, *, until: bytes | None = MARK, patience: float = PATIENCE) -> bytes:
    """Send this and read on meanwhile, until this was read, or to the end. Returns the last that was read."""
    tail, sent, ends = b"", 0, time.monotonic() + patience
    one.setblocking(False)
    try:
        while time.monotonic() < ends:
            readable, writable, _ = select.select([one], [one] if sent < len(data) else [], [], 1)
            if writable:
                sent += one.send(data[sent : sent + 65536])
                if sent == len(data) and until is None:
                    one.shutdown(socket.SHUT_WR)
            if readable:
                read = one.recv(1 << 18)
                if not read:
                    return tail
                tail = (tail + read)[-(1 << 19) :]
                if until is not None and until in tail[-len(read) - len(until) :]:
                    return tail
    except OSError:
        return tail
    return tail


def _open_websocket(one: socket.socket, server: CoordinatorProcess, token: str | None) -> None:
    shown = "" if token is None else f"Authorization: Bearer {token}\r\n"
    one.sendall(
        f"GET / HTTP/1.1\r\nHost: {urlsplit(server.ws).netloc}\r\n{shown}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert one.recv(65536).startswith(b"HTTP/1.1 101")


def _over_websocket(server: CoordinatorProcess, token: str, chance: random.Random) -> int:
    """How many were read, which the reply to the last call tells."""
    with _connected(server.ws) as one:
        _open_websocket(one, server, token)
        frames = b"".join(_frame(_mutated(chance)) for _ in range(OF_A_SESSION))
        last = _frame(b'{"jsonrpc":"2.0","method":"rpc.discover_nothing",%b}' % MARK)
        whole = MARK in _exchange(one, frames + last)
        one.setblocking(True)
        _exchange(one, _broken(chance, _frame(_mutated(chance))), until=None, patience=5)
    return OF_A_SESSION if whole else 0


def _over_http(server: CoordinatorProcess, token: str | None, chance: random.Random) -> None:
    host = urlsplit(server.http).netloc
    shown = b"" if token is None else b"Authorization: Bearer %b\r\n" % token.encode()
    data = b""
    for _ in range(OF_HTTP):
        body = _mutated(chance)
        head = b"POST / HTTP/1.1\r\nHost: %b\r\n%bContent-Type: application/json\r\n" % (host.encode(), shown)
        data += head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    data += _broken(chance, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
    with _connected(server.http) as one:
        _exchange(one, data, until=None)


def _stranger(server: CoordinatorProcess, chance: random.Random) -> None:
    """Who has not logged in is read slowly, and need not wait for the replies."""
    with _connected(server.ws) as one:
        _open_websocket(one, server, None)
        frames = b"".join(_frame(_mutated(chance)) for _ in range(50))
        _exchange(one, frames + _broken(chance, _frame(_mutated(chance))), until=None, patience=0.2)


def _memory(server: CoordinatorProcess) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _metric(server: CoordinatorProcess, token: str, name: str) -> float:
    page = httpx.get(f"{server.http}/metrics", headers={"authorization": f"Bearer {token}"}).text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"herocoordinator_{name}"))


def test_others_are_served_and_nothing_is_a_fault(tmp_path: Path) -> None:
    chance = random.Random(20_260_101)
    with ExitStack() as stack:
        arguments = "--auth", "keys", "--fsync", "everysec", "--workers", "1"
        server = stack.enter_context(coordinator("--data-dir", str(tmp_path), *arguments))
        operator_token = callers.operator_token(tmp_path)
        operator = stack.enter_context(caller(server, "http", operator_token))
        tokens = {}
        for id in (1, 2):
            operator.result("actor.create", callers.actor(id))
            tokens[id] = operator.result("token.create", {"label": "t", "principal": f"actor:{id}"})["token"]
            members = callers.context(id, admins=[id], executors=[], readers=[])
            operator.result("context.create", members)
        victim = stack.enter_context(caller(server, "ws", tokens[2]))
        served, is_over = 0, threading.Event()

        def serve() -> None:
            nonlocal served
            while not is_over.is_set():
                victim.result("context.load", {"id": 2})
                served += 1
                time.sleep(0.005)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            done = sessions = 0
            before = 0
            others: list[Callable[[], None]] = [lambda: _over_http(server, tokens[1], chance)] * HTTP_SESSIONS
            others += [lambda: _stranger(server, chance)] * STRANGERS
            others += [lambda: _over_http(server, None, chance)]
            while done < MESSAGES:
                sessions += 1
                assert sessions <= 2 * MESSAGES // OF_A_SESSION, f"only {done} of them were read to the end"
                done += _over_websocket(server, tokens[1], chance)
                if others and sessions % 2 == 0:
                    others.pop()()
                if not before and done >= MESSAGES // 10:
                    before = _memory(server)
        finally:
            is_over.set()
            serving.join()
        print(Path(f"/proc/{server.process.pid}/stat").read_text().split()[13:15], served, sessions)
        assert served > sessions
        assert server.process.poll() is None
        assert _metric(server, operator_token, "internal_faults_total") == 0
        assert _metric(server, operator_token, "supervisor_crashes_total") == 0
        assert [entry for entry in server.logs if entry.get("level") in ("error", "critical")] == []
        assert _memory(server) - before < MEMORY


def test_what_is_wrong_differs() -> None:
    """The mutations do what they are for: most messages are wrong, in many ways, and some are whole."""
    chance = random.Random(1)
    whole: list[Any] = []
    texts = {_mutated(chance) for _ in range(2_000)}
    for text in texts:
        try:
            whole.append(json.loads(text))
        except ValueError:
            continue
    assert len(texts) > 1_800
    assert 100 < len(whole) < len(texts)
