"""A Valkey or Redis Cluster: every context is in one slot, every slot on one primary, and both may move.

Sources: the cluster specification (slots, hash tags, MOVED, ASK, TRYAGAIN), https://valkey.io/topics/cluster-spec/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from coordinator.importing import without
from coordinator.storage.discovery import Finding, first_answer, query, shown
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import StoreMisconfigured, StoreUnavailable
from coordinator.storage.keys import ContextKey

with without("opentelemetry"):  # see storage/endpoint.py
    from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

__all__ = ["Cluster", "slot_of"]

_MOVED: Final = "MOVED "
_UNKNOWN_HOSTS: Final = (None, b"", b"?")  # in CLUSTER SLOTS: the host it was asked at


def slot_of(context_key: ContextKey) -> int:
    """The slot of a context's keys, or of GLOBAL's, in the `prefix` layout."""
    slot: int = key_slot(b"global" if context_key is None else b"%d" % context_key)
    return slot


class _Map:
    """What one node has told: each slot's primary, and every node there is."""

    def __init__(self, asked: Endpoint, slots: Sequence[Any]) -> None:
        self.owners: list[Endpoint | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes: dict[Endpoint, None] = {}
        for first, last, *servers in slots:
            found = [_endpoint(asked, server) for server in servers]
            nodes |= dict.fromkeys(found)
            self.owners[first : last + 1] = found[:1] * (last + 1 - first)
        self.nodes = [*nodes]


class Cluster:
    """The topology of a cluster, of which some nodes are known.

    Args:
        seeds: nodes to begin with; all are reached with the credentials and TLS of the first.
    """

    def __init__(self, seeds: Sequence[Endpoint]) -> None:
        self._seeds = seeds
        self._map: Finding[_Map] = Finding(self._ask)
        self._nodes: list[Endpoint] = []
        self._told: dict[int, Endpoint] = {}  # by MOVED: newer than the map, and to be tried once

    @property
    def database(self) -> int:
        return self._seeds[0].database

    @property
    def nodes(self) -> list[Endpoint]:
        """Those that one of them has told, replicas too; none before `where` was called."""
        return [*self._nodes]

    def __str__(self) -> str:
        return shown("cluster", self._seeds)

    async def where(self, context_key: ContextKey) -> Endpoint:
        slot = slot_of(context_key)
        told = self._told.pop(slot, None)
        if told is not None:
            return told
        owner = (await self._map.get()).owners[slot]
        if owner is None:
            self._map.invalidate()
            raise StoreUnavailable(f"no node of the cluster has slot {slot}")
        return owner

    def invalidate(self, context_key: ContextKey, reason: str) -> None:
        if reason.startswith(_MOVED):
            _, slot, where = reason.split(" ")[:3]
            host, _, port = where.rpartition(":")
            if host:
                self._told[int(slot)] = owner = self._seeds[0].at(host, int(port))
                # Asked first: it knows best what it has.
                self._nodes = [owner, *(node for node in self._nodes if node != owner)]
        self._map.invalidate()

    def check(self, endpoint: Endpoint, greeting: Mapping[bytes, Any]) -> None:
        if greeting.get(b"role") != b"master":
            raise StoreUnavailable(f"{endpoint} is no primary any more")

    async def _ask(self) -> _Map:
        found = await first_answer(dict.fromkeys([*self._nodes, *self._seeds]), _ask_node)
        self._nodes = found.nodes
        return found


async def _ask_node(endpoint: Endpoint) -> _Map:
    greeting, info, slots = await query(endpoint, [endpoint.hello, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
    if greeting.get(b"mode") != b"cluster":
        raise StoreMisconfigured(f"{endpoint} is no node of a cluster")
    if b"cluster_state:ok" not in info:
        raise StoreUnavailable(f"the cluster is down, says {endpoint}")
    return _Map(endpoint, slots)


def _endpoint(asked: Endpoint, server: Sequence[Any]) -> Endpoint:
    host, port = server[:2]
    return asked.at(asked.host if host in _UNKNOWN_HOSTS else host.decode(), port)
