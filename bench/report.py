"""The results as text, Markdown tables that read well in a terminal, and as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple

from bench.compare import DISTURBED, Comparison, Plan
from bench.load import LoadResult
from bench.malice import AFTER_GOAL, GROWTH_GOAL, Malice
from bench.memory import MemoryStep, growth
from bench.odd_clients import GOAL, OddClient
from bench.scenarios import OURS, Beside, Contender
from bench.tenants import BYTES_GOAL, FAIRNESS_GOAL, LATENCY_GOAL, Fairness, Tenants

__all__ = ["Results", "as_json", "as_text"]

_COLUMNS: Final = (
    "load",
    "server",
    "calls/s",
    "ratio (min–max)",
    "goal",
    "p50 / p99 ms",
    "CPU ms a call + store's",
    "MiB",
    "cores busy",
)
_PEERS: Final = {
    "fastapi": "FastAPI",
    "uvicorn": "uvicorn",
    "node": "Node",
    "fastify": "Fastify",
    "ioredis": "ioredis",
    "jsonrpsee": "jsonrpsee",
    "redis-rs": "redis-rs",
}
_MEMORY_COLUMNS: Final = ("contexts used", "coordinator MiB", "bytes a further context", "store connections")
_ODD_COLUMNS: Final = ("what the client sends once", "µs a plain call before", "after", "ratio", "goal")
_FAIRNESS_COLUMNS: Final = (
    "server",
    "hostile client",
    "its calls/s",
    "p99 ms of the quiet, alone",
    "beside it",
    "ratio (min–max)",
    "goal",
)
_MALICE_COLUMNS: Final = (
    "attack",
    "p99 ms of the quiet, alone",
    "beside it",
    "ratio (min–max)",
    "MiB before / at most / after",
    "growth by budget",
    "after by before",
    "goals",
)


@dataclass(slots=True)
class Results:
    """Everything a run measured; `left_out` says of servers that were to be compared with why they were not."""

    left_out: list[str]
    comparisons: list[Comparison] = field(default_factory=list)
    memory: list[MemoryStep] = field(default_factory=list)
    tenants: list[Tenants] = field(default_factory=list)
    fairness: list[Fairness] = field(default_factory=list)
    odd_clients: list[OddClient] = field(default_factory=list)
    malice: list[Malice] = field(default_factory=list)


class _Goal(NamedTuple):
    what: str
    is_met: bool

    def __str__(self) -> str:
        return f"{self.what} {'met' if self.is_met else '**missed**'}"


def as_text(plan: Plan, facts: dict[str, Any], results: Results) -> str:
    """How it was measured, a table a group of scenarios, and which goals are met."""
    parts = [_header(plan, facts, results)]
    for group, comparisons in groupby(results.comparisons, lambda comparison: comparison.scenario.group):
        parts.append(f"### {group}\n\n{_comparison_table(comparisons)}")
        if group == "workers":
            parts.append(_ceiling(results.comparisons))
    if results.memory:
        parts.append(f"### memory\n\n{_memory_table(results.memory)}")
    if results.tenants:
        parts.append("### tenants\n\n" + "\n\n".join(map(_tenants, results.tenants)))
    if results.fairness:
        parts.append(f"### fairness\n\n{_fairness_table(results.fairness)}")
    if results.odd_clients:
        parts.append(f"### odd-clients\n\n{_odd_table(results.odd_clients)}")
    if results.malice:
        parts.append(f"### malice\n\n{_malice_table(results.malice)}")
    if goals := _goals(results):
        missed = [name for name, goal in goals if not goal.is_met]
        lines = [f"{len(goals) - len(missed)} of {len(goals)} goals are met."]
        lines += [f"- missed: {name}" for name in missed]
        parts.append("### goals\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _header(plan: Plan, facts: dict[str, Any], results: Results) -> str:
    """How and where it was measured, and what disturbed it."""
    lines = [
        f"{facts['date']}: {facts['cpu']}, {facts['cores']} cores; Python {facts['python']}, trio {facts['trio']}, "
        f"Hypercorn {facts['hypercorn']}, trio-websocket {facts['trio-websocket']}, Valkey {facts['valkey']}.",
        f"Pinned: {plan.cores}. Rounds: {plan.rounds} of {plan.seconds:g} s after {plan.warm_up:g} s of warm-up; "
        "medians.",
        f"Coordinators and stores of the peers run with --fsync {plan.fsync} unless the row says otherwise; data on "
        f"{facts['data_filesystem']}, where an append with fsync takes {facts['fsync_ms']:.2f} ms.",
        *_peers(facts),
        *results.left_out,
    ]
    if results.comparisons:
        rounds = [round for comparison in results.comparisons for round in comparison.rounds]
        foreign = [run.foreign_share for round in rounds for run in round.runs.values()]
        lines.append(
            f"Other work on this machine took {statistics.median(foreign):.0%} of a core while measuring, "
            f"{max(foreign):.0%} in the worst run; {sum(round.is_disturbed for round in rounds)} of {len(rounds)} "
            f"rounds had over {DISTURBED:.0%} of it."
        )
    return "\n".join(lines)


def _peers(facts: dict[str, Any]) -> list[str]:
    """The versions of the peers that are there."""
    versions = [f"{label} {facts[name]}" for name, label in _PEERS.items() if name in facts]
    return [f"Peers: {', '.join(versions)}."] if versions else []


# -- throughput


def _comparison_table(comparisons: Iterable[Comparison]) -> str:
    """A row a server; the last column is its core / that of load generator and Valkey."""
    rows = []
    for comparison in comparisons:
        scenario = comparison.scenario
        rows.append([scenario.shape, *_row(comparison, scenario.subject, "", "")])
        for beside in scenario.beside:
            goals = ", ".join(map(str, _goals_of(comparison, beside)))
            rows.append(["", *_row(comparison, beside.contender, _span(comparison.rate_ratios(beside)), goals)])
    return _table(_COLUMNS, rows)


def _row(comparison: Comparison, contender: Contender, ratio: str, goals: str) -> list[str]:
    def median(read: Callable[[LoadResult], float]) -> float:
        return comparison.median(contender, read)

    store = median(lambda run: run.store_ms)
    return [
        contender.name,
        f"{median(lambda run: run.rate):,.0f}",
        ratio,
        goals,
        f"{median(lambda run: run.p50_ms):.2f} / {median(lambda run: run.p99_ms):.2f}",
        f"{median(lambda run: run.server_ms):.3f}" + (f" + {store:.3f}" if store else ""),
        f"{max(round.runs[contender.name].server_mib for round in comparison.rounds):.0f}",
        f"{median(lambda run: run.server_seconds / run.seconds):.0%} / "
        f"{median(lambda run: run.others_seconds / run.seconds):.0%}",
    ]


def _span(ratios: list[float]) -> str:
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})"


def _goals_of(comparison: Comparison, beside: Beside) -> list[_Goal]:
    goals = []
    if beside.rate is not None:
        goals.append(_Goal(f"≥ {beside.rate:g}", statistics.median(comparison.rate_ratios(beside)) >= beside.rate))
    if beside.p50 is not None:
        ratio = comparison.p50_ratio(beside)
        goals.append(_Goal(f"p50 {ratio:.2f} ≤ {beside.p50:g}", ratio <= beside.p50))
    return goals


def _goals(results: Results) -> list[tuple[str, _Goal]]:
    """Every goal there was, with where it is from."""
    goals = [
        (f"{comparison.scenario.group}, {comparison.scenario.shape}: {goal.what} of {beside.contender.name}", goal)
        for comparison in results.comparisons
        for beside in comparison.scenario.beside
        for goal in _goals_of(comparison, beside)
    ]
    goals += [
        (f"tenants, {tenants.size.active:,} contexts in use: {goal.what}", goal)
        for tenants in results.tenants
        for goal in _goals_of_tenants(tenants)
    ]
    goals += [
        (f"fairness, {fairness.flood}: p99 {goal.what}", goal)
        for fairness in results.fairness
        for goal in _goals_of_fairness(fairness)
    ]
    goals += [
        (f"malice, {_attack(malice)}: {goal.what}", goal)
        for malice in results.malice
        for goal in _goals_of_malice(malice)
    ]
    return goals + [(f"odd-clients, {odd.name}: {_odd_goal(odd).what}", _odd_goal(odd)) for odd in results.odd_clients]


def _ceiling(comparisons: list[Comparison]) -> str:
    """How far two workers can get on two cores that load generator and Valkey need as well."""
    lines = []
    for comparison in comparisons:
        if comparison.scenario.group == "workers":
            one = comparison.scenario.beside[0].contender
            server = comparison.median(one, lambda run: run.server_ms)
            all_of_it = server + comparison.median(one, lambda run: run.store_ms + run.generator_ms)
            lines.append(f"- {comparison.scenario.scheme}, {comparison.scenario.shape}: {2 * server / all_of_it:.2f}")
    return (
        "The workers share both cores with Valkey and load generator; one worker has its core to itself. If a call "
        "takes as much processor time with two, their ratio is at most twice the server's share of all it takes:\n"
        + "\n".join(lines)
    )


# -- the rest


def _odd_goal(odd: OddClient) -> _Goal:
    return _Goal(f"≤ {GOAL:g}", odd.ratio <= GOAL)


def _odd_table(odd_clients: list[OddClient]) -> str:
    """A row an odd request."""
    rows = [
        [
            odd.name,
            f"{statistics.median(odd.before_us):.0f}",
            f"{statistics.median(odd.after_us):.0f}",
            f"**{odd.ratio:.2f}**",
            str(_odd_goal(odd)),
        ]
        for odd in odd_clients
    ]
    return "Processor time of the server, on one connection.\n\n" + _table(_ODD_COLUMNS, rows)


def _memory_table(steps: list[MemoryStep]) -> str:
    """A row a step. The first is the warm-up, so no growth is given for it."""
    rows = [
        [
            f"{step.contexts:,}",
            f"{step.resident_bytes / 2**20:.1f}",
            "" if grown is None else f"{grown:,.0f}",
            str(step.store_connections),
        ]
        for step, grown in zip(steps, [None, *growth(steps)], strict=True)
    ]
    return _table(_MEMORY_COLUMNS, rows)


def _tenants(tenants: Tenants) -> str:
    size = tenants.size
    columns = ("contexts used", "calls/s", "ratio (min–max)", "p50 / p99 ms", "CPU ms a call + store's", "MiB")
    rows = [
        _tenants_row(size.active, tenants.spread, ""),
        _tenants_row(1, tenants.single, _span(tenants.ratios)),
    ]
    return (
        f"{size.live:,} contexts exist, {size.active:,} are in use at once, with --store-connections "
        f"{tenants.store_connections}. An active context takes {tenants.active_bytes / 1024:.1f} KiB of the "
        f"coordinator and {tenants.store_bytes / 1024:.1f} KiB of Valkey, its connection and one job included.\n\n"
        + _table(columns, rows)
        + f"\n\np99 at {tenants.rate:,.0f} calls/s, when they are due: "
        f"{statistics.median(many for many, _ in tenants.paced):.2f} ms over all, "
        f"{statistics.median(one for _, one in tenants.paced):.2f} on one, {_span(tenants.latency_ratios)}."
    )


def _goals_of_tenants(tenants: Tenants) -> list[_Goal]:
    goal = tenants.size.goal
    if goal is None:
        return []
    return [
        _Goal(f"calls ≥ {goal:g}", statistics.median(tenants.ratios) >= goal),
        _Goal(f"p99 ≤ {LATENCY_GOAL:g}", statistics.median(tenants.latency_ratios) <= LATENCY_GOAL),
        _Goal(f"≤ {BYTES_GOAL / 1024:g} KiB", tenants.active_bytes <= BYTES_GOAL),
    ]


def _tenants_row(contexts: int, runs: list[LoadResult], ratio: str) -> list[str]:
    def median(read: Callable[[LoadResult], float]) -> float:
        return statistics.median(map(read, runs))

    return [
        f"{contexts:,}",
        f"{median(lambda run: run.rate):,.0f}",
        ratio,
        f"{median(lambda run: run.p50_ms):.2f} / {median(lambda run: run.p99_ms):.2f}",
        f"{median(lambda run: run.server_ms):.3f} + {median(lambda run: run.store_ms):.3f}",
        f"{max(run.server_mib for run in runs):.0f}",
    ]


def _fairness_table(found: list[Fairness]) -> str:
    rows = [
        [
            fairness.server,
            str(fairness.flood),
            f"{statistics.median(run.rate for run in fairness.hostile):,.0f}",
            f"{statistics.median(run.p99_ms for run in fairness.alone):.2f}",
            f"{statistics.median(run.p99_ms for run in fairness.beside):.2f}",
            _span(fairness.ratios),
            ", ".join(map(str, _goals_of_fairness(fairness))),
        ]
        for fairness in found
    ]
    return _table(_FAIRNESS_COLUMNS, rows)


def _goals_of_fairness(fairness: Fairness) -> list[_Goal]:
    """The goal is the coordinator's."""
    if fairness.server != OURS.name:
        return []
    return [_Goal(f"≤ {FAIRNESS_GOAL:g}", statistics.median(fairness.ratios) <= FAIRNESS_GOAL)]


