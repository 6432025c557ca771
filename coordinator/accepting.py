"""Accepting connections: the one loop, which nothing that happens to a client or to the process ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeVar

import structlog
import trio

from coordinator.logs import Seldom
from coordinator.socketio import RECEIVE_BYTES

__all__ = ["REFUSAL", "REFUSALS", "LastingListener", "Refusing", "Tally", "serve_listener", "yields_one"]

log = structlog.get_logger("coordinator.accepting")

PASSES: Final = 8  # of the loop for each connection accepted; in a flood of 2,000 a second others wait half as long so
PAUSE: Final = 0.1  # seconds after a failure to accept; the connection it was about waits in the kernel's queue
REFUSALS: Final = 8  # clients beyond its most that a front-end may have open while it refuses them in its own way
YIELDS: Final = 64  # connections looked at for one that gives way: there may be thousands, and as many new clients

REFUSAL: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
"""What a client that is one too many is told, over HTTP and in place of a WebSocket handshake."""

_REMEDIES: Final = {
    errno.EMFILE: "too many open files: raise ulimit -n, or lower --max-connections",
    errno.ENFILE: "too many open files in the whole system: raise its limit, or lower --max-connections",
    errno.ENOBUFS: "the system has no memory for more sockets: lower --max-connections",
    errno.ENOMEM: "the system has no memory for more sockets: lower --max-connections",
}


@dataclass(slots=True)
class Tally:
    """What became of the connections of one front-end.

    Attributes:
        open: those being handled.
        refused: those closed because too many were open.
        failures: times that one could not be accepted for want of descriptors or memory.
    """

    open: int = 0
    refused: int = 0
    failures: int = 0


async def serve_listener(
    listener: trio.abc.Listener[trio.SocketStream],
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    clients: trio.Nursery,
    *,
    name: str = "clients",
    most: int = sys.maxsize,
    refusal: bytes = b"",
    on_disconnect: Callable[[], None] = lambda: None,
    tally: Tally | None = None,
) -> None:
    """Accept connections until cancelled, and start `handler` for each in `clients`; then close the listener.

    Between two accepts the loop makes several passes, in each of which everybody else gets on: each new connection is
    several passes' work itself, and in a flood that of many would be done in every pass. Where nobody else has anything
    to do the passes take no time.

    A handler's exception is logged and ends only its own connection, which is closed when the handler returns.

    A process out of descriptors accepts nothing and tries again after a pause. It keeps none in reserve to answer such
    clients with: `most` is chosen so that descriptors last (see server/descriptors.py), so what lacks then lacks for
    the store, too, or for a moment only. A reserve would be closed to accept with, and a thread that opens a file just
    then would get it. A client in the kernel's queue costs nothing, and is served when there is room again.

    Args:
        name: of the front-end, for the log.
        most: connections open at once. A further one gets `refusal` and is closed.
        on_disconnect: called when a connection has been closed, whether it was handled or refused.
        tally: where to count.
    """
    tally = Tally() if tally is None else tally
    seldom = Seldom()
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                tally.failures += 1
                if seldom.is_due():
                    reason = _REMEDIES.get(error.errno or 0) or str(error)
                    log.error("connections wait to be accepted", listener=name, reason=reason, failures=tally.failures)
                await trio.sleep(PAUSE)
                continue
            if tally.open < most:
                tally.open += 1
                clients.start_soon(_handle, stream, handler, tally, on_disconnect, name)
            else:
                tally.refused += 1
                _refuse(stream, refusal)
                on_disconnect()
            for _ in range(PASSES):
                await trio.lowlevel.checkpoint()


class Refusing:
    """Clients that a front-end refuses in its own way: half of REFUSALS at once, and the oldest gives way. Were all
    those places taken by clients that do not close, no other would come as far as to be looked at."""

    def __init__(self) -> None:
        self._scopes: dict[trio.CancelScope, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._scopes)

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """A scope in which one is."""
        staying = [scope for scope in self._scopes if not scope.cancel_called]
        if len(staying) >= REFUSALS // 2:
            staying[0].cancel()
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                yield
            finally:
                del self._scopes[scope]


class LastingListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that stays open when what accepts from it crashes: that is started again. Once `stop` is set it is
    closed for good, so that who connects from then on is refused."""

    def __init__(self, listener: trio.abc.Listener[trio.SocketStream], stop: trio.Event) -> None:
        self._listener = listener
        self._stop = stop

    async def accept(self) -> trio.SocketStream:
        return await self._listener.accept()

    async def aclose(self) -> None:
        if self._stop.is_set():
            await self._listener.aclose()
        else:
            await trio.lowlevel.checkpoint()


class Yielding(Protocol):
    """A connection that may end so that another client has its place."""

    def give_way(self) -> bool:
        """End, if it may. Returns whether it does. Never blocks."""


_Yielding = TypeVar("_Yielding", bound=Yielding)


def yields_one(connections: dict[_Yielding, None]) -> bool:
    """Whether one of the first few connections gives way. It is taken out; those that do not come last."""
    for connection in [*islice(connections, YIELDS)]:
        del connections[connection]
        if connection.give_way():
            return True
        connections[connection] = None
    return False


async def _handle(
    stream: trio.SocketStream,
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    tally: Tally,
    on_disconnect: Callable[[], None],
    name: str,
) -> None:
    try:
        await handler(stream)
    except* Exception:
        log.exception("a connection's handler crashed", listener=name)
    finally:
        stream.socket.close()
        tally.open -= 1
        on_disconnect()


def _refuse(stream: trio.SocketStream, refusal: bytes) -> None:
    """Never blocks: what does not fit into the socket's buffer, which is empty, is not sent."""
    descriptor = stream.socket.fileno()
    with contextlib.suppress(OSError):
        os.write(descriptor, refusal)
        os.read(descriptor, RECEIVE_BYTES)  # closing over unread data would reset, and the client might not see why
    stream.socket.close()
