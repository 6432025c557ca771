"""A process that generates load: `python -m coordinator.load`.

It reads JSON lines on standard input: first a Spec (or a JobsSpec, see
jobs.py), then one Step after the other, until there is no more. It writes
JSON lines on standard output: one once all connections are there, a Tick twice a second, and an End of each step.
Latencies go to a file (float64, seconds), which has those that a Tick counts when that is written. They are looked at
by the process that started this one, so that nothing but the load takes time here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from array import array
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO, Final

from coordinator.client.address import Address
from coordinator.client.credentials import Credentials
from coordinator.client.stream import tls_context
from coordinator.load.connections import Client, Meter, connected
from coordinator.load.messages import JOBS, Expectation, Kind, Message, Refused, message

__all__ = ["DRAIN", "CountingMeter", "End", "Generator", "Spec", "Step", "Tick", "say"]

TICK: Final = 0.5  # seconds
DRAIN: Final = 10.0  # seconds that what is in flight when a step ends may take
BEHIND: Final = 2_000_000  # messages that are due and were not sent, at which a step ends: memory is not for them
CONNECTING_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Spec:
    """What the connections are, and what they send.

    Attributes:
        url: http, https, ws or wss.
        kinds: of a connection's messages, one after the other, round and round.
        batch: calls of a message; of 1 call it is no batch.
        numbers: of all connections of the run, the first that is this process's, and the one behind its last.
        window: messages in flight on each; over HTTP it is 1.
        contexts: over which the connections are spread, and what is in flight on each, as far as it goes.
        latencies: the file.
    """

    url: str
    kinds: list[Kind]
    batch: int
    numbers: tuple[int, int]
    all_connections: int
    window: int
    contexts: list[int]
    caller: int
    latencies: str
    token: str = ""
    ca: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What is measured next.

    Attributes:
        rate: messages a second of this process, in an open loop; 0 for a closed one.
        storm: connections are opened, used for one message, and closed; as many at a time as there are.
        warm_up, seconds: before measuring, and measuring.
    """

    rate: float
    warm_up: float
    seconds: float
    storm: bool = False


@dataclass(slots=True)
class Tick:
    """How far a step is; all of it counts from its warm-up's end.

    Attributes:
        answered: messages; the file has the latency of each.
        refused: messages answered with an error, by its code. `reasons`: the first error's text of each.
        faults: what else went wrong, by what it was.
        behind: messages that are due, in an open loop, and wait for a place in a window.
        jobs: that were finished; changes: published and acknowledged; events: delivered (of jobs.py).
    """

    seconds: float
    answered: int
    refused: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    behind: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    jobs: int = 0
    changes: int = 0
    events: int = 0


@dataclass(slots=True)
class End:
    """A step's end.

    Attributes:
        seconds: measured.
        cpu_share: of a core, that this process used while measuring.
        late_ms: by which messages left later than they were due though a place was free, or (of jobs.py) were read
            later than they could be; of the worst 1 % of looks.
        unanswered: messages still in flight after DRAIN.
        unsent: messages that were due when measuring ended, and had found no place in a window. They count with what
            they had waited until then, as do those in flight with what they waited for their answer.
        fell_behind: the step was ended because too many messages were due.
        expected, delivered: arrivals of changes at subscribers, from the step's beginning until nothing came any more.
    """

    seconds: float
    cpu_share: float
    late_ms: float
    unanswered: int
    unsent: int
    fell_behind: bool
    reply_bytes: int
    expected: int = 0
    delivered: int = 0