def _attack(malice: Malice) -> str:
    return f"{malice.row.connections:,} × {malice.row.name}"


def _malice_table(found: list[Malice]) -> str:
    rows = [
        [
            _attack(malice),
            f"{statistics.median(run.p99_ms for run in malice.alone):.2f}",
            f"{statistics.median(malice.beside_ms):.2f}",
            _span(malice.ratios),
            " / ".join(
                f"{statistics.median(sizes) / 2**20:.0f}"
                for sizes in zip(*((memory.before, memory.peak, memory.after) for memory in malice.memory), strict=True)
            ),
            f"{max(malice.growth):.2f}",
            f"{statistics.median(malice.remaining):.2f}",
            ", ".join(map(str, _goals_of_malice(malice))),
        ]
        for malice in found
    ]
    return _table(_MALICE_COLUMNS, rows)


def _goals_of_malice(malice: Malice) -> list[_Goal]:
    """Measures how much longer others wait, and how much memory replies cost that nobody reads."""
    goals = [_Goal(f"p99 ≤ {FAIRNESS_GOAL:g}", statistics.median(malice.ratios) <= FAIRNESS_GOAL)]
    if malice.row.attack == "deaf":
        goals.append(_Goal(f"growth ≤ {GROWTH_GOAL:g}", max(malice.growth) <= GROWTH_GOAL))
        goals.append(_Goal(f"after ≤ {AFTER_GOAL:g}", statistics.median(malice.remaining) <= AFTER_GOAL))
    return goals


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    widths = [max(len(row[at]) for row in [list(columns), *rows]) for at in range(len(columns))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([line(list(columns)), rule, *map(line, rows)])


# -- JSON


def as_json(plan: Plan, facts: dict[str, Any], results: Results) -> dict[str, Any]:
    """Everything measured, every round of it. bench.plots reads this."""
    return {
        "machine": facts,
        "plan": {
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "warm_up": plan.warm_up,
            "server_core": plan.cores.server,
            "others_core": plan.cores.others,
            "fsync": plan.fsync,
        },
        "left_out": results.left_out,
        "scenarios": [_comparison_json(comparison) for comparison in results.comparisons],
        "memory": {
            "steps": [asdict(step) for step in results.memory],
            "bytes_per_further_context": growth(results.memory),
        },
        "tenants": [_tenants_json(tenants) for tenants in results.tenants],
        "fairness": [_fairness_json(fairness) for fairness in results.fairness],
        "odd_clients": [{**asdict(odd), "ratio": odd.ratio} for odd in results.odd_clients],
        "malice": [_malice_json(malice) for malice in results.malice],
        "goals": [{"goal": name, "met": goal.is_met} for name, goal in _goals(results)],
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    scenario = comparison.scenario
    return {
        "scenario": asdict(scenario),
        "medians": {
            contender.name: {
                "calls_per_second": comparison.median(contender, lambda run: run.rate),
                "p50_ms": comparison.median(contender, lambda run: run.p50_ms),
                "p99_ms": comparison.median(contender, lambda run: run.p99_ms),
            }
            for contender in scenario.contenders
        },
        "ratios": {beside.contender.name: comparison.rate_ratios(beside) for beside in scenario.beside},
        "rounds": [{name: _run_json(run) for name, run in round.runs.items()} for round in comparison.rounds],
    }


def _tenants_json(tenants: Tenants) -> dict[str, Any]:
    return {
        "live": tenants.size.live,
        "active": tenants.size.active,
        "store_connections": tenants.store_connections,
        "active_bytes": tenants.active_bytes,
        "store_bytes": tenants.store_bytes,
        "ratios": tenants.ratios,
        "paced_calls_per_second": tenants.rate,
        "paced_p99_ms": tenants.paced,
        "rounds": [
            {"spread": _run_json(spread), "single": _run_json(single)}
            for spread, single in zip(tenants.spread, tenants.single, strict=True)
        ],
    }


def _fairness_json(fairness: Fairness) -> dict[str, Any]:
    return {
        "server": fairness.server,
        "flood": fairness.flood._asdict(),
        "ratios": fairness.ratios,
        "rounds": [
            {"alone": _run_json(alone), "beside": _run_json(beside), "hostile": _run_json(hostile)}
            for alone, beside, hostile in zip(fairness.alone, fairness.beside, fairness.hostile, strict=True)
        ],
    }


def _malice_json(malice: Malice) -> dict[str, Any]:
    return {
        "attack": malice.row.name,
        "connections": malice.row.connections,
        "ratios": [ratio if math.isfinite(ratio) else None for ratio in malice.ratios],
        "growth": malice.growth,
        "remaining": malice.remaining,
        "rounds": [
            {"alone": _run_json(alone), "beside": beside and _run_json(beside), "memory": asdict(memory)}
            for alone, beside, memory in zip(malice.alone, malice.beside, malice.memory, strict=True)
        ],
    }


def _run_json(result: LoadResult) -> dict[str, Any]:
    return {
        **asdict(result),
        "calls_per_second": result.rate,
        "cpu_ms_per_call": {"server": result.server_ms, "store": result.store_ms, "generator": result.generator_ms},
    }
