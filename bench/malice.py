"""Malice beside quiet clients: floods of what costs the sender next to nothing, and replies that nobody reads.

Of each: what the quiet clients feel of it; of the replies also what they cost in memory, while and after.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.compare import Plan
from bench.hostile import Attack, Kind, attacking
from bench.load import LoadFailed, LoadResult, generate
from bench.machine import peak_bytes, resident_bytes
from bench.servers import BenchServer, ServerFailed
from bench.servers import coordinator as running_coordinator
from bench.tenants import HOSTILE_NICENESS, QUIET_CLIENTS, quiet_clients
from coordinator.load.messages import CALLER

__all__ = ["AFTER_GOAL", "DEAF", "FLOODS", "GROWTH_GOAL", "QUICK", "Malice", "Memory", "Row", "suffered"]

BUDGET: Final = 16 * 2**20  # bytes of replies a connection may leave unread: the default of --max-unsent-bytes
GROWTH_GOAL: Final = 2.0  # of the budget, for each connection
AFTER_GOAL: Final = 1.5

_CONTEXT: Final = QUIET_CLIENTS + 1  # of the hostile ones
_BIG: Final = "x" * 1_000_000
_BIG_JOBS: Final = 15  # in that context, which is what a page of its list is made of
_LINES: Final = 40  # of half a MB each, in the events of its flow
_CALLS: Final = 1_024  # that a connection sends without reading
_HEAD_START: Final = 1.0  # seconds an attack has before anything is measured
_SETTLE: Final = 3.0  # seconds from its end until memory is looked at again
_RUNNER: Final = 3


@dataclass(frozen=True, slots=True)
class Row:
    """An attack: what it is called, and what is done by how many connections. `payload` is bytes of frames or heads.
    If `logs_in`, callers have to log in, and the quiet clients have."""

    name: str
    scheme: str
    attack: Kind
    payload: bytes
    connections: int = 1
    logs_in: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """The coordinator's, in bytes: resident before the attack, its peak meanwhile, and resident after it."""

    before: int
    peak: int
    after: int


@dataclass(frozen=True, slots=True)
class Malice:
    """Rounds of the quiet clients alone and beside the attack, and of the coordinator's memory.

    Beside it is None where they could not connect, or none of them was answered.
    """

    row: Row
    alone: list[LoadResult]
    beside: list[LoadResult | None]
    memory: list[Memory]

    @property
    def ratios(self) -> list[float]:
        """Their p99 beside the attack by that alone."""
        return [beside / alone.p99_ms for beside, alone in zip(self.beside_ms, self.alone, strict=True)]

    @property
    def beside_ms(self) -> list[float]:
        """Their p99 beside the attack, in milliseconds."""
        return [math.inf if beside is None else beside.p99_ms for beside in self.beside]

    @property
    def growth(self) -> list[float]:
        """By how much memory grew at most since before the first round, by the budget of the attack's connections."""
        first = self.memory[0].before
        return [(memory.peak - first) / (BUDGET * self.row.connections) for memory in self.memory]

    @property
    def remaining(self) -> list[float]:
        """Memory after the attack by that before the first round."""
        return [memory.after / self.memory[0].before for memory in self.memory]


