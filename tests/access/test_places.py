"""Who keeps us waiting and has not logged in gives way once there is no room for another client; who has, stays."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final
from urllib.parse import SplitResult, urlsplit

import pytest
from h2.connection import H2Connection
from h2.events import StreamEnded
from websockets.exceptions import InvalidStatus

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


MANY: Final = 40
WHO: Final = b'{"jsonrpc":"2.0","id":1,"method":"auth.whoami"}'
ANSWERED_TO: Final = POST + b"content-length: %d\r\nauthorization: Bearer %%b\r\n\r\n%b" % (len(WHO), WHO)
OVERLOADED: Final = -32043


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CoordinatorProcess, str, str]]:
    """With the tokens of two who log in."""
    directory = tmp_path_factory.mktemp("crowds")
    options = "--auth", "keys", "--max-connections", str(MANY), "--workers", "1"
    with coordinator("--data-dir", str(directory), *options) as one:
        with caller(one, "http", callers.operator_token(directory)) as operator:
            tokens = []
            for id in (1, 2):
                operator.result("actor.create", callers.actor(id))
                made = operator.result("token.create", {"label": "one", "principal": f"actor:{id}"})
                tokens.append(made["token"])
        yield one, *tokens


def test_who_has_logged_in_on_nearly_all_websockets_leaves_room_for_others(
    small: tuple[CoordinatorProcess, str, str],
) -> None:
    one, greedy, other = small
    with ExitStack() as held:
        theirs = []
        with pytest.raises(InvalidStatus) as refused:  # noqa: PT012 - the one too many is not known before
            for _ in range(MANY):
                theirs.append(held.enter_context(caller(one, "ws", greedy)))
        assert refused.value.response.status_code == 503
        assert b"yours" in (refused.value.response.body or b"")
        nobody = held.enter_context(caller(one, "ws"))
        assert nobody.code("auth.login", {"token": greedy}) == OVERLOADED
        assert nobody.result("auth.login", {"token": other})["principal"] == "actor:2"
        assert held.enter_context(caller(one, "ws", other)).result("auth.whoami", {})["principal"] == "actor:2"
        assert len(theirs) >= MANY // 2
        assert {each.result("auth.whoami", {})["principal"] for each in theirs} == {"actor:1"}


def _http1(at: SplitResult, token: str) -> socket.socket:
    one = socket.create_connection((at.hostname, at.port), timeout=SOON)
    one.sendall(ANSWERED_TO % token.encode())
    one.recv(4096)
    return one


def _http2(at: SplitResult, token: str, *, then: bytes = b"") -> socket.socket:
    """With a call that was answered, and `then` of the body of another."""
    one = socket.create_connection((at.hostname, at.port), timeout=SOON)
    client = H2Connection()
    client.initiate_connection()
    head = {":method": "POST", ":path": "/", ":scheme": "http", ":authority": at.netloc}
    head |= {"content-type": "application/json", "authorization": f"Bearer {token}"}
    client.send_headers(1, [*head.items()])
    client.send_data(1, WHO, end_stream=True)
    one.sendall(client.data_to_send())
    while (data := one.recv(4096)) and not any(isinstance(event, StreamEnded) for event in client.receive_data(data)):
        pass
    if then:
        client.send_headers(3, [*head.items()])
        client.send_data(3, then)
    one.sendall(client.data_to_send())
    return one


@pytest.mark.parametrize(
    "hold", [_http1, _http2, partial(_http2, then=b"{")], ids=["HTTP/1", "HTTP/2", "HTTP/2 with half a body"]
)
def test_who_has_logged_in_on_all_http_connections_makes_room_for_others(
    small: tuple[CoordinatorProcess, str, str], hold: Callable[[SplitResult, str], socket.socket]
) -> None:
    one, greedy, other = small
    at = urlsplit(one.http)
    with ExitStack() as held:
        mine = held.enter_context(_http1(at, other))
        for _ in range(2 * MANY):
            held.enter_context(hold(at, greedy))
        for _ in range(3):
            with caller(one, "http", other) as another:
                assert another.result("auth.whoami", {})["principal"] == "actor:2"
        mine.sendall(ANSWERED_TO % other.encode())  # who has few keeps them, though it was silent
        assert b"actor:2" in mine.recv(4096)


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_who_does_not_log_in_leaves_room_at_other_addresses(
    small: tuple[CoordinatorProcess, str, str], transport: str
) -> None:
    one, _, other = small
    at = urlsplit(getattr(one, transport))
    asks = HELD[ANSWERED if transport == "http" else "a WebSocket"]
    with ExitStack() as held:
        for _ in range(2 * MANY):  # the last ones are refused, and wait for us to close
            holder = held.enter_context(socket.create_connection((at.hostname, at.port), timeout=SOON))
            with suppress(ConnectionError):
                holder.sendall(asks)
                holder.recv(4096)
        for _ in range(3):
            elsewhere = ("127.0.0.2", 0)
            another = held.enter_context(socket.create_connection((at.hostname, at.port), SOON, elsewhere))
            another.sendall(asks.replace(b"\r\n\r\n", b"\r\nauthorization: Bearer %b\r\n\r\n" % other.encode()))
            assert another.recv(4096).split(b" ")[1] in (b"101", b"200")
