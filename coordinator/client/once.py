"""One call, to whatever URL a person has: over HTTP in one POST, over a WebSocket through the client."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import h11
import trio
from pydantic_core import from_json
from trio_websocket import HandshakeError

from coordinator import __version__
from coordinator.client.address import Address
from coordinator.client.client import connect
from coordinator.client.credentials import Credentials
from coordinator.client.errors import CannotConnect, NoReply, RpcError, rpc_error
from coordinator.client.ledger import encode_call
from coordinator.client.reasons import (
    DENIALS,
    Unreachable,
    describe_status,
    describe_unexpected,
    one_line,
    reason_of,
)
from coordinator.client.stream import Stream, headers_from, open_stream, time_limit, tls_for

__all__ = ["call_once"]

CONNECT_TIMEOUT: Final = 10.0
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
"""The most that a call, and its reply, may have. How large a call may really be, the server knows and says."""
RECEIVE_BYTES: Final = 256 * 1024


async def call_once(
    url: str,
    method: str,
    params: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    ca: str | os.PathLike[str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 60.0,
    credentials: Credentials | None = None,
) -> Any:
    """Connect, call, and return the result as plain Python objects. The call is sent once.

    Args:
        url: http:// or https:// for a POST, ws:// or wss:// (or a path that ends with /ws) for a WebSocket.
        timeout: seconds until there must be an answer.
        params, headers, ca, ssl_context, credentials: as `connect` and `Client.call` have them.

    Raises:
        RpcError: it was answered with an error; the subclass says which.
        CannotConnect: there is no coordinator to be reached at this URL.
        ConnectionLost: the connection ended before the answer; the call may have been applied.
        NoReply: there was no answer in time. It is a trio.TooSlowError.
        ValueError: the URL is not one, a header is none, or there are no certificates in `ca`.
    """
    address = Address.parse(url)
    if not address.is_websocket:
        post = partial(_post, address, tls=tls_for(address, ca, ssl_context, credentials), timeout=timeout)
        given = headers_from(headers)
        return await post(method, params, {**given, **(await _shown(address, credentials, post, given))})
    async with connect(
        url,
        headers=headers,
        ca=ca,
        ssl_context=ssl_context,
        timeout=timeout,
        give_up_after=0,
        connect_timeout=min(CONNECT_TIMEOUT, timeout),
        max_frame_bytes=MAX_MESSAGE_BYTES,
        credentials=credentials,
    ) as client:
        return await client.call(method, params, resend=False)


async def _shown(
    address: Address,
    credentials: Credentials | None,
    post: Callable[[str, Any, Mapping[str, str]], Awaitable[Any]],
    headers: Mapping[str, str],
) -> Mapping[str, str]:
    """The headers that say who calls. A key logs in first, for a token."""
    if credentials is None:
        return {}

    async def ask(method: str, params: Mapping[str, Any]) -> Any:
        try:
            return {"result": await post(method, params, headers)}
        except RpcError as error:
            return {"error": {"code": error.code, "message": error.message, "data": error.data}}

    logged_in = await credentials.log_in(ask, address)
    if logged_in is None:
        return credentials.headers()
    return {"Authorization": f"Bearer {logged_in.token}"}


async def _post(
    address: Address,
    method: str,
    params: Any,
    headers: Mapping[str, str],
    *,
    tls: ssl.SSLContext | None,
    timeout: float,
) -> Any:
    body = encode_call(method, params)
    was_sent = False
    try:
        with trio.fail_after(timeout):
            with time_limit(CONNECT_TIMEOUT, "it does not accept the connection"):
                stream = await open_stream(address, tls)
            was_sent = True
            try:
                status, fields, content = await _exchange(stream, address, headers, body)
            finally:
                await trio.aclose_forcefully(stream)
    except trio.TooSlowError:
        why = f"{address.url} did not answer within {timeout:g} s"
        raise NoReply(why, may_have_been_applied=was_sent) from None
    except (OSError, HandshakeError, trio.BrokenResourceError) as error:
        raise CannotConnect(f"no connection to {address.url}: {reason_of(error, address)}") from error
    return _result(address, status, fields, content)


Fields = list[tuple[bytes, bytes]]


async def _exchange(
    stream: Stream, address: Address, headers: Mapping[str, str], body: bytes
) -> tuple[int, Fields, bytes]:
    """Send a POST; the status, the header fields and the body of its response."""
    connection = h11.Connection(h11.CLIENT)
    fields = {
        "host": address.host_header,
        "user-agent": f"herocoordinator/{__version__}",
        "accept": "application/json",
        "connection": "close",
        **{name.lower(): value for name, value in headers.items()},
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    request = h11.Request(method="POST", target=address.resource, headers=list(fields.items()))
    data = [connection.send(event) or b"" for event in (request, h11.Data(body), h11.EndOfMessage())]
    broken: trio.BrokenResourceError | None = None
    try:
        await stream.send_all(b"".join(data))
    except trio.BrokenResourceError as error:
        broken = error  # it may have answered all the same, and not wanted to read the rest
    first = b""
    response: h11.Response | None = None
    content = bytearray()
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            raise Unreachable(describe_unexpected(first, address)) from broken
        match event:
            case h11.NEED_DATA:
                received = await _receive(stream, address, first, broken)
                first = first or bytes(received[:16])
                connection.receive_data(bytes(received))
            case h11.Response():
                response = event
            case h11.Data():
                content += event.data
                if len(content) > MAX_MESSAGE_BYTES:
                    raise Unreachable(f"its answer exceeds {MAX_MESSAGE_BYTES} bytes")
            case h11.EndOfMessage() | h11.ConnectionClosed() | h11.PAUSED:
                break
    if response is None:
        raise Unreachable(describe_unexpected(first, address)) from broken
    return response.status_code, [(bytes(name), bytes(value)) for name, value in response.headers], bytes(content)


async def _receive(
    stream: Stream, address: Address, first: bytes, broken: trio.BrokenResourceError | None
) -> bytes | bytearray:
    try:
        return await stream.receive_some(RECEIVE_BYTES)
    except trio.BrokenResourceError as error:
        if first or isinstance(error.__cause__, ssl.SSLError):
            raise
        raise Unreachable(describe_unexpected(first, address)) from broken or error


def _result(address: Address, status: int, fields: Fields, content: bytes) -> Any:
    try:
        reply = from_json(content)
    except ValueError:
        reply = None
    if isinstance(reply, dict) and "result" in reply:
        return reply["result"]
    if isinstance(reply, dict) and isinstance(reply.get("error"), dict):
        raise rpc_error(reply["error"])
    if status != 200:
        why = describe_status(status, fields, content, address)
    else:
        words = "" if content.lstrip().startswith(b"<") else ": " + one_line(content.decode(errors="replace"))
        why = f"its answer is no JSON-RPC{words} (this is no coordinator's HTTP API)"
    raise CannotConnect(f"no connection to {address.url}: {why}", denied=status in DENIALS)
