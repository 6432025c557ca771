"""What contexts leave behind once they are retired: memory of the coordinator, connections to the store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import redis

from bench import servers
from bench.compare import Plan
from bench.machine import resident_bytes
from bench.servers import Coordinator, ServerFailed
from coordinator.load.messages import Kind, message

__all__ = ["MemoryStep", "growth", "measure", "use"]

STEPS: Final = (2_000, 4_000, 8_000, 16_000, 32_000)
QUICK_STEPS: Final = (1_000, 2_000, 4_000)
_KINDS: Final[tuple[Kind, ...]] = ("create", "load")
_TOGETHER: Final = 100  # contexts used in one batch
_IDLE_TIMEOUT: Final = "0.5"  # seconds
_RETIRE_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class MemoryStep:
    """After `contexts` contexts were used and retired.

    Attributes:
        resident_bytes: of the coordinator. valkey_bytes: of Valkey, which now stores them.
        store_connections: to Valkey, ours not counted.
        active_contexts: contexts the coordinator still keeps a mailbox for.
    """

    contexts: int
    resident_bytes: int
    valkey_bytes: int
    store_connections: int
    active_contexts: int


def growth(steps: list[MemoryStep]) -> list[float]:
    """Bytes the coordinator grew by for each further context, from each step to the next."""
    return [
        (after.resident_bytes - before.resident_bytes) / (after.contexts - before.contexts)
        for before, after in pairwise(steps)
    ]


def measure(plan: Plan, counts: tuple[int, ...], note: Callable[[str], None]) -> list[MemoryStep]:
    """Use ever new contexts, and look each time all are retired. The first step is the warm-up."""
    steps = []
    used = 0
    flags = ("--fsync", plan.fsync, "--context-idle-timeout", _IDLE_TIMEOUT)
    with servers.coordinator(plan.cores, plan.data_root, *flags) as coordinator:
        for count in counts:
            use(coordinator, range(used + 1, count + 1))
            used = count
            _wait_until_retired(coordinator)
            step = _look(coordinator, count)
            steps.append(step)
            note(f"{count:,} contexts: {step.resident_bytes / 2**20:.1f} MiB, {step.store_connections} connections")
    return steps


def use(coordinator: Coordinator, contexts: range) -> None:
    """Create a job in each of them and load it, a hundred contexts at a time."""
    for first in contexts[::_TOGETHER]:
        _use_together(coordinator, range(first, min(first + _TOGETHER, contexts.stop)))


def _use_together(coordinator: Coordinator, contexts: range) -> None:
    calls = [message(kind, 1, context, 0).payload for context in contexts for kind in _KINDS]
    for reply in coordinator.post(b"[" + b",".join(calls) + b"]"):
        if "result" not in reply:
            raise ServerFailed(f"contexts {contexts.start} to {contexts.stop - 1}: {json.dumps(reply)}")


def _wait_until_retired(coordinator: Coordinator) -> None:
    deadline = time.monotonic() + _RETIRE_TIMEOUT
    while coordinator.metric("herocoordinator_contexts_active") > 0:
        if time.monotonic() > deadline:
            raise ServerFailed(f"contexts are not retired within {_RETIRE_TIMEOUT:g} s")
        time.sleep(0.1)


def _look(coordinator: Coordinator, contexts: int) -> MemoryStep:
    with redis.Redis(unix_socket_path=str(coordinator.store)) as store:
        connected = store.info("clients")["connected_clients"]
    return MemoryStep(
        contexts=contexts,
        resident_bytes=resident_bytes(coordinator.processes["server"]),
        valkey_bytes=resident_bytes(coordinator.processes["valkey"]),
        store_connections=connected - 1,
        active_contexts=int(coordinator.metric("herocoordinator_contexts_active")),
    )
