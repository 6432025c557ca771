"""HTTP/2: Hypercorn's protocol on our own reading and writing.

`hypercorn.trio.TCPServer` is not used: with it a client that leaves before its response holds its connection for good
(the task that would send that waits for ever), sends are shielded and have no time-out, and a read of a connection that
is idle does not end with it (seen with 0.18). `_Protocol` keeps from Hypercorn what its code is not made for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import h2.utilities
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hyperframe.frame import DataFrame, Frame, HeadersFrame

from coordinator.accepting import yields_one
from coordinator.rpc.access.certificates import certified_by
from coordinator.rpc.head_limits import MAX_HEAD
from coordinator.rpc.http.answers import Answers
from coordinator.rpc.http.asgi import AsgiApp
from coordinator.rpc.http.heads import PREFACE
from coordinator.rpc.http.lifetime import GRACE, Handover, Limits, Waiting, end
from coordinator.socketio import peer_host, receive_next, send_steadily

__all__ = ["Http2", "Http2Connection", "hypercorn_config"]

READ_BYTES: Final = 8 * 1024  # at a time: a flood of small frames lets others get on in between
PREFACE_BODY: Final = b"SM\r\n\r\n"
MAX_FRAME: Final = 16 * 1024  # bytes; the least that HTTP/2 allows to be a limit, and its default
HEAD_READ: Final = 4  # bytes of a frame's head: its length and its type
HEADERS: Final = (0x1, 0x9)  # the types of frames that hold a request's head
FIELD_BYTES: Final = 8  # of such a frame that are as much work as another frame: a field may take one byte
GATHERED_BYTES: Final = 64 * 1024  # unsent, beyond which those that make frames wait
WORK_A_SLICE: Final = 64  # frames that are handled before others get on, about 2 ms
STREAMS: Final = 100  # at once on a connection
RESETS: Final = 200  # of its streams a client may have made at once …
RESETS_A_SECOND: Final = 20.0  # … and for long: each costs us a request begun
IDLE_FRAMES: Final = 1000  # that ask for nothing to be done, which a client may have sent at once …
IDLE_FRAMES_A_SECOND: Final = 100.0  # … and for long: pings, settings, data without any

_IDLE: Final = (h2.events.PingReceived, h2.events.RemoteSettingsChanged)
_REQUEST: Final = h2.utilities.HeaderValidationFlags(
    is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False
)


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
    """Serves connections, each by one call of `serve`.

    Attributes:
        connections: those that are being served, the ones looked at longest ago first.
    """

    def __init__(self, answers: Answers, limits: Limits, waiting: Waiting) -> None:
        self._answers = answers
        self._limits = limits
        self._waiting = waiting
        self._config = hypercorn_config()
        self._context = WorkerContext(None)
        self.connections: dict[Http2Connection, None] = {}

    async def stop(self) -> None:
        """Close idle connections now, and others after what is being answered on them."""
        await self._context.terminated.set()
        for connection in self.connections:
            connection.stop()

    def make_room(self) -> bool:
        """End a connection that serves nobody. Returns whether there is one among the next few. Never blocks."""
        return yields_one(self.connections)

    async def serve(self, stream: trio.abc.Stream, begun: Handover) -> None:
        """Serve a connection until it ends.

        Args:
            begun: what has happened on it.
        """
        connection = Http2Connection(stream, self._answers, self._limits, self._config, self._context)
        self.connections[connection] = None
        try:
            await connection.serve(begun)
        finally:
            self.connections.pop(connection, None)
        if not connection.is_gone:
            await end(stream, self._waiting)


class Http2Connection:
    """One of them.

    Attributes:
        is_gone: the client has closed it, or it broke, or the client did not accept what it was sent.
    """

    def __init__(
        self, stream: trio.abc.Stream, answers: Answers, limits: Limits, config: Config, context: WorkerContext
    ) -> None:
        self._stream = stream
        self._answers = answers
        self._limits = limits
        self._config = config
        self._context = context
        self._answering = AsgiApp(answers, limits, self._abort, partial(peer_host, stream), certified_by(stream))
        self._app = ASGIWrapper(self._answering)  # type: ignore[arg-type] # its own types
        self._all = trio.CancelScope()  # of all its tasks
        self._reading = trio.CancelScope()
        self._writing = trio.Lock()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._something = trio.Event()  # is unsent
        self._relieved: trio.Event | None = None  # while somebody waits until less is
        self._protocol: _Protocol
        self._is_idle = True
        self._idle_since = self._opened_at = trio.current_time()
        self._said_goodbye = False
        self.is_gone = False

    async def serve(self, begun: Handover) -> None:
        with self._all:
            async with trio.open_nursery() as writers, TaskGroup() as tasks:
                writers.start_soon(self._write)
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
                    self._append(self._protocol.connection.data_to_send())
                    await self._send_all()
                self._all.cancel()  # whoever still works on a response has nobody to send it to

    def stop(self) -> None:
        """Close it now if it is idle, or else as soon as it is."""
        if self._is_idle:
            self._reading.cancel()

    def give_way(self) -> bool:
        """See Connection.give_way."""
        since = self._opened_at if self._answers.has_logins else self._idle_since
        return self.identity is None and trio.current_time() - since >= GRACE and self.make_room()

    @property
    def identity(self) -> Hashable:
        """Access.identity of whoever was logged in and has called last; None if nobody was."""
        return self._answering.identity

    @property
    def address(self) -> str:
        """Where the client is."""
        return self._answering.budget.address

    @property
    def idle_since(self) -> float:
        """When we began to wait for the client, on trio's clock."""
        return self._idle_since

    def make_room(self) -> bool:
        """End, if we owe the client nothing and it is not ending already. Returns whether it does. Never blocks."""
        if self._answering.owes or self.is_gone:
            return False
        self._abort()
        return True

    async def _read(self, begun: Handover) -> None:
        protocol = self._protocol
        try:
            if begun.http2 is None:
                await protocol.initiate()
            else:
                await protocol.initiate([*begun.http2.headers], begun.http2.settings)
            data = begun.received or await receive_next(self._stream, READ_BYTES)
            frames = _Frames()
            while data:
                for part in frames.slices(data):
                    if part is None:
                        protocol.connection.close_connection(h2.errors.ErrorCodes.FRAME_SIZE_ERROR)
                        self._said_goodbye = True
                        return
                    await protocol.handle(RawData(part))
                    await trio.lowlevel.checkpoint()
                data = await receive_next(self._stream, READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except h2.exceptions.ProtocolError:  # of the settings in an upgrade; the others Hypercorn answers
            return
        self.is_gone = True

    async def _handle(self, event: Event) -> None:
        """What the protocol wants of the connection."""
        if isinstance(event, RawData):
            self._append(event.data)
            if self._unsent_bytes > GATHERED_BYTES:
                if self._relieved is None:
                    self._relieved = trio.Event()
                await self._relieved.wait()
        elif isinstance(event, Closed):  # it has told the client why
            self._said_goodbye = True
            self._reading.cancel()
        elif isinstance(event, Updated):
            self._is_idle = event.idle
            self._idle_since = trio.current_time()
            self._reading.deadline = trio.current_time() + self._limits.idle_timeout if event.idle else float("inf")
            if event.idle and self._context.terminated.is_set():
                self._reading.cancel()

    def _append(self, data: bytes) -> None:
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        self._something.set()

    async def _write(self) -> None:
        """Send what gathers. The frames of a response are made one by one, by several tasks: all are there when these
        have had their slice, and one system call sends them."""
        while True:
            await self._something.wait()
            await trio.lowlevel.checkpoint()
            await self._send_all()

    async def _send_all(self) -> None:
        async with self._writing:
            data, self._unsent = b"".join(self._unsent), []
            self._something = trio.Event()
            try:
                await send_steadily(self._stream, data, self._limits.write_timeout)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                self._abort()
            self._unsent_bytes -= len(data)
            if self._relieved is not None:
                self._relieved.set()
                self._relieved = None
        await trio.lowlevel.checkpoint()  # ends this task, too, if it is gone

    def _abort(self) -> None:
        self.is_gone = True
        self._all.cancel()


class _Protocol(H2Protocol):
    """Hypercorn's protocol, but

    - data of a stream that was answered before its end is dropped, and the stream reset, not the connection ended;
    - a client that goes on resetting streams, or sending what asks for nothing, is told to calm down;
    - priorities, which HTTP/2 has given up, are ignored: the tree Hypercorn keeps of them raises when it is full;
    - no stream becomes a WebSocket, and none is begun whose path is not ASCII, at which Hypercorn fails;
    - a malformed request ends its own stream (RFC 9113, 8.1.1): h2 would end the connection, which may be a proxy's
      with other clients' requests on it. One that names no host is none, as health checks of proxies send it;
    - streams over the most are refused, each by itself: a client may begin any number before it hears of the bound;
    - streams begun while the connection is to end, once those before are answered, are refused in the way by which a
      client knows that it may send them again elsewhere. No GOAWAY goes before: clients on h2 (httpx) drop what they
      wait for at one.
    """

    _resets: _Allowance
    _idle_frames: _Allowance
    connection: _Streams

    async def initiate(self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None) -> None:
        self.connection = _Streams(self.connection.config)
        self.connection.config.validate_inbound_headers = False  # see _fault
        self._resets = _Allowance(RESETS, RESETS_A_SECOND)
        self._idle_frames = _Allowance(IDLE_FRAMES, IDLE_FRAMES_A_SECOND)
        self.connection.local_settings = _Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.config.h2_max_concurrent_streams,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: self.config.h2_max_header_list_size,
            },
        )
        await super().initiate(headers, settings)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if not self._may_send(event):
                self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                await self.send(RawData(self.connection.data_to_send()))
                await self.send(Closed())
                return
            if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                self._drop(event)
            elif isinstance(event, h2.events.RequestReceived) and (fault := self._fault(event)) is not None:
                self.connection.reset_stream(event.stream_id, fault)
            elif isinstance(event, h2.events.PriorityUpdated):
                continue
            else:
                await super()._handle_events([event])
        await super()._handle_events([])  # sends what dropping and refusing has made

    def _fault(self, event: h2.events.RequestReceived) -> h2.errors.ErrorCodes | None:
        """Why no request is made of a stream, if none is."""
        headers = [*(event.headers or ())]
        names = {name for name, _ in headers}
        if not names & {b":authority", b"host"}:
            headers.append((b"host", b"none"))  # h2 wants one, HTTP/2 does not
        try:
            for _ in h2.utilities.validate_headers(headers, _REQUEST):
                pass
        except h2.exceptions.ProtocolError:
            return h2.errors.ErrorCodes.PROTOCOL_ERROR
        is_refused = self._is_ending or self._has_the_most() or not _is_servable(event)
        return h2.errors.ErrorCodes.REFUSED_STREAM if is_refused else None

    def _has_the_most(self) -> bool:
        """Whether no more streams may be begun. One whose response is out to its end counts no more, though Hypercorn
        has not dropped it yet."""
        most = self.config.h2_max_concurrent_streams
        return len(self.streams) >= most and len(self.streams.keys() & self.connection.open_streams()) >= most

    @property
    def _is_ending(self) -> bool:
        return bool(self.context.terminated.is_set())

    def _drop(self, event: h2.events.DataReceived) -> None:
        try:
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id not in self.stream_buffers:  # the response is out
                self.connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.NO_ERROR)
        except h2.exceptions.ProtocolError:
            pass  # the stream has ended

    def _may_send(self, event: h2.events.Event) -> bool:
        """Whether the client has sent no more than it may of what costs us more than it."""
        if isinstance(event, h2.events.StreamReset):
            return self._resets.take()
        is_empty = isinstance(event, h2.events.DataReceived) and not event.data and event.stream_ended is None
        return self._idle_frames.take() if is_empty or isinstance(event, _IDLE) else True


