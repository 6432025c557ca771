"""What the page of metrics says of the store: whether it answers, its memory, and how much there is in its contexts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from prometheus_client.core import Metric

from coordinator.metrics import gauge
from coordinator.operations.execution import SCRIPT_TYPES
from coordinator.storage import functions
from coordinator.storage.connection import Command, Reply, Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import ReplyError, StoreMisconfigured, StoreUnavailable
from coordinator.storage.functions import Depths
from coordinator.storage.keys import GLOBAL, ContextKey
from coordinator.supervision import contain

__all__ = ["StoreView"]

KEPT_FOR: Final = 2.0  # seconds; who asks for the page more often than that is shown the same again
LOOK_TIMEOUT: Final = 2.0  # seconds the store has for all of it
CONTEXTS: Final = 10_000  # looked at, those with the lowest ids
NAMED: Final = 20  # contexts that have a label of their own, those with the lowest ids
SLICE: Final = 50  # contexts looked at at once: the store is at others' service in between
OTHER: Final = "other"
KINDS: Final = ("flow", "job", "message")


@dataclass(slots=True)
class _Seen:
    """What a look has found.

    Attributes:
        memory, memory_limit: bytes, of all servers; 0: there is no limit. None: one of them does not say.
        known: contexts ever written to.
        depths: of those that were looked at.
    """

    memory: int | None = 0
    memory_limit: int = 0
    known: int = 0
    depths: dict[int, Depths] = field(default_factory=dict)


class StoreView:
    """Looks at the store when the page of metrics is asked for, on a connection of its own.

    Nothing is scanned: of each context it asks for lengths that the store knows.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: _Seen | None = None
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
            self._seen = None
            with (
                trio.move_on_after(LOOK_TIMEOUT),
                contain("looking at the store for the page of metrics"),
                suppress(StoreUnavailable, StoreMisconfigured, ReplyError),
            ):
                self._seen = await self._look()
            self._seen_at = trio.current_time()

    def families(self) -> Iterable[Metric]:
        """What was seen last."""
        if not self._showing:
            return
        seen = self._seen
        yield gauge("store_up", "1 if the store has answered all this in time.", (), {(): seen is not None})
        if seen is None:
            return
        if seen.memory is not None:
            yield gauge("store_memory_bytes", "Memory that the store uses for data.", (), {(): seen.memory})
            text = "Its maxmemory; 0: it has no such limit."
            yield gauge("store_memory_limit_bytes", text, (), {(): seen.memory_limit})
        yield gauge("contexts_known", "Contexts that were ever written to.", (), {(): seen.known})
        yield from _of_contexts(seen.depths)

    async def _look(self) -> _Seen:
        """Raises StoreUnavailable, StoreMisconfigured, ReplyError."""
        seen = _Seen()
        contexts = self._store.layout.keyspace(GLOBAL).contexts()
        found, seen.known = await self._ask(GLOBAL, [[("ZRANGE", contexts, 0, CONTEXTS - 1), ("ZCARD", contexts)]])
        for address, ids in await self._servers([int(id) for id in found]):
            *replies, memory = await self._ask(address, [*self._slices(ids), [("INFO", "memory")]])
            if isinstance(memory, ReplyError):  # we may not ask
                seen.memory = None
            elif seen.memory is not None:
                used, limit = _memory(memory)
                seen.memory += used
                seen.memory_limit += limit
            for id, reply in zip(ids, replies, strict=True):
                if not isinstance(reply, ReplyError):  # something else has one of its keys
                    seen.depths[id] = functions.read_depths(reply)
        return seen

    async def _servers(self, contexts: Sequence[int]) -> list[tuple[ContextKey, Sequence[int]]]:
        """For each server, by whose keys it is found, which contexts it has."""
        if not self._store.layout.is_spread:
            return [(GLOBAL, contexts)]
        where = self._store.topology.where
        servers: dict[Endpoint, tuple[ContextKey, list[int]]] = {await where(GLOBAL): (GLOBAL, [])}
        for context in contexts:
            servers.setdefault(await where(context), (context, []))[1].append(context)
        return [*servers.values()]

    def _slices(self, contexts: Sequence[int]) -> Iterator[list[Command]]:
        """What asks for their depths, some at a time."""
        layout = self._store.layout
        for start in range(0, len(contexts), SLICE):
            commands: list[Command] = []
            for context in contexts[start : start + SLICE]:
                if layout.isolation == "index":
                    commands.append(("SELECT", layout.database_of(context)))
                commands.append(functions.depths(layout.keyspace(context), SCRIPT_TYPES))
            yield commands

    async def _ask(self, address: ContextKey, slices: Iterable[list[Command]]) -> list[Any]:
        """The replies of a server to these commands but SELECT, on one connection.

        Raises StoreUnavailable, StoreMisconfigured; ReplyError: it is none that can be gone on from.
        """
        connection = await self._store.open(address)
        kept: list[Any] = []
        try:
            for commands in slices:
                replies: list[Reply] = []
                await connection.exchange(commands, replies)
                for command, reply in zip(commands, replies, strict=True):
                    if command[0] in ("SELECT", "ZRANGE") and isinstance(reply, ReplyError):
                        raise reply
                    if command[0] != "SELECT":
                        kept.append(reply)
        finally:
            await connection.aclose()
        return kept


def _memory(told: Any) -> tuple[int, int]:
    """The bytes a server uses for data, and how many it may."""
    values = dict(line.split(b":", 1) for line in bytes(told).splitlines() if b":" in line)
    return int(values.get(b"used_memory", 0)), int(values.get(b"maxmemory", 0))


def _of_contexts(depths: dict[int, Depths]) -> Iterator[Metric]:
    jobs: dict[tuple[str, ...], float] = {}
    oldest: dict[tuple[str, ...], float] = {}
    records = dict.fromkeys(((kind,) for kind in KINDS), 0)
    named = {*sorted(depths)[:NAMED]}
    for id, there in sorted(depths.items()):
        for script_type, queue in zip(SCRIPT_TYPES, there.queues, strict=True):
            labels = (str(id) if id in named else OTHER, script_type)
            jobs[labels] = jobs.get(labels, 0) + queue.entries
            oldest[labels] = max(oldest.get(labels, 0.0), queue.oldest)
        for kind, count in zip(KINDS, (there.flows, there.jobs, there.messages), strict=True):
            records[kind,] += count
    labels = ("context", "script_type")
    yield gauge("queue_jobs", "Jobs that wait for a runner.", labels, jobs)
    yield gauge("queue_oldest_seconds", "For how long the job that is next has waited for a runner.", labels, oldest)
    yield gauge("records", "Records of all contexts looked at.", ("kind",), {of: float(n) for of, n in records.items()})
