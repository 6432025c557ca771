"""Who keeps us waiting and has not logged in gives way once there is no room for another client; who has, stays."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.access import callers
from tests.access.callers import caller
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.waiting import until_sync

PLACES: Final = 12
SOON: Final = 20.0  # seconds; without giving way it would be the time-outs' 30 or 75
POST: Final = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
ANSWERED: Final = "a request that was answered"
HELD: Final = {
    "nothing": b"",
    ANSWERED: b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "half a head": b"POST / HTTP/1.1\r\nho",
    "half a body": POST + b"content-length: 10\r\n\r\n{",
    "half a chunked body": POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "a WebSocket": b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CoordinatorProcess, str]]:
    directory = tmp_path_factory.mktemp("places")
    options = "--auth", "keys", "--max-connections", str(PLACES)
    with coordinator("--data-dir", str(directory), *options) as one:
        with caller(one, "http", callers.operator_token(directory)) as operator:
            operator.result("actor.create", callers.actor(1))
            token = operator.result("token.create", {"label": "one", "principal": "actor:1"})["token"]
        yield one, token


@pytest.mark.parametrize("what", HELD)
def test_who_only_holds_a_place_gives_way(server: tuple[CoordinatorProcess, str], what: str) -> None:
    one, token = server
    transport = "ws" if what == "a WebSocket" else "http"
    with ExitStack() as held, caller(one, transport, token) as mine:
        assert mine.result("auth.whoami", {})["principal"] == "actor:1"
        at = urlsplit(getattr(one, transport))
        for _ in range(PLACES - 1):
            holder = held.enter_context(socket.create_connection((at.hostname, at.port)))
            holder.sendall(HELD[what])

        def is_let_in() -> bool:
            with socket.create_connection((at.hostname, at.port), timeout=SOON) as another:
                shown = b"\r\nauthorization: Bearer %b\r\n\r\n" % token.encode()
                another.sendall(HELD["a WebSocket" if transport == "ws" else ANSWERED].replace(b"\r\n\r\n", shown))
                return another.recv(4096).split(b" ")[1] in (b"101", b"200")

        until_sync(is_let_in, within=SOON)
        assert mine.result("auth.whoami", {})["principal"] == "actor:1"
