"""HTTP/2: Hypercorn's protocol on our own reading and writing.

`hypercorn.trio.TCPServer` is not used: with it a client that leaves before its response holds its connection for good
(the task that would send that waits for ever), sends are shielded and have no time-out, and a read of a connection that
is idle does not end with it (seen with 0.18). `_Protocol` keeps from Hypercorn what its code is not made for.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from coordinator.rpc.access.certificates import certified_by
from coordinator.rpc.http.answers import Answers
from coordinator.rpc.http.asgi import AsgiApp
from coordinator.rpc.http.connection import Handover, Limits, Waiting, end
from coordinator.rpc.http.heads import MAX_HEAD, PREFACE
from coordinator.socketio import peer_host, receive_next, send_steadily

__all__ = ["Http2", "hypercorn_config"]

READ_BYTES: Final = 8 * 1024  # at a time: a flood of small frames lets others get on in between
PREFACE_BODY: Final = b"SM\r\n\r\n"
MAX_FRAME: Final = 16 * 1024  # bytes; the least that HTTP/2 allows to be a limit, and its default
STREAMS: Final = 100  # at once on a connection
RESETS: Final = 200  # of its streams a client may have made at once …
RESETS_A_SECOND: Final = 20.0  # … and for long: each costs us a request begun


def hypercorn_config() -> Config:
    """What Hypercorn needs to know. Time-outs and limits of connections are ours."""
    config = Config()
    config.keep_alive_max_requests = sys.maxsize
    config.h11_max_incomplete_size = MAX_HEAD
    config.h2_max_header_list_size = MAX_HEAD
    config.h2_max_inbound_frame_size = MAX_FRAME
    config.h2_max_concurrent_streams = STREAMS
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


class Http2:
    """Serves connections, each by one call of `serve`."""

    def __init__(self, answers: Answers, limits: Limits, waiting: Waiting) -> None:
        self._answers = answers
        self._limits = limits
        self._waiting = waiting
        self._config = hypercorn_config()
        self._context = WorkerContext(None)
        self._connections: set[_Connection] = set()

    async def stop(self) -> None:
        """Close idle connections now, and others after what is being answered on them."""
        await self._context.terminated.set()
        for connection in self._connections:
            connection.stop()

    async def serve(self, stream: trio.abc.Stream, begun: Handover) -> None:
        """Serve a connection until it ends.

        Args:
            begun: what has happened on it.
        """
        connection = _Connection(stream, self._answers, self._limits, self._config, self._context)
        self._connections.add(connection)
        try:
            await connection.serve(begun)
        finally:
            self._connections.discard(connection)
        if not connection.is_gone:
            await end(stream, self._waiting)


class _Connection:
    """One of them.

    Attributes:
        is_gone: the client has closed it, or it broke, or the client did not accept what it was sent.
    """

    def __init__(
        self, stream: trio.abc.Stream, answers: Answers, limits: Limits, config: Config, context: WorkerContext
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._config = config
        self._context = context
        app = AsgiApp(answers, limits, self._abort, partial(peer_host, stream), certified_by(stream))
        self._app = ASGIWrapper(app)  # type: ignore[arg-type] # its own types
        self._all = trio.CancelScope()  # of all its tasks
        self._reading = trio.CancelScope()
        self._writing = trio.Lock()
        self._protocol: _Protocol
        self._is_idle = True
        self._said_goodbye = False
        self.is_gone = False

    async def serve(self, begun: Handover) -> None:
        with self._all:
            async with TaskGroup() as tasks:
                self._protocol = _Protocol(
                    self._app,
                    self._config,
                    self._context,
                    tasks,
                    ConnectionState({}),
                    ssl=False,
                    client=None,
                    server=None,
                    send=self._handle,
                )
                with self._reading:
                    self._reading.deadline = trio.current_time() + self._limits.idle_timeout
                    await self._read(begun)
                if not self.is_gone:
                    if not self._said_goodbye:
                        self._protocol.connection.close_connection()
                    await self._send(self._protocol.connection.data_to_send())
                self._all.cancel()  # whoever still works on a response has nobody to send it to

    def stop(self) -> None:
        """Close it now if it is idle, or else as soon as it is."""
        if self._is_idle:
            self._reading.cancel()

    async def _read(self, begun: Handover) -> None:
        protocol = self._protocol
        try:
            if begun.http2 is None:
                await protocol.initiate()
            else:
                await protocol.initiate([*begun.http2.headers], begun.http2.settings)
            data = begun.received or await receive_next(self._stream, READ_BYTES)
            lengths = _FrameLengths()
            while data:
                if not lengths.are_allowed(data):
                    protocol.connection.close_connection(h2.errors.ErrorCodes.FRAME_SIZE_ERROR)
                    self._said_goodbye = True
                    return
                await protocol.handle(RawData(data))
                data = await receive_next(self._stream, READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except h2.exceptions.ProtocolError:  # of the settings in an upgrade; the others Hypercorn answers
            return
        self.is_gone = True

    async def _handle(self, event: Event) -> None:
        """What the protocol wants of the connection."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):  # it has told the client why
            self._said_goodbye = True
            self._reading.cancel()
        elif isinstance(event, Updated):
            self._is_idle = event.idle
            self._reading.deadline = trio.current_time() + self._limits.idle_timeout if event.idle else float("inf")
            if event.idle and self._context.terminated.is_set():
                self._reading.cancel()

    async def _send(self, data: bytes) -> None:
        async with self._writing:
            try:
                await send_steadily(self._stream, data, self._limits.write_timeout)
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                self._abort()
        await trio.lowlevel.checkpoint()  # ends this task, too

    def _abort(self) -> None:
        self.is_gone = True
        self._all.cancel()


