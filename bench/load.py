"""The load generator, a process of its own: `python -m bench.load NICENESS` reads a LoadSpec on standard input and
writes a LoadResult on standard output, both as JSON. `generate` runs it.

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

from bench.calls import Answer, expectation
from bench.machine import busy_seconds, cpu_seconds, peak_bytes, pin, unverified
from coordinator.client.address import Address
from coordinator.load.connections import HttpClient, Meter, WebSocketClient, connected
from coordinator.load.messages import JOBS, Kind, message

__all__ = ["LoadFailed", "LoadResult", "LoadSpec", "generate", "quantile"]

_DRAIN_TIMEOUT = 120.0  # seconds what is in flight at the end may take


_NO_SERVERS = ("valkey", "generator")  # names of processes


class LoadFailed(Exception):
    """A reply was wrong, or none came."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One run.

    Attributes:
        url: http:// or ws://, or either with TLS.
        calls: `batch` of these a message; a message of one call is no batch.
        answer: what a good reply is.
        connections: each with `window` messages in flight; over HTTP the window is 1.
        contexts: how many contexts connections are spread over, and what is in flight on each, as far as it goes.
        first_context: the first of them.
        pace: seconds from one message of a connection to its next; 0: as soon as it is answered.
        warm_up, seconds: how long to run before measuring, and measuring.
        processes: name → id of those whose processor time is wanted.
        token: what each request, or each WebSocket's handshake, shows; '' for nothing.
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
    first_context: int = 1
    pace: float = 0.0
    token: str = ""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was measured, after the warm-up.

    Attributes:
        messages: answered; `calls` of them in all.
        seconds: it took.
        p50_ms, p99_ms, max_ms: milliseconds from sending a message to its answer.
        reply_bytes: mean size of an answer.
        cpu_seconds: processor time of each of `processes`, and of the `generator` itself.
        peak_bytes: the most memory each of `processes` had since it was started.
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
    peak_bytes: dict[str, int]
    foreign_seconds: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def foreign_share(self) -> float:
        """Of one core, used by other work."""
        return self.foreign_seconds / self.seconds

    @property
    def server_seconds(self) -> float:
        """Processor time of the server's processes; its store is apart."""
        return sum(used for name, used in self.cpu_seconds.items() if name not in _NO_SERVERS)

    @property
    def others_seconds(self) -> float:
        """That of its store and the load generator."""
        return sum(self.cpu_seconds.get(name, 0.0) for name in _NO_SERVERS)

    @property
    def server_ms(self) -> float:
        """Milliseconds of processor time a call, of the server's processes."""
        return self.server_seconds / self.calls * 1000

    @property
    def store_ms(self) -> float:
        """Of its store; 0 without one."""
        return self.cpu_seconds.get("valkey", 0.0) / self.calls * 1000

    @property
    def generator_ms(self) -> float:
        return self.cpu_seconds["generator"] / self.calls * 1000

    @property
    def server_mib(self) -> float:
        """The peak memory of the server's processes together."""
        return sum(peak for name, peak in self.peak_bytes.items() if name not in _NO_SERVERS) / 2**20


def generate(spec: LoadSpec, core: int | None, niceness: int = 0) -> LoadResult:
    """Run the generator on this core, giving way to others there by `niceness`. Raises LoadFailed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load", str(niceness)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
    meter = Meter(spec.pace)
    clients = [await _connect(spec, meter, number) for number in range(spec.connections)]
    for number, client in enumerate(clients):
        # Those with a pace are not to come all at once.
        asyncio.get_running_loop().call_later(spec.pace * number / spec.connections, client.start)
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
    peaks = {name: peak_bytes(pid) for name, pid in spec.processes.items()}
    return _result(spec, meter, seconds, used, peaks, foreign)


async def _pass(meter: Meter, seconds: float) -> None:
    """Let the clients work for so long, or until all is lost."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(meter.done.wait(), seconds)


async def _connect(spec: LoadSpec, meter: Meter, number: int) -> WebSocketClient | HttpClient:
    address = Address.parse(spec.url)
    # Over HTTP the messages take turns, over WebSocket all of them are in flight.
    count = spec.window if address.is_websocket else max(1, JOBS // spec.batch)
    contexts = [spec.first_context + (number + slot * spec.connections) % spec.contexts for slot in range(count)]
    contexts_each = max(1, spec.contexts // spec.connections)
    messages = [
        message(spec.calls, spec.batch, context, slot, nth=slot // contexts_each)
        for slot, context in enumerate(contexts)
    ]
    tls = unverified() if address.is_secure else None
    return await connected(address, meter, expectation(spec.answer, messages), [messages], tls=tls, token=spec.token)


def _result(
    spec: LoadSpec, meter: Meter, seconds: float, used: dict[str, float], peaks: dict[str, int], foreign: float
) -> LoadResult:
    latencies = sorted(meter.latencies)
    return LoadResult(
        messages=len(latencies),
        calls=len(latencies) * spec.batch,
        seconds=seconds,
        p50_ms=quantile(latencies, 0.50) * 1000,
        p99_ms=quantile(latencies, 0.99) * 1000,
        max_ms=latencies[-1] * 1000,
        reply_bytes=meter.reply_bytes / len(latencies),
        cpu_seconds=used,
        peak_bytes=peaks,
        foreign_seconds=foreign,
    )


def quantile(ascending: Sequence[float], share: float) -> float:
    """The one of these values that `share` of them come before; the last one for 1."""
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def _main() -> None:
    os.nice(int(sys.argv[1]))
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
