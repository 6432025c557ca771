"""Clients of Python over WebSocket: websockets, websocket-client, aiohttp, picows, jsonrpc-websocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import jsonrpc_base
import jsonrpc_websocket
import picows
import pytest
from websocket import ABNF, WebSocket, create_connection
from websockets.sync.client import ClientConnection

from tests.support.clients import PATIENCE, json_text, request, websocket
from tests.support.server import CoordinatorProcess
from tests.support.streaming import job, job_ids

MANY: Final = 200


def load(id: int) -> str:
    return json_text(request("actor.load", {"id": 0}, id))


@pytest.fixture
def of_websocket_client(server: CoordinatorProcess) -> Iterator[WebSocket]:
    socket = create_connection(server.ws, timeout=PATIENCE)
    yield socket
    socket.close()


@pytest.fixture
def of_websockets(server: CoordinatorProcess) -> Iterator[ClientConnection]:
    with websocket(server) as socket:
        yield socket


def test_websockets_offers_compression_and_goes_on_without(of_websockets: ClientConnection) -> None:
    assert of_websockets.response is not None
    assert "sec-websocket-extensions" not in of_websockets.response.headers
    of_websockets.send(load(1))

    assert json.loads(of_websockets.recv(timeout=PATIENCE))["id"] == 1


def test_websockets_sends_calls_without_waiting(of_websockets: ClientConnection) -> None:
    for id in range(MANY):
        of_websockets.send(load(id))

    ids = [json.loads(of_websockets.recv(timeout=PATIENCE))["id"] for _ in range(MANY)]

    assert sorted(ids) == list(range(MANY))


def test_websockets_pings_between_fragments(of_websockets: ClientConnection) -> None:
    pongs = []

    def fragments() -> Iterator[str]:
        for letter in load(1):
            pongs.append(of_websockets.ping())
            yield letter

    of_websockets.send(fragments())

    assert json.loads(of_websockets.recv(timeout=PATIENCE))["id"] == 1
    assert all(pong.wait(PATIENCE) for pong in pongs)


def test_websockets_closes_in_order(of_websockets: ClientConnection) -> None:
    of_websockets.close(4001, "done")

    assert of_websockets.close_code == 4001


def test_websocket_client_fragments_a_message(of_websocket_client: WebSocket) -> None:
    text = load(1)
    for at, letter in enumerate(text):
        kind = ABNF.OPCODE_TEXT if at == 0 else ABNF.OPCODE_CONT
        of_websocket_client.send_frame(ABNF.create_frame(letter, kind, fin=int(at == len(text) - 1)))
    of_websocket_client.send(load(2))

    assert [json.loads(of_websocket_client.recv())["id"] for _ in range(2)] == [1, 2]


def test_websocket_client_sends_binary(of_websocket_client: WebSocket) -> None:
    of_websocket_client.send_binary(load(1).encode())

    assert json.loads(of_websocket_client.recv())["id"] == 1


def test_websocket_client_pings(of_websocket_client: WebSocket) -> None:
    of_websocket_client.ping("are you there")

    kind, payload = of_websocket_client.recv_data(control_frame=True)

    assert (kind, payload) == (ABNF.OPCODE_PONG, b"are you there")


def test_websocket_client_sends_an_empty_fragment_first(of_websocket_client: WebSocket) -> None:
    of_websocket_client.send_frame(ABNF.create_frame("", ABNF.OPCODE_TEXT, fin=0))
    of_websocket_client.send_frame(ABNF.create_frame(load(1), ABNF.OPCODE_CONT, fin=1))

    assert json.loads(of_websocket_client.recv())["id"] == 1


async def test_aiohttp_calls_without_waiting(server: CoordinatorProcess) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.ws, compress=15) as socket:
        for id in range(MANY):
            await socket.send_str(load(id))

        ids = [(await socket.receive_json(timeout=PATIENCE))["id"] for _ in range(MANY)]

        assert sorted(ids) == list(range(MANY))


@pytest.mark.slow
async def test_aiohttp_keeps_its_heartbeat(server: CoordinatorProcess) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.ws, heartbeat=2) as socket:
        receiving = asyncio.create_task(socket.receive_json())  # it ends with an error if a pong is missing
        await asyncio.sleep(5)
        assert not receiving.done()

        await socket.send_str(load(1))

        assert (await asyncio.wait_for(receiving, PATIENCE))["id"] == 1


async def test_picows_calls_without_waiting(server: CoordinatorProcess) -> None:
    ids: asyncio.Queue[Any] = asyncio.Queue()

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.TEXT:
                ids.put_nowait(json.loads(frame.get_payload_as_utf8_text())["id"])

    transport, _ = await picows.ws_connect(Listener, server.ws)
    for id in range(MANY):
        transport.send(picows.WSMsgType.TEXT, load(id).encode())

    received = [await asyncio.wait_for(ids.get(), PATIENCE) for _ in range(MANY)]
    transport.disconnect()

    assert sorted(received) == list(range(MANY))


async def test_jsonrpc_websocket_calls_and_notifies(server: CoordinatorProcess, context: int) -> None:
    session = aiohttp.ClientSession()
    client = jsonrpc_websocket.Server(server.ws, session)
    await client.ws_connect()
    try:
        await client.job.create(**job(context, 1), _notification=True)
        assert (await client.job.load(**job_ids(context, 1)))["id"] == 1
        with pytest.raises(jsonrpc_base.ProtocolError):
            await client.actor.load(id=0)
    finally:
        await client.close()
        await session.close()
