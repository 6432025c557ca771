"""Accepting the clients of a front-end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from coordinator.accepting import REFUSALS, Tally, serve_listener
from coordinator.supervision import supervise
from coordinator.tlsstream import Secure, in_the_clear

__all__ = ["accept_clients"]

log = structlog.get_logger("coordinator.accepting")


async def accept_clients(
    listener: trio.abc.Listener[trio.SocketStream],
    serve: Callable[[trio.abc.Stream], Awaitable[None]],
    clients: trio.Nursery,
    *,
    name: str,
    max_connections: int,
    full: bytes,
    secure: Secure,
    on_disconnect: Callable[[], None],
    tally: Tally,
) -> None:
    """Accept clients until cancelled, and serve each in `clients`, over TLS if that is spoken.

    Args:
        max_connections: those that are served. A few more are accepted, for the front-end to refuse in its own way.
        full: the answer to any further one, where TLS is not spoken.
        name, on_disconnect, tally: see serve_listener.
    """

    async def handle(transport: trio.SocketStream) -> None:
        try:
            stream = await secure(transport)
        except trio.BrokenResourceError as error:
            log.debug("a TLS handshake failed", listener=name, reason=str(error))
        else:
            await serve(stream)

    accept = partial(
        serve_listener,
        listener,
        handle,
        clients,
        name=name,
        most=max_connections + REFUSALS,
        refusal=full if secure is in_the_clear else b"",
        on_disconnect=on_disconnect,
        tally=tally,
    )
    await supervise(f"accepting {name} clients", accept)
