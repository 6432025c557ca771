"""The short way for the common request over HTTP: a POST that arrives in order, answered without a task of its own.

Hypercorn spends most of a request's time on starting and cancelling two tasks, on its queue to the app and on sending
head and body apart. A connection is served here for as long as its client sends nothing but plain POSTs; at anything
else it goes to Hypercorn, with what was read of it, and stays there.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import Final, NamedTuple

import h11
import trio

from coordinator.socketio import receive_next, send_now
from coordinator.tlsstream import TlsStream

__all__ = ["HungUp", "Plain", "PlainPosts", "Respond", "read_head"]

MAX_HEAD: Final = 2048  # bytes of one read here; heads are remembered, and browsers' are of no use here
PIPELINED_BYTES: Final = 256 * 1024  # read ahead while a call takes long

_START: Final = b"POST / HTTP/1.1\r\n"
_END: Final = b"\r\n\r\n"
_NOT_PLAIN: Final = (b"transfer-encoding", b"expect", b"upgrade")

Stream = trio.SocketStream | TlsStream

HungUp = Callable[[], Awaitable[None]]
"""Returns once the client is gone."""

Respond = Callable[[bytes | None], None]
"""Takes the reply to a POST. Does not block or raise."""


class Plain(NamedTuple):
    """What a head says that may be answered here.

    Attributes:
        length: bytes of the body.
        headers: lines of the response's head that do not depend on the reply, each with its line end.
    """

    length: int
    headers: bytes


def read_head(head: bytes) -> dict[bytes, bytes] | None:
    """The headers of a plain POST by their lower-case names; None if it is another request, or none at all."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(request, h11.Request) or connection.trailing_data[0]:
        return None
    headers = dict(request.headers)
    if len(headers) != len(request.headers) or b"content-length" not in headers:
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive" or any(
        name in headers for name in _NOT_PLAIN
    ):
        return None
    return headers


class PlainPosts:
    """Serves connections, each by one call of `serve`.

    Args:
        admit: from a request's head, up to and with its empty line, to how it is answered; None if it is not plain.
        answer: from a body to the reply's, or None if there is none, which it hands to the third argument as soon as
            there is one. The second tells that the client is gone.
        idle_timeout: seconds without a request after which a connection is closed.
        read_timeout: seconds without a byte of a request that has begun after which it is closed.
        write_timeout: seconds a client may take to accept a response.
    """

    def __init__(
        self,
        admit: Callable[[bytes], Plain | None],
        answer: Callable[[bytes, HungUp, Respond], Awaitable[None]],
        *,
        idle_timeout: float,
        read_timeout: float,
        write_timeout: float,
    ) -> None:
        self._admit = admit
        self._answer = answer
        self._idle_timeout = idle_timeout
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._idle: set[trio.CancelScope] = set()
        self._is_stopping = False

    def stop(self) -> None:
        """Close idle connections now, and others after the response to what they have sent."""
        self._is_stopping = True
        for scope in self._idle:
            scope.cancel()

    async def serve(self, transport: Stream) -> bytes | None:
        """Answer plain POSTs. Returns what was read of the first other request, or None if the connection has ended.

        Raises:
            trio.BrokenResourceError: the client is gone.
        """
        with trio.CancelScope() as patience:
            data = b""
            while not self._is_stopping:
                if not data:
                    data = await self._next(transport, patience)
                    if not data:
                        return None
                end = data.find(_END, 0, MAX_HEAD) + len(_END)
                plain = self._admit(data[:end]) if end >= len(_END) and data.startswith(_START) else None
                if plain is None:
                    patience.deadline = math.inf
                    return data
                end_of_body = end + plain.length
                if len(data) < end_of_body:
                    data = await self._rest(transport, patience, data, end_of_body)
                    if len(data) < end_of_body:
                        return None
                patience.deadline = math.inf  # the directory answers every request by its deadline
                ahead = _ReadAhead(transport, data[end_of_body:])
                response = _Response(transport, plain)
                await self._answer(data[end:end_of_body], ahead.hung_up, response.send)
                data = ahead.data
                if response.left:
                    patience.deadline = trio.current_time() + self._write_timeout
                    await transport.send_all(response.left)
        return None

    async def _next(self, transport: Stream, patience: trio.CancelScope) -> bytes:
        """The beginning of a request; nothing if none comes."""
        patience.deadline = trio.current_time() + self._idle_timeout
        self._idle.add(patience)
        try:
            return await receive_next(transport)
        finally:
            self._idle.discard(patience)

    async def _rest(self, transport: Stream, patience: trio.CancelScope, data: bytes, size: int) -> bytes:
        """`data` and what follows, until there are `size` bytes or no more come."""
        parts = [data]
        missing = size - len(data)
        while missing > 0:
            patience.deadline = trio.current_time() + self._read_timeout
            part = await receive_next(transport)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


class _ReadAhead:
    """Looks whether a client is still there by reading on, up to a bound."""

    def __init__(self, transport: Stream, data: bytes) -> None:
        self._transport = transport
        self.data = data

    async def hung_up(self) -> None:
        while len(self.data) < PIPELINED_BYTES:
            more = await receive_next(self._transport)
            if not more:
                return
            self.data += more
        await trio.sleep_forever()


class _Response:
    """Sends the response to a POST at the moment its reply is there, for that needs no task's turn.

    Attributes:
        left: what could not be sent at once.
    """

    def __init__(self, transport: Stream, plain: Plain) -> None:
        self._transport = transport
        self._plain = plain
        self.left = b""

    def send(self, reply: bytes | None) -> None:
        self.left = _rendered(self._plain, reply)
        with contextlib.suppress(OSError):  # whoever sends what is left gets it as well
            self.left = send_now(self._transport, self.left)


@lru_cache(1)
def _date_line(second: int) -> bytes:
    return f"date: {formatdate(second, usegmt=True)}\r\n".encode()


def _rendered(plain: Plain, reply: bytes | None) -> bytes:
    date = _date_line(int(time()))
    if reply is None:
        return b"HTTP/1.1 204 No Content\r\n%b%b\r\n" % (plain.headers, date)
    return b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b" % (
        plain.headers,
        len(reply),
        date,
        reply,
    )
