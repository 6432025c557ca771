"""Accepting connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

__all__ = ["serve_listener"]


async def serve_listener(
    listener: trio.abc.Listener[trio.SocketStream],
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    clients: trio.Nursery,
) -> None:
    """Accept connections until cancelled, and start `handler` for each in `clients`."""
    await trio.serve_listeners(handler, [listener], handler_nursery=clients)
