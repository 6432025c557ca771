"""One WebSocket connection: the stream it runs on, its handshake, its frames."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

import trio
from trio_websocket import HandshakeError, WebSocketConnection, wrap_client_stream

__all__ = ["Address", "open_link", "pause_after"]

BACKOFF_BASE: Final = 0.1
BACKOFF_CAP: Final = 5.0

MAX_REPLY_BYTES: Final = 256 * 1024 * 1024  # the reply to one call may have any size, that to a batch 16 MiB
RECEIVE_BYTES: Final = 256 * 1024
MESSAGE_QUEUE: Final = 32


def pause_after(failures: int) -> float:
    """Seconds to wait before trying again what has failed so many times before this one."""
    # The exponent is bounded because 2.0**1024 is no float, and one may fail for days.
    return min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1)


class Address:
    """Where a URL leads to.

    Raises:
        ValueError: it is no ws:// or wss:// URL.
    """

    def __init__(self, url: str, ssl_context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of the form ws://HOST:PORT or wss://HOST:PORT")
        self.url = url
        self.host = parts.hostname
        secure = parts.scheme == "wss"
        self.port = parts.port if parts.port is not None else (443 if secure else 80)
        self.resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.tls = (ssl_context or ssl.create_default_context()) if secure else None

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (80, 443) else f"{host}:{self.port}"


class _WatchedStream(trio.abc.Stream):
    """Says when the peer has hung up; trio-websocket's handshake waits for ever if it does so early."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.hung_up = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self.hung_up.set()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _no_longer_than(timeout: float, why: str) -> Iterator[None]:
    try:
        with trio.fail_after(timeout):
            yield
    except trio.TooSlowError:
        raise HandshakeError(why) from None


@asynccontextmanager
async def open_link(
    address: Address, headers: Mapping[str, str], timeout: float
) -> AsyncIterator[tuple[WebSocketConnection, trio.Nursery]]:
    """A connection, and the nursery its tasks run in, which is cancelled in the end.

    Raises:
        OSError, HandshakeError: there is no connection to be had, or not within `timeout` seconds. Possibly in a group.
    """
    stream: trio.abc.Stream
    with _no_longer_than(timeout, f"{address.url} does not accept the connection"):
        if address.tls is None:
            stream = await trio.open_tcp_stream(address.host, address.port)
        else:
            stream = await trio.open_ssl_over_tcp_stream(
                address.host, address.port, ssl_context=address.tls, https_compatible=True
            )
    watched = _WatchedStream(stream)
    try:
        async with trio.open_nursery() as nursery:
            with _no_longer_than(timeout, f"{address.url} does not answer the WebSocket handshake"):
                socket = await _handshake(nursery, watched, address, headers)
            yield socket, nursery
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(watched)


async def _handshake(
    nursery: trio.Nursery, stream: _WatchedStream, address: Address, headers: Mapping[str, str]
) -> WebSocketConnection:
    async with trio.open_nursery() as waiting:

        async def give_up_with_peer() -> None:
            # What came before it hung up is processed by now: a rejection has been raised by the reader.
            await stream.hung_up.wait()
            raise HandshakeError(f"{address.url} closed the connection in the handshake")

        waiting.start_soon(give_up_with_peer)
        socket = await wrap_client_stream(
            nursery,
            cast(Any, stream),
            address.host_header,
            address.resource,
            extra_headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            message_queue_size=MESSAGE_QUEUE,
            max_message_size=MAX_REPLY_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
        waiting.cancel_scope.cancel()
    return socket
