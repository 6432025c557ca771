"""One WebSocket connection: the stream it runs on, its handshake, its frames."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from coordinator.client.address import Address
from coordinator.client.reasons import Unreachable, describe_unexpected, reason_of
from coordinator.client.stream import open_stream, time_limit

__all__ = ["WatchedStream", "open_link", "pause_after"]

BACKOFF_BASE: Final = 0.1
BACKOFF_CAP: Final = 5.0

MAX_REPLY_BYTES: Final = 256 * 1024 * 1024  # the reply to one call may have any size, that to a batch 16 MiB
RECEIVE_BYTES: Final = 256 * 1024
MESSAGE_QUEUE: Final = 32
FIRST_BYTES: Final = 16
BEGINNING: Final = b"HTTP/"


def pause_after(failures: int) -> float:
    """Seconds to wait before trying again what has failed so many times before this one."""
    # The exponent is bounded because 2.0**1024 is no float, and one may fail for days.
    return min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1)


class WatchedStream(trio.abc.Stream):
    """Says when the peer was heard, and when it has hung up: trio-websocket's handshake would wait for ever.

    A peer that does not begin like an HTTP server counts as one that has hung up, because trio-websocket would answer
    it with what no client may send, and fail.

    Attributes:
        first: what the peer began with, at most FIRST_BYTES of it.
        last_received: when anything came, if only a part of a message.
        failure: what reading failed with, which trio-websocket does not pass on.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.hung_up = trio.Event()
        self.first = b""
        self.last_received = trio.current_time()
        self.failure: BaseException | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
            self.last_received = trio.current_time()
            if len(self.first) < FIRST_BYTES:
                self.first += data[: FIRST_BYTES - len(self.first)]
                if not BEGINNING.startswith(self.first[: len(BEGINNING)]):
                    data = b""
        except trio.BrokenResourceError as error:
            self.failure = error
            raise
        finally:
            if not data:
                self.hung_up.set()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def open_link(
    address: Address, tls: ssl.SSLContext | None, headers: Mapping[str, str], timeout: float
) -> AsyncIterator[tuple[WebSocketConnection, WatchedStream, trio.Nursery]]:
    """A connection, what it runs on, and the nursery its tasks run in, which is cancelled in the end.

    Args:
        tls: for a secure address.
        timeout: seconds that connecting may take, and after it the handshake.

    Raises:
        OSError, HandshakeError, trio.BrokenResourceError: there is no connection to be had. Possibly in a group.
    """
    with time_limit(timeout, "it does not accept the connection"):
        stream = await open_stream(address, tls)
    watched = WatchedStream(stream)
    try:
        async with trio.open_nursery() as nursery:
            with time_limit(timeout, "it does not answer the WebSocket handshake"):
                socket = await _handshake(nursery, watched, address, headers)
            yield socket, watched, nursery
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(watched)


async def _handshake(
    nursery: trio.Nursery, stream: WatchedStream, address: Address, headers: Mapping[str, str]
) -> WebSocketConnection:
    async with trio.open_nursery() as waiting:

        async def give_up_with_peer() -> None:
            # What came before it hung up is processed by now: a rejection has been raised by the reader.
            await stream.hung_up.wait()
            if stream.failure is not None and isinstance(stream.failure.__cause__, ssl.SSLError):
                raise Unreachable(reason_of(stream.failure, address)) from stream.failure
            raise Unreachable(describe_unexpected(stream.first, address))

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
