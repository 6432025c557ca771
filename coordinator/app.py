"""The root nursery: store, directory, front-ends; the order they start in and the order they stop in."""

from __future__ import annotations

import logging
import socket
import sys
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import structlog
import trio
from hypercorn.config import Config

from coordinator.actors.directory import Directory
from coordinator.actors.engine import Engine
from coordinator.actors.request import Operation, RawJson, Request
from coordinator.errors import CoordinatorError
from coordinator.metrics import Metrics
from coordinator.rpc.access import AccessPolicy
from coordinator.rpc.dispatch import Dispatcher
from coordinator.rpc.http import HttpFrontEnd
from coordinator.rpc.hypercorn_worker import HttpServer
from coordinator.rpc.websocket import WebSocketFrontEnd
from coordinator.settings import Settings
from coordinator.storage.cluster import Cluster
from coordinator.storage.connection import Store
from coordinator.storage.embedded import EmbeddedValkey
from coordinator.storage.faults import StoreUnavailable
from coordinator.storage.keys import GLOBAL, Layout

__all__ = ["App", "CannotListen"]

log = structlog.get_logger("coordinator")

READY_TIMEOUT = 2.0  # seconds the store has to answer /readyz
BACKLOG = 1024
LEAVE_TIMEOUT = 1.0  # seconds to tell other coordinators that we go
STOP_MARGIN = 5.0  # seconds closing may take after the grace period


class CannotListen(Exception):
    """A port is taken, or an address is not ours."""


class App:
    """One coordinator. `run` it; `stop` it from another task of the same trio loop.

    Attributes:
        http_address, ws_address: (host, port) actually listened on, once `run` has started.
        embedded: the embedded Valkey, if that is the store.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http_address = (settings.api_http_ip, settings.api_http_port)
        self.ws_address = (settings.api_ws_ip, settings.api_ws_port)
        self.embedded: EmbeddedValkey | None = None
        self._stop = trio.Event()

    def stop(self) -> None:
        """Stop accepting, answer what is in flight within the grace period, then end `run`."""
        self._stop.set()

    async def run(self, *, task_status: trio.TaskStatus[App] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped.

        Raises, before it has started: CannotListen, DataDirectoryInUse, EmbeddedFailed, StoreMisconfigured.
        """
        settings = self.settings
        async with AsyncExitStack() as stack:
            http_socket = stack.enter_context(_listen("http", *self.http_address, settings.client_write_timeout))
            ws_socket = stack.enter_context(_listen("ws", *self.ws_address, settings.client_write_timeout))
            self.http_address = http_socket.getsockname()[:2]
            self.ws_address = ws_socket.getsockname()[:2]
            topology = settings.external_store()
            if topology is None:
                self.embedded = await stack.enter_async_context(EmbeddedValkey(settings.data_dir, settings.fsync))
                topology = self.embedded.endpoint
            is_spread = isinstance(topology, Cluster)
            layout = Layout(settings.isolation, topology.database, _coordinator(settings), is_spread)
            store = Store(topology, layout, connect_timeout=settings.store_timeout)
            await _check(store)

            # The store and the directory outlive the front-ends, which need both to answer what is in flight.
            async with trio.open_nursery() as background:
                if self.embedded is not None:
                    background.start_soon(self.embedded.supervise)
                directory = Directory(
                    store,
                    mailbox_length=settings.mailbox_length,
                    max_connections=settings.store_connections,
                    idle_timeout=settings.context_idle_timeout,
                    exchange_timeout=settings.store_timeout,
                )
                await background.start(directory.run)
                engine = Engine(
                    directory,
                    store,
                    max_subscriptions=settings.max_subscriptions,
                    is_alone=self.embedded is not None,
                )
                await background.start(engine.run)
                started = partial(self._started, task_status, store)
                await self._serve(directory, engine, layout, http_socket, ws_socket, started)
                if self.embedded is None:
                    with trio.move_on_after(LEAVE_TIMEOUT):
                        await engine.leave()
                background.cancel_scope.cancel()
        log.info("stopped")

    async def _serve(
        self,
        directory: Directory,
        engine: Engine,
        layout: Layout,
        http_socket: socket.socket,
        ws_socket: socket.socket,
        started: Callable[[], None],
    ) -> None:
        settings = self.settings
        dispatcher = Dispatcher(
            directory,
            engine,
            layout,
            request_timeout=settings.request_timeout,
            max_batch=settings.max_batch_length,
            max_batch_reply=settings.max_batch_reply_bytes,
        )
        policy = partial(AccessPolicy, allowed_origins=settings.allowed_origins, allowed_hosts=settings.allowed_hosts)
        websocket = WebSocketFrontEnd(
            dispatcher,
            policy(self.ws_address[0]),
            max_connections=settings.max_connections,
            max_in_flight=settings.max_in_flight,
            max_frame_bytes=settings.max_frame_bytes,
            write_timeout=settings.client_write_timeout,
        )
        http = HttpFrontEnd(
            dispatcher,
            policy(self.http_address[0]),
            ready=partial(_probe, directory, layout),
            metrics=lambda: metrics.render(),  # noqa: PLW0108 - defined below
            max_body_bytes=settings.max_body_bytes,
        )
        http_server = HttpServer(
            http,
            _hypercorn_config(settings),
            max_connections=settings.max_connections,
            write_timeout=settings.client_write_timeout,
        )
        metrics = Metrics(
            {
                "calls_total": ("Calls received, each of a batch counted.", lambda: dispatcher.calls),
                "calls_expired_total": ("Calls not answered by their deadline.", lambda: directory.expired),
                "supervisor_crashes_total": ("Supervisors that crashed and were restarted.", lambda: directory.crashes),
                "calls_pending": ("Calls in mailboxes or being served.", lambda: directory.pending),
                "contexts_active": ("Contexts with a mailbox.", lambda: directory.active_contexts),
                "store_connections": ("Supervisors alive, each with a connection.", lambda: directory.connections),
                "subscriptions": ("Runners and followers of flows subscribed.", lambda: engine.subscriptions),
                "http_connections": ("HTTP clients connected.", lambda: http_server.connections),
                "websocket_connections": ("WebSocket clients connected.", lambda: websocket.connections),
            }
        )
        async with trio.open_nursery() as front_ends:
            front_ends.start_soon(http_server.serve, [_listener(http_socket)])
            front_ends.start_soon(websocket.serve, [_listener(ws_socket)])
            started()
            await self._stop.wait()
            log.info("stopping", in_flight=directory.pending, grace_s=settings.shutdown_grace)
            engine.stop()
            websocket.stop(settings.shutdown_grace)
            http_server.stop(settings.shutdown_grace)
            front_ends.cancel_scope.deadline = trio.current_time() + settings.shutdown_grace + STOP_MARGIN

    def _started(self, task_status: trio.TaskStatus[App], store: Store) -> None:
        where = {"data": str(self.embedded.data_dir)} if self.embedded else {"store": str(store.topology)}
        log.info("serving", http=_url("http", self.http_address), ws=_url("ws", self.ws_address), **where)
        task_status.started(self)


