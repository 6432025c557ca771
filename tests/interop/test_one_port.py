"""WebSockets on the HTTP port, at / and /ws; a plain request on the WebSocket port is told what is spoken there."""

from __future__ import annotations

import json
from typing import Final

import aiohttp
import httpx
import jsonrpc_websocket
import pytest
import requests
from websocket import create_connection
from websockets.sync.client import connect

from tests.interop.conftest import Play
from tests.support.clients import JSON, PATIENCE, json_text, request
from tests.support.server import CoordinatorProcess

CALL: Final = json_text(request("actor.load", {"id": 0}, 1))
PATHS: Final = ["/", "/ws"]


def upgraded(server: CoordinatorProcess, path: str) -> str:
    """The URL of a WebSocket on the HTTP port."""
    return server.http.replace("http:", "ws:") + path


def as_http(server: CoordinatorProcess) -> str:
    """The URL of the WebSocket port, asked by plain HTTP."""
    return server.ws.replace("ws:", "http:")


@pytest.mark.parametrize("path", PATHS)
def test_websockets_connects_to_the_http_port(server: CoordinatorProcess, path: str) -> None:
    with connect(upgraded(server, path), proxy=None) as socket:
        for _ in range(3):
            socket.send(CALL)
            assert json.loads(socket.recv(timeout=PATIENCE))["id"] == 1


@pytest.mark.parametrize("path", PATHS)
def test_websocket_client_connects_to_the_http_port(server: CoordinatorProcess, path: str) -> None:
    socket = create_connection(upgraded(server, path), timeout=PATIENCE)
    socket.send(CALL)

    assert json.loads(socket.recv())["id"] == 1
    socket.close()


@pytest.mark.parametrize("path", PATHS)
async def test_jsonrpc_websocket_connects_to_the_http_port(server: CoordinatorProcess, path: str) -> None:
    session = aiohttp.ClientSession()
    client = jsonrpc_websocket.Server(upgraded(server, path), session)
    await client.ws_connect()
    try:
        assert "items" in await client.context.list()
    finally:
        await client.close()
        await session.close()


@pytest.mark.parametrize("path", PATHS)
def test_clients_of_node_connect_to_the_http_port(node: Play, server: CoordinatorProcess, path: str) -> None:
    assert sorted(node("ws", "callsWithoutWaiting", ws=upgraded(server, path))) == list(range(200))
    assert node("rpc_websockets", "calls", ws=upgraded(server, path))["contexts"] is True


async def test_aiohttp_calls_and_upgrades_through_one_session(server: CoordinatorProcess) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(server.http, data=CALL, headers=JSON) as reply:
            assert (await reply.json())["id"] == 1
        async with session.ws_connect(f"{server.http}/ws") as socket:
            await socket.send_str(CALL)
            assert (await socket.receive_json(timeout=PATIENCE))["id"] == 1
        async with session.post(server.http, data=CALL, headers=JSON) as reply:
            assert (await reply.json())["id"] == 1


def test_a_subprotocol_is_answered_on_the_http_port_too(server: CoordinatorProcess) -> None:
    socket = create_connection(upgraded(server, "/ws"), timeout=PATIENCE, subprotocols=["jsonrpc"])

    assert socket.getsubprotocol() == "jsonrpc"
    socket.close()


def test_a_page_elsewhere_on_the_http_port_is_no_websocket(node: Play, server: CoordinatorProcess) -> None:
    assert node("ws", "isRefused", url=upgraded(server, "/nothing")) in (403, 404)


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_httpx_is_told_that_this_port_speaks_websocket(server: CoordinatorProcess, verb: str) -> None:
    reply = httpx.request(verb, as_http(server), content=CALL, headers=JSON, timeout=PATIENCE, trust_env=False)

    assert reply.status_code == 426
    assert reply.headers["upgrade"].lower() == "websocket"
    assert "WebSocket" in reply.text


def test_requests_is_told_that_this_port_speaks_websocket(server: CoordinatorProcess) -> None:
    reply = requests.post(as_http(server), data=CALL, headers=JSON, timeout=PATIENCE)

    assert (reply.status_code, reply.headers["upgrade"].lower()) == (426, "websocket")
