"""The servers ours is compared with, each the least its library can do; `python -m bench.peers NAME DIRECTORY`.

Prints its URL (of `valkey`, its socket) as its first line, then serves until it is terminated. Those that answer with
a canned reply read it from standard input.

    hypercorn        POST under Hypercorn's trio worker: reads the body, answers a canned reply
    store            the same after one HGETALL on a Valkey of its own, for one connection: the least that a server
                     with a store can do
    trio-websocket   get_message, send_message, with trio-websocket's defaults
    coalesced        the same echo on a stream that gathers what is written: what trio-websocket can do at best
    asyncio          POST on a bare asyncio protocol: the ceiling of our load generator over HTTP
    picows           an echo in picows: its ceiling over WebSocket
    valkey           no server but a store for one: the coordinator's embedded Valkey; takes the fsync policy as well
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import hiredis
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket, wrap_server_stream

from bench.coalescing import HIGH_WATER, CoalescingStream
from coordinator.budget import Budget
from coordinator.rpc.websocket.connection import RECEIVE_BYTES
from coordinator.rpc.websocket.frames import text_frame
from coordinator.settings import Settings
from coordinator.storage.embedded import EmbeddedValkey

__all__ = ["NAMES"]

_HOST: Final = "127.0.0.1"
_MESSAGE_QUEUE: Final = 32
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _announce(scheme: str, port: int) -> None:
    print(f"{scheme}://{_HOST}:{port}", flush=True)


# -- on trio


async def _hypercorn() -> None:
    async def nothing() -> None:
        pass

    await _serve_canned(nothing)


async def _store() -> None:
    async with EmbeddedValkey(Path(sys.argv[2]), "everysec") as valkey:
        stream = await valkey.endpoint.open()
        reader = hiredis.Reader()

        async def exchange(*command: str) -> None:
            await stream.send_all(hiredis.pack_command(command))  # type: ignore[arg-type]
            while reader.gets() is False:
                reader.feed(bytes(await stream.receive_some()))

        await exchange("HSET", "job", *(f"member{number}" for number in range(28)))
        await _serve_canned(partial(exchange, "HGETALL", "job"))


async def _serve_canned(before_answer: Callable[[], Awaitable[object]]) -> None:
    reply = sys.stdin.buffer.read()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        events: Any = receive
        answer: Any = send
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await events()
                await answer({"type": f"lifespan.{step}.complete"})
            return
        while (await events()).get("more_body"):
            pass
        await before_answer()
        await answer({"type": "http.response.start", "status": 200, "headers": headers})
        await answer({"type": "http.response.body", "body": reply})

    # As in coordinator.rpc.http.http2.
    defaults = Settings.model_construct()
    config = Config()
    config.bind = [f"{_HOST}:0"]
    config.keep_alive_timeout = defaults.keep_alive_timeout
    config.keep_alive_max_requests = sys.maxsize
    config.read_timeout = int(defaults.request_timeout + defaults.keep_alive_timeout)
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(partial(serve, app, config))
        print(binds[0], flush=True)


async def _trio_websocket() -> None:
    async def echo(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            while True:
                await socket.send_message(await socket.get_message())
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, echo, _HOST, 0, ssl_context=None))
        _announce("ws", server.port)


async def _coalesced() -> None:
    async def echo(transport: trio.SocketStream) -> None:
        stream = CoalescingStream(transport, Budget(1 << 24))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.run_flusher)
            request = await wrap_server_stream(
                nursery, stream, message_queue_size=_MESSAGE_QUEUE, receive_buffer_size=RECEIVE_BYTES
            )
            socket = await request.accept()
            try:
                while True:
                    message = await socket.get_message()
                    stream.write(text_frame(message.encode() if isinstance(message, str) else message))
                    if stream.waiting > HIGH_WATER:
                        await stream.relieved()
            except ConnectionClosed:
                nursery.cancel_scope.cancel()

    listeners = await trio.open_tcp_listeners(0, host=_HOST)
    _announce("ws", listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(echo, listeners)


async def _valkey() -> None:
    fsync: Any = sys.argv[3]
    async with EmbeddedValkey(Path(sys.argv[2]), fsync) as valkey:
        print(valkey.endpoint.path, flush=True)
        await valkey.supervise()


# -- on asyncio, as fast as it goes


class _CannedPost(asyncio.Protocol):
    """Answers each request once its body is complete. Requests are not pipelined."""

    def __init__(self, reply: bytes) -> None:
        self._response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(reply),
            reply,
        )
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        end = received.find(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(received, 0, end) if end >= 0 else None
        if length is not None and len(received) >= end + 4 + int(length[1]):
            received.clear()
            self._transport.write(self._response)


async def _asyncio() -> None:
    reply = sys.stdin.buffer.read()
    server = await asyncio.get_running_loop().create_server(lambda: _CannedPost(reply), _HOST, 0)
    _announce("http", server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_memoryview())


async def _picows() -> None:
    def listener(_: WSUpgradeRequest) -> WSListener:
        return _Echo()

    server = await ws_create_server(listener, _HOST, 0)
    _announce("ws", server.sockets[0].getsockname()[1])
    await server.serve_forever()


_SERVERS: Final[dict[str, tuple[Callable[..., Any], Callable[[], Awaitable[None]]]]] = {
    "hypercorn": (trio.run, _hypercorn),
    "store": (trio.run, _store),
    "trio-websocket": (trio.run, _trio_websocket),
    "coalesced": (trio.run, _coalesced),
    "asyncio": (asyncio.run, _asyncio),
    "picows": (asyncio.run, _picows),
    "valkey": (trio.run, _valkey),
}
NAMES: Final = tuple(_SERVERS)


def _main(name: str) -> None:
    run, server = _SERVERS[name]
    run(server if run is trio.run else server())


if __name__ == "__main__":
    _main(sys.argv[1])
