"""A coordinator in the test's own trio loop, for what needs short time-outs or a look inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.testing

from coordinator.server.app import App
from coordinator.settings import Settings


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[App]:
    """A running App on free ports, stopped at the end; `settings` are those of `Settings`."""
    app = App(Settings(**{"api_http_port": 0, "api_ws_port": 0, "shutdown_grace": 2.0, **settings}))
    async with trio.open_nursery() as nursery:
        await nursery.start(app.run)
        try:
            yield app
        finally:
            app.stop()


def http_url(app: App) -> str:
    return f"http://{app.http_address[0]}:{app.http_address[1]}"


def ws_url(app: App) -> str:
    return f"ws://{app.ws_address[0]}:{app.ws_address[1]}"


class _NoSocket:
    """What who accepts connections closes in the end."""

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


def in_memory() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Two ends of a connection in memory, the second of which a listener may return as accepted."""
    near, far = trio.testing.memory_stream_pair()
    cast(Any, far).socket = _NoSocket()
    return near, far
