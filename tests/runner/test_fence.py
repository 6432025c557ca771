"""A script runs while its lease is renewed: then its guard ends it, or it is paused while the coordinator is away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.runner.execute import Executor
from coordinator.runner.fence import Fence
from coordinator.runner.output import Output
from tests.runner.test_execute import FAMILY
from tests.support.attempts import Ran, assignment
from tests.support.processes import is_running
from tests.support.waiting import until

LEASE = 4.0
CLEANS_UP = """
import os, signal, sys, time
def stop(*_):
    print("cleaned up")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print(os.getpid(), flush=True)
time.sleep(600)
"""


class Fenced:
    """An attempt with a fence, under way in a nursery. Its lease is renewed until it has written a line."""

    def __init__(self, executor: Executor, script: str, *, is_away: bool = False, **more: Any) -> None:
        self.is_away = is_away
        self.output = Output(1_000_000)
        self.stop = trio.Event()
        self.ran: Ran | None = None
        self.fence = Fence(LEASE, executor.grace, lambda: self.is_away)
        self.began = trio.current_time()
        self.ended = 0.0
        self._executor = executor
        self._assignment = assignment(script, **more)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew_until_it_writes)
            outcome = await self._executor.execute(self._assignment, self.output, self.stop, self.fence)
        self.ended = trio.current_time()
        self.ran = Ran(outcome, self.output)

    async def _renew_until_it_writes(self) -> None:
        while True:
            self.fence.renewed(trio.current_time())
            with trio.move_on_after(0.1):
                await self.output.wait()
                return

    async def first_line(self) -> str:
        with trio.fail_after(15):
            await self.output.wait()
        ((_, lines),) = self.output.take()
        return lines[0]

    async def pids(self) -> list[int]:
        return [int(word) for word in (await self.first_line()).split()]


def begin(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


def state_of(process: int) -> str:
    """As ps shows it: T is stopped."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("lease", [0.1, 0.6, 5.0, 30.0, 3600.0])
async def test_what_must_stop_has_stopped_before_the_lease_ends(lease: float) -> None:
    fence = Fence(lease, 2.0)

    fence.renewed(trio.current_time())

    assert lease * 0.7 < fence.remaining < fence.remaining + fence.grace < lease
    assert fence.decides_at < trio.current_time() + fence.remaining


async def test_a_lease_counts_from_when_its_renewal_was_sent() -> None:
    fence = Fence(10.0, 1.0)
    fence.renewed(trio.current_time())
    before, changed = fence.remaining, fence.changed

    fence.renewed(trio.current_time() - 5)
    assert not changed.is_set()

    fence.renewed(trio.current_time() + 5)
    assert changed.is_set()
    assert before + 4 < fence.remaining < before + 5.1


@pytest.mark.slow
async def test_a_script_whose_lease_is_not_renewed_is_stopped_and_may_clean_up(executor: Executor) -> None:
    fenced = Fenced(executor, CLEANS_UP)

    await fenced.run()

    assert fenced.ran is not None
    assert fenced.ran.outcome.is_lost
    assert fenced.ran.lines[1:] == ["cleaned up"]


@pytest.mark.slow
async def test_a_whole_family_is_ended_that_does_not_stop_by_itself(executor: Executor) -> None:
    fenced = Fenced(executor, FAMILY + "time.sleep(600)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fenced.run)
        pids = await fenced.pids()

    assert not any(map(is_running, pids))
    assert fenced.ran is not None
    assert fenced.ran.outcome.is_lost


@pytest.mark.slow
async def test_a_script_whose_lease_is_renewed_goes_on(executor: Executor) -> None:
    fenced = Fenced(executor, "import time\nfor _ in range(60): print('tick', flush=True); time.sleep(0.1)")

    async def renew() -> None:
        while fenced.ran is None:
            fenced.fence.renewed(trio.current_time())
            await trio.sleep(0.2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fenced.run)
        nursery.start_soon(renew)

    assert fenced.ran is not None
    assert fenced.ran.error is None
    assert not fenced.ran.outcome.is_lost
    assert fenced.ended - fenced.began > LEASE


@pytest.mark.slow
async def test_while_the_coordinator_is_away_its_family_is_paused_and_then_goes_on(executor: Executor) -> None:
    fenced = Fenced(executor, FAMILY + "for _ in range(60): time.sleep(0.1)\nprint('went on')", is_away=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fenced.run)
        pids = await fenced.pids()
        await until(lambda: all(state_of(pid) == "T" for pid in pids))
        await trio.sleep(LEASE)  # much later it would have been over, and the lease too
        assert all(state_of(pid) == "T" for pid in pids)

        fenced.fence.renewed(trio.current_time())
        await until(lambda: not any(pid for pid in pids if is_running(pid) and state_of(pid) == "T"))

    assert fenced.ran is not None
    assert (fenced.ran.error, fenced.ran.lines) == (None, ["went on"])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "timeout"])
async def test_a_paused_script_that_is_not_wanted_any_more_does_nothing_more(executor: Executor, how: str) -> None:
    fenced = Fenced(executor, CLEANS_UP, is_away=True, timeout=int(LEASE) + 6 if how == "timeout" else 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fenced.run)
        (pid,) = await fenced.pids()
        await until(lambda: state_of(pid) == "T")
        if how == "stop":
            fenced.stop.set()

    assert fenced.ran is not None
    assert fenced.ran.lines == []
    assert fenced.ran.result["exit_code"] == "-9"
    assert not fenced.ran.outcome.is_lost


@pytest.mark.slow
async def test_a_runner_that_hangs_loses_its_scripts_all_the_same() -> None:
    script = """
import trio
from coordinator.runner.execute import PYTHON, Executor
from coordinator.runner.fence import Fence
from coordinator.runner.output import Output
from coordinator.runner.spawn import open_spawner
from tests.runner.test_execute import FAMILY
from tests.support.attempts import assignment

async def main():
    async with open_spawner() as spawner, trio.open_nursery() as nursery:
        output, fence = Output(1000), Fence(5.0, 0.1)
        executor = Executor(spawner, {"Python": PYTHON})
        nursery.start_soon(executor.execute, assignment(FAMILY + "time.sleep(600)"), output, trio.Event(), fence)
        await output.wait()
        print(*output.take()[0][1], flush=True)
        while True:
            fence.renewed(trio.current_time())
            await trio.sleep(0.2)

trio.run(main)
"""
    with begin(script) as runner:
        try:
            assert runner.stdout is not None
            pids = [int(word) for word in runner.stdout.readline().split()]
            await trio.sleep(6)
            assert all(map(is_running, pids))

            runner.send_signal(signal.SIGSTOP)

            await until(lambda: not any(map(is_running, pids)))
        finally:
            runner.kill()
