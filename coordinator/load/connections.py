"""A load generator's connections: WebSocket on picows, HTTP on a bare asyncio protocol.

Each has a window of messages that may be in flight. In a closed loop an answer is replaced by the next message at once;
in an open loop (Meter.intended) messages leave when they are due, whether or not others were answered. Messages are
rendered and framed once, before anything is measured.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from time import perf_counter
from typing import Final, Protocol

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from coordinator.client.address import Address
from coordinator.load.messages import BadReply, Expectation, Message, Refused

__all__ = ["MAX_FRAME", "BaseClient", "Client", "HttpClient", "Meter", "WebSocketClient", "connected"]

MAX_FRAME: Final = 64 * 1024 * 1024
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Client(Protocol):
    """A connection, and what may be in flight on it. Nothing is sent on one that `is_lost`."""

    window: int
    is_lost: bool

    def send(self, slot: int, since: float) -> None:
        """Put the next message of this place in the window in line; its latency counts from `since`."""

    def flush(self) -> None:
        """Write what is in line."""

    def start(self) -> None:
        """Begin a closed loop."""

    def close(self) -> None: ...


class Meter:
    """What all connections of one run have in common.

    Attributes:
        pace: seconds from one message of a connection to its next; 0: as soon as it is answered.
        idle: in an open loop, places in windows with nothing in flight, the longest idle first; None in a closed loop.
        intended: in an open loop, when messages were due that found no place.
        latencies: seconds to the answer, of each message answered while measuring: from sending it, in an open loop
            from when it was due. So what a slow answer keeps others from being sent at counts, too (without that it is
            known as coordinated omission).
        overdue: the same of what was in flight when measuring ended, or was due by then and never sent: without it,
            what a stall in the end keeps waiting would be left out.
        in_flight: messages unanswered; falls only once `stopping`.
        done: set once stopped and nothing is in flight, or a connection is lost.
        errors: bad replies and lost connections; `first_error` tells about the first.
    """

    def __init__(self, pace: float = 0.0, *, is_open: bool = False) -> None:
        self.pace = pace
        self.idle: deque[tuple[Client, int]] | None = deque() if is_open else None
        self.intended: deque[float] = deque()
        self.latencies = array("d")
        self.overdue = array("d")
        self.reply_bytes = 0
        self.in_flight = 0
        self.measuring = False
        self.stopping = False
        self.done = asyncio.Event()
        self.errors = 0
        self.first_error: str | None = None

    def took(self, seconds: float) -> None:
        """Something was answered after so long."""
        if self.measuring:
            self.latencies.append(seconds)
        elif self.stopping:
            self.overdue.append(seconds)

    def fail(self, reason: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or reason

    def refused(self, error: Refused) -> None:
        """A message was answered with an error. By default that is a fault like any other."""
        self.fail(str(error))

    def lost(self, reason: str) -> None:
        """A connection is gone, and what was in flight on it with it."""
        self.fail(reason)
        self.done.set()

    def left(self) -> None:
        """A message was answered and is not sent again."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self.done.set()