class CountingMeter(Meter):
    """Goes on whatever is answered, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.connections = 0
        self.jobs = self.changes = self.events = 0

    def clear(self) -> None:
        self.codes.clear()
        self.faults.clear()
        self.reasons.clear()
        self.reply_bytes = self.jobs = self.changes = self.events = 0

    def fail(self, reason: str) -> None:
        if self.measuring:
            self.faults[reason[:200]] += 1

    def refused(self, error: Refused) -> None:
        if self.measuring:
            self.codes[str(error.code)] += 1
            self.reasons.setdefault(str(error.code), error.reason[:200])

    def lost(self, reason: str) -> None:
        self.faults[reason[:200]] += 1
        self.connections -= 1
        if self.connections == 0:
            self.done.set()


class Generator:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.address = Address.parse(spec.url)
        self.meter = CountingMeter()
        self.clients: list[Client] = []
        self.late = array("d")
        shown = Credentials(certificate=Path(spec.certificate)) if spec.certificate else None
        self.tls = tls_context(spec.ca or None, shown) if self.address.is_secure else None
        self._rendered: dict[tuple[Kind, int, int], Message] = {}

    def _message(self, kind: Kind, context: int, slot: int) -> Message:
        key = kind, context, slot
        if key not in self._rendered:
            self._rendered[key] = message(kind, self.spec.batch, context, slot, self.spec.caller)
        return self._rendered[key]

    def _rows(self, number: int, window: int) -> list[list[Message]]:
        """The messages of a connection: a row of each kind, with one for each place in the window."""
        spec = self.spec
        contexts = [
            spec.contexts[(number + slot * spec.all_connections) % len(spec.contexts)] for slot in range(window)
        ]
        rows = {kind: [self._message(kind, context, slot) for slot, context in enumerate(contexts)]
                for kind in {*spec.kinds}}  # fmt: skip
        begin = number % len(spec.kinds)
        return [rows[kind] for kind in (*spec.kinds[begin:], *spec.kinds[:begin])]

    async def connect(self) -> None:
        """Open the connections. Raises OSError and what picows does."""
        limit = asyncio.Semaphore(CONNECTING_AT_ONCE)
        window = self.spec.window if self.address.is_websocket else max(1, JOBS // self.spec.batch)

        async def one(number: int) -> None:
            async with limit:
                rows = self._rows(number, window)
                client = await connected(
                    self.address, self.meter, Expectation(rows[0]), rows, tls=self.tls, token=self.spec.token
                )
            self.clients.append(client)

        async with asyncio.TaskGroup() as tasks:
            for number in range(*self.spec.numbers):
                tasks.create_task(one(number))
        self.meter.connections = len(self.clients)

    # -- a step

    async def step(self, step: Step, latencies: BinaryIO) -> End:
        meter = self.meter
        if self.clients and meter.connections == 0:
            raise ConnectionError("the server has closed all connections")
        meter.measuring = meter.stopping = False
        meter.in_flight = 0
        clients = [client for client in self.clients if not client.is_lost]
        meter.idle = deque((client, slot) for slot in range(self._window()) for client in clients)
        meter.intended.clear()
        meter.overdue = array("d")
        meter.clear()
        meter.done = asyncio.Event()
        self.late = array("d")
        ended = asyncio.Event()
        loads: list[asyncio.Task[None]] = []
        if step.storm:
            loads = [asyncio.create_task(self._storm(number, ended)) for number in range(*self.spec.numbers)]
        elif step.rate:
            loads = [asyncio.create_task(self._open_loop(step.rate, ended))]
        else:
            meter.idle = None
            for client in clients:
                client.start()
        await self._wait(step.warm_up, ended)
        began, cpu = perf_counter(), time.process_time()
        meter.measuring = True
        answered = await self._measure(began, step.seconds, ended, latencies)
        meter.measuring = False
        until = perf_counter()
        seconds, cpu = until - began, time.process_time() - cpu
        unsent = [until - due for due in meter.intended if due <= until]
        fell_behind = len(meter.intended) >= BEHIND
        await self._stop(ended, loads)
        answered += self._write(latencies)
        meter.overdue.extend(unsent)
        meter.overdue.tofile(latencies)
        latencies.flush()
        late = sorted(self.late)
        self._tell(seconds, answered)
        late_ms = late[int(len(late) * 0.99)] * 1000 if late else 0.0
        return End(seconds, cpu / seconds, late_ms, meter.in_flight, len(unsent), fell_behind, meter.reply_bytes)

    def _window(self) -> int:
        return max((client.window for client in self.clients), default=0)

    async def _measure(self, began: float, seconds: float, ended: asyncio.Event, latencies: BinaryIO) -> int:
        """Say twice a second how far it is. Returns how many messages were answered."""
        meter, answered, next_at = self.meter, 0, TICK
        while (now := perf_counter() - began) < seconds and not ended.is_set() and not meter.done.is_set():
            if now >= next_at:
                answered += self._write(latencies)
                self._tell(now, answered)
                next_at += TICK
            await self._wait(min(next_at, seconds) - (perf_counter() - began), ended)
        return answered

    async def _wait(self, seconds: float, ended: asyncio.Event) -> None:
        """Until then, or until it is no use."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await ended.wait()
        except TimeoutError:
            pass

    async def _stop(self, ended: asyncio.Event, loads: list[asyncio.Task[None]]) -> None:
        meter = self.meter
        meter.stopping = True
        ended.set()
        await asyncio.gather(*loads)
        if meter.in_flight > 0 and meter.connections > 0:
            try:
                async with asyncio.timeout(DRAIN):
                    await meter.done.wait()
            except TimeoutError:
                pass

    async def _open_loop(self, rate: float, ended: asyncio.Event) -> None:
        """Send messages when they are due: the n-th n / rate seconds after the beginning."""
        meter, sent, began = self.meter, 0, perf_counter()
        assert meter.idle is not None
        while not ended.is_set():
            now = perf_counter()
            due = int((now - began) * rate)
            if sent < due and meter.idle and meter.measuring:
                self.late.append(now - began - (sent + 1) / rate)
            while sent < due and len(meter.intended) < BEHIND:
                sent += 1
                meter.intended.append(began + sent / rate)
            touched = set()
            while meter.intended and meter.idle:
                client, slot = meter.idle.popleft()
                if client.is_lost:
                    continue
                meter.in_flight += 1
                client.send(slot, meter.intended.popleft())
                touched.add(client)
            for client in touched:
                client.flush()
            if len(meter.intended) >= BEHIND:
                ended.set()
            await asyncio.sleep(0.001)

    async def _storm(self, number: int, ended: asyncio.Event) -> None:
        """Connect, send one message, read its answer and close, again and again. The latency is of all that."""
        rows = self._rows(number, 1)
        while not ended.is_set():
            began, one = perf_counter(), CountingMeter()
            one.connections, one.stopping, one.measuring = 1, True, True
            try:
                async with asyncio.timeout(DRAIN):
                    client = await connected(
                        self.address, one, Expectation(rows[0]), rows, tls=self.tls, token=self.spec.token
                    )
                    client.start()
                    await one.done.wait()
                client.close()
            except Exception as error:  # whatever a library says of a server that has enough
                one.faults[f"{type(error).__name__}: {error}"[:200]] += 1
                await asyncio.sleep(0.05)
            if self.meter.measuring:
                self.meter.codes += one.codes
                self.meter.faults += one.faults
                for code, reason in one.reasons.items():
                    self.meter.reasons.setdefault(code, reason)
            if one.latencies:
                self.meter.took(perf_counter() - began)

    # -- what is said

    def _write(self, latencies: BinaryIO) -> int:
        written, self.meter.latencies = self.meter.latencies, array("d")
        written.tofile(latencies)
        latencies.flush()
        return len(written)

    def _tell(self, seconds: float, answered: int) -> None:
        meter = self.meter
        tick = Tick(
            seconds, answered, dict(meter.codes), dict(meter.faults), len(meter.intended), dict(meter.reasons),
            meter.jobs, meter.changes, meter.events,
        )  # fmt: skip
        say({"tick": asdict(tick)})

    def close(self) -> None:
        for client in self.clients:
            client.close()


def say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
