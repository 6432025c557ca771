"""`python -m bench.flows.large`: one flow of 100,000 jobs beside as many jobs in small flows, in turns; and what
somebody else, who loads another context every 10 ms, notices of either."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import redis

from bench.flows.hero import JOBS
from bench.flows.one_flow import LEVELS
from bench.flows.running import (
    Figures,
    Server,
    coordinator,
    heading,
    medians,
    read_figures,
    said,
    save,
    started,
    valkey,
)
from bench.machine import Cores, pin

GOAL: Final = 0.8
VICTIM: Final = "2"  # its context; flows are in 1
QUIET: Final = 5.0  # seconds it is alone
ALONE: Final = "a victim alone"
RATES: Final = ("small", "large")
KINDS: Final = (*RATES, ALONE, "a victim beside small", "a victim beside large")
NICENESS: Final = "10"  # of what loads: it shares a core with the victim, and the server is to be fair to that


@contextlib.contextmanager
def _victim(server: Server, cores: Cores) -> Iterator[Figures]:
    """Figures of somebody else, which are there afterwards."""
    figures: Figures = {}
    with started([sys.executable, "-m", "bench.flows.hero", server.url, "victim", VICTIM], cores.others) as process:
        yield figures
        figures.update(read_figures(process))


def _load(module: str, *arguments: str) -> list[str]:
    return ["nice", "-n", NICENESS, sys.executable, "-m", f"bench.flows.{module}", *arguments]


def _measured(command: list[str], server: Server, jobs: int, cores: Cores) -> Figures:
    before = server.seconds()
    figures = said(command, cores.others)
    after = server.seconds()
    for name, now, then in zip(("coordinator_us", "store_us"), after, before, strict=True):
        figures[name] = (now - then) / jobs * 1e6
    return figures


def _turn(kind: str, jobs: int, depends: int, cores: Cores, socket: Path, store: int) -> Figures:
    """One of KINDS. The victim costs processor time, too, so what is beside it is not what the rates are of."""
    with coordinator(f"unix://{socket}", store=store) as server:
        pin([server.process], cores.server)
        small = _load("hero", server.url, "rate", str(jobs // JOBS))
        command = small if "small" in kind else _load("one_flow", server.url, str(jobs), str(depends))
        if kind in RATES:
            return _measured(command, server, jobs, cores)
        with _victim(server, cores) as victim:
            if kind == ALONE:
                time.sleep(QUIET)
            else:
                said(command, cores.others)
        return victim


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--jobs", type=click.IntRange(1000), default=100_000, show_default=True)
@click.option(
    "--depends", type=click.IntRange(1, 20), default=2, show_default=True, help="Of each job, on the level before."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--rates-only", is_flag=True, help="Without a victim, in half the time.")
def main(*, jobs: int, depends: int, rounds: int, rates_only: bool) -> None:
    """One large flow, ten levels of the same width, beside as many jobs in flows of one parent over four children."""
    cores = Cores.choose()
    kinds = RATES if rates_only else KINDS
    found: dict[str, list[Figures]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as directory, valkey(Path(directory)) as (socket, store):
        pin([store], cores.others)
        client = redis.Redis(unix_socket_path=str(socket))
        for number in range(rounds):
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                client.flushall()
                found[kind].append(_turn(kind, jobs, depends, cores, socket, store))
                told = ", ".join(f"{name} {value:,.2f}" for name, value in found[kind][-1].items())
                click.echo(f"round {number + 1}: {kind} {told}", err=True)
    click.echo(f"{jobs:,} jobs, {LEVELS} levels, each waits for {depends} of the level before. Pinned: {cores}.\n")
    click.echo(table(found))
    save(found, "large")


def table(found: dict[str, list[Figures]]) -> str:
    """A row a kind of load."""
    columns = (
        "",
        "jobs/s",
        "µs a job: coordinator + store",
        "created / started / run, s",
        "p50 / p99 / max ms of a victim",
    )
    lines = heading(columns)
    for kind, rounds in found.items():
        middle = medians(rounds)
        cells = [kind, "", "", "", ""]
        if "jobs_per_s" in middle:
            cells[1] = f"{middle['jobs_per_s']:,.0f}"
            cells[2] = f"{middle['coordinator_us']:.0f} + {middle['store_us']:.0f}"
        if "start_s" in middle:
            cells[3] = " / ".join(f"{middle[f'{name}_s']:.1f}" for name in ("create", "start", "run"))
        if "p99_ms" in middle:
            cells[4] = " / ".join(f"{middle[f'{name}_ms']:.1f}" for name in ("p50", "p99", "max"))
        lines.append(f"| {' | '.join(cells)} |")
    rates = _ratios(found, "jobs_per_s")
    spent = [
        (small["coordinator_us"] + small["store_us"]) / (large["coordinator_us"] + large["store_us"])
        for small, large in zip(found["small"], found["large"], strict=True)
    ]
    ratio = statistics.median(rates)
    verdict = "met" if ratio >= GOAL else "**missed**"
    span = f"({min(rates):.2f}–{max(rates):.2f})"
    lines.append(f"\nlarge : small in jobs/s **{ratio:.2f}** {span} ≥ {GOAL:g} {verdict}; small : large in processor")
    lines[-1] += f" time {statistics.median(spent):.2f} ({min(spent):.2f}–{max(spent):.2f})."
    return "\n".join(lines)


def _ratios(found: dict[str, list[Figures]], name: str) -> list[float]:
    return [large[name] / small[name] for large, small in zip(found["large"], found["small"], strict=True)]


if __name__ == "__main__":
    main(prog_name="python -m bench.flows.large")
