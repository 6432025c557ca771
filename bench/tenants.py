"""Many tenants: a load over a thousand contexts while ten thousand exist, what an active context takes, and whether
one client that floods its context is felt by the others in theirs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench import memory, servers, stacks
from bench.compare import Plan, running
from bench.load import LoadResult, LoadSpec, generate
from bench.machine import resident_bytes
from bench.scenarios import FASTAPI, FASTIFY, OURS, Contender
from bench.servers import BenchServer, Coordinator

__all__ = [
    "BYTES_GOAL",
    "FAIRNESS_GOAL",
    "FULL",
    "HOSTILE_NICENESS",
    "LATENCY_GOAL",
    "QUICK",
    "QUIET_CLIENTS",
    "SERVERS",
    "Fairness",
    "Flood",
    "Size",
    "Tenants",
    "fairness_on",
    "many",
    "quiet_clients",
]

_SPARE: Final = 128  # connections to the store beyond the active contexts, for those created meanwhile
_NEVER_IDLE: Final = "3600"  # seconds
_CONNECTIONS: Final = 50
_LONGER: Final = 4  # as long as other runs, for all thousand calls may be answered in one go
_PACED: Final = 0.3  # of the calls a second that all the active contexts get in a closed loop
_PACED_SECONDS: Final = 5.0  # at least
_PACED_CONNECTIONS: Final = 500  # so that few calls of one are due at the same time

BYTES_GOAL: Final = 10 * 1024
LATENCY_GOAL: Final = 3.0

QUIET_CLIENTS: Final = 50
QUIET_PACE: Final = 0.1  # seconds between the calls of one
QUIET_TIMES: Final = 3  # as long as other runs: 900 calls by default, whose p99 is the ninth worst
HOSTILE_NICENESS: Final = 10
_HEAD_START: Final = 1.0  # seconds the flood has before the quiet clients begin
FAIRNESS_GOAL: Final = 2.0


class Size(NamedTuple):
    live: int
    """Contexts that exist."""
    active: int
    """Of those, contexts in use at once."""
    goal: float | None = None
    """Their calls by those of one."""

    @property
    def window(self) -> int:
        """With the connections: a call in flight for each of them."""
        return max(1, self.active // _CONNECTIONS)


SERVERS: Final = (OURS, FASTAPI, FASTIFY)  # that fairness is measured on
FULL: Final = (Size(10_000, 1_000, 0.6), Size(10_000, 10_000, 0.4))
QUICK: Final = (Size(1_000, 100),)


@dataclass(frozen=True, slots=True)
class Tenants:
    """What many contexts at once cost.

    Attributes:
        spread, single: rounds of the same load, over the active contexts and on one.
        rate: calls a second that keep to a pace, `paced`: rounds of their p99, in ms, over the active contexts
            and on one.
        active_bytes: memory of the coordinator an active context takes; `store_bytes`: of Valkey, with its record.
    """

    size: Size
    store_connections: int
    spread: list[LoadResult]
    single: list[LoadResult]
    rate: float
    paced: list[tuple[float, float]]
    active_bytes: float
    store_bytes: float

    @property
    def ratios(self) -> list[float]:
        return [spread.rate / single.rate for spread, single in zip(self.spread, self.single, strict=True)]

    @property
    def latency_ratios(self) -> list[float]:
        return [many / one for many, one in self.paced]


class Flood(NamedTuple):
    """What the hostile client keeps in flight: `window` messages of `batch` calls."""

    window: int
    batch: int

    def __str__(self) -> str:
        calls = "calls" if self.batch == 1 else f"batches of {self.batch}"
        return f"{self.window:,} {calls} in flight"


FLOODS: Final = (Flood(1_000, 1), Flood(10, 100))


@dataclass(frozen=True, slots=True)
class Fairness:
    """Rounds of the quiet clients, alone and beside the flood on the same server, and of the flood."""

    server: str
    flood: Flood
    alone: list[LoadResult]
    beside: list[LoadResult]
    hostile: list[LoadResult]

    @property
    def ratios(self) -> list[float]:
        """Their p99 beside the flood by that alone."""
        return [beside.p99_ms / alone.p99_ms for beside, alone in zip(self.beside, self.alone, strict=True)]


def many(plan: Plan, size: Size, note: Callable[[str], None]) -> Tenants:
    """Contexts 1 to `active` are used by the load, the others only exist; none is retired for being idle."""
    connections = size.active + _SPARE
    flags = ["--fsync", plan.fsync, "--store-connections", str(connections), "--context-idle-timeout", _NEVER_IDLE]
    with servers.coordinator(plan.cores, plan.data_root, *flags) as coordinator:
        # The first few bring whatever is loaded once; they count as live, not as measured.
        first = range(size.live + 1, size.live + _SPARE)
        memory.use(coordinator, first)
        grown = _grown(coordinator, range(1, size.active + 1))
        note(f"an active context takes {grown[0] / 1024:.1f} KiB of the coordinator, {grown[1] / 1024:.1f} of Valkey")
        memory.use(coordinator, range(size.active + 1, size.live + 1))
        coordinator.seed(range(1, 2))  # of the others, each call asks for the one job that they have now
        spread, single = [], []
        for number in range(plan.rounds):
            runs = {}
            for contexts in (size.active, 1) if number % 2 == 0 else (1, size.active):
                runs[contexts] = generate(_spec(coordinator, plan, contexts, size.window), plan.cores.others)
            spread.append(runs[size.active])
            single.append(runs[1])
            note(f"{size.active:,} contexts {spread[-1].rate:,.0f} : one {single[-1].rate:,.0f} calls/s")
        rate = _PACED * min(run.rate for run in spread)
        paced = []
        for number in range(plan.rounds):
            waits = {}
            for contexts in (size.active, 1) if number % 2 == 0 else (1, size.active):
                waits[contexts] = _paced(coordinator, plan, size, contexts, rate)
            paced.append((waits[size.active], waits[1]))
            note(f"p99 at {rate:,.0f} calls/s: {size.active:,} contexts {paced[-1][0]:.1f}, one {paced[-1][1]:.1f} ms")
    return Tenants(size, connections, spread, single, rate, paced, *grown)


def _paced(coordinator: Coordinator, plan: Plan, size: Size, contexts: int, rate: float) -> float:
    """The p99 in ms of so many calls a second over so many contexts, each counted from when it was due."""
    pace = size.active / rate
    spec = LoadSpec(
        url=coordinator.urls["ws"],
        calls="load",
        batch=1,
        answer="result",
        connections=min(_PACED_CONNECTIONS, size.active),
        window=max(1, size.active // _PACED_CONNECTIONS),
        contexts=contexts,
        warm_up=max(plan.warm_up, pace * 2),
        seconds=max(_PACED_SECONDS, pace),
        processes=coordinator.processes,
        pace=pace,
    )
    return generate(spec, plan.cores.others).p99_ms


def _grown(coordinator: Coordinator, contexts: range) -> tuple[float, float]:
    """Bytes by which the coordinator and Valkey grow for each of these, used for the first time."""
    processes = [coordinator.processes[name] for name in ("server", "valkey")]
    before = [resident_bytes(pid) for pid in processes]
    memory.use(coordinator, contexts)
    server, valkey = (
        (resident_bytes(pid) - earlier) / len(contexts) for pid, earlier in zip(processes, before, strict=True)
    )
    return server, valkey


def _spec(server: BenchServer, plan: Plan, contexts: int, window: int) -> LoadSpec:
    return LoadSpec(
        url=server.urls["ws"],
        calls="load",
        batch=1,
        answer="result",
        connections=_CONNECTIONS,
        window=window,
        contexts=contexts,
        warm_up=plan.seconds,
        seconds=plan.seconds * _LONGER,
        processes=server.processes,
    )


def fairness_on(contenders: Iterable[Contender], plan: Plan, note: Callable[[str], None]) -> list[Fairness]:
    """Quiet clients in contexts of their own, alone and while one client floods another context, on these servers."""
    found: list[Fairness] = []
    for contender in contenders:
        if stacks.missing(contender.server):
            continue
        name = contender.name
        with running(contender, plan, QUIET_CLIENTS + 1) as server:
            measured = [Fairness(name, flood, [], [], []) for flood in FLOODS]
            for _ in range(plan.rounds):
                alone = generate(quiet_clients(server, plan), plan.cores.others)
                for fairness in measured:
                    beside, hostile = _flooded(server, fairness.flood, plan)
                    fairness.alone.append(alone)
                    fairness.beside.append(beside)
                    fairness.hostile.append(hostile)
                    note(
                        f"{name}, {fairness.flood}: p99 {alone.p99_ms:.1f} ms alone, {beside.p99_ms:.1f} beside "
                        f"{hostile.rate:,.0f} calls/s"
                    )
            found += measured
    return found


def quiet_clients(server: BenchServer, plan: Plan) -> LoadSpec:
    """What the quiet clients do: each calls ten times a second in a context of its own."""
    return LoadSpec(
        url=server.urls["ws"],
        calls="load",
        batch=1,
        answer="result",
        connections=QUIET_CLIENTS,
        window=1,
        contexts=QUIET_CLIENTS,
        warm_up=max(plan.warm_up, QUIET_PACE * 2),
        seconds=plan.seconds * QUIET_TIMES,
        processes=server.processes,
        pace=QUIET_PACE,
        token=server.token,
    )


def _flooded(server: BenchServer, flood: Flood, plan: Plan) -> tuple[LoadResult, LoadResult]:
    """The quiet clients while another one floods, and that one; it floods from before they begin until they are done.

    Both generators share a core with Valkey. The hostile one gives way there, for it is the server that is measured.
    """
    quiet = quiet_clients(server, plan)
    hostile = LoadSpec(
        url=server.urls["ws"],
        calls="load",
        batch=flood.batch,
        answer="result",
        connections=1,
        window=flood.window,
        contexts=1,
        warm_up=_HEAD_START,
        seconds=quiet.warm_up + quiet.seconds + 1.0,
        processes={},
        first_context=QUIET_CLIENTS + 1,
    )
    with ThreadPoolExecutor(1) as background:
        flooding = background.submit(generate, hostile, plan.cores.others, HOSTILE_NICENESS)
        time.sleep(_HEAD_START)
        result = generate(quiet, plan.cores.others)
        return result, flooding.result()