def _call(number: int, method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


def _frame(opcode: int, payload: bytes) -> bytes:
    """A whole client's frame; masked with zeros."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + size + bytes(4) + payload


def _in_fragments(message: bytes) -> bytes:
    """A text message in fragments of one byte."""
    last = len(message) - 1
    return b"".join(
        bytes([(0x80 if at == last else 0) | (0x01 if at == 0 else 0), 0x81]) + bytes(4) + message[at : at + 1]
        for at in range(len(message))
    )


def _post(body: bytes, *, shown: bytes = b"") -> bytes:
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
    return head % (shown, len(body)) + body


def _frames_of(method: str, count: int, **params: Any) -> bytes:
    return b"".join(_frame(1, _call(number, method, **params)) for number in range(count))


_BIG_JOB: Final = {"context_id": _CONTEXT, "caller_id": CALLER, "id": 1}
_FLOW: Final = {"context_id": _CONTEXT, "id": 1}
_SMALL_CALL: Final = _call(1, "job.load", context_id=_CONTEXT, caller_id=CALLER, id=0)
_BAD_TOKEN: Final = "hc_" + "A" * 43
_HEAD: Final = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: " + b"y" * 1_000 + b"\r\n\r\n"

FLOODS: Final = (
    Row("1-byte fragments", "ws", "flood", _in_fragments(_SMALL_CALL)),
    Row("pings", "ws", "flood", _frame(9, b"x")),
    Row("empty objects", "ws", "flood", _frame(1, b"{}")),
    Row("slow heads", "http", "drip", _HEAD, 500),
    Row("half-open handshakes", "half", "drip", _HEAD, 2_000),
    Row(
        "calls with a bad token",
        "http",
        "flood",
        _post(_SMALL_CALL, shown=f"authorization: Bearer {_BAD_TOKEN}\r\n".encode()),
        50,
        logs_in=True,
    ),
    Row("bad logins", "ws", "flood", _frame(1, _call(1, "auth.login", token=_BAD_TOKEN)), 50, logs_in=True),
    Row("calls without a login", "ws", "flood", _frame(1, _SMALL_CALL), 50, logs_in=True),
)
DEAF: Final = (
    Row("loads of 1 MB", "ws", "deaf", _frames_of("job.load", _CALLS, **_BIG_JOB)),
    Row("loads of 1 MB", "ws", "deaf", _frames_of("job.load", _CALLS, **_BIG_JOB), 4),
    Row(
        "a batch of loads of 1 MB over HTTP",
        "http",
        "deaf",
        _post(b"[" + b",".join(_call(number, "job.load", **_BIG_JOB) for number in range(1_000)) + b"]"),
    ),
    Row("flow.events of 20 MB", "ws", "deaf", _frames_of("flow.events", _CALLS, **_FLOW)),
    Row("job.list of 15 MB", "ws", "deaf", _frames_of("job.list", _CALLS, context_id=_CONTEXT)),
)
QUICK: Final = (FLOODS[0], DEAF[0])


def suffered(rows: tuple[Row, ...], plan: Plan, note: Callable[[str], None]) -> list[Malice]:
    """Each attack in turn, on a coordinator of its own, so that none inherits another's memory."""
    found = []
    for row in rows:
        with _prepared(plan, logs_in=row.logs_in) as server:
            malice = Malice(row, [], [], [])
            for _ in range(plan.rounds):
                malice.alone.append(generate(quiet_clients(server, plan), plan.cores.others))
                beside, memory = _beside(server, row, plan)
                malice.beside.append(beside)
                malice.memory.append(memory)
                sizes = " / ".join(f"{size / 2**20:.0f}" for size in (memory.before, memory.peak, memory.after))
                note(
                    f"{row.connections:,} × {row.name}: p99 {malice.alone[-1].p99_ms:.1f} ms alone, "
                    f"{malice.beside_ms[-1]:.1f} beside; MiB before / at most / after: {sizes}"
                )
            found.append(malice)
    return found


@contextlib.contextmanager
def _prepared(plan: Plan, *, logs_in: bool) -> Iterator[BenchServer]:
    """A coordinator with the quiet clients' jobs, and in the hostile ones' context, unless they are to be kept out of
    all of them, large jobs and a flow's events."""
    flags = "--fsync", plan.fsync
    with running_coordinator(plan.cores, plan.data_root, *flags, may_warn=True, has_logins=logs_in) as server:
        server.seed(range(1, QUIET_CLIENTS + 1))
        if logs_in:
            yield server
            return
        runner = {"id": _RUNNER, "pubkey": "", "address": "127.0.0.1", "topic": "r", "local": True}
        jobs = [{**_job(number), "script": _BIG} for number in range(1, _BIG_JOBS + 1)]
        for job in jobs:
            _do(server, "job.create", context_id=_CONTEXT, job=job)
        logging = _job(_BIG_JOBS + 1)
        flow = {**_FLOW, "caller_id": CALLER, "jobs": [logging["id"]], "env_vars": {}}
        _do(server, "runner.create", context_id=_CONTEXT, runner=runner)
        _do(server, "flow.submit", context_id=_CONTEXT, flow=flow, jobs=[logging])
        taken = _do(server, "job.take", context_id=_CONTEXT, runner_id=_RUNNER, script_types=["Python"])["jobs"][0]
        attempt = {**_BIG_JOB, "id": logging["id"], "token": taken["token"]}
        for _ in range(_LINES):
            _do(server, "job.log", **attempt, lines=[_BIG[: len(_BIG) // 2]])
        yield server


def _job(number: int) -> dict[str, Any]:
    fields = {"id": number, "caller_id": CALLER, "context_id": _CONTEXT, "script": "", "script_type": "Python"}
    return {**fields, "timeout": 3600, "retries": 0, "env_vars": {}, "prerequisites": [], "depends": []}


def _do(server: BenchServer, method: str, **params: Any) -> Any:
    """The result of a call. Raises ServerFailed if it has none."""
    reply = server.post(_call(1, method, **params))
    if "result" not in reply:
        raise ServerFailed(f"{method}: {reply}")
    return reply["result"]


def _beside(server: BenchServer, row: Row, plan: Plan) -> tuple[LoadResult | None, Memory]:
    """The quiet clients while the attack goes on, and what it costs the server's memory."""
    pid = server.processes["server"]
    url = server.urls["ws"].replace("ws:", "http:") if row.scheme == "half" else server.urls[row.scheme]
    attack = Attack(kind=row.attack, url=url, payload=row.payload.decode("latin-1"), connections=row.connections)
    before = resident_bytes(pid)
    _forget_peak(pid)
    with attacking(attack, plan.cores.others, HOSTILE_NICENESS):
        time.sleep(_HEAD_START)
        result = None
        with contextlib.suppress(LoadFailed):
            result = generate(quiet_clients(server, plan), plan.cores.others)
        peak = peak_bytes(pid)
    time.sleep(_SETTLE)
    return result, Memory(before, peak, resident_bytes(pid))


def _forget_peak(pid: int) -> None:
    """From now on the peak is that of what comes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
