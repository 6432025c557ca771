"""A run of load: its contexts are made, generators are started and told what to do, what they measure is put together,
and in the end everything that was made is deleted."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
import trio
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from coordinator.client import Client, Forbidden, NotFound, NotLoggedIn, RpcError, StorageError
from coordinator.client.address import Address
from coordinator.client.reasons import first_of
from coordinator.load.generator import DRAIN, Spec, Step
from coordinator.load.jobs import JobsSpec
from coordinator.load.messages import CALLER, JOBS, Kind, message
from coordinator.load.shape import FLOW_NAME, SCRIPT_TYPES, Shape

__all__ = [
    "JobsPlan",
    "LoadFailed",
    "Measured",
    "Plan",
    "Runner",
    "Second",
    "crew",
    "find_knee",
    "generators",
    "new_histogram",
    "run_step",
    "stage",
]

RUNNERS_LEAVE: Final = 10.0  # seconds after which a runner that has gone is no longer taken for connected, and more
LOOK_AGAIN: Final = 0.25  # seconds
HIGHEST: Final = 600_000_000  # microseconds, of the histogram
DIGITS: Final = 3
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
CPU_LIMIT: Final = 0.9  # of a core, above which a generator is what limits
LATE_LIMIT: Final = 5.0  # milliseconds by which a generator may be late
_ASKED_AT_ONCE: Final = 64
_CONNECT_TIMEOUT: Final = 60.0
_ANSWER_TIMEOUT: Final = 15.0
_RUNNER_IDS: Final = 4_000_000_000  # the first; nobody else begins there
_TOKEN_SECONDS: Final = 86_400


class LoadFailed(Exception):
    """There is nothing to measure; the text says why in one line."""


@dataclass(frozen=True)
class JobsPlan:
    """What runs, of the scenarios in which jobs do.

    Attributes:
        runners: connections that take jobs and finish them at once; `capacity`: jobs that each has at once.
        width, depth: of flows, see Shape.
        followed: flows whose logs a fan-out publishes; 0: what happens in the contexts is.
    """

    runners: int = 4
    capacity: int = 100
    width: int = 4
    depth: int = 2
    followed: int = 0


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        kinds: of messages, one after the other, round and round.
        rate: calls a second in an open loop; 0: a closed loop.
        first_context: one to use that is there; None: new ones, which are deleted in the end.
        token: shown by each connection; '' for nothing.
        jobs: of the scenarios flows and fanout. The connections then submit flows, or are subscribers.
    """

    url: str
    scenario: str
    kinds: tuple[Kind, ...]
    batch: int = 1
    connections: int = 20
    window: int = 64
    contexts: int = 1
    processes: int = 1
    rate: float = 0.0
    warm_up: float = 2.0
    seconds: float = 10.0
    storm: bool = False
    first_context: int | None = None
    caller: int = CALLER
    token: str = ""
    ca: str = ""
    certificate: str = ""
    jobs: JobsPlan | None = None

    @property
    def is_fanout(self) -> bool:
        return self.jobs is not None and self.scenario == "fanout"

    @property
    def places(self) -> float:
        """How many contexts can be in use: as many as messages are sent to in turn. Flows go round all of them."""
        if self.jobs is not None:
            return math.inf
        is_websocket = Address.parse(self.url).is_websocket
        own = 1 if self.storm else self.window if is_websocket else max(1, JOBS // self.batch)
        return self.connections * own

    @property
    def unit(self) -> str:
        """What the rate is of."""
        return "changes" if self.is_fanout else "calls" if self.jobs is None else "flows"


class Runner(NamedTuple):
    """A connection that takes jobs and finishes them. Process: which one has it."""

    process: int
    context: int
    id: int
    token: str


@dataclass
class Second:
    """What was measured since the tick before."""

    at: float
    calls: int
    errors: int
    behind: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


@dataclass
class Measured:
    """A step as it was measured, by all generators together.

    Attributes:
        rate: asked for; 0 in a closed loop.
        calls: answered with results, `messages` messages.
        refused: messages answered with errors, by code. `faults`: what else went wrong.
        histogram: of microseconds from when a message was due, or in a closed loop sent, to its answer. It has also
            those that were in flight when the time was up, and the `unsent`: due by then, and kept waiting.
        grain: calls that may just not be due yet, or be in flight, where the rate is held.
        cpu_shares: of each generator, of a core.
        fell_behind: more was due than the server took; what was measured is of the time until then.
        unit: what `calls` are: calls, flows that ended, or changes that were published; of these `messages` are the
            arrivals at subscribers, and `undelivered` those that did not come.
        reasons: the first text of each code in `refused`.
        waits: a histogram of microseconds from when a job was ready to its runner having it; None where none run.
        jobs: that runners finished; events: of all kinds, that came to subscribers.
    """

    rate: float
    seconds: float = 0.0
    messages: int = 0
    calls: int = 0
    reply_bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    unsent: int = 0
    grain: int = 1
    fell_behind: bool = False
    late_ms: float = 0.0
    cpu_shares: list[float] = field(default_factory=list)
    histogram: Any = None
    series: list[Second] = field(default_factory=list)
    unit: str = "calls"
    reasons: dict[str, str] = field(default_factory=dict)
    jobs: int = 0
    events: int = 0
    undelivered: int = 0
    waits: Any = None

    @property
    def per_second(self) -> float:
        """Calls."""
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> int:
        return sum(self.refused.values()) + sum(self.faults.values()) + self.unanswered + self.undelivered

    def ms(self, percentile: float) -> float:
        """The latency that so many of 100 messages do not exceed."""
        if self.measured == 0:
            return math.nan
        value: int = self.histogram.get_value_at_percentile(percentile)
        return value / 1000

    def wait_ms(self, percentile: float) -> float:
        """The wait that so many of 100 jobs do not exceed."""
        if self.waits is None or self.waits.get_total_count() == 0:
            return math.nan
        value: int = self.waits.get_value_at_percentile(percentile)
        return value / 1000

    @property
    def measured(self) -> int:
        """How many latencies there are."""
        count: int = self.histogram.get_total_count()
        return count

    @property
    def is_rate_held(self) -> bool:
        """Whether as many calls were answered as were asked for, but for a few that were due in the end."""
        return not self.fell_behind and self.calls >= 0.97 * self.rate * self.seconds - self.grain

    @property
    def is_generator_limit(self) -> bool:
        """Whether it is the generators that could do no more."""
        return max(self.cpu_shares, default=0.0) > CPU_LIMIT or self.late_ms > LATE_LIMIT

    def keeps(self, limit_ms: float) -> bool:
        """Whether the rate asked for was held with a p99 within the limit, and without errors."""
        return self.is_rate_held and self.errors == 0 and self.messages > 0 and self.ms(99) <= limit_ms


def new_histogram() -> Any:
    return HdrHistogram(1, HIGHEST, DIGITS)


# -- what it runs in


@asynccontextmanager
async def stage(plan: Plan, client: Client, say: Callable[[str], None]) -> AsyncIterator[list[int]]:
    """The contexts of a run, with the jobs that calls load in each. Those that were made are deleted in the end.

    Raises:
        LoadFailed: they cannot be made.
    """
    made: list[int] = []
    own: list[int] = []
    try:
        try:
            if plan.first_context is None:
                first = await _free_range(client, plan.contexts)
                contexts = [*range(first, first + plan.contexts)]
                await _each(contexts, lambda id: _make(client, id, plan.caller, made))
            else:
                contexts = [*range(plan.first_context, plan.first_context + plan.contexts)]
            if plan.jobs is None:
                await _each(contexts, lambda id: _seed(client, id, plan.caller, own))
            elif plan.first_context is not None:
                await _each(contexts, lambda id: _check_idle(client, id))
        except Forbidden as error:
            raise LoadFailed(
                f"{error.message}; log in as somebody who may, or give --context of one whose admin you are"
            ) from None
        except NotLoggedIn:
            raise LoadFailed("callers log in here: give --token-file or --key, see --help") from None
        except RpcError as error:
            what = "the jobs to load" if plan.jobs is None else "the contexts"
            raise LoadFailed(f"{what} cannot be made or used: {error.message}") from None
        yield contexts
    finally:
        with trio.move_on_after(60 + plan.contexts / 20, shield=True) as scope:
            if not (made or own) or await _answers(client):
                await _clean(plan, client, made, own, say)
            else:
                say(f"the coordinator does not answer; what was made is in the contexts {_range_of(made or own)}")
        if scope.cancelled_caught:
            say(f"not everything was deleted in time; it is in the contexts {_range_of(made or own)}")


async def _answers(client: Client) -> bool:
    """Whether there is somebody to delete anything, or the coordinator went away under the load."""
    with trio.move_on_after(_ANSWER_TIMEOUT):
        with suppress(RpcError):
            await client.call("auth.whoami", {})
        return True
    return False


def _range_of(ids: Sequence[int]) -> str:
    return f"{min(ids)} to {max(ids)}" if len(ids) > 1 else str(ids[0] if ids else "none")


async def _each(ids: Sequence[int], act: Callable[[int], Any]) -> None:
    limit = trio.CapacityLimiter(_ASKED_AT_ONCE)

    async def one(id: int) -> None:
        async with limit:
            await act(id)

    try:
        async with trio.open_nursery() as nursery:
            for id in ids:
                nursery.start_soon(one, id)
    except BaseExceptionGroup as group:
        raise first_of(group) from None


async def _free_range(client: Client, count: int) -> int:
    """The first of so many context ids that are nobody's: high ones, or the lowest where the store has databases for
    those only (a Redis has 16 unless told otherwise)."""
    for _ in range(5):
        first = random.randrange(1_000_000_000, 2_000_000_000)
        try:
            if await _is_absent(client, first) and await _is_absent(client, first + count - 1):
                return first
        except StorageError:
            break
    taken = await _context_ids(client)
    first = 1
    for id in sorted(taken):
        if id >= first + count:
            break
        first = max(first, id + 1)
    try:
        if await _is_absent(client, first + count - 1):
            return first
    except StorageError as error:
        raise LoadFailed(f"the store has no room for {count} contexts more: {error.message}") from None
    raise LoadFailed("no context id is free; give --context")


async def _context_ids(client: Client) -> list[int]:
    page = await client.context_list()
    found = [*page.items]
    while page.cursor is not None:
        page = await client.context_list(cursor=page.cursor)
        found += page.items
    return found


async def _is_absent(client: Client, id: int) -> bool:
    try:
        await client.context_load(id=id)
    except NotFound:
        return True
    return False


async def _make(client: Client, id: int, caller: int, made: list[int]) -> None:
    if not await _is_absent(client, id):
        raise LoadFailed(f"context {id} is somebody's; try again")
    context = {"id": id, "admins": [caller], "readers": [], "executors": []}
    made.append(id)  # who is interrupted now does not know whether it was made
    await client.call("context.create", {"context": context})


async def _seed(client: Client, id: int, caller: int, own: list[int]) -> None:
    own.append(id)
    async with trio.open_nursery() as nursery:
        for job in message("create", JOBS, id, 0, caller).jobs:
            nursery.start_soon(client.call, "job.create", {"context_id": id, "job": job})


async def _clean(plan: Plan, client: Client, made: list[int], own: list[int], say: Callable[[str], None]) -> None:
    async def whole(id: int) -> None:
        with suppress(NotFound):
            await client.call("context.delete", {"context_id": id})

    async def jobs(id: int) -> None:
        for job in message("create", JOBS, id, 0, plan.caller).jobs:
            with suppress(NotFound):
                await client.call("job.delete", {"context_id": id, "caller_id": plan.caller, "id": job["id"]})

    try:
        if made:
            try:
                await _each(made, whole)
                return
            except RpcError as error:
                if error.code != -32601:  # no such method: a coordinator from before it
                    raise
        await _each(own, jobs)
        if made:
            say(f"this coordinator cannot delete contexts; empty ones stay behind: {_range_of(made)}")
    except Exception as error:  # it was the load that was to be measured
        say(f"what was made could not be deleted ({error}); it is in the contexts {_range_of(made or own)}")


async def _check_idle(client: Client, id: int) -> None:
    """Our runners must get no job of anybody else, nor anybody else's runner one of ours.

    Raises:
        LoadFailed: the context is not for this.
    """
    try:
        context = await client.call("context.load", {"id": id})
    except NotFound:
        raise LoadFailed(f"context {id} is not there; without --context new ones are used") from None
    paused = ["all of it"] if context.get("paused") else context.get("paused_script_types") or []
    if paused:
        raise LoadFailed(
            f"context {id} is paused ({', '.join(paused)}), so no job would run: resume it, or give another"
        )
    stats = await client.call("context.stats", {"context_id": id})
    if any(stats["flows"].values()) or any(stats["jobs"].values()):
        raise LoadFailed(
            f"context {id} has flows or jobs, which runners that do nothing must not take: give an empty one"
        )
    until = trio.current_time() + RUNNERS_LEAVE  # those of a run before this may have just gone
    while stats["runners"]["connected"] and trio.current_time() < until:
        await trio.sleep(LOOK_AGAIN)
        stats = await client.call("context.stats", {"context_id": id})
    if stats["runners"]["connected"]:
        raise LoadFailed(f"context {id} has runners, which would take the jobs of this load: give one that has none")


# -- who works in it


def _share(plan: Plan, contexts: Sequence[int], process: int, processes: int) -> tuple[list[int], str]:
    """The contexts of a process, and the script type of its jobs: nobody else's runners have both.

    Raises:
        LoadFailed: there are too few contexts.
    """
    if plan.is_fanout:
        return [*contexts], SCRIPT_TYPES[0]
    if len(contexts) >= processes:
        return [*contexts[process::processes]], SCRIPT_TYPES[0]
    turn, at = divmod(process, len(contexts))
    if turn >= len(SCRIPT_TYPES):
        raise LoadFailed(
            f"{processes} processes are too many for {len(contexts)} contexts, each of which {len(SCRIPT_TYPES)} can "
            "share: give more --contexts, or fewer --processes"
        )
    return [contexts[at]], SCRIPT_TYPES[turn]


def _places(plan: Plan, contexts: Sequence[int]) -> list[tuple[int, int]]:
    """Process and context of each runner. Each context of a process has one."""
    assert plan.jobs is not None
    processes = _processes(plan)
    places = []
    for process in range(1 if plan.is_fanout else processes):
        own, _ = _share(plan, contexts, process, processes)
        count = plan.jobs.runners if plan.is_fanout else math.ceil(plan.jobs.runners / processes)
        places += [(process, own[at % len(own)]) for at in range(max(count, len(own)))]
    return places


def _processes(plan: Plan) -> int:
    return min(plan.processes, plan.connections)


@asynccontextmanager
async def crew(
    plan: Plan, client: Client, contexts: list[int], say: Callable[[str], None]
) -> AsyncIterator[list[Runner]]:
    """The runners that are stored for a run, with tokens where callers log in, and the flows whose logs are published.
    In contexts that stay, runners and flows are deleted in the end.

    Raises:
        LoadFailed: they cannot be made.
    """
    if plan.jobs is None:
        yield []
        return
    runners: dict[int, Runner] = {}
    places = _places(plan, contexts)
    is_open = not plan.token and not plan.certificate
    try:
        try:
            await _each(range(len(places)), lambda at: _hire(client, at, *places[at], runners, is_open=is_open))
            for flow in range(1, plan.jobs.followed + 1):
                context = contexts[(flow - 1) % len(contexts)]
                await client.call("flow.submit", Shape(1, 1).submit(context, plan.caller, flow, flow, SCRIPT_TYPES[0]))
        except Forbidden as error:
            raise LoadFailed(
                f"{error.message}; storing runners and submitting flows needs an admin of the context: log in as one"
            ) from None
        except RpcError as error:
            raise LoadFailed(f"runners and flows cannot be made: {error.message}") from None
        yield [runners[id] for id in sorted(runners)]
    finally:
        if plan.first_context is not None:
            with trio.move_on_after(60 + plan.seconds * 10, shield=True) as scope:
                if await _answers(client):
                    await _dismiss(plan, client, contexts, [*runners.values()], say)
                else:
                    say(f"the coordinator does not answer; flows that remain are named {FLOW_NAME!r}")
            if scope.cancelled_caught:
                say(f"not all flows were deleted in time; those that remain are named {FLOW_NAME!r}")


async def _hire(
    client: Client, at: int, process: int, context: int, runners: dict[int, Runner], *, is_open: bool
) -> None:
    id = _RUNNER_IDS + at
    record = {"id": id, "pubkey": "", "address": "127.0.0.1", "topic": "bench", "local": True}
    runners[id] = Runner(process, context, id, "")
    await client.call("runner.create", {"context_id": context, "runner": record})
    if not is_open:
        of = {"principal": f"runner:{context}:{id}", "label": FLOW_NAME, "expires_in": _TOKEN_SECONDS}
        runners[id] = Runner(process, context, id, (await client.call("token.create", of))["token"])


async def _dismiss(
    plan: Plan, client: Client, contexts: list[int], runners: list[Runner], say: Callable[[str], None]
) -> None:
    async def flows(context: int) -> None:
        for method in ("flow.cancel_many", "flow.delete_many"):
            asked = {"context_id": context, "filter": {"name_prefix": FLOW_NAME, "caller_id": plan.caller}}
            while (cursor := (await client.call(method, asked)).get("cursor")) is not None:
                asked = {**asked, "cursor": cursor}

    try:
        await _each(contexts, flows)
        for runner in runners:
            with suppress(NotFound):
                await client.call("runner.delete", {"context_id": runner.context, "id": runner.id})
    except Exception as error:  # it was the load that was to be measured
        say(f"what was made could not be deleted ({error}); flows that remain are named {FLOW_NAME!r}")


# -- what generates


class _Process:
    """A generator."""

    def __init__(self, process: trio.Process, latencies: Path) -> None:
        self._process = process
        self._file = latencies.open("rb")
        self._waits_file = latencies.with_name(latencies.name + ".waits").open("rb")
        self._lines = _lines_of(process)
        self._tick: dict[str, Any] = {}

    async def send(self, line: Any) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(json.dumps(line).encode() + b"\n")
        except trio.BrokenResourceError:
            raise LoadFailed("a load generator has ended") from None

    async def next(self) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads(await self._lines.__anext__())
        except StopAsyncIteration:
            raise LoadFailed("a load generator has ended; see what it said above") from None
        if "failed" in said:
            raise LoadFailed(said["failed"])
        return said

    def latencies(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Those that were written since the last call, in seconds."""
        return np.frombuffer(self._file.read(), dtype=np.float64)

    def waits(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Those of jobs for their runners."""
        return np.frombuffer(self._waits_file.read(), dtype=np.float64)

    def kill(self) -> None:
        self._process.kill()

    async def aclose(self) -> None:
        self._file.close()
        self._waits_file.close()
        if self._process.returncode is None:
            assert self._process.stdin is not None
            await self._process.stdin.aclose()
            with trio.move_on_after(5):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def _lines_of(process: trio.Process) -> AsyncIterator[bytes]:
    assert process.stdout is not None
    buffer = bytearray()
    while True:
        end = buffer.find(b"\n")
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            yield line
            continue
        data = await process.stdout.receive_some()
        if not data:
            return
        buffer += data


@asynccontextmanager
async def generators(plan: Plan, contexts: list[int], runners: Sequence[Runner] = ()) -> AsyncIterator[list[_Process]]:
    """The processes, which have not connected yet, but where jobs run: then subscribers and runners are there. Tokens
    reach them by a pipe, never by a command line.

    Raises:
        LoadFailed: one could not connect.
    """
    count, epoch = _processes(plan), perf_counter()
    with tempfile.TemporaryDirectory(prefix="herocoordinator-bench-") as directory:
        started: list[_Process] = []
        try:
            for number in range(count):
                path = Path(directory) / f"{number}.latencies"
                path.touch()
                path.with_name(path.name + ".waits").touch()
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-P", "-m", "coordinator.load"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for us, who then end them
                )
                started.append(_Process(process, path))
                first, last = (plan.connections * at // count for at in (number, number + 1))
                if plan.jobs is not None:
                    jobs = _jobs_spec(plan, plan.jobs, contexts, runners, number, (first, last), epoch, str(path))
                    await started[-1].send(asdict(jobs))
                    continue
                spec = Spec(
                    url=plan.url,
                    kinds=[*plan.kinds],
                    batch=plan.batch,
                    numbers=(first, last),
                    all_connections=plan.connections,
                    window=plan.window,
                    contexts=contexts,
                    caller=plan.caller,
                    latencies=str(path),
                    token=plan.token,
                    ca=plan.ca,
                    certificate=plan.certificate,
                )
                await started[-1].send(asdict(spec))
            if plan.jobs is not None:
                await _until_connected(started)
            yield started
        except BaseException:
            for process_ in started:
                process_.kill()  # one that is in a step would not see that its input has ended
            raise
        finally:
            with trio.CancelScope(shield=True):
                for process_ in started:
                    await process_.aclose()


def _jobs_spec(
    plan: Plan,
    jobs: JobsPlan,
    contexts: list[int],
    runners: Sequence[Runner],
    number: int,
    connections: tuple[int, int],
    epoch: float,
    latencies: str,
) -> JobsSpec:
    own, script_type = _share(plan, contexts, number, _processes(plan))
    # In a fan-out each connection is a subscriber of one flow, or context, and the first process publishes.
    targets = [(contexts[at % len(contexts)], at + 1) for at in range(jobs.followed)] or [(id, 0) for id in contexts]
    listeners = [len(range(at, plan.connections, len(targets))) for at in range(len(targets))]
    first, last = connections
    return JobsSpec(
        scenario=plan.scenario,
        url=plan.url,
        contexts=own,
        caller=plan.caller,
        script_type=script_type,
        first_id=1 + number * ((2**32 - 1) // _processes(plan)),
        submitters=int(number == 0) if plan.is_fanout else last - first,
        window=plan.window,
        runners=[(runner.context, runner.id, runner.token) for runner in runners if runner.process == number],
        capacity=jobs.capacity,
        width=jobs.width,
        depth=jobs.depth,
        followed=[targets[at % len(targets)] for at in range(first, last)] if plan.is_fanout else [],
        held=jobs.followed,
        listeners=listeners,
        epoch=epoch,
        latencies=latencies,
        token=plan.token,
        ca=plan.ca,
        certificate=plan.certificate,
    )


async def _until_connected(processes: Sequence[_Process]) -> None:
    try:
        with trio.fail_after(_CONNECT_TIMEOUT):
            for process in processes:
                await process.next()
    except trio.TooSlowError:
        raise LoadFailed(f"runners and subscribers did not connect within {_CONNECT_TIMEOUT:g} s") from None


async def run_step(
    plan: Plan, processes: Sequence[_Process], show: Callable[[Measured], None] = lambda _: None
) -> Measured:
    """Measure once. `show` is called with what there is so far, about twice a second.

    Raises:
        LoadFailed: a generator could not connect.
    """
    sending = 1 if plan.is_fanout else len(processes)
    step = Step(plan.rate / plan.batch / sending, plan.warm_up, plan.seconds, plan.storm)
    found = Measured(plan.rate, histogram=new_histogram(), unit=plan.unit, grain=plan.batch * sending)
    if plan.jobs is not None and not plan.is_fanout:
        found.waits = new_histogram()
    ticks: list[dict[str, Any]] = [{} for _ in processes]
    ends: list[dict[str, Any]] = []
    gathered: list[Any] = []

    async def follow(at: int) -> None:
        process = processes[at]
        await process.send(asdict(step if at < sending else replace(step, rate=0.0)))
        while True:
            said = await process.next()
            if "end" in said:
                ends.append(said["end"])
                return
            if "tick" in said:
                ticks[at] = said["tick"]
                latencies = process.latencies()
                _record(found.histogram, latencies)
                gathered.append(latencies)
                if found.waits is not None:
                    _record(found.waits, process.waits())
                if at == 0:
                    _sum_up(found, plan, ticks, gathered)
                    show(found)

    limit = plan.warm_up + plan.seconds + DRAIN + _CONNECT_TIMEOUT
    try:
        with trio.fail_after(limit):
            async with trio.open_nursery() as nursery:
                for at in range(len(processes)):
                    nursery.start_soon(follow, at)
    except trio.TooSlowError:
        raise LoadFailed(f"the load generators did not end within {limit:g} s") from None
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    _sum_up(found, plan, ticks, gathered)
    found.seconds = max(end["seconds"] for end in ends)
    found.late_ms = max(end["late_ms"] for end in ends)
    found.cpu_shares = [round(end["cpu_share"], 3) for end in ends]
    found.unanswered = sum(end["unanswered"] for end in ends)
    found.unsent = sum(end["unsent"] for end in ends)
    if plan.is_fanout:
        # More may have come than was acknowledged: what was refused in the end, or told again.
        found.undelivered = max(0, sum(end["expected"] - end["delivered"] for end in ends))
    found.fell_behind = any(end["fell_behind"] for end in ends)
    found.reply_bytes = sum(end["reply_bytes"] for end in ends)
    return found


def _record(histogram: Any, latencies: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    microseconds = np.clip((latencies * 1e6).astype(np.int64), 1, HIGHEST)
    for value, count in zip(*np.unique(microseconds, return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))


def _sum_up(found: Measured, plan: Plan, ticks: list[dict[str, Any]], gathered: list[Any]) -> None:
    """Bring what was found up to what the generators have said, and note what was new in it."""
    present = [tick for tick in ticks if tick]
    if not present:
        return
    calls, errors = found.calls, found.errors
    found.messages = sum(tick["answered"] for tick in present)
    found.calls = sum(tick["changes"] for tick in present) if plan.is_fanout else found.messages * plan.batch
    found.jobs = sum(tick["jobs"] for tick in present)
    found.events = sum(tick["events"] for tick in present)
    for tick in present:
        found.reasons.update(tick["reasons"])
    found.seconds = max(tick["seconds"] for tick in present)
    found.refused = sum((Counter(tick["refused"]) for tick in present), Counter())
    found.faults = sum((Counter(tick["faults"]) for tick in present), Counter())
    latencies = np.concatenate(gathered) if gathered else np.zeros(0)
    gathered.clear()
    if len(latencies) == 0 and found.errors == errors:
        return
    p50, p99, p999 = np.quantile(latencies, [0.5, 0.99, 0.999]) * 1000 if len(latencies) else [math.nan] * 3
    behind = sum(tick["behind"] for tick in present)
    found.series.append(
        Second(found.seconds, found.calls - calls, found.errors - errors, behind, float(p50), float(p99), float(p999))
    )


# -- how much it can take


async def find_knee(
    plan: Plan,
    processes: Sequence[_Process],
    limit_ms: float,
    show: Callable[[Measured], None],
    say: Callable[[str], None],
) -> list[Measured]:
    """Raise the rate by a half until a p99 within `limit_ms` is not held any more, then halve the span between the last
    that was and the first that was not, until they are within 5 %. What was measured at each; the best one last."""
    closed = await run_step(replace(plan, rate=0.0, seconds=min(plan.seconds, 3.0)), processes, show)
    steps, good, bad, best = [closed], 0.0, math.inf, None
    rate = max(closed.per_second / 8, 10.0 * plan.batch)
    while bad / max(good, 1e-9) > 1.05 and rate >= 1.0:
        found = await run_step(replace(plan, rate=rate), processes, show)
        steps.append(found)
        is_held = found.keeps(limit_ms)
        p99 = f"p99 {found.ms(99):8.2f} ms" if found.measured else "nothing was answered"
        errors = f", {found.errors} errors" if found.errors else ""
        say(f"{rate:10,.0f} {plan.unit}/s: {p99}, {'held' if is_held else 'not held'}{errors}")
        if is_held:
            good, best = rate, found
        else:
            bad = rate
            if found.is_generator_limit:
                say("the load generator is what limits; give it more --processes, or a machine of its own")
        rate = rate * 1.5 if bad == math.inf else (good + bad) / 2 if good else rate / 2
    if best is not None:
        steps.append(best)
    return steps
