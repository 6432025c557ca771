"""JSON-RPC over WebSocket: kinds and sizes of frames, closing, and calls under way together."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.typing import Subprotocol

from tests.support.clients import PATIENCE, json_text, request, websocket
from tests.support.frames import TEXT, FrameClient, frame
from tests.support.jsonrpc import check_reply
from tests.support.records import create, fresh_id, load, sample
from tests.support.server import CoordinatorProcess
from tests.support.streaming import RawClient

MAX_FRAME = 1024 * 1024
CALL = json_text(request(*load("actor", 0, 0), id=1))


@pytest.fixture
def ws(server: CoordinatorProcess) -> Iterator[ClientConnection]:
    with websocket(server) as socket:
        yield socket


def padded(size: int, filler: str = " ") -> str:
    """A call in a message of this many bytes, filled up by a member nobody knows."""
    head, tail = f'{CALL[:-1]},"x":"', '"}'
    room = size - len(head) - len(tail)
    many, rest = divmod(room, len(filler.encode()))
    return f"{head}{filler * many}{tail}{' ' * rest}"


def close_code(ws: ClientConnection) -> int | None:
    """With which the server closes, having sent nothing more."""
    with pytest.raises(ConnectionClosed) as closed:
        ws.recv(timeout=PATIENCE)
    return closed.value.rcvd.code if closed.value.rcvd else None


def is_serving(server: CoordinatorProcess) -> bool:
    with websocket(server) as other:
        other.send(CALL)
        return check_reply(CALL, other.recv(timeout=PATIENCE)) is not None


def test_a_binary_message_is_taken_as_text_and_answered_with_text(ws: ClientConnection) -> None:
    ws.send(CALL.encode())

    reply = ws.recv(timeout=PATIENCE)

    assert isinstance(reply, str)
    assert check_reply(CALL, reply)["id"] == 1


def test_a_binary_message_that_is_not_utf8_is_a_parse_error_and_the_connection_lives_on(ws: ClientConnection) -> None:
    for message in (b"\xff\xfe", CALL.encode()):
        ws.send(message)

        check_reply(message, ws.recv(timeout=PATIENCE))


def test_a_text_message_that_is_not_utf8_ends_the_connection_and_no_other(
    server: CoordinatorProcess, ws: ClientConnection
) -> None:
    ws.send(b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', text=True)

    assert close_code(ws) == 1007
    assert is_serving(server)


@pytest.mark.parametrize("pieces", [2, 10, 1_000])
def test_a_message_in_fragments_is_one_message(ws: ClientConnection, pieces: int) -> None:
    message = padded(pieces * 100, "ключ")
    step = len(message) // pieces + 1

    ws.send(message[at : at + step] for at in range(0, len(message), step))

    assert check_reply(message, ws.recv(timeout=PATIENCE))["id"] == 1


def test_a_ping_between_fragments_and_calls_is_answered(ws: ClientConnection) -> None:
    ws.send(CALL)
    pong = ws.ping()
    ws.send(CALL)

    assert pong.wait(PATIENCE)
    assert [check_reply(CALL, ws.recv(timeout=PATIENCE))["id"] for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("filler", [" ", "é"])
def test_the_largest_message_is_taken(ws: ClientConnection, filler: str) -> None:
    message = padded(MAX_FRAME, filler)
    ws.send(message)

    assert check_reply(message, ws.recv(timeout=PATIENCE))["id"] == 1


@pytest.mark.parametrize("filler", [" ", "é", "😀"])
@pytest.mark.parametrize("is_binary", [False, True])
def test_a_larger_message_closes_with_1009(
    server: CoordinatorProcess, ws: ClientConnection, filler: str, is_binary: bool
) -> None:
    message = padded(MAX_FRAME + 1, filler)
    ws.send(message.encode() if is_binary else message)

    assert close_code(ws) == 1009
    assert is_serving(server)


def test_a_larger_message_in_fragments_closes_with_1009(server: CoordinatorProcess, ws: ClientConnection) -> None:
    ws.send([padded(MAX_FRAME - 100), " " * 101])

    assert close_code(ws) == 1009
    assert is_serving(server)


def test_a_client_that_closes_is_closed_alike(ws: ClientConnection) -> None:
    ws.close(1000, "done")

    assert (ws.close_code, ws.close_reason) == (1000, "done")


def test_calls_sent_without_waiting_are_each_answered_once(ws: ClientConnection) -> None:
    contexts = [fresh_id() for _ in range(10)]
    calls = [json_text(request(*load("context", contexts[id % 10], 0), id=id)) for id in range(500)]
    for call in calls:
        ws.send(call)

    replies = [json.loads(ws.recv(timeout=PATIENCE)) for _ in calls]

    assert sorted(reply["id"] for reply in replies) == list(range(500))
    for reply in replies:
        assert reply["error"]["data"]["ids"]["id"] == contexts[reply["id"] % 10]


def test_calls_of_one_context_sent_without_waiting_take_effect_in_order(ws: ClientConnection, context: int) -> None:
    for id in range(300):
        for call in (create("job", context, sample("job", context, 1, timeout=id)), load("job", context, 1)):
            ws.send(json_text(request(*call, id=id)))

    replies = [json.loads(ws.recv(timeout=PATIENCE)) for _ in range(600)]

    assert [(reply["id"], reply["result"]["timeout"]) for reply in replies] == [
        (id, id) for id in range(300) for _ in range(2)
    ]


def test_notifications_among_calls_get_no_reply(ws: ClientConnection, context: int) -> None:
    method, params = create("job", context, sample("job", context, 1))
    for id in range(50):
        ws.send(json_text({"jsonrpc": "2.0", "method": method, "params": params}))
        ws.send(json_text(request(*load("job", context, 1), id=id)))

    replies = [json.loads(ws.recv(timeout=PATIENCE)) for _ in range(50)]

    assert [reply["id"] for reply in replies] == list(range(50))
    assert all("result" in reply for reply in replies)


# -- the handshake


def test_a_plain_request_on_this_port_is_told_where_to_go(server: CoordinatorProcess) -> None:
    url = server.ws.replace("ws:", "http:")
    for refused in (httpx.get(url), httpx.post(url, content=CALL * 10_000), httpx.head(f"{url}/healthz")):
        assert refused.status_code == 426
        assert refused.headers["upgrade"] == "websocket"
        assert "upgrade" in refused.headers["connection"].lower()
    assert server.http in httpx.get(url).text
    assert is_serving(server)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",  # no key
    ],
)
def test_garbage_in_place_of_a_handshake_gets_400(server: CoordinatorProcess, garbage: bytes) -> None:
    client = RawClient(server.ws)
    client.socket.sendall(garbage)

    assert response_to(client).startswith(b"HTTP/1.1 400 ")
    assert is_serving(server)


def test_a_head_without_end_gets_431_whatever_is_still_on_the_way(server: CoordinatorProcess) -> None:
    client = RawClient(server.ws)
    client.socket.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 500_000)

    assert response_to(client).startswith(b"HTTP/1.1 431 ")
    assert is_serving(server)


def test_a_head_of_thousands_of_headers_gets_431(server: CoordinatorProcess) -> None:
    client = RawClient(server.ws)
    client.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 3_900 + b"\r\n")

    assert response_to(client).startswith(b"HTTP/1.1 431 ")
    assert is_serving(server)


def test_another_version_is_told_ours(server: CoordinatorProcess) -> None:
    client = RawClient(server.ws)
    client.socket.sendall(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    response = response_to(client)

    assert response.startswith(b"HTTP/1.1 426 ")
    assert b"sec-websocket-version: 13" in response.lower()


@pytest.mark.parametrize(
    ("upgrade", "key"),
    [
        (b"websocket", b""),
        (b"foo, websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        (b"websocket", b"Sec-WebSocket-Key: \r\n"),
        (b"websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" * 2),
        (b"websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n"),
    ],
)
@pytest.mark.parametrize("port", ["ws", "http"])
def test_a_handshake_that_lacks_something_is_told_what_one_has(
    server: CoordinatorProcess, port: str, upgrade: bytes, key: bytes
) -> None:
    client = RawClient(server.ws if port == "ws" else server.http)
    client.socket.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Upgrade: " + upgrade + b"\r\n" + key + b"\r\n"
    )

    response = response_to(client)

    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in response
    assert b"Sec-WebSocket-Key" in response.partition(b"\r\n\r\n")[2]


def response_to(client: RawClient) -> bytes:
    """All that comes until the end, which is no reset."""
    response = b""
    while data := client.socket.recv(65536):
        response += data
    return response


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["jsonrpc", "herocoordinator.v1"], "herocoordinator.v1"),
        (["other", "jsonrpc"], "jsonrpc"),
        (["other"], None),
        ([], None),
    ],
)
def test_the_best_subprotocol_offered_is_chosen(
    server: CoordinatorProcess, offered: list[str], chosen: str | None
) -> None:
    with websocket(server, subprotocols=[Subprotocol(name) for name in offered] or None) as ws:
        assert ws.subprotocol == chosen
        ws.send(CALL)
        assert check_reply(CALL, ws.recv(timeout=PATIENCE))["id"] == 1


def test_a_client_of_another_library_that_compresses_and_pings_is_served(server: CoordinatorProcess) -> None:
    with websocket(server, compression="deflate", ping_interval=0.05) as ws:
        for _ in range(20):
            ws.send([CALL[:10], CALL[10:]])
            assert check_reply(CALL, ws.recv(timeout=PATIENCE))["id"] == 1


# -- failing by the head


def test_a_frame_of_2_to_the_62_bytes_is_refused_by_its_head(server: CoordinatorProcess) -> None:
    client = FrameClient(server.ws)
    client.send(b"\x81\xff" + (1 << 62).to_bytes(8))

    (close,) = client.until_end()

    assert close.code == 1009
    assert is_serving(server)


def test_the_reason_reaches_a_client_that_is_still_sending(server: CoordinatorProcess) -> None:
    """Which would be lost to a reset if the connection were closed with its bytes unread."""
    client = FrameClient(server.ws)
    client.send(frame(TEXT, b"x" * (20 * MAX_FRAME)))

    (close,) = client.until_end()

    assert close.code == 1009
    assert b"--max-frame-bytes" in close.payload
