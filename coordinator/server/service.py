"""What one process serves with: store, directory, front-ends; the order they start in and the order they stop in."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
import trio

from coordinator import logs
from coordinator.accepting import LastingListener
from coordinator.actors.directory import Directory, one_step
from coordinator.dashboard import load_site
from coordinator.engine.engine import Engine
from coordinator.errors import CoordinatorError
from coordinator.hosts import is_loopback
from coordinator.metrics import Metrics
from coordinator.osprocess import MemoryReturner
from coordinator.rpc.access.admitted import Admitted
from coordinator.rpc.access.audit.trail import Logs
from coordinator.rpc.access.audit.writer import LogWriter
from coordinator.rpc.access.forwarded import Proxies
from coordinator.rpc.access.gate import Gate
from coordinator.rpc.access.limits import CallerLimits
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.access.quotas import within_quotas
from coordinator.rpc.access.rights import Rules
from coordinator.rpc.http.answers import Answers
from coordinator.rpc.http.lifetime import Limits
from coordinator.rpc.http.pages import Pages
from coordinator.rpc.http.server import HttpServer
from coordinator.rpc.jsonrpc.counting import MAX_VALUES
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.methods import METHODS
from coordinator.rpc.openrpc import ServedDocument, dashboard_facts
from coordinator.rpc.websocket.server import WebSocketFrontEnd
from coordinator.server import bootstrap
from coordinator.server.bootstrap import Addresses, FrontEnd
from coordinator.server.counted import metrics_of
from coordinator.server.store_view import StoreView
from coordinator.server.tls import Material, Tls, certified_names
from coordinator.settings import Settings
from coordinator.socketio import peer_host
from coordinator.storage.connection import Store
from coordinator.storage.keys import GLOBAL, Command
from coordinator.storage.topology import Topology
from coordinator.supervision import supervise
from coordinator.tlsstream import Secure, TlsStream

if TYPE_CHECKING:
    from coordinator.server.telemetry import Telemetry

__all__ = ["STOP_MARGIN", "Listener", "Service"]

log = structlog.get_logger("coordinator")

READY_TIMEOUT = 2.0  # seconds the store has to answer /readyz
LEAVE_TIMEOUT = 1.0  # seconds to tell other coordinators that we go
RETURN_MEMORY_EVERY = 2.0  # seconds
STOP_MARGIN = 5.0  # seconds closing may take after the grace period
STOPPING: Final = "the coordinator is about to stop"

Listener = trio.abc.Listener[trio.SocketStream]


class Service:
    """A directory, an engine and front-ends of its own.

    Args:
        topology: the store.
        addresses: where clients reach us.
        tls: what to serve TLS with, if that is to be.
        name: ours among the coordinators that share the store.
        max_connections: over each front-end; that of the settings unless given.
        is_alone: nobody else uses the store now.
        is_embedded: the store is the Valkey that comes with us.
        on_disconnect: called with the front-end, `http` or `ws`, of a client whose connection has been closed.
        page: the Prometheus page and its content type; that of `metrics` unless given.

    Attributes:
        metrics: what is counted here. Once `run` has started.
    """

    metrics: Metrics

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        addresses: Addresses,
        tls: Material | None = None,
        *,
        name: str | None = None,
        max_connections: int | None = None,
        is_alone: bool = False,
        is_embedded: bool = False,
        on_disconnect: Callable[[FrontEnd], None] = lambda front_end: None,
        page: Callable[[], Awaitable[tuple[bytes, str]]] | None = None,
    ) -> None:
        self.settings = settings
        self._addresses = addresses
        self._tls = Tls(tls)
        self._own_names = names_of(tls)
        self._max_connections = settings.max_connections if max_connections is None else max_connections
        self._on_disconnect = on_disconnect
        self._is_draining = False
        self._policies: list[AccessPolicy] = []
        self._on_new_policy: Callable[[], None] = lambda: None
        self._page = page or self._own_page
        self._layout = bootstrap.layout_of(settings, topology, name or bootstrap.new_name())
        self._store = Store(topology, self._layout, connect_timeout=settings.store_timeout, is_embedded=is_embedded)
        self._directory = Directory(
            self._store,
            mailbox_length=settings.mailbox_length,
            max_connections=settings.store_connections,
            idle_timeout=settings.context_idle_timeout,
            round_timeout=settings.store_timeout,
            measures=settings.caller_store_time > 0 or settings.otel_endpoint is not None,
        )
        self._store_view = StoreView(self._store)
        self._engine = Engine(
            self._directory, self._store, max_subscriptions=settings.max_subscriptions, is_alone=is_alone
        )

        self._audit = None if settings.audit_log is None else LogWriter(settings.audit_log)
        self._access_log = None if settings.access_log is None else LogWriter(settings.access_log, "access log")
        self._telemetry = bootstrap.telemetry_of(settings, self._layout.name)
        self._engine.spans = self._telemetry
        self._gate: Gate | None = None
        if settings.has_logins:
            self._gate = Gate(
                self._directory,
                self._layout,
                rules_of(settings),
                operator_file=settings.operator_file,
                metrics_file=settings.metrics_token_file,
                provider=bootstrap.provider_of(settings),
                timeout=settings.request_timeout,
            )

    async def check(self, *, warn: bool = False) -> None:
        """Raises StoreMisconfigured if the store can never work. `warn`, in the log, of one that throws data away."""
        await bootstrap.check(self._store, warn=warn)

    async def run(self, http: Listener, ws: Listener, stop: trio.Event, started: Callable[[], None]) -> None:
        """Serve from when `started` is called until `stop` is set, then answer what is in flight."""
        # The store and the directory outlive the front-ends, which need both to answer what is in flight. The logs
        # outlive them all: ending, they tell them of what they have given up.
        async with (
            _kept(self._audit),
            _kept(self._access_log),
            _kept(self._telemetry),
            trio.open_nursery() as background,
        ):
            await background.start(self._directory.run)
            await background.start(self._engine.run)
            background.start_soon(supervise, "returning memory", _return_memory)
            if self._gate is not None:
                background.start_soon(supervise, "looking at who is logged in", self._gate.sweep.run)
                admitted = Admitted(self._directory, self._gate, request_timeout=self.settings.request_timeout)
                background.start_soon(supervise, "looking at calls that wait", admitted.run)
            await self._serve(http, ws, stop, started)
            if self.settings.external_store() is not None:
                with trio.move_on_after(LEAVE_TIMEOUT):
                    await self._engine.leave()
            background.cancel_scope.cancel()

    def gone(self, coordinator: str) -> None:
        """Another coordinator on the store is gone: take over from it. While `run` serves."""
        self._engine.gone(coordinator)

    def store_fault(self, reason: str | None) -> None:
        """Why the embedded Valkey takes no writes from now on, or None: it takes them."""
        self._store.write_fault = reason

    def use_certificate(self, material: Material) -> None:
        """Serve connections accepted from now on with this."""
        self._tls.replace(material)

    def use_settings(self, settings: Settings) -> None:
        """Serve with these from now on. They differ in settings of RELOADED alone."""
        self.settings = settings
        logs.set_level(settings.log_level)
        for policy in self._policies:
            policy.allow(settings.allowed_origins, settings.allowed_hosts)
        self._on_new_policy()
        if self._gate is not None:
            self._gate.rules = rules_of(settings)

    def drain(self) -> None:
        """Serve on, and say that we are not ready."""
        self._is_draining = True

    async def _serve(self, http: Listener, ws: Listener, stop: trio.Event, started: Callable[[], None]) -> None:
        settings = self.settings
        directory, engine = self._directory, self._engine
        document = ServedDocument(
            self._addresses.http, self._addresses.ws, public_url=settings.public_url, is_tls=settings.is_tls
        )
        limits = None
        if settings.caller_calls or settings.caller_bytes or settings.caller_store_time:
            limits = CallerLimits(
                settings.caller_calls, settings.caller_bytes, settings.caller_store_time, share=1 / settings.workers
            )
        logs_kept = Logs(self._audit, self._access_log, self._telemetry)
        dispatcher = Dispatcher(
            directory,
            engine,
            self._layout,
            request_timeout=settings.request_timeout,
            max_batch=settings.max_batch_length,
            max_batch_reply=settings.max_batch_reply_bytes,
            document=document,
            gate=self._gate,
            logs=logs_kept if any(logs_kept) else None,
            limits=limits,
            methods=within_quotas(
                METHODS, jobs=settings.context_jobs, flows=settings.context_flows, size=settings.context_bytes
            ),
            max_values=max(MAX_VALUES, max(settings.max_body_bytes, settings.max_frame_bytes) // 8),
        )
        policy = partial(
            AccessPolicy,
            allowed_origins=settings.allowed_origins,
            allowed_hosts=settings.allowed_hosts,
            own_names=self._own_names,
            public_url=settings.public_url,
            scheme=_scheme_of(settings),
        )
        proxies = Proxies(settings.behind_proxy)
        http_policy, ws_policy = policy(self._addresses.http[0]), policy(self._addresses.ws[0])
        self._policies = [http_policy, ws_policy]
        websocket = WebSocketFrontEnd(
            dispatcher,
            ws_policy,
            max_connections=self._max_connections,
            max_in_flight=settings.max_in_flight,
            max_frame_bytes=settings.max_frame_bytes,
            max_unsent_bytes=settings.max_unsent_bytes,
            write_timeout=settings.client_write_timeout,
            secure=self._from_proxy(self._tls.ws),
            ping_interval=settings.ws_ping_interval,
            message_timeout=settings.request_timeout,
            login_timeout=settings.keep_alive_timeout,
            elsewhere=self._addresses.url("http"),
            proxies=proxies,
            on_disconnect=partial(self._on_disconnect, "ws"),
        )
        answers = Answers(
            dispatcher,
            http_policy,
            Pages(document=document, ready=self._ready, metrics=self._whole_page),
            max_body_bytes=settings.max_body_bytes,
            has_websocket=True,
            proxies=proxies,
            site=load_site(dashboard_facts()),
        )
        http_server = HttpServer(
            answers,
            Limits(
                idle_timeout=settings.keep_alive_timeout,
                request_timeout=settings.request_timeout,
                write_timeout=settings.client_write_timeout,
                max_unsent_bytes=settings.max_unsent_bytes,
            ),
            max_connections=self._max_connections,
            upgrade=partial(websocket.serve_connection, policy=http_policy),
            secure=self._from_proxy(self._tls.http),
            on_disconnect=partial(self._on_disconnect, "http"),
        )
        self._on_new_policy = http_server.forget_heads
        self.metrics = metrics_of(
            dispatcher, http_server, websocket, limits, self._audit, self._access_log, self._store_view.families
        )
        async with trio.open_nursery() as front_ends:
            front_ends.start_soon(http_server.serve, LastingListener(http, stop))
            front_ends.start_soon(websocket.serve, LastingListener(ws, stop))
            started()
            await stop.wait()
            grace = self.settings.shutdown_grace
            log.info("stopping", in_flight=directory.pending, grace_s=grace)
            engine.stop()
            self._tls.stop()
            websocket.stop(grace)
            http_server.stop(grace)
            front_ends.cancel_scope.deadline = trio.current_time() + grace + STOP_MARGIN

    def _from_proxy(self, secure: Secure) -> Secure:
        """The same, for connections of the proxy or this machine alone if there is a proxy that speaks TLS for us."""
        networks = [ipaddress.ip_network(network) for network in self.settings.behind_proxy]
        if not networks or self.settings.is_tls:
            return secure

        async def secure_from_proxy(transport: trio.SocketStream) -> trio.SocketStream | TlsStream:
            host = peer_host(transport)
            if not is_loopback(host) and not any(_address(host) in network for network in networks):
                raise trio.BrokenResourceError(f"{host} is no proxy of --behind-proxy")
            return await secure(transport)

        return secure_from_proxy

    async def _ready(self) -> str | None:
        """Why the store does not take writes, or does not answer at all, or that we are to stop; None if we serve."""
        if self._is_draining:
            return STOPPING
        # Writes nothing to a key that never exists, which is refused like a new record: for want of memory, of disk.
        look: Command = ("SETRANGE", f"{self._layout.keyspace(GLOBAL).prefix}absent", 0, "")
        try:
            await self._directory.call(GLOBAL, one_step([look]), writes=False, timeout=READY_TIMEOUT)
        except CoordinatorError as error:
            return str(error.data["detail"])
        return None

    async def _whole_page(self) -> tuple[bytes, str]:
        """The page, with what the store says now. Raises trio.TooSlowError."""
        await self._store_view.look()
        with self._store_view.shown():
            return await self._page()

    async def _own_page(self) -> tuple[bytes, str]:
        return self.metrics.render()


def _kept(log: LogWriter | Telemetry | None) -> AbstractAsyncContextManager[None]:
    return nullcontext() if log is None else log.kept()


def rules_of(settings: Settings) -> Rules:
    """What the settings say that callers who log in may do."""
    return Rules(
        registration=settings.registration == "open",
        executors_submit=settings.executor_rights == "submit",
        readers_see_logs=settings.reader_logs == "shown",
    )


def names_of(tls: Material | None) -> list[str]:
    """By which names clients may call us, beside those that the settings allow. No other page can have them."""
    names = [socket.gethostname()]
    if tls is not None:
        names += certified_names(tls)
    return [name for name in names if name]


def _scheme_of(settings: Settings) -> str:
    """Return the scheme, http or https, by which browsers reach our pages, unless --public-url tells."""
    return "https" if settings.is_tls or settings.behind_proxy else "http"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


async def _return_memory() -> None:
    memory = MemoryReturner()
    while True:
        await trio.sleep(RETURN_MEMORY_EVERY)
        memory.look()
