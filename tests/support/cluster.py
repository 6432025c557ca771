"""A real cluster of Valkeys, made without valkey-cli; its slots can be moved and its nodes killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from coordinator.storage.cluster import slot_of
from coordinator.storage.keys import ContextKey
from tests.support.server import ValkeyProcess, free_port

__all__ = ["ValkeyCluster", "cluster", "context_in", "wait_for_replica", "wait_until"]

SLOTS: Final = 16384
NODE_TIMEOUT: Final = 3000  # ms until a silent node counts as failed, where there are replicas
_PATIENCE: Final = 60.0
_OPTIONS: Final = {
    "cluster-enabled": "yes",
    "cluster-replica-validity-factor": 0,  # however long it has heard nothing, it may be promoted
    "cluster-allow-replica-migration": "no",
    "repl-diskless-sync-delay": 0,
    "repl-ping-replica-period": 1,
}


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds and does not fail with an error reply or a broken connection."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, "the store does not get there"
        time.sleep(0.02)


def context_in(slots: range, but: Sequence[int] = ()) -> int:
    """A context whose slot is one of these."""
    return next(context for context in range(1, 10**6) if slot_of(context) in slots and context not in but)


class ValkeyCluster:
    """Three primaries, each with a third of the slots, and their replicas.

    Attributes:
        primaries: as they are at first; the replica of each is at the same place in `replicas`.
        url: with the first two primaries.
    """

    def __init__(self, directory: Path, stack: ExitStack, replicas: bool) -> None:
        self._directory = directory
        self._stack = stack
        self._options = {**_OPTIONS, **({"cluster-node-timeout": NODE_TIMEOUT} if replicas else {})}
        self.primaries = [self._start(f"primary{i}") for i in range(3)]
        self.replicas = [self._start(f"replica{i}") for i in range(3)] if replicas else []
        self.nodes = [*self.primaries, *self.replicas]
        self.shares = [range(i * SLOTS // 3, (i + 1) * SLOTS // 3) for i in range(3)]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.primaries[:2])
        self._join()

    def _start(self, name: str) -> ValkeyProcess:
        directory = self._directory / name
        directory.mkdir()
        options = {**self._options, "cluster-port": free_port(), "logfile": directory / "log"}
        node = ValkeyProcess(directory, *(text for key, value in options.items() for text in (f"--{key}", str(value))))
        self._stack.callback(node.kill)
        return node

    def _join(self) -> None:
        first = self.nodes[0]
        bus = ask(first, "CONFIG", "GET", "cluster-port")[1]
        for epoch, (node, share) in enumerate(zip(self.primaries, self.shares, strict=True), 1):
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
            ask(node, "CLUSTER", "ADDSLOTSRANGE", share[0], share[-1])
        for node in self.nodes[1:]:
            ask(node, "CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        wait_until(lambda: all(info(node)["cluster_known_nodes"] == str(len(self.nodes)) for node in self.nodes))
        for node, primary in zip(self.replicas, self.primaries, strict=False):
            ask(node, "CLUSTER", "REPLICATE", id_of(primary))
        wait_until(lambda: all(info(node)["cluster_state"] == "ok" for node in self.nodes))
        wait_until(lambda: all(has_caught_up(node) for node in self.replicas))
        wait_until(lambda: all(len(self._owners(node)) == len(self.nodes) for node in self.nodes))

    @staticmethod
    def _owners(node: ValkeyProcess) -> set[int]:
        return {server[1] for _, _, *servers in ask(node, "CLUSTER", "SLOTS") for server in servers}

    def owner(self, address: ContextKey) -> ValkeyProcess:
        """The node that has a context's slot, as the living ones see it."""
        slot = slot_of(address)
        for node in self.nodes:
            if node.process.poll() is None:
                for first, last, primary, *_ in ask(node, "CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(node for node in self.nodes if node.port == primary[1])
        raise AssertionError(f"nobody has slot {slot}")

    def client(self, address: ContextKey) -> redis.Redis:
        """A client of the node that has a context's slot."""
        return self.owner(address).client()

    def begin_move(self, address: ContextKey, target: ValkeyProcess) -> None:
        """Open a slot for being moved key by key."""
        source = self.owner(address)
        ask(target, "CLUSTER", "SETSLOT", slot_of(address), "IMPORTING", id_of(source))
        ask(source, "CLUSTER", "SETSLOT", slot_of(address), "MIGRATING", id_of(target))

    def move_keys(self, address: ContextKey, target: ValkeyProcess, *, most: int | None = None) -> int:
        """Move keys of a slot that is open for it; how many."""
        source, moved = self.owner(address), 0
        while most is None or moved < most:
            count = 100 if most is None else most - moved
            keys = ask(source, "CLUSTER", "GETKEYSINSLOT", slot_of(address), count)
            if not keys:
                break
            ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 10_000, "KEYS", *keys)
            moved += len(keys)
        return moved

    def end_move(self, address: ContextKey, target: ValkeyProcess) -> None:
        """Give the slot, whose keys have been moved, to its new owner."""
        source = self.owner(address)
        for node in [target, source, *(other for other in self.primaries if other not in (source, target))]:
            ask(node, "CLUSTER", "SETSLOT", slot_of(address), "NODE", id_of(target))

    def move_at_once(self, address: ContextKey, target: ValkeyProcess) -> None:
        """Move a slot as Valkey 9 does by itself, and wait until that is done."""
        source, slot = self.owner(address), slot_of(address)
        ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", id_of(target))
        wait_until(lambda: self.owner(address) is target)


def has_caught_up(replica: ValkeyProcess) -> bool:
    """Whether a replica has its primary's data, and gets what changes."""
    link: str = replica.client().info("replication")["master_link_status"]
    return link == "up"


def ask(node: ValkeyProcess, *words: str | int | float | bytes) -> Any:
    """A command's plain reply; RESP2, texts."""
    with redis.Redis(port=node.port, decode_responses=True, protocol=2) as client:
        client.response_callbacks.clear()
        return client.execute_command(*words)


def info(node: ValkeyProcess) -> dict[str, str]:
    """CLUSTER INFO."""
    return dict(line.split(":", 1) for line in ask(node, "CLUSTER", "INFO").split())


def id_of(node: ValkeyProcess) -> str:
    own: str = ask(node, "CLUSTER", "MYID")
    return own


def wait_for_replica(primary: ValkeyProcess, key: str, password: str | None = None) -> None:
    """Wait until a replica has everything this primary has acknowledged. `key` is one it may write."""
    with redis.Redis(port=primary.port, password=password, single_connection_client=True) as client:
        client.set(key, "")  # WAIT is about what its own connection has written, and thereby about all before that
        assert client.wait(1, int(_PATIENCE * 1000)) == 1


@contextmanager
def cluster(directory: Path, *, replicas: bool = True) -> Iterator[ValkeyCluster]:
    with ExitStack() as stack:
        yield ValkeyCluster(directory, stack, replicas)
