"""From a connection's first bytes to an open WebSocket, or to the response that says why there is none.

trio-websocket makes the handshake, and sees nothing but the head of the request: it gets that from a stream which has
no more, and what it answers is collected there. So it needs no task of its own beyond this, and no byte that follows
the head can reach it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import h11
import trio
from trio_websocket import WebSocketRequest, wrap_server_stream

from coordinator.rpc.access.origins import joined
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.tokens import NOTHING, Shown
from coordinator.rpc.head_limits import MAX_HEAD, MAX_HEADERS, has_too_many_headers
from coordinator.socketio import receive_next

__all__ = [
    "Refused",
    "UpgradeRequest",
    "accept",
    "read_upgrade",
    "receive_head",
]

SUBPROTOCOLS: Final = ("herocoordinator.v1", "jsonrpc")  # the first that is offered is chosen

_END: Final = re.compile(rb"\n\r?\n")
_VERSION: Final = re.compile(rb"\r\nsec-websocket-version:", re.IGNORECASE)
_SINGLE: Final = (b"sec-websocket-key", b"sec-websocket-version")  # RFC 6455, 11.3: they may not be repeated
_LINE_ENDS: Final = b"\r\n"
_METHOD: Final = re.compile(rb"[A-Za-z!#$%&'*+.^_`|~0-9-]")
_REASONS: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class Refused(Exception):
    """There will be no WebSocket.

    Args:
        headers: beside those that every response has.

    Attributes:
        response: what to send.
    """

    def __init__(self, status: int, text: str, *headers: str) -> None:
        super().__init__(text)
        body = f"{text}\n".encode()
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(body)}",
            *headers,
        ]
        if not any(header.startswith("connection:") for header in headers):
            lines.append("connection: close")
        self.response = "\r\n".join([*lines, "", ""]).encode() + body


class UpgradeRequest:
    """A request for a WebSocket.

    Attributes:
        head: its bytes.
        host, origin, authorization: of its headers; None without one.
        headers: all of them, by lower-case names; the values of a repeated one joined by commas.
        shown, principal: what of it, or of its connection, says who the client is, and who that is. To be set once it
            was looked at.
    """

    def __init__(
        self,
        head: bytes,
        host: str | None,
        origin: str | None,
        authorization: str | None = None,
        headers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.headers = headers or {}
        self.shown: Shown = NOTHING
        self.principal: Principal | None = None
        self.authorization = authorization
        self.head = head
        self.host = host
        self.origin = origin


async def receive_head(stream: trio.abc.ReceiveStream, received: bytes) -> tuple[bytes, bytes] | None:
    """The head of a client's first request, and what was received behind it. None if the client leaves before.

    Args:
        received: what was read of it already.

    Raises:
        Refused: it is too long, or not the beginning of a request.
        trio.BrokenResourceError, trio.ClosedResourceError: as `receive_next`.
    """
    data = bytearray(received.lstrip(_LINE_ENDS))
    looked_at = 0
    while True:
        if data and not _METHOD.match(data):
            raise Refused(400, "this is no HTTP request")
        end = _END.search(data, looked_at, MAX_HEAD)
        if end is not None:
            return bytes(data[: end.end()]), bytes(data[end.end() :])
        if len(data) >= MAX_HEAD:
            raise Refused(431, f"the head of a request may have {MAX_HEAD} bytes")
        looked_at = max(0, len(data) - 2)
        more = await receive_next(stream)
        if not more:
            return None
        data += more if data else more.lstrip(_LINE_ENDS)


def read_upgrade(head: bytes, elsewhere: str) -> UpgradeRequest:
    """The request for a WebSocket that this head is.

    Args:
        elsewhere: where the HTTP API is, for a client that wants that.

    Raises:
        Refused: it is none.
    """
    if has_too_many_headers(head):
        raise Refused(431, f"a request may have {MAX_HEADERS} headers")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(400, f"this is no HTTP request: {error}") from None
    if not isinstance(request, h11.Request) or not request.http_version.startswith(b"1."):
        raise Refused(400, "this is no HTTP request")
    headers = {bytes(name): value.decode("latin-1") for name, value in request.headers}
    if "websocket" not in _tokens(headers.get(b"upgrade", "")):
        raise Refused(
            426,
            f"This port speaks WebSocket. The HTTP API is at {elsewhere}",
            "upgrade: websocket",
            "connection: Upgrade, close",
        )
    if b"transfer-encoding" in headers or headers.get(b"content-length", "0") != "0":
        raise Refused(400, "a request for a WebSocket has no body")
    if request.method != b"GET":
        raise Refused(400, "a request for a WebSocket is a GET")
    names = [name for name, _ in request.headers]
    if any(names.count(name) > 1 for name in _SINGLE) or headers.get(b"sec-websocket-key") == "":
        raise Refused(400, "a request for a WebSocket has one Sec-WebSocket-Key and one Sec-WebSocket-Version")
    origins = [value.decode("latin-1") for name, value in request.headers if name == b"origin"]
    shown = joined(value.decode("latin-1") for name, value in request.headers if name == b"authorization")
    all_headers: dict[bytes, bytes] = {}
    for name, value in request.headers:
        all_headers[name] = b"%b, %b" % (all_headers[name], value) if name in all_headers else value
    return UpgradeRequest(head, headers.get(b"host"), joined(origins), shown, all_headers)


async def accept(request: UpgradeRequest) -> bytes:
    """The response that opens the WebSocket.

    Raises:
        Refused: the request is not as RFC 6455 wants it; the response says why.
    """
    stream = _HeadOnly(request.head)
    is_open, is_named = False, True
    try:
        async with trio.open_nursery() as nursery:
            stream.on_close = nursery.cancel_scope.cancel
            proposal = await wrap_server_stream(nursery, stream)
            await proposal.accept(subprotocol=_chosen(proposal))
            is_open = True
            nursery.cancel_scope.cancel()
    except* UnicodeError:
        is_named = False
    if not is_named:
        raise Refused(400, "the name in Host is none")
    if not is_open:
        refused = Refused(400, "a request for a WebSocket has `Upgrade: websocket` and a Sec-WebSocket-Key")
        if _VERSION.search(stream.sent):  # what it answers to other faults says nothing
            refused.response = bytes(stream.sent)
        raise refused
    return bytes(stream.sent)


def _chosen(proposal: WebSocketRequest) -> str | None:
    offered = proposal.proposed_subprotocols
    return next((name for name in SUBPROTOCOLS if name in offered), None)


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


class _HeadOnly(trio.abc.Stream):
    """What trio-websocket sees of a connection.

    Attributes:
        sent: what it has answered.
        on_close: called when it gives the connection up.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.sent = bytearray()
        self.on_close: Callable[[], None] = lambda: None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data, self._head = self._head[:max_bytes], b"" if max_bytes is None else self._head[max_bytes:]
        if not data:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return data

    async def aclose(self) -> None:
        self.on_close()
        await trio.lowlevel.checkpoint()
