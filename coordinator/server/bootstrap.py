"""What a coordinator has once, however many processes serve: the addresses it listens on, and its embedded Valkey."""

from __future__ import annotations

import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import structlog
import trio

from coordinator.hosts import is_loopback, url_of
from coordinator.osprocess import memory_limit
from coordinator.rpc.access.audit.file import LogFile
from coordinator.rpc.access.operator import ensure_token_file
from coordinator.secretfiles import Unusable
from coordinator.server.tls import Material, read_material
from coordinator.settings import Settings
from coordinator.storage.cluster import Cluster
from coordinator.storage.connection import Connection, Reply, Store
from coordinator.storage.embedded import EmbeddedValkey
from coordinator.storage.faults import ReplyError, StoreUnavailable
from coordinator.storage.keys import GLOBAL, Layout
from coordinator.storage.private import NotPrivate
from coordinator.storage.topology import Topology

if TYPE_CHECKING:
    from coordinator.rpc.access.provider import Provider
    from coordinator.server.telemetry import Telemetry

__all__ = [
    "FRONT_ENDS",
    "Addresses",
    "CannotKeepAudit",
    "CannotListen",
    "CannotTrace",
    "CannotUseTokens",
    "FrontEnd",
    "Resources",
    "acquire",
    "check",
    "layout_of",
    "new_name",
    "provider_of",
    "say_who_may_call",
    "telemetry_of",
]

log = structlog.get_logger("coordinator")

FrontEnd = Literal["http", "ws"]
FRONT_ENDS: Final[tuple[FrontEnd, ...]] = get_args(FrontEnd)

BACKLOG: Final = 1024
KEEP_ALIVE: Final = {
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 4,
}  # seconds of silence, between probes; probes
MAX_INT: Final = 2**31 - 1  # of a socket option
NO_EVICTION: Final = "noeviction"
EVICTION_TIMEOUT: Final = 5.0  # seconds the store may take to say what it does when it is full
SPARE_CLIENTS: Final = 1000  # of the embedded Valkey, beside the contexts' connections


class CannotListen(Exception):
    """A port is taken, or an address is not ours."""


class CannotKeepAudit(Exception):
    """Nothing can be appended to the file of the audit log, or the access log."""


class CannotTrace(Exception):
    """Spans were asked for that cannot be made."""


class CannotUseTokens(Exception):
    """The operator's token file, or that of an identity provider's keys, is not to be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the front-ends are.

    Attributes:
        http, ws: (host, port) of each.
        is_tls: they speak TLS.
    """

    http: tuple[str, int]
    ws: tuple[str, int]
    is_tls: bool = False

    def url(self, front_end: FrontEnd) -> str:
        """As clients write it."""
        scheme = f"{front_end}s" if self.is_tls else front_end
        return url_of(scheme, *(self.http if front_end == "http" else self.ws))


@dataclass(frozen=True, slots=True)
class Resources:
    """Attributes:
    http, ws: listening sockets, not blocking.
    addresses: where they listen.
    tls: the certificate to serve with, if there is to be one.
    embedded: the running Valkey, if that is the store; whoever has this must `supervise` it.
    topology: the store.
    """

    http: socket.socket
    ws: socket.socket
    addresses: Addresses
    tls: Material | None
    embedded: EmbeddedValkey | None
    topology: Topology

    def listener(self, front_end: FrontEnd) -> trio.SocketListener:
        bound = {"http": self.http, "ws": self.ws}[front_end]
        return trio.SocketListener(trio.socket.from_stdlib_socket(bound))

    @property
    def described(self) -> dict[str, str]:
        """For the log: where we listen, and where the data is."""
        data = {"data": str(self.embedded.data_dir)} if self.embedded else {"store": str(self.topology)}
        return {"http": self.addresses.url("http"), "ws": self.addresses.url("ws"), **data}


@asynccontextmanager
async def acquire(settings: Settings) -> AsyncIterator[Resources]:
    """Read the certificate, listen, and start the embedded Valkey unless there is another store.

    Raises: CannotKeepAudit, CannotListen, CannotTrace, CannotUseTls, CannotUseTokens, DataDirectoryInUse,
        EmbeddedFailed.
    """
    tls = read_material(settings)
    for name, path in (("--audit-log", settings.audit_log), ("--access-log", settings.access_log)):
        if path is not None:
            _check_log(name, path)
    _check_tracing(settings)
    timeout = settings.client_write_timeout
    async with AsyncExitStack() as stack:
        http = stack.enter_context(_listen("http", settings.api_http_ip, settings.api_http_port, timeout))
        ws = stack.enter_context(_listen("ws", settings.api_ws_ip, settings.api_ws_port, timeout))
        addresses = Addresses(http.getsockname()[:2], ws.getsockname()[:2], is_tls=settings.is_tls)
        embedded = None
        topology = settings.external_store()
        if topology is None:
            clients = max(10_000, settings.workers * settings.store_connections + SPARE_CLIENTS)
            memory = memory_limit() // 2 if settings.store_memory is None else settings.store_memory
            embedded = EmbeddedValkey(settings.data_dir, settings.fsync, clients, memory)
            await stack.enter_async_context(embedded)
            topology = embedded.endpoint
        if settings.has_logins:
            try:
                ensure_token_file(settings.operator_file)
            except Unusable as error:
                raise CannotUseTokens(str(error)) from None
            _check_provider(settings)
        yield Resources(http, ws, addresses, tls, embedded, topology)


