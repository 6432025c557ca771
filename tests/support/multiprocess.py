"""Clients of a coordinator of several workers, and which worker each of them has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from tests.support.processes import holder_of
from tests.support.server import CoordinatorProcess
from tests.support.streaming import StreamingClient, streaming

__all__ = ["one_of_each", "worker_with"]


def worker_with(server: CoordinatorProcess, url: str, port: int) -> int:
    """The process id of the worker that has the connection from this port to one of the server's URLs."""
    worker = holder_of(port, urlsplit(url).port or 0, server.workers())
    assert worker is not None
    return worker


@asynccontextmanager
async def one_of_each(server: CoordinatorProcess) -> AsyncIterator[dict[int, StreamingClient]]:
    """A WebSocket connection of each worker, by the worker's process id. No others may be open."""
    workers = server.workers()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(streaming(server.ws)) for _ in workers]
        by_worker = {worker_with(server, server.ws, client.port): client for client in clients}
        assert by_worker.keys() == {*workers}
        yield by_worker
