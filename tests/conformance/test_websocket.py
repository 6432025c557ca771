"""JSON-RPC over WebSocket: kinds and sizes of frames, closing, and calls under way together."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.support.clients import PATIENCE, json_text, request, websocket
from tests.support.jsonrpc import check_reply
from tests.support.records import create, fresh_id, load, sample
from tests.support.server import CoordinatorProcess

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

    assert close_code(ws) in (None, 1007)
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


def test_a_request_that_is_no_handshake_is_refused_on_this_port(server: CoordinatorProcess) -> None:
    refused = httpx.get(server.ws.replace("ws:", "http:"))

    assert 400 <= refused.status_code < 500
    assert is_serving(server)