def provider_of(settings: Settings) -> Provider | None:
    """What verifies JWTs, if any are taken. To be called once `acquire` has found that it can be."""
    if settings.jwt_keys is None or settings.jwt_issuer is None or settings.jwt_audience is None:
        return None
    from coordinator.rpc.access.provider import Provider  # noqa: PLC0415 - it needs an extra

    return Provider(
        settings.jwt_keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        claim=settings.jwt_principal_claim,
        algorithms=settings.jwt_algorithms,
    )


def _check_provider(settings: Settings) -> None:
    """Read the keys of --jwt-keys once, before anything is served. Raises CannotUseTokens."""
    if settings.jwt_keys is None:
        return
    try:
        from coordinator.rpc.access.provider import read_keys  # noqa: PLC0415 - it needs an extra
    except ImportError as error:
        detail = f"--jwt-keys needs the extra `jwt`: pip install 'herocoordinator[jwt]' ({error})"
        raise CannotUseTokens(detail) from None
    try:
        read_keys(settings.jwt_keys, settings.jwt_algorithms)
    except Unusable as error:
        raise CannotUseTokens(f"--jwt-keys: {error}") from None


def telemetry_of(settings: Settings, name: str) -> Telemetry | None:
    """What exports spans, if that is wanted. To be called once `acquire` has found that it can be."""
    if settings.otel_endpoint is None:
        return None
    from coordinator.server.telemetry import Telemetry  # noqa: PLC0415 - it needs an extra

    return Telemetry(settings.otel_endpoint, name)


def _check_tracing(settings: Settings) -> None:
    """Raises CannotTrace if what exports spans is not there."""
    if settings.otel_endpoint is None:
        return
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            is_there = find_spec(package) is not None
        except ImportError:  # it is in a package that is not there either
            is_there = False
        if not is_there:
            detail = f"--otel-endpoint needs the extra `otel`: pip install 'herocoordinator[otel]' (no {package})"
            raise CannotTrace(detail)


def _check_log(name: str, path: Path) -> None:
    """Make the file if there is none. Raises CannotKeepAudit."""
    file = LogFile(path)
    try:
        file.check()
    except (OSError, NotPrivate) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotKeepAudit(f"{name}: {path} cannot be appended to: {reason}") from None
    finally:
        file.close()


def layout_of(settings: Settings, topology: Topology, name: str) -> Layout:
    """How the coordinator of this name keeps its contexts in this store."""
    coordinator = f"{name} {int(settings.event_retention * 1000)} {int(settings.retention * 1000)}"
    return Layout(
        settings.isolation,
        topology.database,
        coordinator,
        isinstance(topology, Cluster),
        lost_retries=settings.lost_retries,
        counts_bytes=settings.context_bytes > 0,
        max_result=settings.max_result_bytes,
    )


async def check(store: Store, *, warn: bool = False) -> None:
    """Fail at once on a store that can never work; wait for one that is not there yet while serving.

    Args:
        warn: in the log, of one that throws data away.

    Raises: StoreMisconfigured.
    """
    try:
        connection = await store.open(GLOBAL)
    except StoreUnavailable:
        pass  # Store.open has logged it
    else:
        try:
            if warn:
                await _warn_of_eviction(connection)
        finally:
            await connection.aclose()


async def _warn_of_eviction(connection: Connection) -> None:
    replies: list[Reply] = []
    try:
        with trio.fail_after(EVICTION_TIMEOUT):
            await connection.exchange([("INFO", "memory")], replies)
    except (StoreUnavailable, trio.TooSlowError):
        return
    if isinstance(replies[0], ReplyError):
        return  # this user may not ask
    found = dict(line.split(":", 1) for line in replies[0].decode().splitlines() if ":" in line)
    policy = found.get("maxmemory_policy", NO_EVICTION)
    if policy != NO_EVICTION:
        log.warning(
            "the store throws data away when its memory is used up: set its maxmemory-policy to noeviction",
            policy=policy,
            maxmemory=int(found.get("maxmemory", 0)),
        )


def say_who_may_call(settings: Settings) -> None:
    """One line in the log if nobody has to log in; a loud one if that is so off loopback."""
    if settings.has_logins:
        return
    outside = [address for address in (settings.api_http_ip, settings.api_ws_ip) if not is_loopback(address)]
    if outside:
        log.warning(
            "EVERYBODY who reaches this address may call everything, run scripts on all runners included: --auth none",
            addresses=outside,
        )
    else:
        log.info("every local user and every script may call: --auth none; --auth keys has them log in")


def _listen(scheme: FrontEnd, host: str, port: int, write_timeout: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these: a peer that vanished, or never reads, is noticed by the kernel too. It gives
        # a connection up when nothing was acknowledged for as long as we do when nothing was accepted.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(int(write_timeout * 1000), MAX_INT))
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        option = f"--api-{scheme}-ip" if isinstance(error, socket.gaierror) else f"--api-{scheme}-port"
        reason = error.strerror or str(error)
        raise CannotListen(
            f"cannot listen on {url_of(scheme, host, port)}: {reason.lower()}; choose another with {option}"
        ) from error
    listener.setblocking(False)
    return listener


def new_name() -> str:
    """A coordinator's name among those that share the store, new at each start."""
    return uuid.uuid4().hex[:12]
