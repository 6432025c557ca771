"""`python -m bench.flows`: each system on the same Valkey in turn, several rounds, as ratios within a round."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import click
import redis

from bench import node
from bench.flows.running import Figures, coordinator, said, valkey

RESULTS: Final = Path(__file__).parents[1] / "results" / "flows.json"
WAITS: Final = ("p50_ms", "p99_ms")

Run = Callable[[Path, str, int], Figures]


def _hero(socket: Path, what: str, amount: int) -> Figures:
    with coordinator(f"unix://{socket}") as server:
        return said([sys.executable, "-m", "bench.flows.hero", server.url, what, str(amount)])


def _bullmq(socket: Path, what: str, amount: int) -> Figures:
    script = node.installed(Path(__file__).with_name("bullmq.mjs"))
    return said(["node", str(script), str(socket), what, str(amount)])


def _restate(_: Path, what: str, amount: int) -> Figures:
    """On a server with a store of its own; as with the Valkey, what it acknowledged is on the disk a little later."""
    script = node.installed(Path(__file__).with_name("restate.mjs"), node.RESTATE)
    server = script.parent / "node_modules" / ".bin" / "restate-server"
    settings = {
        "RESTATE_LISTEN_MODE": "unix",
        "RESTATE_NODE_NAME": "bench",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": "true",
    }
    with tempfile.TemporaryDirectory(prefix="hc-bench-", ignore_cleanup_errors=True) as directory:
        command = [str(server), "--no-logo", "--base-dir", directory]
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            sockets = Path(directory, settings["RESTATE_NODE_NAME"])
            return said(["node", str(script), str(sockets), what, str(amount)], RESTATE_LOGGING="ERROR")
        finally:
            process.terminate()
            process.wait(30)


def _python(module: str) -> Run:
    def run(socket: Path, what: str, amount: int) -> Figures:
        return said([sys.executable, "-m", f"bench.flows.{module}", str(socket), str(amount)])

    return run


class Peer(NamedTuple):
    """A system to measure.

    Attributes:
        run: gives the figures of `rate` with so many flows, or of `latency` with so many jobs.
        flows, few: of a round, of a quick one.
        package: of Python, which it needs; "" if it needs Node.
        goal: for our jobs a second by its: at least.
        goals_of_wait: for our p50 and p99 to a runner by its: at most; None if its wait is not measured.
    """

    run: Run
    flows: int
    few: int
    package: str = ""
    goal: float | None = None
    goals_of_wait: tuple[float | None, float | None] | None = None

    @property
    def lacks(self) -> str:
        """What would have to be installed for it; "" if nothing."""
        if self.package:
            return "" if find_spec(self.package) else "the extra `peers`"
        return "" if node.is_there() else "Node with npm"


OURS: Final = "coordinator"
PEERS: Final = {
    OURS: Peer(_hero, 8_000, 1_000, "coordinator", goals_of_wait=(None, None)),
    "BullMQ": Peer(_bullmq, 8_000, 1_000, goal=2.0, goals_of_wait=(1.0, 0.5)),
    "RQ": Peer(_python("rq_peer"), 300, 60, "rq", goal=5.0),
    "Celery": Peer(_python("celery_peer"), 300, 60, "celery", goal=5.0),
    "Restate": Peer(_restate, 1_000, 200, goal=10.0, goals_of_wait=(None, None)),
    "DBOS": Peer(_python("dbos_peer"), 300, 60, "dbos", goal=10.0),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="One round of few flows, to see that it runs.")
@click.option("--rounds", type=click.IntRange(1), help="[default: 5]")
@click.option("--peer", "wanted", multiple=True, type=click.Choice([*PEERS]), help="Only this one and the coordinator.")
def main(*, quick: bool, rounds: int | None, wanted: tuple[str, ...]) -> None:
    """Flows of one parent over four children: jobs a second, creating included; and how soon a runner has a job.

    Needs the extra `peers`, and Node with npm for BullMQ and Restate. About 8 minutes.
    """
    rounds = rounds or (1 if quick else 5)
    chosen = {name: peer for name, peer in PEERS.items() if not wanted or name == OURS or name in wanted}
    for name, peer in chosen.items():
        if peer.lacks:
            click.echo(f"Left out: {name}, which needs {peer.lacks}.")
    here = {name: peer for name, peer in chosen.items() if not peer.lacks}
    rates: dict[str, list[float]] = {name: [] for name in here}
    waits: dict[str, list[Figures]] = {name: [] for name, peer in here.items() if peer.goals_of_wait}
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as directory, valkey(Path(directory)) as (socket, _):
        client = redis.Redis(unix_socket_path=str(socket))
        for round_number in range(rounds):
            for name in here if round_number % 2 == 0 else reversed(here):
                run, flows, few, *_ = here[name]
                client.flushall()
                rates[name].append(run(socket, "rate", few if quick else flows)["jobs_per_s"])
                click.echo(f"round {round_number + 1}: {name} {rates[name][-1]:,.0f} jobs/s", err=True)
                if name in waits:
                    client.flushall()
                    waits[name].append(run(socket, "latency", 100 if quick else 500))
    click.echo(table(rates, waits))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"jobs_per_s": rates, "latency": waits}, indent=1) + "\n")


def table(rates: dict[str, list[float]], waits: dict[str, list[Figures]]) -> str:
    """A row a system; ratios are ours by its, taken within each round."""
    columns = ("", "jobs/s", "coordinator : it (min–max)", "p50 / p99 ms to a runner", "coordinator : it")
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join(['---'] * len(columns))} |"]
    for name, values in rates.items():
        peer = PEERS[name]
        found = waits.get(name, [])
        cells = [name, f"{statistics.median(values):,.0f}", "", "", ""]
        cells[3] = " / ".join(f"{statistics.median(item[key] for item in found):.2f}" for key in WAITS if found)
        if name != OURS:
            ratios = _ratios(rates[OURS], values)
            rate = statistics.median(ratios)
            cells[2] = f"**{rate:.2f}** ({min(ratios):.2f}–{max(ratios):.2f}){_said_of(peer.goal, rate, '≥')}"
        if name != OURS and found and peer.goals_of_wait:
            waited = [
                statistics.median(_ratios([item[key] for item in waits[OURS]], [item[key] for item in found]))
                for key in WAITS
            ]
            cells[4] = " / ".join(
                f"**{ratio:.2f}**{_said_of(goal, ratio, '≤')}"
                for ratio, goal in zip(waited, peer.goals_of_wait, strict=True)
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _said_of(goal: float | None, ratio: float, sign: str) -> str:
    """Whether a goal is met; nothing without one."""
    if goal is None:
        return ""
    is_met = ratio >= goal if sign == "≥" else ratio <= goal
    return f" {sign} {goal:g} {'met' if is_met else '**missed**'}"


if __name__ == "__main__":
    main(prog_name="python -m bench.flows")
