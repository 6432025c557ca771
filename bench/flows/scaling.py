"""`python -m bench.flows.scaling`: flows on two workers and two stores (a cluster) beside one worker and one store.

A half is a worker, a store and their load generator, all on one core. Two cores then hold two halves, and nothing that
one half needs is on the other's core but the parent of the workers, which does nothing meanwhile. So the ratio of two
halves to one says what the second half adds, though there is no third core for the load generator.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import click
import redis

from bench.flows.hero import JOBS
from bench.flows.running import Figures, coordinator, heading, medians, save, started, valkey
from bench.machine import Cores, cpu_seconds, descendants, pin
from coordinator.storage.cluster import slot_of

GOAL: Final = 1.6
SLOTS: Final = 16384
NODES: Final = 2
JOIN_TIMEOUT: Final = 30.0  # seconds
BUS: Final = 10_000  # from a node's port to that of its bus
PARTS: Final = ("coordinator", "store", "load")

ONE, SPREAD, HALF, BOTH = "one", "one, spread", "a half alone", "two halves"
KINDS: Final = {
    ONE: "1 worker, 1 store and their load on one core",
    SPREAD: "the same, the worker on one core, store and load on the other",
    HALF: "a worker, a node and their load on one core; the others idle",
    BOTH: "2 workers, 2 nodes, 2 loads, a half a core",
}


@dataclass(frozen=True, slots=True)
class Half:
    """Processes that work together."""

    worker: int
    store: int
    load: subprocess.Popen[str]

    def pin(self, core: int | None, others: int | None = None) -> None:
        """Keep all on a core, or only the worker."""
        pin([self.worker], core)
        pin([self.store, self.load.pid], core if others is None else others)

    def seconds(self) -> tuple[float, ...]:
        """Processor time of each of PARTS."""
        return tuple(cpu_seconds(pid) for pid in (self.worker, self.store, self.load.pid))


def _ask(load: subprocess.Popen[str], word: object) -> None:
    assert load.stdin is not None
    load.stdin.write(f"{word}\n")
    load.stdin.flush()


def _told(load: subprocess.Popen[str]) -> Figures:
    assert load.stdout is not None
    line = load.stdout.readline()
    if not line:
        assert load.stderr is not None
        raise click.ClickException(f"a load generator ended: {load.stderr.read()[-2000:]}")
    figures: Figures = json.loads(line)
    return figures


def _run(halves: list[Half], flows: int) -> Figures:
    """Run so many flows on each of these. Jobs a second count until the last one is done."""
    before = [half.seconds() for half in halves]
    for half in halves:
        _ask(half.load, flows)
    slowest = max(_told(half.load)["seconds"] for half in halves)
    after = [half.seconds() for half in halves]
    jobs = flows * JOBS * len(halves)
    figures = {"jobs_per_s": jobs / slowest}
    for at, part in enumerate(PARTS):
        spent = sum(now[at] - then[at] for now, then in zip(after, before, strict=True))
        figures[f"{part}_us"] = spent / jobs * 1e6
    return figures


# -- one worker and one store; two of each


@contextlib.contextmanager
def _one(root: Path) -> Iterator[Half]:
    with contextlib.ExitStack() as stack:
        port, store = stack.enter_context(_on_port(root, "one"))
        url = f"redis://127.0.0.1:{port}"
        server = stack.enter_context(coordinator(url, "--isolation", "prefix"))
        load = stack.enter_context(started(_command(server.url, 1)))
        for _ in range(2):
            _ask(load, "connect")
            _told(load)
        yield Half(server.process, store, load)


@contextlib.contextmanager
def _two(root: Path) -> Iterator[list[Half]]:
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(_on_port(root, f"node{at}", "--cluster-enabled", "yes")) for at in range(NODES)]
        ports = [port for port, _ in nodes]
        _join(ports)
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        server = stack.enter_context(coordinator(url, "--isolation", "prefix", "--workers", "2"))
        loads = [stack.enter_context(started(_command(server.url, _context_on(at)))) for at in range(NODES)]
        # A connection goes to the worker that has fewest: those of both halves in turn go to the same worker each.
        mine: list[list[int]] = [[], []]
        for _ in range(2):
            for of_half, load in zip(mine, loads, strict=True):
                _ask(load, "connect")
                of_half.append(int(_told(load)["port"]))
        workers = [_worker_of(descendants(server.process), of_half) for of_half in mine]
        if len(set(workers)) < NODES:
            raise click.ClickException("both halves are connected to the same worker")
        yield [Half(worker, pid, load) for worker, (_, pid), load in zip(workers, nodes, loads, strict=True)]


def _command(url: str, context: int) -> list[str]:
    return [sys.executable, "-m", "bench.flows.half", url, str(context)]


@contextlib.contextmanager
def _on_port(root: Path, name: str, *options: str) -> Iterator[tuple[int, int]]:
    """A Valkey that also listens on TCP; its port and its process."""
    directory = root / name
    directory.mkdir()
    port = _free_port()
    with valkey(directory, "--port", str(port), *options) as (_, pid):
        yield port, pid


def _free_port() -> int:
    """One whose bus's port is one, too."""
    while True:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port: int = taken.getsockname()[1]
        if port + BUS < 1 << 16:
            return port


