"""The load generator's connections: WebSocket on picows, HTTP on a bare asyncio protocol.

Each keeps a window of messages in flight: an answer is replaced by the same message again. Messages are rendered
and framed once, before anything is measured.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from functools import cache
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.calls import BadReply, Expectation, Message

__all__ = ["HttpClient", "Meter", "WebSocketClient", "connect_http", "connect_websocket", "unverified"]

_MAX_FRAME: Final = 64 * 1024 * 1024
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Meter:
    """What all connections of one run have in common.

    Attributes:
        pace: seconds from one message of a connection to its next; 0: as soon as it is answered.
        latencies: seconds from sending to answer, of each message answered while measuring.
        in_flight: messages unanswered; falls only once `stopping`.
        done: set once stopped and nothing is in flight, or a connection is lost.
        errors: bad replies and lost connections; `first_error` tells about the first.
    """

    def __init__(self, pace: float = 0.0) -> None:
        self.pace = pace
        self.latencies: list[float] = []
        self.reply_bytes = 0
        self.in_flight = 0
        self.measuring = False
        self.stopping = False
        self.done = asyncio.Event()
        self.errors = 0
        self.first_error: str | None = None

    def fail(self, reason: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or reason

    def lost(self, reason: str) -> None:
        """A connection is gone, and what was in flight on it with it."""
        self.fail(reason)
        self.done.set()

    def left(self) -> None:
        """A message was answered and is not sent again."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self.done.set()


class WebSocketClient(WSListener):
    """A window of messages; those to be sent again after one read leave in one write."""

    def __init__(self, meter: Meter, expectation: Expectation, messages: list[Message]) -> None:
        self._meter = meter
        self._expectation = expectation
        self._frames = [_masked_frame(message.payload) for message in messages]
        self._sent_at = [0.0] * len(messages)
        self._outgoing: list[bytes] = []
        self._transport: WSTransport | None = None
        self._closing = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def start(self) -> None:
        """Fill the window."""
        assert self._transport is not None
        self._meter.in_flight += len(self._frames)
        self._sent_at = [perf_counter()] * len(self._frames)
        self._transport.underlying_transport.write(b"".join(self._frames))

    def close(self) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.send_close()
        self._transport.disconnect()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return  # a close frame; the loss of the connection follows
        meter = self._meter
        reply = frame.get_payload_as_bytes()
        now = perf_counter()
        try:
            slot = self._expectation.slot(reply)
        except BadReply as error:
            meter.fail(str(error))
            meter.left()
        else:
            if meter.measuring:
                meter.latencies.append(now - self._sent_at[slot])
                meter.reply_bytes += len(reply)
            if meter.stopping:
                meter.left()
            elif meter.pace:
                self._send_later(slot, now)
            else:
                self._sent_at[slot] = now
                self._outgoing.append(self._frames[slot])
        if frame.last_in_buffer and self._outgoing:
            transport.underlying_transport.write(b"".join(self._outgoing))
            self._outgoing.clear()

    def _send_later(self, slot: int, now: float) -> None:
        """Keep to the pace. If the answer came too late for that, the next latency counts from when it was due."""
        due = self._sent_at[slot] + self._meter.pace

        def send() -> None:
            if self._meter.stopping:
                self._meter.left()
                return
            assert self._transport is not None
            self._sent_at[slot] = due if due < now else perf_counter()
            self._transport.underlying_transport.write(self._frames[slot])

        asyncio.get_running_loop().call_later(max(0.0, due - now), send)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._closing:
            self._meter.lost("the server closed a WebSocket")


class HttpClient(asyncio.Protocol):
    """One request in flight, as HTTP/1.1 has it; its messages take turns."""

    def __init__(
        self, meter: Meter, expectation: Expectation, messages: list[Message], host: str, token: str = ""
    ) -> None:
        self._meter = meter
        self._expectation = expectation
        self._requests = [_post(host, message.payload, token) for message in messages]
        self._next = 0
        self._sent_at = 0.0
        self._received = bytearray()
        self._body_at = 0
        self._end = 0  # of the response in `_received`; 0 until its header is complete
        self._transport: asyncio.Transport | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def start(self) -> None:
        self._meter.in_flight += 1
        self._send(perf_counter())

    def close(self) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.close()

    def _send(self, now: float) -> None:
        assert self._transport is not None
        self._sent_at = now
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if self._end == 0:
            self._read_header()
        if self._end == 0 or len(received) < self._end:
            return
        now = perf_counter()
        meter = self._meter
        try:
            if not received.startswith(b"HTTP/1.1 200") or len(received) != self._end:
                raise BadReply(bytes(received[:500]).decode(errors="replace"))
            self._expectation.slot(bytes(received[self._body_at :]))
        except BadReply as error:
            meter.fail(str(error))
        if meter.measuring:
            meter.latencies.append(now - self._sent_at)
            meter.reply_bytes += self._end - self._body_at
        received.clear()
        self._end = 0
        if meter.stopping or meter.errors:
            meter.left()
        else:
            self._send(now)

    def _read_header(self) -> None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _CONTENT_LENGTH.search(self._received, 0, end)
        if length is None:
            self._meter.lost(f"a response without Content-Length: {bytes(self._received[:500])!r}")
            return
        self._body_at = end + 4
        self._end = self._body_at + int(length[1])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._meter.lost(f"the server closed an HTTP connection ({exc})")


async def connect_websocket(
    url: str, meter: Meter, expectation: Expectation, messages: list[Message], token: str = ""
) -> WebSocketClient:
    client = WebSocketClient(meter, expectation, messages)
    shown = {"Authorization": f"Bearer {token}"} if token else None
    await ws_connect(lambda: client, url, max_frame_size=_MAX_FRAME, ssl_context=unverified(), extra_headers=shown)
    return client


async def connect_http(
    url: str, meter: Meter, expectation: Expectation, messages: list[Message], token: str = ""
) -> HttpClient:
    parts = urlsplit(url)
    client = HttpClient(meter, expectation, messages, parts.netloc, token)
    tls = unverified() if parts.scheme == "https" else None
    await asyncio.get_running_loop().create_connection(lambda: client, parts.hostname or "", parts.port or 0, ssl=tls)
    return client


@cache
def unverified() -> ssl.SSLContext:
    """For servers of our own whose certificates were made for one run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _post(host: str, body: bytes, token: str) -> bytes:
    head = f"POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    head += f"authorization: Bearer {token}\r\n\r\n" if token else "\r\n"
    return head.encode() + body


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
