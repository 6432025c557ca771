"""A subprotocol that a client asks for is answered if it is ours or JSON-RPC's; else it may go on without one."""

from __future__ import annotations

import json
from typing import Final

import aiohttp
import pytest
from websocket import create_connection

from tests.interop.conftest import Play
from tests.support.clients import PATIENCE, json_text, request, websocket
from tests.support.server import CoordinatorProcess

OURS: Final = "herocoordinator.v1"
CALL: Final = json_text(request("actor.load", {"id": 0}, 1))
ASKED_AND_ANSWERED: Final = [
    ([OURS], OURS),
    (["jsonrpc"], "jsonrpc"),
    (["jsonrpc", OURS], OURS),
    (["graphql-ws", "jsonrpc"], "jsonrpc"),
]


@pytest.mark.parametrize(("asked", "answered"), [*ASKED_AND_ANSWERED, (["graphql-ws"], None)])
def test_websockets_asks_for_subprotocols(server: CoordinatorProcess, asked: list[str], answered: str | None) -> None:
    with websocket(server, subprotocols=asked) as socket:
        socket.send(CALL)

        assert socket.subprotocol == answered
        assert json.loads(socket.recv(timeout=PATIENCE))["id"] == 1


@pytest.mark.parametrize(("asked", "answered"), [*ASKED_AND_ANSWERED, (["graphql-ws"], None)])
async def test_aiohttp_asks_for_subprotocols(
    server: CoordinatorProcess, asked: list[str], answered: str | None
) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.ws, protocols=asked) as socket:
        await socket.send_str(CALL)

        assert socket.protocol == answered
        assert (await socket.receive_json(timeout=PATIENCE))["id"] == 1


@pytest.mark.parametrize(("asked", "answered"), ASKED_AND_ANSWERED)
def test_websocket_client_asks_for_subprotocols(server: CoordinatorProcess, asked: list[str], answered: str) -> None:
    socket = create_connection(server.ws, timeout=PATIENCE, subprotocols=asked)
    socket.send(CALL)

    assert socket.getsubprotocol() == answered
    assert json.loads(socket.recv())["id"] == 1
    socket.close()


@pytest.mark.parametrize(("asked", "answered"), ASKED_AND_ANSWERED)
def test_ws_of_node_asks_for_subprotocols(node: Play, asked: list[str], answered: str) -> None:
    assert node("ws", "asksForSubprotocols", protocols=asked) == {"protocol": answered, "id": 1}


def test_a_client_that_asks_for_none_is_given_none(server: CoordinatorProcess) -> None:
    with websocket(server) as socket:
        assert socket.subprotocol is None
