"""Reading and writing sockets without trio's detours.

trio's `send_all` lets every other task have its turn once the data is on its way, also when it never had to wait. Under
load that is as long as all of them take together, each time. Its `receive_some` looks whether there is something before
it waits for that, which a server's connections find in vain most of the time. Over TLS the same holds of our TlsStream.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket as stdlib_socket
import struct
import sys
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import trio

from coordinator.tlsstream import TlsStream

__all__ = [
    "RECEIVE_BYTES",
    "Acknowledged",
    "Bytes",
    "abort_on_close",
    "acknowledged",
    "has_hung_up",
    "linger",
    "peer_host",
    "receive_next",
    "send_now",
    "send_steadily",
]

RECEIVE_BYTES: Final = 64 * 1024  # at a time; a buffer of 128 KiB or more may be mapped anew each time (10 µs)
SEND_BYTES: Final = 64 * 1024  # at a time to a stream that is no socket; each must be accepted within the time-out

_TCP_INFO_BYTES: Final = 148

Bytes = TypeVar("Bytes", bytes, memoryview)


def peer_host(stream: trio.abc.Stream) -> str:
    """The address of a connection's other side, without its port; '' if it has none, or is gone."""
    if not isinstance(stream, trio.SocketStream | TlsStream):
        return ""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def send_now(stream: trio.abc.SendStream, data: Bytes) -> Bytes:
    """Send what the kernel accepts at once. Returns what remains for `stream.send_all`: everything unless it is a
    socket, or TLS over one. Whatever is sent next must begin with it.

    Raises:
        OSError: the connection broke.
    """
    if not isinstance(stream, trio.SocketStream):
        return data[stream.try_send(data) :] if isinstance(stream, TlsStream) else data
    try:
        return data[os.write(stream.socket.fileno(), data) :]
    except BlockingIOError:
        return data


async def send_steadily(
    stream: trio.abc.SendStream,
    data: bytes | memoryview,
    timeout: float,
    accepted: Callable[[int], None] = lambda size: None,
) -> None:
    """Send everything, however long that takes, as long as the peer goes on accepting some of it.

    Args:
        timeout: seconds without progress after which the peer is given up.
        accepted: called with the number of bytes each time the kernel has accepted some.

    Raises:
        trio.TooSlowError: no progress for `timeout` seconds.
        trio.BrokenResourceError: the connection broke.
        trio.ClosedResourceError: it was closed on this side.
    """
    rest = memoryview(data)
    while rest:
        with trio.fail_after(timeout):
            if isinstance(stream, trio.SocketStream):
                if stream.socket.fileno() < 0:
                    raise trio.ClosedResourceError("this socket was closed")
                await trio.lowlevel.wait_writable(stream.socket)
                try:
                    size = os.write(stream.socket.fileno(), rest)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
            elif isinstance(stream, TlsStream):
                await stream.wait_writable()
                try:
                    size = stream.try_send(rest)
                except OSError as error:
                    raise trio.BrokenResourceError(f"TLS connection broken: {error}") from error
            else:
                size = min(len(rest), SEND_BYTES)
                await stream.send_all(rest[:size])
        rest = rest[size:]
        accepted(size)


async def receive_next(stream: trio.abc.ReceiveStream, max_bytes: int = RECEIVE_BYTES) -> bytes:
    """Wait for the next bytes and return up to `max_bytes` of them: none once the peer has sent its last.

    Raises:
        ValueError: `max_bytes` is less than one.
        trio.BrokenResourceError: the connection broke.
        trio.ClosedResourceError: it was closed on this side.
        trio.BusyResourceError: another task waits for them.
    """
    if not isinstance(stream, trio.SocketStream):
        return bytes(await stream.receive_some(max_bytes))
    if max_bytes < 1:
        raise ValueError("max_bytes must be at least 1")
    socket = stream.socket
    while True:
        if socket.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed")
        await trio.lowlevel.wait_readable(socket)
        try:
            return os.read(socket.fileno(), max_bytes)
        except BlockingIOError:
            pass
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


_HUNG_UP: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def has_hung_up(stream: trio.abc.ReceiveStream) -> bool:
    """Whether the peer has closed, or at least its sending side, whatever it has sent before that nobody has read.

    Where the system has no POLLRDHUP (Linux has it) only a connection that broke is noticed. False for a stream that is
    no socket and has none below it in `transport_stream`.
    """
    transport = getattr(stream, "transport_stream", stream)
    if not isinstance(transport, trio.SocketStream):
        return False
    descriptor = transport.socket.fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, _HUNG_UP)
    return bool(poll.poll(0))


_ABORTIVE: Final = struct.pack("ii", 1, 0)


def abort_on_close(stream: trio.abc.Stream) -> None:
    """Have the kernel drop what it has not sent yet once the socket under this stream is closed, and reset the
    connection. Otherwise it would go on for minutes to bring that to a peer that is out of reach for a while."""
    transport = getattr(stream, "transport_stream", stream)
    if isinstance(transport, trio.SocketStream) and transport.socket.fileno() >= 0:
        with contextlib.suppress(OSError):
            transport.socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, _ABORTIVE)


async def linger(stream: trio.abc.Stream, max_bytes: int, pause: float = math.inf) -> None:
    """End a connection after the last word was sent, so that the peer gets to read it.

    A socket that is closed while something unread is in it is reset, and a reset destroys what the peer has not read
    yet. So we send our end, and read and drop what the peer still sends until its own, or until `max_bytes` of it, or
    until nothing has come for `pause` seconds. The caller bounds the time in all.
    """
    try:
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        dropped = 0
        while dropped < max_bytes:
            data = b""
            with trio.move_on_after(pause):
                data = await receive_next(stream)
            if not data:
                return
            dropped += len(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


class Acknowledged(NamedTuple):
    """How far what we sent has come.

    Attributes:
        size: bytes that the peer's kernel has acknowledged.
        is_all: it has acknowledged all that we sent.
    """

    size: int
    is_all: bool


def acknowledged(stream: trio.abc.Stream) -> Acknowledged | None:
    """How far what was sent on the connection under this stream has come; None where the system does not say (it is
    Linux that does)."""
    transport = getattr(stream, "transport_stream", stream)
    if sys.platform != "linux" or not isinstance(transport, trio.SocketStream) or transport.socket.fileno() < 0:
        return None
    try:
        info = transport.socket.getsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None  # it is no TCP socket
    if len(info) < _TCP_INFO_BYTES:
        return None  # the kernel is older than 4.6
    # struct tcp_info of <linux/tcp.h>: tcpi_unacked, tcpi_notsent_bytes, tcpi_bytes_acked.
    unsent = int.from_bytes(info[24:28], sys.byteorder) or int.from_bytes(info[144:148], sys.byteorder)
    return Acknowledged(int.from_bytes(info[120:128], sys.byteorder), unsent == 0)
