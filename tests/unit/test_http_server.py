"""The HTTP front-end over real sockets without a store: its places, what it hands over, how it stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import pytest
import trio
import trio.testing

from coordinator.rpc.http.lifetime import Limits
from coordinator.rpc.http.server import HttpServer
from tests.support.http import MAX_BODY, answers

LIMITS = Limits(idle_timeout=60.0, request_timeout=30.0, write_timeout=30.0, max_unsent_bytes=1 << 20)
CALL = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}'
LINES = b"host: localhost\r\ncontent-type: application/json\r\n"
POST = b"POST / HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (LINES, len(CALL), CALL)
UPGRADE = b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


class Agreed(trio.abc.Stream):
    """A stream, as TLS makes one, whose ends have agreed on HTTP/2."""

    def __init__(self, transport: trio.SocketStream) -> None:
        self.transport_stream = transport

    def selected_alpn_protocol(self) -> str:
        return "h2"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.transport_stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport_stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.transport_stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.transport_stream.aclose()


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[HttpServer, tuple[str, int]]]:
    """A server and its address; in the end it is stopped with a grace that would outlast the test."""
    server = HttpServer(answers(), LIMITS, **{"max_connections": 100, **options})
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            yield server, listener.socket.getsockname()
            server.stop(600.0)


async def received(stream: trio.abc.ReceiveStream) -> bytes:
    """All that comes until the connection ends."""
    data = b""
    async for part in stream:
        data += part
    return data


async def test_what_is_to_be_a_websocket_is_handed_over_and_closed_afterwards() -> None:
    handed: list[bytes] = []

    async def upgrade(stream: trio.abc.Stream, data: bytes) -> None:
        handed.append(data)
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + await stream.receive_some())

    async with served(upgrade=upgrade) as (server, address):
        client = await trio.open_tcp_stream(*address)
        await client.send_all(POST + UPGRADE + b"frame")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
        await client.send_all(b"more")

        assert await received(client) == b"HTTP/1.1 101 Switching Protocols\r\n\r\nmore"
        assert handed == [UPGRADE + b"frame"]
        while server.connections:
            await trio.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", POST, POST.replace(b"length: ", b"length: 99") + b"x" * 500_000])
async def test_a_client_too_many_reads_that_it_is_one_whatever_it_has_sent(sent: bytes) -> None:
    async with served(max_connections=1) as (server, address):
        first = await trio.open_tcp_stream(*address)
        await first.send_all(POST)
        assert (await first.receive_some()).startswith(b"HTTP/1.1 200")

        second = await trio.open_tcp_stream(*address)
        await second.send_all(sent)
        refusal = await received(second)
        assert refusal.startswith(b"HTTP/1.1 503")
        assert refusal.endswith(b"--max-connections\n")
        assert server.connections == 1

        await first.aclose()
        while server.connections:
            await trio.sleep(0.01)
        third = await trio.open_tcp_stream(*address)
        await third.send_all(POST)
        assert (await third.receive_some()).startswith(b"HTTP/1.1 200")
        await second.aclose()
        await third.aclose()


async def test_a_body_too_large_is_answered_though_the_client_sends_all_of_it_first() -> None:
    async with served() as (_, address):
        client = await trio.open_tcp_stream(*address)
        size = MAX_BODY * 500
        await client.send_all(b"POST / HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (LINES, size) + b"x" * size)

        assert (await received(client)).startswith(b"HTTP/1.1 413")
        await client.aclose()


async def test_http2_is_spoken_to_who_begins_so_and_to_who_has_agreed_on_it() -> None:
    def greeting() -> bytes:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        http2.initiate_connection()
        return http2.data_to_send()

    async with served() as (server, address), trio.open_nursery() as nursery:
        begins = await trio.open_tcp_stream(*address)
        await begins.send_all(greeting())
        ours, theirs = trio.socket.socketpair()
        agreed = trio.SocketStream(theirs)
        nursery.start_soon(server.handle, Agreed(trio.SocketStream(ours)))

        for client in (begins, agreed):
            assert (await client.receive_some())[3] == 4  # a SETTINGS frame
            await client.aclose()


async def test_when_it_stops_whoever_is_idle_is_let_go_soon() -> None:
    async with served() as (_, address):
        new = await trio.open_tcp_stream(*address)
        used = await trio.open_tcp_stream(*address)
        http2 = await trio.open_tcp_stream(*address)
        await used.send_all(POST)
        await used.receive_some()
        await http2.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        await http2.receive_some()
        refused = await trio.open_tcp_stream(*address)
        await refused.send_all(b"nonsense\n")
        await refused.receive_some()

    for client in (new, used, http2, refused):
        assert b"HTTP/1.1" not in await received(client)
