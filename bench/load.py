"""The load generator, a process of its own: `python -m bench.load` reads a LoadSpec on standard input and writes a
LoadResult on standard output, both as JSON. `generate` runs it.

A closed loop: every connection keeps its window full, so the server sets the pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter

from bench import calls
from bench.calls import Answer, Expectation, Kind
from bench.clients import HttpClient, Meter, WebSocketClient, connect_http, connect_websocket
from bench.machine import busy_seconds, cpu_seconds, pin

__all__ = ["LoadFailed", "LoadResult", "LoadSpec", "generate"]

_DRAIN_TIMEOUT = 30.0  # seconds what is in flight at the end may take


class LoadFailed(Exception):
    """A reply was wrong, or none came."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run.

    Attributes:
        url: http:// or ws://.
        calls: `batch` of these a message; a message of one call is no batch.
        answer: what a good reply is.
        connections: each with `window` messages in flight; over HTTP the window is 1.
        contexts: connections are spread over contexts 1 to this.
        warm_up, seconds: how long to run before measuring, and measuring.
        processes: name → id of those whose processor time is wanted.
    """

    url: str
    calls: Kind
    batch: int
    answer: Answer
    connections: int
    window: int
    contexts: int
    warm_up: float
    seconds: float
    processes: dict[str, int]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was measured, after the warm-up.

    Attributes:
        messages: answered; `calls` of them in all.
        seconds: it took.
        p50_ms, p99_ms, max_ms: milliseconds from sending a message to its answer.
        reply_bytes: mean size of an answer.
        cpu_seconds: processor time of each of `processes`, and of the `generator` itself.
        foreign_seconds: processor time the machine spent on anything else.
    """

    messages: int
    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    reply_bytes: float
    cpu_seconds: dict[str, float]
    foreign_seconds: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def foreign_share(self) -> float:
        """Of one core, used by other work."""
        return self.foreign_seconds / self.seconds

    def share(self, process: str) -> float:
        """Of one core, used by this process."""
        return self.cpu_seconds.get(process, 0.0) / self.seconds

    def cpu_per_1000(self, process: str) -> float:
        """Processor seconds this process used for 1,000 calls."""
        return self.cpu_seconds.get(process, 0.0) / self.calls * 1000


def generate(spec: LoadSpec, core: int | None) -> LoadResult:
    """Run the generator on this core. Raises LoadFailed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            pin([process.pid], core)
            output, _ = process.communicate(json.dumps(asdict(spec)))
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise LoadFailed(output.strip() or f"the load generator ended with status {process.returncode}")
    return LoadResult(**json.loads(output))


# -- inside the process


async def _run(spec: LoadSpec) -> LoadResult:
    meter = Meter()
    clients = [await _connect(spec, meter, number) for number in range(spec.connections)]
    for client in clients:
        client.start()
    await _pass(meter, spec.warm_up)
    processes = {**spec.processes, "generator": os.getpid()}
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    busy_before = busy_seconds()
    begun = perf_counter()
    meter.measuring = True
    await _pass(meter, spec.seconds)
    meter.measuring = False
    seconds = perf_counter() - begun
    used = {name: cpu_seconds(pid) - before[name] for name, pid in processes.items()}
    foreign = max(0.0, busy_seconds() - busy_before - sum(used.values()))
    meter.stopping = True
    try:
        await asyncio.wait_for(meter.done.wait(), _DRAIN_TIMEOUT)
    except TimeoutError:
        meter.fail(f"{meter.in_flight} messages were not answered within {_DRAIN_TIMEOUT:g} s")
    for client in clients:
        client.close()
    if meter.errors:
        raise LoadFailed(f"{meter.errors} bad replies, the first: {meter.first_error}")
    if not meter.latencies:
        raise LoadFailed("nothing was answered while measuring")
    return _result(spec, meter, seconds, used, foreign)


async def _pass(meter: Meter, seconds: float) -> None:
    """Let the clients work for so long, or until all is lost."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(meter.done.wait(), seconds)


async def _connect(spec: LoadSpec, meter: Meter, number: int) -> WebSocketClient | HttpClient:
    context = 1 + number % spec.contexts
    is_http = spec.url.startswith("http")
    # Over HTTP the messages take turns, over WebSocket all of them are in flight.
    count = max(1, calls.JOBS // spec.batch) if is_http else spec.window
    messages = [calls.message(spec.calls, spec.batch, context, slot) for slot in range(count)]
    expectation = Expectation(spec.answer, messages)
    return await (connect_http if is_http else connect_websocket)(spec.url, meter, expectation, messages)


def _result(spec: LoadSpec, meter: Meter, seconds: float, used: dict[str, float], foreign: float) -> LoadResult:
    latencies = sorted(meter.latencies)
    return LoadResult(
        messages=len(latencies),
        calls=len(latencies) * spec.batch,
        seconds=seconds,
        p50_ms=_quantile(latencies, 0.50) * 1000,
        p99_ms=_quantile(latencies, 0.99) * 1000,
        max_ms=latencies[-1] * 1000,
        reply_bytes=meter.reply_bytes / len(latencies),
        cpu_seconds=used,
        foreign_seconds=foreign,
    )


def _quantile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def _main() -> None:
    spec = LoadSpec(**json.load(sys.stdin))
    gc.disable()  # nothing here makes cycles worth collecting, and a collection would count as latency
    try:
        result = asyncio.run(_run(spec))
    except (LoadFailed, OSError) as error:
        print(error)
        sys.exit(1)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    _main()
