"""JSON-RPC over WebSocket: trio-websocket on a coalescing stream.

Three tasks a connection, none a request: trio-websocket's reader, ours, and the flusher. Messages that arrive as one
whole frame go from the stream to the dispatcher in trio-websocket's reader; it gets to see the rest, and ours gets what
it makes of that. Replies are framed straight into the stream's buffer, in the order they become ready.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from coordinator.accepting import REFUSAL, REFUSALS, Tally, serve_listener
from coordinator.actors.request import Request
from coordinator.budget import Budget
from coordinator.engine.subscriptions import Session
from coordinator.rpc.access.origins import AccessPolicy, joined
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.calls import Dispatcher, Intake, Sink
from coordinator.rpc.websocket.frames import PlainFrames
from coordinator.rpc.websocket.outbox import HIGH_WATER, CoalescingStream
from coordinator.supervision import supervise
from coordinator.tlsstream import Secure, in_the_clear

__all__ = ["WebSocketFrontEnd"]

log = structlog.get_logger("coordinator.websocket")

HANDSHAKE_TIMEOUT: Final = 10.0
CLOSE_TIMEOUT: Final = 2.0
RECEIVE_BYTES: Final = 16 * 1024  # whoever sends more at once lets others get on in between
MESSAGE_QUEUE: Final = 32
GOING_AWAY: Final = 1001
TOO_BIG: Final = 1009
BATCH_BYTES: Final = 512 * 1024  # of notifications sent as one message


def text_frame(payload: bytes) -> bytes:
    """An unfragmented, unmasked text frame, as a server sends it (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 65536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), payload)


class _Connection(Session, Sink):
    """One client's sink, what it is subscribed to, and the reader that feeds the dispatcher from it.

    Attributes:
        is_listening: what still arrives is answered.
    """

    def __init__(
        self,
        socket: WebSocketConnection,
        stream: CoalescingStream,
        dispatcher: Dispatcher,
        *,
        max_frame_bytes: int,
        max_in_flight: int,
        budget: Budget,
    ) -> None:
        super().__init__(budget)
        self._socket = socket
        self._stream = stream
        stream.on_relief = self.relieved
        self._intake = Intake(dispatcher, self, budget, self)
        self._max_frame_bytes = max_frame_bytes
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._is_taking = False  # messages, and there may be more
        self._frames = PlainFrames(max_frame_bytes)
        self.is_listening = True
        self._long_calls: weakref.WeakSet[Request] = weakref.WeakSet()
        self._fewer: trio.Event | None = None  # set when a reply leaves, while somebody waits for that

    def deliver(self, response: bytes | None, calls: int = 1) -> None:
        self._in_flight -= calls
        if self._fewer is not None:
            self._fewer.set()
        if response is not None and self._socket.closed is None:
            self._stream.write(text_frame(response), is_last=self._in_flight == 0 and not self._is_taking)

    def waits_for(self, call: Request) -> None:
        self._long_calls.add(call)

    def close(self) -> None:
        super().close()
        for call in [*self._long_calls]:
            call.abandon()

    @property
    def is_congested(self) -> bool:
        return self._stream.waiting > HIGH_WATER

    def notify(self, notifications: Sequence[bytes]) -> None:
        """Send notifications, as batches of about `BATCH_BYTES`: clients bound the size of what they accept."""
        if self._socket.closed is not None:
            return
        batch: list[bytes] = []
        size = 0
        for notification in notifications:
            if batch and size + len(notification) > BATCH_BYTES:
                self._stream.write(text_frame(_joined(batch)))
                batch, size = [], 0
            batch.append(notification)
            size += len(notification)
        if batch:
            self._stream.write(text_frame(_joined(batch)))

    async def read(self) -> None:
        """Submit messages until the client closes, or sends one too large.

        At a bound we stop reading: the client is held by TCP itself.
        """
        while True:
            try:
                message = await self._socket.get_message()
            except ConnectionClosed:
                return
            # trio-websocket's own limit counts characters; a character takes at most 4 bytes of UTF-8.
            if len(message) * 4 > self._max_frame_bytes and _byte_length(message) > self._max_frame_bytes:
                await self._close_oversized()
                return
            await self._submit(message)
            await self._intake.flush()

    async def divert(self, data: bytes) -> bytearray:
        """Submit the messages that can be told without trio-websocket. Returns what is for that to read.

        It submits nothing of its own at the same time: after the first frame that is not plain none is.
        """
        self._is_taking = True
        for message in self._frames.take(data):
            if self.is_listening:
                await self._submit(message)
        self._is_taking = False
        await self._intake.flush()
        return self._frames.left

    async def _submit(self, message: str | bytes) -> None:
        """Take a message; see Intake.take."""
        self._in_flight += 1  # while it waits for room it is in flight, too
        calls = await self._intake.take(message)
        self._in_flight += calls - 1
        if self._in_flight >= self._max_in_flight:
            await self._intake.flush()
            await self.fewer_than(self._max_in_flight)
        if self._stream.waiting > HIGH_WATER:
            await self._intake.flush()
            await self._stream.relieved()

    async def fewer_than(self, calls: int) -> None:
        """Wait until fewer than `calls` calls are unanswered."""
        while self._in_flight >= calls:
            self._fewer = trio.Event()
            await self._fewer.wait()
        self._fewer = None

    async def _close_oversized(self) -> None:
        """As trio-websocket does by itself if there are too many characters."""
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._socket.aclose(TOO_BIG, f"Exceeded maximum message size: {self._max_frame_bytes} bytes")


def _joined(messages: list[bytes]) -> bytes:
    return messages[0] if len(messages) == 1 else protocol.render_batch(messages)


