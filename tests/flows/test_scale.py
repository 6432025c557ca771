"""Flows of many jobs, and many flows: they finish, others are answered meanwhile, and memory stays flat.

HEROCOORDINATOR_SCALE: 1 is the full size (flows of 10,000 jobs, 100,000 jobs in all); the default is a part of it that
suits a small machine.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest
import trio

from tests.support.api import Api
from tests.support.flows import Dag, chain, random_dag, submission
from tests.support.looking import resident
from tests.support.noop import NoopRunner, noop_runner
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.streaming import streaming
from tests.support.workers import register

SCALE: Final = float(os.environ.get("HEROCOORDINATOR_SCALE", "0.2"))
JOBS: Final = int(10_000 * SCALE)
JOBS_IN_ALL: Final = int(100_000 * SCALE)
HANG: Final = 60 + 300 * SCALE
LARGE: Final = str(32 * 1024 * 1024)  # a flow of 10,000 jobs is one message of 2 MB

DAGS: Final[dict[str, Dag]] = {
    "wide": {1: [], **{id: [1] for id in range(2, JOBS)}, JOBS: [*range(2, JOBS)]},
    "deep": chain(JOBS if SCALE >= 1 else JOBS // 3),  # one after the other: the slowest
    "random": random_dag(random.Random(1), JOBS),
}


@pytest.fixture
def server(store: ValkeyProcess) -> Iterator[CoordinatorProcess]:
    with coordinator("--redis-url", store.url, "--max-frame-bytes", LARGE) as running:
        yield running


@pytest.fixture
def forgetful(store: ValkeyProcess) -> Iterator[CoordinatorProcess]:
    """It deletes what has ended after a second."""
    with coordinator("--redis-url", store.url, "--event-retention", "1", "--retention", "1") as running:
        yield running


async def runners(stack: AsyncExitStack, server: CoordinatorProcess, api: Api, count: int) -> list[NoopRunner]:
    started = []
    for id in range(1, count + 1):
        await register(api, 1, id)
        started.append(await stack.enter_async_context(noop_runner(server.ws, 1, id)))
    return started


@pytest.mark.slow
@pytest.mark.timeout(HANG + 30)
@pytest.mark.parametrize("shape", DAGS)
async def test_a_flow_of_very_many_jobs_finishes_while_others_are_answered(
    server: CoordinatorProcess, shape: str
) -> None:
    dag = DAGS[shape]
    ended = trio.Event()
    answered = 0

    def notified(notices: list[dict[str, Any]]) -> None:
        """Most of these events are like any other, so they are not held against the contract here."""
        last = notices[-1]["params"]
        if (last["kind"], last.get("status")) == ("flow", "Finished"):
            ended.set()

    with trio.fail_after(HANG):
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(streaming(server.ws, notified))
            working = await runners(stack, server, Api(client), 2)
            await client.call("flow.submit", submission(1, dag, script="pass"))
            await client.call("flow.subscribe", {"context_id": 1, "id": 1})
            async with streaming(server.ws) as other:
                while not ended.is_set():
                    await other.call("runner.load", {"context_id": 1, "id": 1})
                    flow = await other.call("flow.load", {"context_id": 1, "id": 1})
                    answered += flow["status"] == "Started"
                    await trio.sleep(0.01)

            jobs = {job["id"]: job for job in (await client.call("flow.status", {"context_id": 1, "id": 1}))["jobs"]}
            assert jobs.keys() == dag.keys()
            assert {(job["status"], job["attempt"]) for job in jobs.values()} == {("Finished", 1)}
            edges = [(parent, id) for id, parents in dag.items() for parent in parents]
            assert all(jobs[parent]["ended_at"] <= jobs[id]["started_at"] for parent, id in edges)
            assert [runner.refused for runner in working] == [[], []]
            assert answered > 0


@pytest.mark.slow
@pytest.mark.timeout(HANG + 30)
async def test_memory_stays_flat_over_very_many_jobs(forgetful: CoordinatorProcess, store: ValkeyProcess) -> None:
    """With what has ended deleted after a second, the last third needs no more than the first."""
    a_flow = 100
    measured: list[tuple[float, float]] = []
    rng = random.Random(1)
    with trio.fail_after(HANG):
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(streaming(forgetful.ws))
            working = await runners(stack, forgetful, Api(client), 2)

            async def run_flows(first: int, count: int) -> None:
                """A few at a time, until all their jobs are done."""
                for flow in range(first, first + count):
                    while flow * a_flow - sum(runner.finished for runner in working) > 2_000:
                        await trio.sleep(0.005)
                    dag = random_dag(rng, a_flow, 1 + flow * a_flow)
                    await client.call("flow.submit", submission(1, dag, flow, script="pass"))
                while sum(runner.finished for runner in working) < (first + count) * a_flow:
                    await trio.sleep(0.01)

            a_third = JOBS_IN_ALL // a_flow // 3
            for third in range(3):
                await run_flows(third * a_third, a_third)
                await until_deleted(store)
                measured.append((resident(forgetful.process.pid), used_memory(store)))

            assert [runner.refused for runner in working] == [[], []]
    (coordinator_first, store_first), _, (coordinator_last, store_last) = measured
    assert coordinator_last - coordinator_first < 10, measured
    assert store_last - store_first < 2, measured


async def until_deleted(store: ValkeyProcess) -> None:
    """Until retention has done its work."""
    database = store.client(1)
    while database.zcard("timers") or database.zcard("index:job") or database.zcard("index:flow"):
        await trio.sleep(0.05)


def used_memory(store: ValkeyProcess) -> float:
    """In MiB."""
    info: Any = store.client().info("memory")
    return float(info["used_memory"]) / 1024 / 1024
