"""Flows over several workers: what is done at one takes effect at the others; nothing of a dead one is forgotten."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.engine.membership import DEAD_AFTER
from tests.support.api import Api
from tests.support.flows import chain, submit, wide
from tests.support.multiprocess import one_of_each, worker_with
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.waiting import until
from tests.support.workers import Worker, follower, worker

pytestmark = pytest.mark.slow

HANG = 120.0
TAKEN_OVER = "took over from a coordinator that is gone"
WORKER_ENDED = "a worker ended; starting another"


def seconds_between(earlier: dict[str, Any], later: dict[str, Any]) -> float:
    """By the clock of the coordinator's log: how long processes take to start, on a busy machine, is not in it."""
    times = [datetime.fromisoformat(entry["timestamp"]) for entry in (earlier, later)]
    return (times[1] - times[0]).total_seconds()


@asynccontextmanager
async def runner_at(server: CoordinatorProcess, process: int, id: int = 3, **options: Any) -> AsyncIterator[Worker]:
    """A subscribed runner of context 1 whose connection this worker has."""
    async with (
        worker(server.ws, 1, id, subscribed=False) as first,
        worker(server.ws, 1, id, subscribed=False) as second,
    ):
        by_worker = {worker_with(server, server.ws, each.client.port): each for each in (first, second)}
        await by_worker[process].subscribe(**options)
        yield by_worker[process]


async def test_a_runner_of_one_worker_gets_the_jobs_started_at_another(two: CoordinatorProcess) -> None:
    here, there = two.workers()
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients, runner_at(two, here) as runner:
            api = Api(clients[there])
            for flow in range(1, 31):
                await submit(api, 1, chain(2, first=flow * 10), flow)
                for _ in range(2):
                    await runner.finish(await runner.job())

                assert (await api.call("flow.load", context_id=1, id=flow))["status"] == "Finished"


async def test_a_follower_at_one_worker_sees_the_events_of_another(two: CoordinatorProcess) -> None:
    _, there = two.workers()
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients, runner_at(two, there) as runner:
            api = Api(clients[there])
            await submit(api, 1, chain(3))
            async with follower(two.ws, 1) as one, follower(two.ws, 1) as other:
                followers = [one, other]  # one at each worker, as they have equally many clients
                for id in (1, 2, 3):
                    await runner.finish(await runner.job())
                    for following in followers:
                        await following.until(job_id=id, status="Finished")
                for following in followers:
                    await following.until(kind="flow", status="Finished")
                assert [each["event_id"] for each in one.events] == [each["event_id"] for each in other.events]


async def test_the_leases_of_a_killed_worker_are_seen_to_without_waiting_for_its_silence(
    two: CoordinatorProcess,
) -> None:
    victim, survivor = two.workers()
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients:
            await submit(Api(clients[survivor]), 1, wide(1), retries=1)
            async with runner_at(two, victim, lease=1.0) as lost:
                running = await lost.job()
                assert running["attempt"] == 1

                os.kill(victim, signal.SIGKILL)

                async with worker(two.ws, 1, 4) as other:
                    assert (await other.job())["attempt"] == 2
        taken_over = await trio.to_thread.run_sync(two.wait_for, TAKEN_OVER)
        assert taken_over["worker"] in (1, 2)
        assert seconds_between(two.wait_for(WORKER_ENDED), taken_over) < DEAD_AFTER


async def test_after_a_restart_each_lost_worker_is_taken_over_from_once_and_at_once(tmp_path: Path) -> None:
    arguments = ("--workers", "3", "--data-dir", str(tmp_path))
    with trio.fail_after(HANG):
        with coordinator(*arguments) as server:
            async with one_of_each(server) as clients:
                for context, client in enumerate(clients.values(), 1):
                    api = Api(client)
                    await submit(api, context, wide(1), retries=1)
                    async with worker(server.ws, context, lease=1.0) as runner:
                        await runner.job()
                server.process.kill()
                server.process.wait(10)

        with coordinator(*arguments) as again:
            for context in (1, 2, 3):
                async with worker(again.ws, context, 4) as runner:
                    assert (await runner.job())["attempt"] == 2
            await until(lambda: [entry["event"] for entry in again.logs].count(TAKEN_OVER) >= 3)
            last = [entry for entry in again.logs if entry["event"] == TAKEN_OVER][-1]
            assert seconds_between(again.wait_for("serving"), last) < DEAD_AFTER
            gone = [entry["coordinator"] for entry in again.logs if entry["event"] == TAKEN_OVER]
            assert len(gone) == len({*gone}) == 3


async def test_a_runner_whose_worker_was_killed_goes_on_with_its_job_at_another(two: CoordinatorProcess) -> None:
    victim, survivor = two.workers()
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients:
            api = Api(clients[survivor])
            await submit(api, 1, wide(1))
            async with runner_at(two, victim, session="s", lease=30.0) as lost:
                running = await lost.job()
                os.kill(victim, signal.SIGKILL)
                await lost.client.closed.wait()
            async with worker(two.ws, 1, 3, session="s", lease=30.0, holding=[running["token"]]) as again:
                assert again.lost == []
                await again.finish(running)
            assert (await api.call("flow.load", context_id=1, id=1))["status"] == "Finished"