def _byte_length(message: str | bytes) -> int:
    return len(message.encode()) if isinstance(message, str) else len(message)


class WebSocketFrontEnd:
    """Serves any number of listeners.

    Args:
        max_connections: clients connected at once; a further one's handshake is answered with 503.
        max_in_flight: unanswered calls a connection may have before we stop reading from it.
        max_frame_bytes: size of a message; a larger one closes the connection with 1009.
        max_unsent_bytes: see Budget.
        write_timeout: seconds a client may take to accept what we send before it is disconnected.
        secure: makes a TLS stream of a connection, if that is spoken.
        on_disconnect: called when a client's connection has been closed.

    Attributes:
        tally: what became of its connections.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: AccessPolicy,
        *,
        max_connections: int,
        max_in_flight: int,
        max_frame_bytes: int,
        max_unsent_bytes: int,
        write_timeout: float,
        secure: Secure = in_the_clear,
        on_disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._policy = policy
        self._max_connections = max_connections
        self._max_in_flight = max_in_flight
        self._max_frame_bytes = max_frame_bytes
        self._max_unsent_bytes = max_unsent_bytes
        self._write_timeout = write_timeout
        self._secure = secure
        self._on_disconnect = on_disconnect
        self.tally = Tally()
        self._accepting = trio.CancelScope()
        self._listening: set[trio.CancelScope] = set()  # of connections waiting for what the client sends next
        self._stopping = False
        self._grace_ends = math.inf
        self.connections = 0

    async def serve(self, listener: trio.abc.Listener[trio.SocketStream]) -> None:
        """Accept clients until stopped; returns when the last one is gone."""
        async with trio.open_nursery() as clients:
            with self._accepting:
                accept = partial(
                    serve_listener,
                    listener,
                    self._handle,
                    clients,
                    name="websocket",
                    most=self._max_connections + REFUSALS,
                    refusal=REFUSAL,
                    on_disconnect=self._on_disconnect,
                    tally=self.tally,
                )
                await supervise("accepting WebSocket clients", accept)

    def stop(self, grace: float) -> None:
        """Accept and read no more, answer what is in flight within `grace` seconds, close with 1001."""
        self._stopping = True
        self._grace_ends = trio.current_time() + grace
        self._accepting.cancel()
        for scope in self._listening:
            scope.cancel()

    async def _handle(self, transport: trio.SocketStream) -> None:
        self.connections += 1
        try:
            secured = await self._secure(transport)
            stream = CoalescingStream(secured, Budget(self._max_unsent_bytes), write_timeout=self._write_timeout)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.run_flusher)
                request = await self._handshake(nursery, stream)
                if request is not None:
                    await self._converse(request, stream)
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await stream.aclose()
                nursery.cancel_scope.cancel()
        except* UnicodeError:
            log.debug("a handshake whose Host is no host name")  # wsproto decodes it and lets the error out
        except* ConnectionClosed:
            log.debug("a client that did not wait for the answer to its handshake")
        except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
            log.debug("a WebSocket connection broke", reason=str(group.exceptions[0]))
        except* Exception:
            # One client's connection must never take the others with it.
            log.exception("a WebSocket connection failed")
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(transport)
            self.connections -= 1

    async def _handshake(self, nursery: trio.Nursery, stream: CoalescingStream) -> WebSocketRequest | None:
        """The client's request, or None if it never made a proper one."""
        request: WebSocketRequest | None = None
        with trio.move_on_after(HANDSHAKE_TIMEOUT) as patience, self._until_stopped(patience):
            async with trio.open_nursery() as waiting:

                async def give_up_with_client() -> None:
                    await stream.hung_up.wait()
                    waiting.cancel_scope.cancel()

                waiting.start_soon(give_up_with_client)
                request = await wrap_server_stream(
                    nursery,
                    stream,
                    message_queue_size=MESSAGE_QUEUE,
                    max_message_size=self._max_frame_bytes,
                    receive_buffer_size=RECEIVE_BYTES,
                )
                waiting.cancel_scope.cancel()
        return request

    async def _converse(self, request: WebSocketRequest, stream: CoalescingStream) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in request.headers}
        # wsproto keeps Host apart from the other headers.
        host = headers.get(b"host") or request._event.host
        origins = [value.decode("latin-1") for name, value in request.headers if name.lower() == b"origin"]
        refusal = self._policy.refusal(joined(origins), host)
        try:
            if refusal is not None:
                await request.reject(403, body=refusal.encode())
                return
            if self._stopping or self.connections > self._max_connections:
                self.tally.refused += not self._stopping
                await request.reject(503, body=b"too many connections, see --max-connections")
                return
            socket = await request.accept()
        except ConnectionClosed:
            return
        connection = _Connection(
            socket,
            stream,
            self._dispatcher,
            max_frame_bytes=self._max_frame_bytes,
            max_in_flight=self._max_in_flight,
            budget=stream.budget,
        )
        if stream.tail == b"\r\n\r\n":  # nothing but the handshake has arrived
            stream.divert = connection.divert
        try:
            with trio.CancelScope() as reading, self._until_stopped(reading):
                await connection.read()
            connection.is_listening = False
            if reading.cancelled_caught:
                with trio.move_on_at(self._grace_ends):
                    await connection.fewer_than(1)
        finally:
            connection.close()
        with trio.move_on_after(CLOSE_TIMEOUT):
            await socket.aclose(GOING_AWAY, "the coordinator is shutting down")

    @contextmanager
    def _until_stopped(self, scope: trio.CancelScope) -> Iterator[None]:
        self._listening.add(scope)
        try:
            yield
        finally:
            self._listening.discard(scope)