def _coordinator(settings: Settings) -> str:
    """Our name among those that share the store, new at each start, and how long we keep things; see Layout."""
    return f"{uuid.uuid4().hex[:12]} {int(settings.event_retention * 1000)} {int(settings.retention * 1000)}"


def _listen(scheme: str, host: str, port: int, write_timeout: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these: a peer that vanished, or never reads, is noticed by the kernel too.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(write_timeout * 1000))
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        option = f"--api-{scheme}-ip" if isinstance(error, socket.gaierror) else f"--api-{scheme}-port"
        reason = error.strerror or str(error)
        raise CannotListen(
            f"cannot listen on {_url(scheme, (host, port))}: {reason.lower()}; choose another with {option}"
        ) from error
    listener.setblocking(False)
    return listener


def _listener(bound: socket.socket) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound))


def _hypercorn_config(settings: Settings) -> Config:
    config = Config()
    config.keep_alive_timeout = settings.keep_alive_timeout
    config.keep_alive_max_requests = sys.maxsize
    # A client that stalls in the middle of a request; longer than anything it may rightly wait for.
    config.read_timeout = int(settings.request_timeout + settings.keep_alive_timeout)
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


async def _check(store: Store) -> None:
    """Fail at once on a store that can never work; wait for one that is not there yet while serving."""
    try:
        connection = await store.open(GLOBAL)
    except StoreUnavailable:
        pass  # Store.open has logged it
    else:
        await connection.aclose()


class _Probe(Request):
    """Asks for an answer, whatever it is."""

    __slots__ = ("answered", "outcome")

    answered: trio.Event
    outcome: RawJson | CoordinatorError

    def answer(self, outcome: RawJson | CoordinatorError) -> None:
        self.outcome = outcome
        self.answered.set()


async def _probe(directory: Directory, layout: Layout) -> str | None:
    """Why the store does not answer, or None if it does."""

    def ping() -> Operation:
        yield [("EXISTS", layout.keyspace(GLOBAL).contexts())]  # of a cluster, more than that one node is up
        return b"null"

    probe = _Probe(ping(), deadline=trio.current_time() + READY_TIMEOUT, writes=False)
    probe.answered = trio.Event()
    await directory.post(GLOBAL, probe)
    await probe.answered.wait()
    return str(probe.outcome.data["detail"]) if isinstance(probe.outcome, CoordinatorError) else None


def _url(scheme: str, address: tuple[str, int]) -> str:
    host, port = address
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
