"""The processes that generate the load: they are started, told what to do, and ended."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import trio

from coordinator.load.generator import Spec
from coordinator.load.jobs import JobsSpec
from coordinator.load.plan import JobsPlan, LoadFailed, Plan, Runner, share

__all__ = ["CONNECT_TIMEOUT", "Process", "generators"]

CONNECT_TIMEOUT: Final = 60.0


class Process:
    """A generator."""

    def __init__(self, process: trio.Process, latencies: Path) -> None:
        self._process = process
        self._file = latencies.open("rb")
        self._waits_file = latencies.with_name(latencies.name + ".waits").open("rb")
        self._lines = _lines_of(process)

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
async def generators(plan: Plan, contexts: list[int], runners: Sequence[Runner] = ()) -> AsyncIterator[list[Process]]:
    """The processes, which have not connected yet, but where jobs run: then subscribers and runners are there. Tokens
    reach them by a pipe, never by a command line.

    Raises:
        LoadFailed: one could not connect.
    """
    count, epoch = plan.generators, perf_counter()
    with tempfile.TemporaryDirectory(prefix="herocoordinator-bench-") as directory:
        started: list[Process] = []
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
                started.append(Process(process, path))
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
    own, script_type = share(plan, contexts, number)
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
        first_id=1 + number * ((2**32 - 1) // plan.generators),
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


async def _until_connected(processes: Sequence[Process]) -> None:
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            for process in processes:
                await process.next()
    except trio.TooSlowError:
        raise LoadFailed(f"runners and subscribers did not connect within {CONNECT_TIMEOUT:g} s") from None
