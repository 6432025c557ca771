"""Hypercorn's trio worker with what it leaves to be desired, on its own connection class.

`hypercorn.trio.serve` keeps a connection its client has closed until the keep-alive time-out passes (the idle task
outlives the reader; seen with 0.18), so clients that connect for each request exhaust the file descriptors; it has no
bound on connections; and since it shields its sends, a client that never reads can hold up a shutdown for ever.
Connections come to it through PlainPosts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from coordinator.accepting import REFUSAL, REFUSALS, Tally, serve_listener
from coordinator.rpc.http.fast_path import PlainPosts
from coordinator.rpc.http.pages import HttpFrontEnd
from coordinator.supervision import supervise

__all__ = ["HttpServer"]

log = structlog.get_logger("coordinator.http")


class _Connection(TCPServer):
    """Ends when its client closes it."""

    early: bytes
    """What was read of it before."""

    async def _read_data(self) -> None:
        early, self.early = self.early, b""  # Hypercorn's objects refer to each other: they wait for the collector
        await self.protocol.handle(RawData(early))
        await super()._read_data()
        await self.idle_task.stop()


class HttpServer:
    """Serves the front-end over HTTP/1.1 and HTTP/2.

    Args:
        config: its limits and time-outs apply; what concerns binding, TLS and logging of access does not.
        max_connections: clients connected at once; a further one gets 503.
        write_timeout: seconds a client may take to accept the response to a plain POST.
        on_disconnect: called when a client's connection has been closed.

    Attributes:
        tally: what became of its connections.
    """

    def __init__(
        self,
        front_end: HttpFrontEnd,
        config: Config,
        *,
        max_connections: int,
        write_timeout: float,
        on_disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = wrap_app(front_end, config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type] # its own types
        assert config.read_timeout is not None
        self._plain = PlainPosts(
            front_end.admit,
            front_end.answer,
            idle_timeout=config.keep_alive_timeout,
            read_timeout=config.read_timeout,
            write_timeout=write_timeout,
        )
        self._config = config
        self._max_connections = max_connections
        self._on_disconnect = on_disconnect
        self.tally = Tally()
        self._context = WorkerContext(None)
        self._transports: set[trio.SocketStream] = set()
        self._accepting = trio.CancelScope()
        self._stopping = trio.Event()
        self._grace = 0.0

    @property
    def connections(self) -> int:
        """Clients connected."""
        return len(self._transports)

    async def serve(self, listener: trio.abc.Listener[trio.SocketStream]) -> None:
        """Accept clients until stopped; returns when the last one is gone."""
        async with trio.open_nursery() as closing:
            closing.start_soon(self._close_stragglers)
            async with trio.open_nursery() as clients:
                with self._accepting:
                    accept = partial(
                        serve_listener,
                        listener,
                        self._handle,
                        clients,
                        name="http",
                        most=self._max_connections + REFUSALS,
                        refusal=REFUSAL,
                        on_disconnect=self._on_disconnect,
                        tally=self.tally,
                    )
                    await supervise("accepting HTTP clients", accept)
            closing.cancel_scope.cancel()

    def stop(self, grace: float) -> None:
        """Accept no more, close idle connections, and those still busy after `grace` seconds."""
        self._grace = grace
        self._accepting.cancel()
        self._plain.stop()
        self._stopping.set()

    async def _close_stragglers(self) -> None:
        await self._stopping.wait()
        await self._context.terminated.set()  # Hypercorn's own sign to close what is idle
        await trio.sleep(self._grace)
        for transport in [*self._transports]:
            # Closing under a send is the one thing its shield does not keep out.
            await trio.aclose_forcefully(transport)

    async def _handle(self, transport: trio.SocketStream) -> None:
        self._transports.add(transport)
        try:
            if len(self._transports) > self._max_connections:
                self.tally.refused += 1
                await transport.send_all(REFUSAL)  # fits into any socket's buffer
                return
            early = await self._plain.serve(transport)
            if early is None:
                return
            connection = _Connection(
                self._app,
                self._config,
                self._context,
                ConnectionState({}),
                transport,  # type: ignore[arg-type] # it takes TLS streams and plain ones
            )
            connection.early = early
            await connection.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:
            # One client's connection must never take the others with it.
            log.exception("an HTTP connection failed")
        finally:
            self._transports.discard(transport)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(transport)