class BaseClient(ABC):
    """A window, and what goes on in each place of it once that is answered."""

    def __init__(self, meter: Meter, window: int) -> None:
        self.window = window
        self.is_lost = False
        self._meter = meter
        self._sent_at = [0.0] * window
        self._closing = False

    @abstractmethod
    def send(self, slot: int, since: float) -> None: ...

    @abstractmethod
    def flush(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def start(self) -> None:
        now = perf_counter()
        self._meter.in_flight += self.window
        for slot in range(self.window):
            self.send(slot, now)
        self.flush()

    def _go_on(self, slot: int, now: float, wait: float) -> None:
        """What follows in this place, not before so many seconds."""
        meter = self._meter
        if meter.stopping or meter.errors:
            meter.left()
        elif meter.idle is not None:
            if meter.intended:
                self.send(slot, meter.intended.popleft())
            else:
                meter.in_flight -= 1
                meter.idle.append((self, slot))
        elif meter.pace or wait:
            self._send_later(slot, now, self._sent_at[slot] + meter.pace if meter.pace else now + wait)
        else:
            self.send(slot, now)

    def _send_later(self, slot: int, now: float, due: float) -> None:
        """Keep to the pace. If the answer came too late for that, the next latency counts from when it was due."""

        def send() -> None:
            if self._meter.stopping:
                self._meter.left()
                return
            self.send(slot, due if due < now else perf_counter())
            self.flush()

        asyncio.get_running_loop().call_later(max(0.0, due - now), send)

    def _lost(self, what: str) -> None:
        if not self._closing:
            self.is_lost = True
            self._meter.lost(f"the server closed {what}")


class _CallClient(BaseClient):
    """What both transports of calls have in common."""

    def __init__(self, meter: Meter, expectation: Expectation, window: int) -> None:
        super().__init__(meter, window)
        self._expectation = expectation

    def _answered(self, reply: bytes, now: float) -> None:
        """Count a reply, and put what follows it in line."""
        meter, wait = self._meter, 0.0
        try:
            slot = self._expectation.slot(reply) % self.window
        except Refused as refused:
            meter.refused(refused)
            slot, wait = refused.slot % self.window, min(refused.again_after, 1.0)
        except BadReply as error:
            meter.fail(str(error))
            meter.left()  # nobody knows which it was
            return
        else:
            meter.took(now - self._sent_at[slot])
            if meter.measuring:
                meter.reply_bytes += len(reply)
        self._go_on(slot, now, wait)


class WebSocketClient(_CallClient, WSListener):
    """Those to be sent again after one read leave in one write.

    Args:
        rows: messages of the window's places; each is sent from the next row, round and round.
    """

    def __init__(self, meter: Meter, expectation: Expectation, rows: Sequence[list[Message]]) -> None:
        super().__init__(meter, expectation, len(rows[0]))
        self._rows = [[_masked_frame(message.payload) for message in row] for row in rows]
        self._turn = 0
        self._outgoing: list[bytes] = []
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def send(self, slot: int, since: float) -> None:
        self._sent_at[slot] = since
        self._outgoing.append(self._rows[self._turn][slot])
        self._turn = (self._turn + 1) % len(self._rows)

    def flush(self) -> None:
        if self._outgoing:
            assert self._transport is not None
            self._transport.underlying_transport.write(b"".join(self._outgoing))
            self._outgoing.clear()

    def close(self) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.send_close()
        self._transport.disconnect()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return  # a close frame; the loss of the connection follows
        self._answered(frame.get_payload_as_bytes(), perf_counter())
        if frame.last_in_buffer:
            self.flush()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._lost("a WebSocket")


class HttpClient(_CallClient, asyncio.Protocol):
    """One request in flight, as HTTP/1.1 has it; the messages take turns, each from the next row.

    A connection that the server ends with a response is opened anew, as each client does: proxies serve so many
    requests on one. The next request waits for that.
    """

    def __init__(
        self,
        meter: Meter,
        expectation: Expectation,
        rows: Sequence[list[Message]],
        address: Address,
        tls: ssl.SSLContext | None,
        token: str,
    ) -> None:
        super().__init__(meter, expectation, 1)
        self._address = address
        self._tls = tls
        self._is_last = False  # the response that was read: the server ends the connection
        self._opening: asyncio.Task[None] | None = None
        count = max(len(row) for row in rows)
        self._requests = [
            _post(address.host_header, address.resource, rows[at % len(rows)][at % count].payload, token)
            for at in range(count)
        ]
        self._next = 0
        self._outgoing = b""
        self._received = bytearray()
        self._body_at = 0
        self._end = 0  # of the response in `_received`; 0 until its header is complete
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._is_last = False
        self.flush()

    async def open(self) -> None:
        """Raises OSError."""
        name = self._address.host if self._tls else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(
            lambda: self, self._address.host, self._address.port, ssl=self._tls, server_hostname=name
        )

    async def _open_anew(self) -> None:
        try:
            await self.open()
        except OSError as error:
            self._lost(f"an HTTP connection, and opens no other ({error})")

    def send(self, slot: int, since: float) -> None:
        self._sent_at[0] = since
        self._outgoing = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)

    def flush(self) -> None:
        if self._outgoing and self._transport is not None and not self._is_last:
            self._transport.write(self._outgoing)
            self._outgoing = b""

    def close(self) -> None:
        self._closing = True
        if self._opening is not None:
            self._opening.cancel()
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if self._end == 0:
            self._read_header()
        if self._end == 0 or len(received) < self._end:
            return
        now = perf_counter()
        body, is_whole = bytes(received[self._body_at :]), len(received) == self._end
        is_good = received.startswith(b"HTTP/1.1 200") and is_whole
        status = bytes(received[:500]).decode(errors="replace")
        received.clear()
        self._end = 0
        if is_good or body.startswith((b"{", b"[")):  # an error reply of a status of its own
            self._answered(body, now)
        else:
            self._meter.fail(status)
            self._go_on(0, now, 0.1)
        if self._is_last:
            assert self._transport is not None
            self._transport.close()
        self.flush()

    def _read_header(self) -> None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _CONTENT_LENGTH.search(self._received, 0, end)
        if length is None:
            self._meter.lost(f"a response without Content-Length: {bytes(self._received[:500])!r}")
            return
        self._is_last = _CLOSE.search(self._received, 0, end) is not None
        self._body_at = end + 4
        self._end = self._body_at + int(length[1])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_last:
            self._lost(f"an HTTP connection ({exc})")
        elif not self._closing:
            self._transport = None
            self._opening = asyncio.get_running_loop().create_task(self._open_anew())


async def connected(
    address: Address,
    meter: Meter,
    expectation: Expectation,
    rows: Sequence[list[Message]],
    *,
    tls: ssl.SSLContext | None = None,
    token: str = "",
) -> WebSocketClient | HttpClient:
    """A connection that has sent nothing yet.

    Args:
        rows: messages of the window, see WebSocketClient; over HTTP of the requests.
        token: what each request, or the WebSocket's handshake, shows; '' for nothing.
    """
    if address.is_websocket:
        socket = WebSocketClient(meter, expectation, rows)
        shown = {"Authorization": f"Bearer {token}"} if token else None
        await ws_connect(lambda: socket, address.url, max_frame_size=MAX_FRAME, ssl_context=tls, extra_headers=shown)
        return socket
    client = HttpClient(meter, expectation, rows, address, tls, token)
    await client.open()
    return client


def _post(host: str, target: str, body: bytes, token: str) -> bytes:
    head = f"POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\n" + (f"authorization: Bearer {token}\r\n\r\n" if token else "\r\n")
    return head.encode() + body


@lru_cache(100_000)
def _masked_frame(payload: bytes) -> bytes:
    """An unfragmented text frame, as a client sends it (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes([0x81, 0x80 | length])
    elif length < 65536:
        head = b"\x81\xfe" + length.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + length.to_bytes(8, "big")
    mask = os.urandom(4)
    pad = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ pad).to_bytes(length, "big")
