"""A runner that is killed leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import is_running, parent_of
from tests.support.waiting import until

RUNNER = """
import signal, sys, trio
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background has it ignored
from coordinator.runner.execute import PYTHON, Executor
from coordinator.runner.output import Output
from coordinator.runner.spawn import open_spawner
from tests.runner.test_execute import FAMILY
from tests.support.attempts import assignment

async def main():
    async with open_spawner() as spawner, trio.open_nursery() as nursery:
        output = Output(1000)
        script = assignment(FAMILY + "time.sleep(600)")
        nursery.start_soon(Executor(spawner, {"Python": PYTHON}).execute, script, output, trio.Event())
        await output.wait()
        print(spawner.directory, *output.take()[0][1], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def begin() -> tuple[subprocess.Popen[bytes], Path, list[int]]:
    """A runner with a script under way, its directory, and the processes of the script."""
    runner = subprocess.Popen([sys.executable, "-c", RUNNER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert runner.stdout is not None
    directory, *words = runner.stdout.readline().decode().split()
    return runner, Path(directory), [int(word) for word in words]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_runner_that_is_killed_leaves_no_process_and_no_file(number: signal.Signals) -> None:
    runner, directory, family = begin()
    guard = parent_of(family[0])
    processes = [*family, guard, parent_of(guard)]
    assert len(processes) == 5
    assert all(map(is_running, processes))

    with runner:
        runner.send_signal(number)

    await until(lambda: not any(map(is_running, processes)))
    await until(lambda: not directory.exists())