class _Settings(h2.settings.Settings):
    """Ours. What the client is told bounds its streams is no reason for h2 to end the connection: see `_fault`."""

    @property
    def max_concurrent_streams(self) -> int:
        return sys.maxsize

    @max_concurrent_streams.setter
    def max_concurrent_streams(self, value: int) -> None:
        self[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = value


class _Streams(h2.connection.H2Connection):
    """h2's connection, but a request whose body is not as long as it says, which says so in no number or in two, or
    whose trailers do not end it, ends its stream and not the connection."""

    def open_streams(self) -> set[int]:
        """The numbers of those that have not ended on both sides."""
        return {number for number, stream in self.streams.items() if not stream.closed}

    def _receive_frame(self, frame: Frame) -> list[h2.events.Event]:
        try:
            return super()._receive_frame(frame)
        except h2.exceptions.ProtocolError as error:
            if not self._is_of_its_stream(frame, error):
                raise
            if isinstance(frame, DataFrame) and frame.flow_controlled_length:
                self.acknowledge_received_data(frame.flow_controlled_length, frame.stream_id)
            self.reset_stream(frame.stream_id, error.error_code)
            return [h2.events.StreamReset(stream_id=frame.stream_id, error_code=error.error_code, remote_reset=False)]

    def _is_of_its_stream(self, frame: Frame, error: h2.exceptions.ProtocolError) -> bool:
        """Whether the connection can go on. It cannot where its compressed heads were not understood, nor where the
        frame may not come at all: then h2 has closed the stream, or has not begun it."""
        stream = self.streams.get(frame.stream_id)
        if stream is None or stream.closed:
            return False
        if isinstance(error, h2.exceptions.InvalidBodyLengthError):
            return True
        is_understood = error.__cause__ is None or type(error.__cause__) is ValueError  # a length of 5,000 digits
        return isinstance(frame, HeadersFrame) and type(error) is h2.exceptions.ProtocolError and is_understood


class _Allowance:
    """Says how often a client may still do something that costs us more than it.

    Args:
        most: times at once.
        a_second: times for long.
    """

    def __init__(self, most: float, a_second: float) -> None:
        self._most = self._remaining = most
        self._a_second = a_second
        self._counted_at = trio.current_time()

    def take(self) -> bool:
        """Count one. Returns whether it may."""
        now = trio.current_time()
        self._remaining = min(self._most, self._remaining + (now - self._counted_at) * self._a_second) - 1
        self._counted_at = now
        return self._remaining >= 0


class _Frames:
    """Reads the heads of frames: to tell one that is too long, at whose length h2 looks once it holds it, up to 16 MiB;
    and because a frame is work whatever its length, so many small ones in one read would be for all of it."""

    def __init__(self) -> None:
        self._skip = len(PREFACE) + len(PREFACE_BODY)
        self._head = b""  # its length and its type, as far as they have arrived

    def slices(self, data: bytes) -> Iterator[bytes | None]:
        """What has arrived, in parts between which others get on; None in place of a frame that may not be as long as
        it is."""
        at = begun = work = 0
        while at < len(data):
            if self._skip:
                skipped = min(self._skip, len(data) - at)
                self._skip -= skipped
                at += skipped
                continue
            if work >= WORK_A_SLICE:
                yield data[begun:at]
                begun, work = at, 0
            part = data[at : at + HEAD_READ - len(self._head)]
            at += len(part)
            self._head += part
            if len(self._head) == HEAD_READ:
                length, kind = int.from_bytes(self._head[:3], "big"), self._head[3]
                if length > MAX_FRAME:
                    yield None
                    return
                work += 1 + (length // FIELD_BYTES if kind in HEADERS else 0)
                self._skip = length + 5  # the rest of the head
                self._head = b""
        yield data[begun:]


def _is_servable(event: h2.events.RequestReceived) -> bool:
    headers = dict(event.headers or ())
    method, path = headers.get(b":method", b""), headers.get(b":path", b"")
    return method.isascii() and path.isascii() and path != b"" and method.upper() != b"CONNECT"
