"""The HTTP front-end: its connections, how many there may be, and how they end."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Final

import structlog
import trio

from coordinator.accepting import Refusing, Tally, yields_one
from coordinator.rpc.access.crowds import Crowd, is_scarce
from coordinator.rpc.http.answers import Answers
from coordinator.rpc.http.connection import Connection
from coordinator.rpc.http.heads import HeadReader
from coordinator.rpc.http.http2 import Http2, Http2Connection
from coordinator.rpc.http.lifetime import Handover, Limits, Waiting, end
from coordinator.rpc.listening import accept_clients
from coordinator.socketio import peer_host, send_steadily
from coordinator.tlsstream import Secure, in_the_clear

__all__ = ["HttpServer", "Upgrade"]

log = structlog.get_logger("coordinator.http")

GOODBYE_TIMEOUT: Final = 1.0  # seconds in which a connection is closed properly

_TOO_MANY: Final = b"too many clients, see --max-connections\n"
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_TOO_MANY), _TOO_MANY)
)

Upgrade = Callable[[trio.abc.Stream, bytes], Awaitable[None]]
"""Serves a connection that is to be a WebSocket, until it ends. The second argument is what was read of it: the head of
the request for that, and what follows."""


class HttpServer:
    """Serves the answers over HTTP/1 and HTTP/2, and hands over what is to be a WebSocket.

    Args:
        upgrade: what serves WebSockets here, if anything does.
        max_connections: clients connected at once. For a further one, one ends that keeps us waiting and has not logged
            in, or else one that waits for nothing and is of who has the most, or at the address that has the most; it
            gets 503 if there is none. For the last eighth, one ends of who has logged in on the most.
        secure: makes a TLS stream of a connection that was accepted, if that is spoken.
        on_disconnect: called when a client's connection has been closed.

    Attributes:
        tally: what became of its connections.
    """

    def __init__(
        self,
        answers: Answers,
        limits: Limits,
        *,
        max_connections: int,
        upgrade: Upgrade | None = None,
        secure: Secure = in_the_clear,
        on_disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        self._answers = answers
        self._limits = limits
        self._heads = HeadReader(answers)
        self._waiting = Waiting()
        self._http2 = Http2(answers, limits, self._waiting)
        self._upgrade = upgrade
        self._max_connections = max_connections
        self._secure = secure
        self._on_disconnect = on_disconnect
        self.tally = Tally()
        self._streams: set[trio.abc.Stream] = set()
        self._serving: dict[Connection, None] = {}  # over HTTP/1, those looked at longest ago first
        self._known_crowd = Crowd(self._holders, counts_addresses=False)
        self._crowd = Crowd(self._holders, counts_addresses=True)
        self._refusing = Refusing()
        self._accepting = trio.CancelScope()
        self._stopping = trio.Event()
        self._grace = 0.0

    @property
    def connections(self) -> int:
        """Clients connected, without those that are over the limit."""
        return len(self._streams) - len(self._refusing)

    async def serve(self, listener: trio.abc.Listener[trio.SocketStream]) -> None:
        """Accept clients until stopped; returns when the last one is gone."""
        async with trio.open_nursery() as closing:
            closing.start_soon(self._close_stragglers)
            async with trio.open_nursery() as clients:
                with self._accepting:
                    await accept_clients(
                        listener,
                        self.handle,
                        clients,
                        name="http",
                        max_connections=self._max_connections,
                        full=_FULL,
                        secure=self._secure,
                        on_disconnect=self._on_disconnect,
                        tally=self.tally,
                    )
            closing.cancel_scope.cancel()

    def forget_heads(self) -> None:
        """Decide anew on requests like those before: who may call has changed."""
        self._heads.remembered.cache_clear()

    def stop(self, grace: float) -> None:
        """Accept no more, answer what arrives just now, close idle connections, and those still busy after `grace`
        seconds."""
        self._grace = grace
        self._accepting.cancel()
        self._waiting.stop()
        self._stopping.set()

    async def _close_stragglers(self) -> None:
        await self._stopping.wait()
        await self._http2.stop()
        await trio.sleep(self._grace)
        for stream in [*self._streams]:
            await trio.aclose_forcefully(stream)

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve a connection until it ends, and close it.

        A TLS stream, whose `selected_alpn_protocol()` says `h2`, speaks HTTP/2 from its first byte.
        """
        self._streams.add(stream)
        try:
            if not self._has_room(peer_host(stream)):
                await self._refuse(stream)
            else:
                await self._serve(stream)
            with trio.move_on_after(GOODBYE_TIMEOUT):
                await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except Exception:
            # One client's connection must never take the others with it.
            log.exception("an HTTP connection failed")
        finally:
            self._streams.discard(stream)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    def _holders(self) -> Iterator[Connection | Http2Connection]:
        return chain(self._serving, self._http2.connections)

    def _has_room(self, address: str) -> bool:
        """Whether a client that has come from this address can stay. If need be a connection ends that serves nobody,
        or one of many: clients that send a request are not kept out by those that only hold a place."""
        if self.connections <= self._max_connections:
            if is_scarce(self.connections, self._max_connections):
                self._known_crowd.makes_room(address)
            return True
        return yields_one(self._serving) or self._http2.make_room() or self._crowd.makes_room(address)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        alpn = getattr(stream, "selected_alpn_protocol", None)
        handover: Handover | None = Handover(b"")
        if alpn is None or alpn() != "h2":
            connection = Connection(stream, self._answers, self._heads, self._limits, self._waiting)
            self._serving[connection] = None
            try:
                handover = await connection.serve()
            finally:
                self._serving.pop(connection, None)
        if handover is None:
            return
        if not handover.is_websocket:
            await self._http2.serve(stream, handover)
        elif self._upgrade is not None:
            await self._upgrade(stream, handover.received)

    async def _refuse(self, stream: trio.abc.Stream) -> None:
        """Say that there are too many clients, so that it is read even if the client has sent something."""
        self.tally.refused += 1
        with self._refusing.one_more():
            with contextlib.suppress(trio.TooSlowError):
                await send_steadily(stream, _FULL, GOODBYE_TIMEOUT)  # fits into any socket's buffer
            await end(stream, self._waiting)
