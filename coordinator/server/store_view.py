"""What the page of metrics says of the store: whether it answers, its memory, and how much there is in its contexts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from prometheus_client.core import Metric

from coordinator.metrics import gauge
from coordinator.models.contract import FLOW_STATUSES, JOB_STATUSES, SCRIPT_TYPES
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import ReplyError, StoreMisconfigured, StoreUnavailable
from coordinator.storage.functions import views
from coordinator.storage.functions.views import Depths
from coordinator.storage.keys import GLOBAL, ContextKey
from coordinator.supervision import contain

__all__ = ["StoreView"]

KEPT_FOR: Final = 2.0  # seconds; who asks for the page more often than that is shown the same again
LOOK_TIMEOUT: Final = 2.0  # seconds for all of it; what was found until then is shown
CONTEXTS: Final = 2_000  # looked at, those with the lowest ids
NAMED: Final = 20  # contexts that have a label of their own, those with the lowest ids
SLICE: Final = 50  # contexts looked at at once: the store is at others' service in between
OTHER: Final = "other"
KINDS: Final = ("flow", "job", "message")


@dataclass(slots=True)
class _Seen:
    """What a look has found.

    Attributes:
        is_up: the store has answered.
        memory, memory_limit: bytes, of all servers; 0: there is no limit. None: one of them does not say.
        known, looked_at: contexts ever written to, and those of which the rest tells.
        named: those that have a label of their own.
        jobs, oldest: jobs that wait, and for how many seconds the next of them has; by context and script type.
        records: by kind.
        flows, all_jobs: by context and status.
    """

    is_up: bool = False
    memory: int | None = None
    memory_limit: int = 0
    known: int = 0
    looked_at: int = 0
    named: frozenset[int] = frozenset()
    jobs: dict[tuple[str, ...], float] = field(default_factory=dict)
    oldest: dict[tuple[str, ...], float] = field(default_factory=dict)
    records: dict[tuple[str, ...], float] = field(default_factory=lambda: {(kind,): 0 for kind in KINDS})
    flows: dict[tuple[str, ...], float] = field(default_factory=dict)
    all_jobs: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, context: int, there: Depths) -> None:
        """What there is in a context."""
        self.looked_at += 1
        name = str(context) if context in self.named else OTHER
        for script_type, queue in zip(SCRIPT_TYPES, there.queues, strict=True):
            labels = name, script_type
            self.jobs[labels] = self.jobs.get(labels, 0) + queue.entries
            self.oldest[labels] = max(self.oldest.get(labels, 0.0), queue.oldest)
        for kind, count in zip(KINDS, (there.flows, there.jobs, there.messages), strict=True):
            self.records[kind,] += count
        for counts, statuses, of_context in (
            (self.flows, FLOW_STATUSES, there.flow_states),
            (self.all_jobs, JOB_STATUSES, there.job_states),
        ):
            for status in statuses:
                counts[name, status] = counts.get((name, status), 0) + of_context.get(status, 0)


class StoreView:
    """Looks at the store when the page of metrics is asked for, on a connection of its own.

    Nothing is scanned: of each context it asks for lengths that the store knows.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = _Seen()
        self._seen_at = -KEPT_FOR
        self._looking = trio.Lock()
        self._showing = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While this lasts, `families` has what was seen: of several processes only the one that was asked says it."""
        self._showing += 1
        try:
            yield
        finally:
            self._showing -= 1

    async def look(self) -> None:
        """Look at the store, unless that was done just now."""
        async with self._looking:
            if trio.current_time() < self._seen_at + KEPT_FOR:
                return
            seen = _Seen()
            with trio.move_on_after(LOOK_TIMEOUT), contain("looking at the store for the page of metrics"):
                try:
                    await self._look(seen)
                except (StoreUnavailable, StoreMisconfigured, ReplyError):
                    seen.is_up = False
            self._seen = seen  # only now: a page may be made meanwhile
            self._seen_at = trio.current_time()

    def families(self) -> Iterable[Metric]:
        """What was seen last."""
        if not self._showing:
            return
        seen = self._seen
        yield gauge("store_up", "1 if the store has answered in time.", (), {(): seen.is_up})
        if not seen.is_up:
            return
        if seen.memory is not None:
            yield gauge("store_memory_bytes", "Memory that the store uses for data.", (), {(): seen.memory})
            text = "Its maxmemory; 0: it has no such limit."
            yield gauge("store_memory_limit_bytes", text, (), {(): seen.memory_limit})
        yield gauge("contexts_known", "Contexts that were ever written to.", (), {(): seen.known})
        yield gauge("contexts_looked_at", "Those of which the next five tell.", (), {(): seen.looked_at})
        labels, text = ("context", "script_type"), "For how long the job that is next has waited for a runner."
        yield gauge("queue_jobs", "Jobs that wait for a runner.", labels, seen.jobs)
        yield gauge("queue_oldest_seconds", text, labels, seen.oldest)
        yield gauge("records", "Records there are.", ("kind",), seen.records)
        yield gauge("flows", "Flows there are, by status.", ("context", "status"), seen.flows)
        yield gauge("jobs", "Jobs there are, by status.", ("context", "status"), seen.all_jobs)

    async def _look(self, seen: _Seen) -> None:
        """Raises StoreUnavailable, StoreMisconfigured, ReplyError."""
        contexts = self._store.layout.keyspace(GLOBAL).contexts()
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._connected(GLOBAL))
            connections = {GLOBAL: connection}
            found, seen.known = await _asked(
                connection, [("ZRANGE", contexts, 0, CONTEXTS - 1), ("ZCARD", contexts)], refusable=False
            )
            seen.is_up = True
            ids = [int(id) for id in found]
            seen.named = frozenset(ids[:NAMED])
            servers = await self._servers(ids)
            for address, _ in servers:
                if address not in connections:
                    connections[address] = await stack.enter_async_context(self._connected(address))
            told = [(await _asked(of_server, [("INFO", "memory")]))[0] for of_server in connections.values()]
            if not any(isinstance(memory, ReplyError) for memory in told):  # else we may not ask
                used, limits = zip(*map(_memory, told), strict=True)
                seen.memory, seen.memory_limit = sum(used), sum(limits)
            for address, there in servers:
                for start in range(0, len(there), SLICE):
                    await self._look_at(connections[address], there[start : start + SLICE], seen)
                    await trio.lowlevel.checkpoint()

    async def _servers(self, contexts: Sequence[int]) -> list[tuple[ContextKey, Sequence[int]]]:
        """For each server, by whose keys it is found, which contexts it has."""
        if not self._store.layout.is_spread:
            return [(GLOBAL, contexts)]
        where = self._store.topology.where
        servers: dict[Endpoint, tuple[ContextKey, list[int]]] = {await where(GLOBAL): (GLOBAL, [])}
        for at, context in enumerate(contexts, 1):
            servers.setdefault(await where(context), (context, []))[1].append(context)
            if at % SLICE == 0:
                await trio.lowlevel.checkpoint()
        return [*servers.values()]

    async def _look_at(self, connection: Connection, contexts: Sequence[int], seen: _Seen) -> None:
        layout = self._store.layout
        commands: list[Command] = []
        for context in contexts:
            # Where all are in one database that is selected already, and selected again.
            commands.append(("SELECT", layout.database_of(context)))
            commands.append(views.depths(layout.keyspace(context)))
        replies = iter(await _asked(connection, commands))
        for context, selected, reply in zip(contexts, replies, replies, strict=True):
            # The second is refused if something else has one of the context's keys.
            if not isinstance(selected, ReplyError) and not isinstance(reply, ReplyError):
                seen.add(context, views.read_depths(reply))

    @asynccontextmanager
    async def _connected(self, address: ContextKey) -> AsyncIterator[Connection]:
        connection = await self._store.open(address)
        try:
            yield connection
        finally:
            await connection.aclose()


async def _asked(connection: Connection, commands: list[Command], *, refusable: bool = True) -> list[Any]:
    """The replies to commands. Raises StoreUnavailable, and ReplyError unless they may be refused."""
    replies: list[Reply] = []
    await connection.exchange(commands, replies)
    for reply in replies:
        if not refusable and isinstance(reply, ReplyError):
            raise reply
    return replies


def _memory(told: Any) -> tuple[int, int]:
    """The bytes a server uses for data, and how many it may."""
    values = dict(line.split(b":", 1) for line in bytes(told).splitlines() if b":" in line)
    return int(values.get(b"used_memory", 0)), int(values.get(b"maxmemory", 0))
