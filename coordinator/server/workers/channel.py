"""Between the parent and one worker: messages both ways, and clients' connections from the parent, on a socket pair.

A message is pickled behind its length. Both ends are our own processes, and what arrives is what was sent: settings are
not parsed a second time.
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
    "MOST_UNTAKEN",
    "AskMetrics",
    "Channel",
    "Clients",
    "Failed",
    "Gone",
    "Leaving",
    "Message",
    "MetricsPage",
    "ReportMetrics",
    "Serving",
    "Snapshot",
    "Start",
    "Stop",
    "Take",
    "UseCertificate",
]

MOST_UNTAKEN: Final = 64  # connections handed to a worker that its front-ends have not taken yet

_LENGTH: Final = struct.Struct("!I")
_RECEIVE_BYTES: Final = 64 * 1024
_DESCRIPTOR_BYTES: Final = array.array("i").itemsize
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
class Take:
    """A client has connected; its connection comes with this."""

    front_end: FrontEnd


@dataclass(frozen=True, slots=True)
class Gone:
    """A coordinator on the store is gone: see to its contexts."""

    coordinator: str


@dataclass(frozen=True, slots=True)
class UseCertificate:
    """Serve connections that come from now on with this."""

    material: Material


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
class Stop:
    """Answer what is in flight, and end."""


# -- from a worker


@dataclass(frozen=True, slots=True)
class Serving:
    """It may be given clients."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot serve, for a reason a user can understand."""

    reason: str


@dataclass(frozen=True, slots=True)
class Clients:
    """How many connections it has taken over since it started, and how many of those have ended, by front-end."""

    taken: dict[FrontEnd, int]
    left: dict[FrontEnd, int]


@dataclass(frozen=True, slots=True)
class Leaving:
    """It was told to stop, and not by the parent. It takes no more connections than these."""

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
    | Take
    | Gone
    | UseCertificate
    | ReportMetrics
    | MetricsPage
    | Stop
    | Serving
    | Failed
    | Clients
    | Leaving
    | AskMetrics
    | Snapshot
)


class Channel:
    """One end. Any task may send; one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._socket = trio.socket.from_stdlib_socket(end)
        self._sending = trio.Lock()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()

    def post(self, message: Message, connection: int | None = None) -> None:
        """Send a message, and with it a copy of a descriptor. If the other end is gone, `receive` tells. Never blocks.

        Raises trio.WouldBlock: the other end has not read for so long that there is no room left; the channel is then
        of no use any more.
        """
        data = _framed(message)
        descriptors = array.array("i", [] if connection is None else [connection])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        try:
            is_whole = self._end.sendmsg([data], ancillary) == len(data)
        except (BrokenPipeError, ConnectionResetError):
            return
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            is_whole = False
        if not is_whole:
            raise trio.WouldBlock

    async def send(self, message: Message) -> None:
        """Send a message, waiting for room. If the other end is gone, `receive` tells. Not to be cancelled before the
        channel's end."""
        data = _framed(message)
        async with self._sending:
            try:
                while data:
                    data = data[await self._socket.send(data) :]
            except (BrokenPipeError, ConnectionResetError):
                pass

    async def receive(self) -> Message | None:
        """The next message, or None when the other end is gone. Cancelled, nothing is lost."""
        while (message := self._next()) is None:
            try:
                data, ancillary, _, _ = await self._socket.recvmsg(
                    _RECEIVE_BYTES, socket.CMSG_SPACE(MOST_UNTAKEN * _DESCRIPTOR_BYTES)
                )
            except ConnectionResetError:
                return None
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(content[: len(content) - len(content) % _DESCRIPTOR_BYTES])
                    self._descriptors.extend(received)
            if not data:
                return None
            self._received += data
        return message

    def connection(self) -> socket.socket:
        """The connection that came with the Take just received: descriptors arrive in the order of their messages."""
        return socket.socket(fileno=self._descriptors.popleft())

    def close(self) -> None:
        self._socket.close()

    def _next(self) -> Message | None:
        if len(self._received) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        message: Message = pickle.loads(self._received[_LENGTH.size : end])
        del self._received[:end]
        return message


def _framed(message: Message) -> bytes:
    content = pickle.dumps(message)
    return _LENGTH.pack(len(content)) + content
