"""How long a client's connection lasts and how it ends, whichever HTTP is spoken on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import trio

from coordinator.rpc.http.heads import Http2Upgrade
from coordinator.socketio import linger

__all__ = ["GRACE", "LAST_CALL", "Handover", "Limits", "Waiting", "end"]

LINGER_TIMEOUT: Final = 10.0  # seconds for which what a client goes on sending is dropped before its connection closes
LINGER_PAUSE: Final = 2.0  # seconds without a byte of it
LINGER_BYTES: Final = 64 * 1024 * 1024  # of it
GRACE: Final = 2.0  # seconds that a client may keep us waiting though another has no room
LAST_CALL: Final = 0.25  # seconds after a stop in which what a client has sent by then, or just after, arrives


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a connection may take, in seconds, and how much it may hold, in bytes.

    Attributes:
        idle_timeout: without a request, after which it is closed.
        request_timeout: for a request's head to arrive in all, from its first byte. For its body as well, and a second
            more for each SLOWEST_BODY of it that has arrived.
        write_timeout: for the client to accept something of what it is sent.
        max_unsent_bytes: see Budget.
    """

    idle_timeout: float
    request_timeout: float
    write_timeout: float
    max_unsent_bytes: int


@dataclass(frozen=True, slots=True)
class Handover:
    """A connection that goes on in another protocol.

    Attributes:
        received: what was read of it and is for that protocol: for a WebSocket from its request's head on.
        http2: what HTTP/2 begins with, if it was asked for by an upgrade.
        is_websocket: whether it is one; if not, it is HTTP/2.
    """

    received: bytes
    http2: Http2Upgrade | None = None
    is_websocket: bool = False


class Waiting:
    """The waits that end soon when the server stops: those of clients to whom we owe nothing.

    They last a moment longer, for a request that is on its way. Were its connection closed over it, its client could
    not tell whether it was carried out, and proxies do not send a POST again.

    Attributes:
        scopes: theirs.
        is_stopping: each response is its connection's last.
        ends_at: when they end.
    """

    def __init__(self) -> None:
        self.is_stopping = False
        self.ends_at = math.inf
        self.scopes: set[trio.CancelScope] = set()

    def stop(self) -> None:
        """End them soon."""
        self.is_stopping = True
        self.ends_at = trio.current_time() + LAST_CALL
        for scope in self.scopes:
            scope.deadline = min(scope.deadline, self.ends_at)


async def end(stream: trio.abc.Stream, waiting: Waiting) -> None:
    """Let the client read its last response, though it may still be sending. Returns once the client has closed, or has
    had its time, of which it has little when the server stops."""
    timeout = LAST_CALL if waiting.is_stopping else LINGER_TIMEOUT
    scope = trio.CancelScope(deadline=trio.current_time() + timeout)
    waiting.scopes.add(scope)
    try:
        with scope:
            await linger(stream, LINGER_BYTES, LINGER_PAUSE)
    finally:
        waiting.scopes.discard(scope)