class _Protocol(H2Protocol):
    """Hypercorn's protocol, but

    - data of a stream that was answered before its end is dropped, and the stream reset, not the connection ended;
    - a client that goes on resetting streams is told to calm down;
    - priorities, which HTTP/2 has given up, are ignored: the tree Hypercorn keeps of them raises when it is full;
    - no stream becomes a WebSocket, and none is begun whose path is not ASCII, at which Hypercorn fails.
    """

    _allowance = float(RESETS)
    _counted_at = -1.0

    async def initiate(self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None) -> None:
        self.connection.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.config.h2_max_concurrent_streams,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: self.config.h2_max_header_list_size,
            },
        )
        await super().initiate(headers, settings)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                self._drop(event)
            elif isinstance(event, h2.events.RequestReceived) and not _is_servable(event):
                self.connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            elif isinstance(event, h2.events.PriorityUpdated):
                continue
            elif isinstance(event, h2.events.StreamReset) and not self._may_reset():
                self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                await self.send(RawData(self.connection.data_to_send()))
                await self.send(Closed())
                return
            else:
                await super()._handle_events([event])
        await super()._handle_events([])  # sends what dropping and refusing has made

    def _drop(self, event: h2.events.DataReceived) -> None:
        try:
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id not in self.stream_buffers:  # the response is out
                self.connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.NO_ERROR)
        except h2.exceptions.ProtocolError:
            pass  # the stream has ended

    def _may_reset(self) -> bool:
        now = trio.current_time()
        if self._counted_at >= 0:
            self._allowance = min(RESETS, self._allowance + (now - self._counted_at) * RESETS_A_SECOND)
        self._counted_at = now
        self._allowance -= 1
        return self._allowance >= 0


class _FrameLengths:
    """Tells a frame that is too long by its head. h2 looks at the length once it holds the frame, up to 16 MiB."""

    def __init__(self) -> None:
        self._skip = len(PREFACE) + len(PREFACE_BODY)
        self._length = b""  # as far as it has arrived

    def are_allowed(self, data: bytes) -> bool:
        """Look at what has arrived. Returns whether all its frames may be as long as they are."""
        at = 0
        while at < len(data):
            if self._skip:
                skipped = min(self._skip, len(data) - at)
                self._skip -= skipped
                at += skipped
                continue
            part = data[at : at + 3 - len(self._length)]
            at += len(part)
            self._length += part
            if len(self._length) == 3:
                length = int.from_bytes(self._length, "big")
                if length > MAX_FRAME:
                    return False
                self._skip = length + 6  # the rest of the head
                self._length = b""
        return True


def _is_servable(event: h2.events.RequestReceived) -> bool:
    headers = dict(event.headers or ())
    method, path = headers.get(b":method", b""), headers.get(b":path", b"")
    return method.isascii() and path.isascii() and path != b"" and method.upper() != b"CONNECT"
