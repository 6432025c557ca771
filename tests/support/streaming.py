"""A JSON-RPC client over WebSocket with any number of calls in flight, and raw sockets for clients that misbehave."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, Endpoint, WebSocketConnection, open_websocket_url

__all__ = [
    "ConnectionLost",
    "ErrorReply",
    "OnNotices",
    "RawClient",
    "StreamingClient",
    "Waiter",
    "job",
    "job_ids",
    "streaming",
]

_MAX_REPLY: Final = 64 * 1024 * 1024
_RECEIVE_BYTES: Final = 256 * 1024
Waiter = Callable[[], Awaitable[Any]]
"""Waits for a call's result. Raises ErrorReply or ConnectionLost."""

OnNotices = Callable[[list[dict[str, Any]]], None]

_ABORTIVE_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST


class ErrorReply(Exception):
    """A call was answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code: int = error["code"]
        self.data: Any = error.get("data")


class ConnectionLost(Exception):
    """The connection ended before the call was answered."""


class _Answer:
    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.reply: Any = None


class StreamingClient:
    """One connection.

    Args:
        on_notices: is given the notifications of a frame.

    Attributes:
        order: ids of the replies in the order they came.
        closed: set once the connection has ended. close_code: that of the close frame, None if there was none.
    """

    def __init__(self, connection: WebSocketConnection, on_notices: OnNotices | None = None) -> None:
        self._connection = connection
        self._on_notices = on_notices
        self._answers: dict[int, _Answer] = {}
        self._last_id = 0
        self._ended = False
        self.order: list[Any] = []
        self.closed = trio.Event()
        self.close_code: int | None = None

    @property
    def port(self) -> int:
        """Ours."""
        assert isinstance(self._connection.local, Endpoint)
        return self._connection.local.port

    async def call(self, method: str, params: Any) -> Any:
        """The result. Raises ErrorReply or ConnectionLost."""
        return await (await self.send(method, params))()

    async def send(self, method: str, params: Any) -> Waiter:
        """Send a call, and do not wait for its result."""
        (waiter,) = await self._send([(method, params)], is_batch=False)
        return waiter

    async def batch(self, calls: list[tuple[str, Any]]) -> list[Any]:
        """Send a batch; each call's result, or its ErrorReply in its place."""
        outcomes: list[Any] = []
        for waiter in await self._send(calls, is_batch=True):
            try:
                outcomes.append(await waiter())
            except ErrorReply as error:
                outcomes.append(error)
        return outcomes

    async def _send(self, calls: list[tuple[str, Any]], *, is_batch: bool) -> list[Waiter]:
        requests = []
        waiters = []
        for method, params in calls:
            self._last_id += 1
            answer = self._answers[self._last_id] = _Answer()
            requests.append({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
            waiters.append(self._waiter(answer))
        if self._ended:
            raise ConnectionLost
        try:
            await self._connection.send_message(json.dumps(requests if is_batch else requests[0]))
        except ConnectionClosed as error:
            raise ConnectionLost from error
        return waiters

    def _waiter(self, answer: _Answer) -> Waiter:
        async def wait() -> Any:
            await answer.arrived.wait()
            if answer.reply is None:
                raise ConnectionLost
            if "error" in answer.reply:
                raise ErrorReply(answer.reply["error"])
            return answer.reply["result"]

        return wait

    async def run(self) -> None:
        """Take replies until the connection ends."""
        try:
            while True:
                message = json.loads(await self._connection.get_message())
                items = message if isinstance(message, list) else [message]
                notices = [item for item in items if "method" in item]
                if notices:
                    assert self._on_notices is not None, notices
                    self._on_notices(notices)
                for reply in items:
                    if "method" in reply:
                        continue
                    self.order.append(reply["id"])
                    answer = self._answers.pop(reply["id"])
                    answer.reply = reply
                    answer.arrived.set()
        except ConnectionClosed as error:
            self.close_code = None if error.reason is None else error.reason.code
        finally:
            self._ended = True
            self.closed.set()
            for answer in self._answers.values():
                answer.arrived.set()


@asynccontextmanager
async def streaming(url: str, on_notices: OnNotices | None = None) -> AsyncIterator[StreamingClient]:
    """A connected client."""
    async with open_websocket_url(
        url, max_message_size=_MAX_REPLY, receive_buffer_size=_RECEIVE_BYTES, disconnect_timeout=2
    ) as connection:
        client = StreamingClient(connection, on_notices)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            yield client
            nursery.cancel_scope.cancel()


class RawClient:
    """A WebSocket client without a library, on a blocking socket: it reads only when told, and can vanish.

    `receive_bytes` makes the kernel's receive buffer small, so that the server notices soon that nobody reads.
    """

    def __init__(self, url: str, *, receive_bytes: int | None = None) -> None:
        parts = urlsplit(url)
        self.host, self.server_port = parts.hostname or "", parts.port or 0
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(20)
        self.socket.connect((self.host, self.server_port))

    def upgrade(self) -> None:
        """Make the handshake; anything but 101 is an error."""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET / HTTP/1.1\r\nHost: {self.host}:{self.server_port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(1)
            assert data, f"closed in the handshake: {head!r}"
            head += data
        assert b" 101 " in head, head

    def send_call(self, id: int, method: str, params: Any) -> None:
        self.socket.sendall(call_frame(id, method, params))

    @property
    def port(self) -> int:
        """Ours."""
        port: int = self.socket.getsockname()[1]
        return port

    def close(self) -> None:
        """Close with FIN."""
        self.socket.close()

    def vanish(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTIVE_CLOSE)
        self.socket.close()


def call_frame(id: int, method: str, params: Any) -> bytes:
    """A masked text frame holding a call."""
    payload = json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()
    length = len(payload)
    head = bytes([0x81, 0x80 | length]) if length < 126 else b"\x81\xfe" + length.to_bytes(2, "big")
    return head + bytes(4) + payload  # masked with zeros


def job(context: int, id: int, script: str = "", **more: Any) -> dict[str, Any]:
    """Params of job.create for a job of caller 7."""
    return {
        "context_id": context,
        "job": {
            "id": id,
            "caller_id": 7,
            "context_id": context,
            "script": script,
            "script_type": "Python",
            "timeout": 0,
            "retries": 0,
            "env_vars": {},
            "prerequisites": [],
            "depends": [],
            **more,
        },
    }


def job_ids(context: int, id: int) -> dict[str, int]:
    """Params of job.load for the same job."""
    return {"context_id": context, "caller_id": 7, "id": id}