def _join(ports: list[int]) -> None:
    """Have these nodes share the slots."""
    nodes: list[Any] = [redis.Redis(port=port) for port in ports]
    for at, node in enumerate(nodes):
        share = _share(at)
        node.execute_command("CLUSTER SET-CONFIG-EPOCH", at + 1)
        node.execute_command("CLUSTER ADDSLOTSRANGE", share.start, share.stop - 1)
    for node in nodes[1:]:
        node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
    deadline = time.monotonic() + JOIN_TIMEOUT
    while not all(node.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes):
        if time.monotonic() > deadline:
            raise click.ClickException("the nodes do not become a cluster")
        time.sleep(0.05)


def _share(node: int) -> range:
    bounds = [at * SLOTS // NODES for at in range(NODES + 1)]
    return [range(first, last) for first, last in pairwise(bounds)][node]


def _context_on(node: int) -> int:
    """A context that is on this node."""
    return next(context for context in range(1, SLOTS) if slot_of(context) in _share(node))


def _worker_of(workers: list[int], ports: list[int]) -> int:
    """Which of these processes has the other ends of the connections from these ports, all of them."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) in ports:
            inodes.add(f"socket:[{fields[9]}]")
    found = []
    for worker in workers:
        has = set()
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(OSError):
                has.add(str(descriptor.readlink()))
        if len(inodes & has) == len(ports):
            found.append(worker)
    if len(found) != 1:
        raise click.ClickException(f"{len(found)} workers have both connections of a half")
    return found[0]


# -- measuring


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--flows", type=click.IntRange(100), default=2_000, show_default=True, help="Of a half in a turn.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(*, flows: int, rounds: int) -> None:
    """Flows of one parent over four children on two workers and two stores beside one of each, in turns."""
    cores = Cores.choose()
    if cores.server is None:
        raise click.ClickException("this needs two cores")
    found: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as directory, contextlib.ExitStack() as stack:
        one = stack.enter_context(_one(Path(directory)))
        two = stack.enter_context(_two(Path(directory)))
        for half, core in zip(two, cores, strict=True):
            half.pin(core)
        for halves in ([one], two):  # everything is loaded and connected
            _run(halves, 200)
        for number in range(rounds):
            core = cores[number % 2]  # either core may be the one that other work is on
            for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                one.pin(core, cores[1 - number % 2] if kind == SPREAD else None)
                halves = {ONE: [one], SPREAD: [one], HALF: [two[number % 2]], BOTH: two}[kind]
                found[kind].append(_run(halves, flows))
                told = ", ".join(f"{name} {value:,.0f}" for name, value in found[kind][-1].items())
                click.echo(f"round {number + 1}: {kind}: {told}", err=True)
    click.echo(table(found))
    save(found, "scaling")


def table(found: dict[str, list[Figures]]) -> str:
    """A row a kind, then what two halves are of one, and how much that could be."""
    columns = (
        "",
        "jobs/s",
        "µs of processor time a job: worker + store + load",
        "cores used",
        "two halves : it (min–max)",
        "at most",
    )
    lines = heading(columns)
    for kind, rounds in found.items():
        middle = medians(rounds)
        cells = [KINDS[kind], f"{middle['jobs_per_s']:,.0f}", "", "", "", ""]
        cells[2] = " + ".join(f"{middle[f'{part}_us']:.0f}" for part in PARTS)
        cells[3] = f"{statistics.median(it['jobs_per_s'] * _spent(it) for it in rounds) / 1e6:.2f}"
        if kind != BOTH:
            ratios = [both["jobs_per_s"] / it["jobs_per_s"] for both, it in zip(found[BOTH], rounds, strict=True)]
            most = statistics.median(_at_most(kind, both, it) for both, it in zip(found[BOTH], rounds, strict=True))
            ratio = statistics.median(ratios)
            cells[4] = f"**{ratio:.2f}** ({min(ratios):.2f}–{max(ratios):.2f})"
            cells[4] += f" ≥ {GOAL:g} {'met' if ratio >= GOAL else '**missed**'}" if kind in (ONE, HALF) else ""
            cells[5] = f"{most:.2f}"
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(
        "\nAt most: of what is on one core, twice as much, by processor time a job there and in two halves; of what is "
        "spread, two cores by those it uses, likewise. Other work on the machine takes from all of them."
    )
    return "\n".join(lines)


def _spent(figures: Figures) -> float:
    """Processor time a job, in µs."""
    return sum(figures[f"{part}_us"] for part in PARTS)


def _at_most(kind: str, both: Figures, it: Figures) -> float:
    if kind == SPREAD:
        return 2e6 / _spent(both) / it["jobs_per_s"]
    return 2 * _spent(it) / _spent(both)


if __name__ == "__main__":
    main(prog_name="python -m bench.flows.scaling")
