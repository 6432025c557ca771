"""A WebSocket server whose every word a test decides, for what a coordinator never does or cannot be made to do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

__all__ = ["Peer", "echo", "peer"]

Reply = Callable[["Peer", WebSocketConnection, Any], Awaitable[None]]


class Peer:
    """Attributes:
    frames: what was received, parsed, over all connections.
    connections: how many were made.
    """

    def __init__(self, reply: Reply) -> None:
        self.url = ""
        self.frames: list[Any] = []
        self.connections = 0
        self._reply = reply
        self._changed = trio.Event()

    async def received(self, count: int) -> None:
        """Wait until so many frames came."""
        while len(self.frames) < count:
            await self._changed.wait()

    async def _serve(self, request: WebSocketRequest) -> None:
        self.connections += 1
        socket = await request.accept()
        try:
            while True:
                frame = json.loads(await socket.get_message())
                self.frames.append(frame)
                self._changed.set()
                self._changed = trio.Event()
                await self._reply(self, socket, frame)
        except ConnectionClosed:
            pass

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, self._serve, "127.0.0.1", 0, None)
            self.url = f"ws://127.0.0.1:{server.port}"
            task_status.started()


async def echo(_: Peer, socket: WebSocketConnection, frame: Any) -> None:
    """Answer each call with its own params."""

    def answer(call: Any) -> Any:
        return {"jsonrpc": "2.0", "id": call["id"], "result": call.get("params")}

    calls = frame if isinstance(frame, list) else [frame]
    replies = [answer(call) for call in calls if "id" in call]
    if replies:
        await socket.send_message(json.dumps(replies if isinstance(frame, list) else replies[0]))


@asynccontextmanager
async def peer(reply: Reply = echo) -> AsyncIterator[Peer]:
    """A running peer."""
    running = Peer(reply)
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        yield running
        nursery.cancel_scope.cancel()
