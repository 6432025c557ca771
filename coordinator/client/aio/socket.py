"""One WebSocket connection on asyncio's streams, spoken by wsproto."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Final

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from coordinator.client.address import Address
from coordinator.client.reasons import Unreachable, describe_status, describe_unexpected

__all__ = ["Socket", "open_socket"]

MAX_REPLY_BYTES: Final = 256 * 1024 * 1024
RECEIVE_BYTES: Final = 256 * 1024
FIRST_BYTES: Final = 16
CLOSE_TIMEOUT: Final = 1.0
MAX_REJECTION_BYTES: Final = 4096
MAX_UNSENT_BYTES: Final = 16 * 1024 * 1024
"""Beyond it pings are not answered: their peer reads nothing."""


class Socket:
    """An open connection.

    Attributes:
        last_received: when anything came, if only a part of a message.
        closed: the code and the reason that the server closed it with.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._messages: deque[str] = deque()
        self._parts: list[str] = []
        self._size = 0
        self.last_received = asyncio.get_running_loop().time()
        self.closed: tuple[int, str] | None = None

    async def handshake(self, address: Address, headers: Mapping[str, str]) -> None:
        """Raises Unreachable, OSError, ProtocolError."""
        extra = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._send(Request(host=address.host_header, target=address.resource, extra_headers=extra))
        first = b""
        rejection: RejectConnection | None = None
        body = b""
        while True:
            data = await self._reader.read(RECEIVE_BYTES)
            first = first or data[:FIRST_BYTES]
            if not data or not b"HTTP/".startswith(first[:5]):
                raise Unreachable(describe_unexpected(first, address))
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                match event:
                    case AcceptConnection():
                        return
                    case RejectConnection():
                        rejection = event
                    case RejectData():
                        body += event.data[:MAX_REJECTION_BYTES]
            if rejection is not None:
                fields = [(bytes(name), bytes(value)) for name, value in rejection.headers]
                why = describe_status(rejection.status_code, fields, body, address)
                raise Unreachable(why, rejection.status_code)

    async def send(self, text: str) -> None:
        """Send a message; waits while the server does not read."""
        await self._send(Message(data=text))

    def ping(self) -> None:
        """Ask for a sign of life. It does not wait: a peer that reads nothing must be found out, too."""
        self._writer.write(self._protocol.send(Ping()))

    async def receive(self) -> str | None:
        """The next message; None at the end. Raises OSError, ProtocolError."""
        while True:
            self._read_events()  # the first may have come with the end of the handshake
            if self._messages:
                return self._messages.popleft()
            if self.closed is not None:
                return None
            data = await self._reader.read(RECEIVE_BYTES)
            if not data:
                return None
            self.last_received = asyncio.get_running_loop().time()
            self._protocol.receive_data(data)

    def _read_events(self) -> None:
        for event in self._protocol.events():
            match event:
                case TextMessage() | BytesMessage():
                    self._gather(event)
                case Ping():
                    # It does not wait either: a peer that waits until its own messages are read would wait for ever.
                    if self._writer.transport.get_write_buffer_size() < MAX_UNSENT_BYTES:
                        self._writer.write(self._protocol.send(event.response()))
                case CloseConnection():
                    self.closed = (event.code, event.reason or "")
                    self._writer.write(self._protocol.send(event.response()))
                    return

    def _gather(self, event: TextMessage | BytesMessage) -> None:
        part = event.data if isinstance(event, TextMessage) else bytes(event.data).decode(errors="replace")
        self._parts.append(part)
        self._size += len(part)
        if self._size > MAX_REPLY_BYTES:
            raise ProtocolError(f"a message exceeds {MAX_REPLY_BYTES} characters")
        if event.message_finished:
            self._messages.append("".join(self._parts))
            self._parts.clear()
            self._size = 0

    async def _send(self, event: Event) -> None:
        self._writer.write(self._protocol.send(event))
        await self._writer.drain()

    async def aclose(self) -> None:
        """Say goodbye and have all of it sent, as far as that is quick, and close."""
        if self._writer.is_closing():
            return
        is_closed = False
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if self.closed is None:
                    await self._send(CloseConnection(code=1000))
                self._writer.close()
                await self._writer.wait_closed()
                is_closed = True
        except (OSError, TimeoutError, ProtocolError):
            pass  # it is gone, or does not read
        finally:
            if not is_closed:
                self._writer.transport.abort()


async def open_socket(
    address: Address, tls: ssl.SSLContext | None, headers: Mapping[str, str], timeout: float
) -> Socket:
    """Connect.

    Args:
        timeout: seconds that connecting may take, and after it the handshake.

    Raises:
        OSError, Unreachable, ProtocolError: there is no connection to be had.
    """
    name = None if tls is None else address.host.partition("%")[0]
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=tls, server_hostname=name, limit=RECEIVE_BYTES
            )
    except TimeoutError:
        raise Unreachable(f"it does not accept the connection within {timeout:g} s") from None
    socket = Socket(reader, writer)
    try:
        async with asyncio.timeout(timeout):
            await socket.handshake(address, headers)
    except TimeoutError:
        writer.transport.abort()
        raise Unreachable(f"it does not answer the WebSocket handshake within {timeout:g} s") from None
    except BaseException:
        writer.transport.abort()
        raise
    return socket
