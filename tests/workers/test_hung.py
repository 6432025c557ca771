"""A worker whose event loop stands still is killed and replaced, and nobody who connects meanwhile waits for ever."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.support.looking import metric
from tests.support.multiprocess import one_of_each, worker_with
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import ConnectionLost, job, streaming
from tests.support.waiting import until

pytestmark = pytest.mark.slow

STALL = """
import signal, sys, time
if "coordinator.server.workers" in sys.orig_argv:
    def stall_for_ever(number, frame):
        while True:
            time.sleep(1)
    signal.signal(signal.SIGUSR2, stall_for_ever)
"""


async def replaced(server: CoordinatorProcess, gone: int) -> None:
    await until(lambda: len(server.workers()) == 2 and gone not in server.workers(), within=60)
    await until(lambda: metric(server.http, "workers") == 2, within=60)


async def test_one_that_is_stopped_is_replaced_and_its_clients_learn_of_it(two: CoordinatorProcess) -> None:
    async with one_of_each(two) as clients:
        hung, client = next(iter(clients.items()))
        other = next(client for worker, client in clients.items() if worker != hung)
        os.kill(hung, signal.SIGSTOP)

        with pytest.raises(ConnectionLost):
            await client.call("job.create", job(1, 1))
        assert (await other.call("job.create", job(1, 2)))["id"] == 2

    entry = two.wait_for("a worker hangs; killing it")
    assert (entry["pid"], entry["state"]) == (hung, "stopped by a signal")
    await replaced(two, hung)


async def test_clients_on_their_way_to_it_go_to_another(two: CoordinatorProcess) -> None:
    hung = two.workers()[0]
    os.kill(hung, signal.SIGSTOP)

    async def connect_and_call(id: int) -> None:
        async with streaming(two.ws) as client:
            assert (await client.call("job.create", job(1, id)))["id"] == id
            assert worker_with(two, two.ws, client.port) != hung

    async with trio.open_nursery() as nursery:
        for id in range(1, 9):
            nursery.start_soon(connect_and_call, id)
    await replaced(two, hung)


async def test_the_log_says_where_one_stands(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STALL)
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with coordinator("--workers", "2", "--data-dir", str(tmp_path / "data"), env=env) as server:
        hung = server.workers()[0]
        os.kill(hung, signal.SIGUSR2)

        entry = await trio.to_thread.run_sync(server.wait_for, "a worker hangs; killing it")
        assert entry["pid"] == hung
        assert "in stall_for_ever" in entry["stacks"]
        await replaced(server, hung)


async def test_a_parent_that_was_held_up_takes_no_worker_for_dead(two: CoordinatorProcess) -> None:
    workers = two.workers()
    os.kill(two.process.pid, signal.SIGSTOP)
    await trio.sleep(12)
    os.kill(two.process.pid, signal.SIGCONT)

    async with one_of_each(two) as clients:
        for client in clients.values():
            assert (await client.call("job.create", job(1, 1)))["id"] == 1
        await trio.sleep(2)
    assert two.workers() == workers
    assert not any(entry["event"] == "a worker hangs; killing it" for entry in two.logs)


async def test_one_that_hangs_does_not_hold_up_a_stop_for_the_whole_grace(tmp_path: Path) -> None:
    with coordinator("--workers", "2", "--data-dir", str(tmp_path), "--shutdown-grace", "300") as server:
        os.kill(server.workers()[0], signal.SIGSTOP)
        assert server.stop(timeout=120) == 0
