"""The results as text, a Markdown table that reads well in a terminal, and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from bench.compare import DISTURBED, Comparison, Plan
from bench.load import LoadResult
from bench.memory import MemoryStep, growth

__all__ = ["as_json", "comparison_table", "header", "memory_table"]

Median = Callable[[Callable[[LoadResult], float]], float]
"""The median over the rounds of what a function takes from each run; a bound method of Comparison."""

_COLUMNS: Final = (
    "scenario",
    "load",
    "calls/s of",
    "",
    "beside",
    "",
    "ratio (min–max)",
    "p50 / p99 ms",
    "beside's",
    "CPU ms/call",
    "beside's",
    "cores busy",
)
_MEMORY_COLUMNS: Final = ("contexts used", "coordinator MiB", "bytes a further context", "store connections")


def header(plan: Plan, facts: dict[str, Any], comparisons: list[Comparison]) -> str:
    """How and where it was measured, and what disturbed it."""
    lines = [
        f"{facts['date']}: {facts['cpu']}, {facts['cores']} cores; Python {facts['python']}, trio {facts['trio']}, "
        f"Hypercorn {facts['hypercorn']}, trio-websocket {facts['trio-websocket']}, Valkey {facts['valkey']}.",
        f"Pinned: {plan.cores}. Rounds: {plan.rounds} of {plan.seconds:g} s after {plan.warm_up:g} s of warm-up; "
        "medians.",
        f"Coordinators run with --fsync {plan.fsync} unless the row says otherwise; data on "
        f"{facts['data_filesystem']}, where an append with fsync takes {facts['fsync_ms']:.2f} ms.",
    ]
    if comparisons:
        rounds = [round for comparison in comparisons for round in comparison.rounds]
        foreign = [run.foreign_share for round in rounds for run in (round.subject, round.reference)]
        lines.append(
            f"Other work on this machine took {statistics.median(foreign):.0%} of a core while measuring, "
            f"{max(foreign):.0%} in the worst run; {sum(round.is_disturbed for round in rounds)} of {len(rounds)} "
            f"rounds had over {DISTURBED:.0%} of it."
        )
    return "\n".join(lines)


def comparison_table(comparisons: list[Comparison]) -> str:
    """A row a scenario; the last column is the subject's two cores: its own / load generator and Valkey."""
    return _table(_COLUMNS, [_row(comparison) for comparison in comparisons])


def _row(comparison: Comparison) -> list[str]:
    scenario = comparison.scenario
    return [
        scenario.group,
        scenario.shape,
        scenario.subject.name,
        f"{comparison.of_subject(lambda run: run.rate):,.0f}",
        scenario.reference.name,
        f"{comparison.of_reference(lambda run: run.rate):,.0f}",
        _ratio(comparison),
        _latency(comparison.of_subject),
        _latency(comparison.of_reference),
        _cpu(comparison.of_subject),
        _cpu(comparison.of_reference),
        f"{comparison.of_subject(lambda run: run.share('server')):.0%} / "
        f"{comparison.of_subject(lambda run: run.share('generator') + run.share('valkey')):.0%}",
    ]


def _ratio(comparison: Comparison) -> str:
    ratios, goal = comparison.ratios, comparison.scenario.goal
    median = statistics.median(ratios)
    text = f"**{median:.2f}** ({min(ratios):.2f}–{max(ratios):.2f})"
    if goal is None:
        return text
    return f"{text} {'≥' if median >= goal else 'MISSES'} {goal:g}"


def _latency(median: Median) -> str:
    return f"{median(lambda run: run.p50_ms):.2f} / {median(lambda run: run.p99_ms):.2f}"


def _cpu(median: Median) -> str:
    """Of the server, and of its Valkey if it has one."""
    server = median(lambda run: run.cpu_per_1000("server"))
    valkey = median(lambda run: run.cpu_per_1000("valkey"))
    return f"{server:.3f} + {valkey:.3f}" if valkey else f"{server:.3f}"


def memory_table(steps: list[MemoryStep]) -> str:
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


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    widths = [max(len(row[at]) for row in [list(columns), *rows]) for at in range(len(columns))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([line(list(columns)), rule, *map(line, rows)])


def as_json(
    plan: Plan, facts: dict[str, Any], comparisons: list[Comparison], memory: list[MemoryStep]
) -> dict[str, Any]:
    """Everything measured, every round of it."""
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
        "scenarios": [_comparison_json(comparison) for comparison in comparisons],
        "memory": {
            "steps": [asdict(step) for step in memory],
            "bytes_per_further_context": growth(memory),
        },
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    ratios = comparison.ratios
    return {
        "scenario": asdict(comparison.scenario),
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "rounds": [
            {
                "ratio": round.ratio,
                "subject": _run_json(round.subject),
                "reference": _run_json(round.reference),
            }
            for round in comparison.rounds
        ],
    }


def _run_json(result: LoadResult) -> dict[str, Any]:
    return {
        **asdict(result),
        "calls_per_second": result.rate,
        "cpu_seconds_per_1000_calls": {name: result.cpu_per_1000(name) for name in result.cpu_seconds},
    }
