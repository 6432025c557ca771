"""Between the parent and one worker: messages both ways, and clients' connections from the parent, on a socket pair.

A message is pickled behind its length. Both ends are our own processes, and what arrives is what was sent: settings are
not parsed a second time. Only a descriptor may fail to arrive with its message, when its receiver has no room for it.
"""

from __future__ import annotations

import array
import errno
import pickle
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Final

import trio
from prometheus_client.core import Metric

from coordinator.server.bootstrap import Addresses, FrontEnd
from coordinator.server.tls import Material
from coordinator.settings import Settings
from coordinator.storage.endpoint import Endpoint

__all__ = [
    "Alive",
    "AskMetrics",
    "Channel",
    "Clients",
    "Drain",
    "Failed",
    "Gone",
    "HandOver",
    "Leaving",
    "Message",
    "MetricsPage",
    "NotReceived",
    "ParentChannel",
    "ReportMetrics",
    "Serving",
    "Snapshot",
    "Start",
    "Stop",
    "StoreFault",
    "UseCertificate",
    "UseSettings",
    "WorkerChannel",
]

_LENGTH: Final = struct.Struct("!I")
_RECEIVE_BYTES: Final = 64 * 1024
_DESCRIPTOR_BYTES: Final = array.array("i").itemsize
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)  # a message has one descriptor at most
_NOT_INHERITED: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_NO_ROOM_PAUSE: Final = 0.01  # seconds before the kernel is asked for memory again
_NO_ROOM: Final = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}


# -- from the parent


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: what to serve.

    Attributes:
        number: of this worker, from 1; its successors have the same.
        name: its own among the coordinators on the store.
        tls: the certificate to serve with, if there is to be one.
        embedded: where the parent's Valkey is, if that is the store.
        max_connections: this worker's share.
    """

    settings: Settings
    addresses: Addresses
    tls: Material | None
    embedded: Endpoint | None
    number: int
    name: str
    max_connections: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """A client has connected; its connection comes with this. `number` is one that no other connection has."""

    front_end: FrontEnd
    number: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A coordinator on the store is gone: take over from it."""

    coordinator: str


@dataclass(frozen=True, slots=True)
class UseCertificate:
    """Serve connections that come from now on with this."""

    material: Material


@dataclass(frozen=True, slots=True)
class UseSettings:
    """Serve with these from now on."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class StoreFault:
    """Why the parent's Valkey takes no writes from now on, or None: it takes them."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class ReportMetrics:
    """Send a Snapshot."""


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """The answer to AskMetrics of the same number: the Prometheus page and its content type."""

    number: int
    body: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Serve on, and say that we are not ready."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Answer what is in flight, and end."""


# -- from a worker


@dataclass(frozen=True, slots=True)
class Serving:
    """It may be given clients. `stacks`: its descriptor of the file that it writes its stacks to; see `liveness`."""

    stacks: int | None


@dataclass(frozen=True, slots=True)
class Alive:
    """Its event loop runs."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot serve, for a reason a user can understand."""

    reason: str


@dataclass(frozen=True, slots=True)
class Clients:
    """How many connections its front-ends have accepted since it started, and how many of those have ended."""

    accepted: dict[FrontEnd, int]
    ended: dict[FrontEnd, int]


@dataclass(frozen=True, slots=True)
class NotReceived:
    """The connection of this HandOver did not arrive: there was no descriptor free for it."""

    front_end: FrontEnd
    number: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """It was told to stop, and not by the parent. It accepts no more connections than these."""

    clients: Clients


@dataclass(frozen=True, slots=True)
class AskMetrics:
    """A client asked for the page of all of us."""

    number: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What it has counted."""

    families: list[Metric]


Message = (
    Start
    | HandOver
    | Gone
    | UseCertificate
    | UseSettings
    | StoreFault
    | ReportMetrics
    | MetricsPage
    | Drain
    | Stop
    | Serving
    | Alive
    | Failed
    | Clients
    | NotReceived
    | Leaving
    | AskMetrics
    | Snapshot
)


class Channel:
    """One end. One task receives.

    An end has one way of sending, so that no message begins in the middle of another: the parent `post`s, which is done
    or has failed when it returns; the worker `send`s, one message after the other.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._socket = trio.socket.from_stdlib_socket(end)
        self._received = bytearray()
        self._descriptors: deque[int | None] = deque()  # None for one that was lost on the way

    async def receive(self) -> Message | None:
        """The next message, or None when the other end is gone. Cancelled, nothing is lost."""
        while (message := self._next()) is None:
            try:
                data, ancillary, flags, _ = await self._socket.recvmsg(_RECEIVE_BYTES, _ANCILLARY_BYTES, _NOT_INHERITED)
            except ConnectionResetError:
                return None
            # One call returns one message's descriptor at most: the kernel does not read on behind that message.
            received = array.array("i")
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received.frombytes(content[: len(content) - len(content) % _DESCRIPTOR_BYTES])
            self._descriptors.extend(received)
            if flags & socket.MSG_CTRUNC and not received:
                self._descriptors.append(None)  # we have none free; those that follow keep their places
            if not data:
                return None
            self._received += data
        return message

    def close(self) -> None:
        self._socket.close()

    def _next(self) -> Message | None:
        if len(self._received) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        content = self._received[_LENGTH.size : end]
        del self._received[:end]  # before it is read: one that cannot be must not stand in the way of the next
        message: Message = pickle.loads(content)
        return message


class ParentChannel(Channel):
    """The parent's end, for one worker."""

    def post(self, message: Message, connection: int | None = None) -> None:
        """Send a message, and with it a copy of a descriptor. If the other end is gone, `receive` tells; if this one
        was closed, nobody listens any more. Never blocks.

        Raises:
            trio.WouldBlock: the other end has not read for so long that there is no room. Part of the message may be
                sent, so the channel is of no use any more.
            OSError: the system has no memory for it now, or too many descriptors are on their way already. Nothing was
                sent.
        """
        if self._end.fileno() < 0:
            return
        data = _framed(message)
        descriptors = array.array("i", [] if connection is None else [connection])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        try:
            is_whole = self._end.sendmsg([data], ancillary) == len(data)
        except (BrokenPipeError, ConnectionResetError):
            return
        except BlockingIOError:
            is_whole = False
        if not is_whole:
            raise trio.WouldBlock


class WorkerChannel(Channel):
    """A worker's end. Any task may send."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end)
        self._sending = trio.Lock()
        self._unsent = b""  # of a message whose sender was cancelled half way

    async def send(self, message: Message) -> None:
        """Send a message, waiting for room. If the other end is gone, `receive` tells.

        Cancelled, the message was not sent, or whoever sends next sends the rest of it first.
        """
        data = _framed(message)
        async with self._sending:
            try:
                while self._unsent:
                    self._unsent = self._unsent[await self._send_some(self._unsent) :]
                while data:
                    data = self._unsent = data[await self._send_some(data) :]
            except (BrokenPipeError, ConnectionResetError):
                self._unsent = b""

    async def _send_some(self, data: bytes) -> int:
        """How many bytes the kernel has accepted, once it has."""
        while True:
            try:
                return await self._socket.send(data)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
            await trio.sleep(_NO_ROOM_PAUSE)

    def connection(self) -> socket.socket | None:
        """The connection that came with the HandOver just received, or None if it was lost on the way.

        Descriptors arrive in the order of their messages.
        """
        descriptor = self._descriptors.popleft()
        return None if descriptor is None else socket.socket(fileno=descriptor)


def _framed(message: Message) -> bytes:
    content = pickle.dumps(message)
    return _LENGTH.pack(len(content)) + content
