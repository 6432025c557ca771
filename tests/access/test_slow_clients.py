"""Clients that send a byte at a time, many at once: they are closed in time, and others are served meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.access import callers
from tests.access.callers import caller
from tests.support.server import CoordinatorProcess, coordinator

OF_EACH = 40
EVERY = 0.1  # seconds between two bytes of each
PATIENCE = 60.0
REQUEST_TIMEOUT, KEEP_ALIVE = 2, 3  # the handshake of a WebSocket has 10
FRAME = b"\x81\xfe\xea\x60" + b"mask"  # the head of a message of 60,000 bytes

pytestmark = pytest.mark.slow


class Slow:
    """One client.

    Args:
        whole: what it sends at once.
        slowly: what it sends then.
    """

    def __init__(self, url: str, whole: bytes, slowly: Iterator[bytes]) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.sendall(whole)
        self._slowly = slowly
        self._socket.setblocking(False)
        self.is_closed = False

    def go_on(self) -> None:
        """Send the next byte, and see whether the other side has closed."""
        if self.is_closed:
            return
        try:
            self._socket.send(next(self._slowly))
            while self._socket.recv(65536):
                pass
            self.is_closed = True
        except BlockingIOError:
            pass
        except OSError:
            self.is_closed = True

    def close(self) -> None:
        self._socket.close()


def _upgrade(url: str, token: str | None = None) -> bytes:
    shown = "" if token is None else f"Authorization: Bearer {token}\r\n"
    return (
        f"GET / HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n{shown}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    ).encode()


def _bytes(text: bytes) -> Iterator[bytes]:
    """One at a time, the last again and again."""
    return chain((bytes([byte]) for byte in text), repeat(text[-1:]))


def _slow(server: CoordinatorProcess, kind: str, token: str) -> Slow:
    post = f"POST / HTTP/1.1\r\nHost: {urlsplit(server.http).netloc}\r\nContent-Type: application/json\r\n".encode()
    upgrade, logged_in = _upgrade(server.ws), _upgrade(server.ws, token) + b"\r\n"
    fragments = chain([b"\x01\x81mask\x00"], repeat(b"\x00\x81mask\x00"))
    kinds: dict[str, tuple[str, bytes, Iterator[bytes]]] = {
        "head": (server.http, b"", _bytes(post + b"X-More: x")),
        "body": (server.http, post + b"Content-Length: 60000\r\n\r\n", _bytes(b'{"jsonrpc": "2.0", "id": "x')),
        "handshake": (server.ws, b"", _bytes(upgrade + b"X-More: x")),
        "handshake on the other port": (server.http, b"", _bytes(_upgrade(server.http) + b"X-More: x")),
        "message before a login": (server.ws, upgrade + b"\r\n", _bytes(FRAME + b"x")),
        "message after a login": (server.ws, logged_in, _bytes(FRAME + b"x")),
        "fragments after a login": (server.ws, logged_in, fragments),
        "pings before a login": (server.ws, upgrade + b"\r\n", repeat(b"\x89\x80mask")),
    }
    return Slow(*kinds[kind])


KINDS = [
    *("head", "body", "handshake", "handshake on the other port", "message before a login", "message after a login"),
    *("fragments after a login", "pings before a login"),
]


def test_slow_clients_are_closed_and_others_are_served(tmp_path: Path) -> None:
    timeouts = "--request-timeout", str(REQUEST_TIMEOUT), "--keep-alive-timeout", str(KEEP_ALIVE)
    with ExitStack() as stack:
        server = stack.enter_context(coordinator("--data-dir", str(tmp_path), "--auth", "keys", *timeouts))
        token = callers.operator_token(tmp_path)
        http = stack.enter_context(caller(server, "http", token))
        http.result("actor.create", callers.actor(1))
        quick = [http, stack.enter_context(caller(server, "ws", token))]
        slow = [(kind, _slow(server, kind, token)) for kind in KINDS for _ in range(OF_EACH)]
        for _, client in slow:
            stack.callback(client.close)
        served = [0] * len(quick)
        is_over = threading.Event()

        def serve(number: int) -> None:
            while not is_over.is_set():
                quick[number].result("actor.load", {"id": 1})
                served[number] += 1
                time.sleep(0.02)

        threads = [threading.Thread(target=serve, args=(number,)) for number in range(len(quick))]
        for thread in threads:
            thread.start()
        ends, steps = time.monotonic() + PATIENCE, 0
        while not all(client.is_closed for _, client in slow) and time.monotonic() < ends:
            for _, client in slow:
                client.go_on()
            steps += 1
            time.sleep(EVERY)
        is_over.set()
        for thread in threads:
            thread.join()
        assert {kind for kind, client in slow if not client.is_closed} == set()
        assert steps > REQUEST_TIMEOUT / EVERY / 4, "they were slow, and not refused"
        assert min(served) > steps / 4, "others were served all the while"


def test_a_client_that_is_silent_after_its_login_stays(tmp_path: Path) -> None:
    """Neither rule is about who has logged in and sends whole messages, or nothing."""
    timeouts = "--request-timeout", "1", "--keep-alive-timeout", "1"
    with coordinator("--data-dir", str(tmp_path), "--auth", "keys", *timeouts) as server:
        with caller(server, "ws", callers.operator_token(tmp_path)) as one:
            time.sleep(4)
            assert "result" in one.call("auth.whoami", {})
