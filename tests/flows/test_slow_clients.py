"""Clients that subscribe and never read: they cost bounded memory, and nobody else anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

from tests.support.api import ws_api
from tests.support.flows import submission, submit, wide
from tests.support.looking import metric, resident, until_metric
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.streaming import RawClient
from tests.support.workers import Worker, follower, outcome_of, worker

HANG: Final = 60.0
MIB: Final = 1024 * 1024


@pytest.fixture
def server(store: ValkeyProcess) -> Iterator[CoordinatorProcess]:
    with coordinator("--redis-url", store.url, "--client-write-timeout", "30", "--shutdown-grace", "1") as running:
        yield running


@asynccontextmanager
async def silent(
    server: CoordinatorProcess, method: str, params: dict[str, Any], copies: int = 1
) -> AsyncIterator[None]:
    """Clients that subscribe and then read nothing."""
    clients = [RawClient(server.ws, receive_bytes=4096) for _ in range(copies)]
    others = await trio.to_thread.run_sync(metric, server.http, "subscriptions")
    try:
        for client in clients:
            await trio.to_thread.run_sync(client.upgrade)
            client.send_call(1, method, params)
        await until_metric(server.http, others + copies)
        yield
    finally:
        for client in clients:
            client.vanish()


async def fill_log(runner: Worker, assignment: dict[str, Any], lines: int, line: str) -> None:
    for _ in range(lines):
        await runner.api.call("job.log", **outcome_of(assignment, lines=[line]))


async def test_followers_that_never_read_cost_bounded_memory_and_nobody_else(
    server: CoordinatorProcess, store: ValkeyProcess
) -> None:
    line = "x" * (MIB // 2 - 1000)
    with trio.fail_after(HANG):
        async with worker(server.ws, 1) as runner:
            await submit(runner.api, 1, wide(2))
            logging = await runner.job()
            await fill_log(runner, logging, 25, line)
            await runner.finish(logging)
            before = resident(server.process.pid)

            async with silent(server, "flow.subscribe", {"context_id": 1, "id": 1}, copies=10):
                other = await runner.job()
                await fill_log(runner, other, 7, line)
                await runner.finish(other)
                async with follower(server.ws, 1) as reading:
                    await reading.until(kind="flow", status="Finished")
                    assert sum(event["kind"] == "log" for event in reading.events) == 32

                # Each of the ten was read a few events of half a MiB, in place of the 16 MiB there are.
                assert resident(server.process.pid) - before < 60


async def test_a_runner_that_never_reads_costs_bounded_memory_and_nobody_else(server: CoordinatorProcess) -> None:
    big = {"value": "x" * (MIB // 2)}
    with trio.fail_after(HANG):
        async with worker(server.ws, 1) as runner, ws_api(server.ws) as api:
            # Each job that depends on the first is handed out with the half MiB of its result: 100 MiB in all.
            await submit(api, 1, {1: [], **{id: [1] for id in range(2, 202)}}, retries=3)
            first = await runner.job()
            await runner.api.call("runner.unsubscribe", subscription=runner.subscription)
            params = {
                "context_id": 1,
                "runner_id": 3,
                "script_types": ["Python"],
                "capacity": 10_000,
                "session": "deaf",
            }
            before = resident(server.process.pid)
            async with silent(server, "runner.subscribe", params):
                await runner.finish(first, **big)

                await runner.subscribe(capacity=4)
                for _ in range(20):
                    await runner.finish(await runner.job())

                status = await api.call("flow.status", context_id=1, id=1)
                handed_to_the_silent_one = status["counts"]["Started"] - len(runner.frames)
                assert handed_to_the_silent_one < 30
                assert resident(server.process.pid, "VmHWM") - before < 60


async def test_a_runner_that_does_not_read_is_not_woken_in_place_of_one_that_does(server: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, 1, 4, script_types=["V"]) as logger, ws_api(server.ws) as api:
            # One connection both waits for jobs and is sent more events than it takes.
            await api.call("flow.submit", **submission(1, wide(1), script_type="V"))
            await fill_log(logger, await logger.job(), 10, "x" * (MIB // 2))
            deaf = RawClient(server.ws, receive_bytes=4096)
            await trio.to_thread.run_sync(deaf.upgrade)
            deaf.send_call(
                1, "runner.subscribe", {"context_id": 1, "runner_id": 4, "script_types": ["Python"], "capacity": 9}
            )
            await until_metric(server.http, 2)
            async with worker(server.ws, 1, 3, capacity=1) as runner:
                deaf.send_call(2, "flow.subscribe", {"context_id": 1, "id": 1})
                await until_metric(server.http, 4)
                await api.call("flow.status", context_id=1, id=1)

                await submit(api, 1, wide(1, first=50), flow=2)

                assert (await runner.job())["job"]["id"] == 50
            deaf.vanish()
