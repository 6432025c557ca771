"""The store's clock is set, or nobody is there for a while: what runs goes on, and what is due comes when it is due."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.clock import SettableClock
from tests.support.flows import submit, wide
from tests.support.proxy import proxied
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, valkey
from tests.support.workers import Worker, worker

pytestmark = pytest.mark.slow

HANG: Final = 60.0
HOUR: Final = 3600


@pytest.fixture
def clock(tmp_path: Path) -> SettableClock:
    return SettableClock(tmp_path)


@pytest.fixture
def timed(clock: SettableClock, tmp_path: Path) -> Iterator[ValkeyProcess]:
    """A store whose clock is that one."""
    with valkey(tmp_path, environment=clock.environment) as store:
        yield store


@pytest.fixture
def server(timed: ValkeyProcess) -> Iterator[CoordinatorProcess]:
    # A runner that was silent for a lease gets nothing until it is heard of, and be it by its answer to a ping.
    with coordinator("--redis-url", timed.url, "--ws-ping-interval", "0.5") as running:
        yield running


@asynccontextmanager
async def beating(runner: Worker, assignment: dict[str, Any], every: float = 0.4) -> AsyncIterator[None]:
    """The runner keeps an attempt's lease."""
    named = {"context_id": runner.context, "caller_id": 7, "id": assignment["job"]["id"], "token": assignment["token"]}

    async def beat() -> None:
        while True:
            await runner.api.call("job.heartbeat", **named)
            await trio.sleep(every)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        yield
        nursery.cancel_scope.cancel()


async def progress(api: Api, context: int = 1, job: int = 1) -> dict[str, Any]:
    status = await api.call("flow.status", context_id=context, id=1)
    found: dict[str, Any] = next(found for found in status["jobs"] if found["id"] == job)
    return found


def now_of(store: ValkeyProcess) -> int:
    seconds, _ = store.client().time()
    return int(seconds)


# -- the clock is set


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_what_runs_goes_on_when_the_clock_is_set(
    clock: SettableClock, timed: ValkeyProcess, server: CoordinatorProcess, step: int
) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, 1, lease=3.0) as runner:
            await submit(runner.api, 1, wide(1), timeout=600)
            assignment = await runner.job()
            async with beating(runner, assignment):
                await trio.sleep(1)
                before = now_of(timed)
                clock.set(step)
                assert abs(now_of(timed) - before - step) < 60
                await trio.sleep(5)

            assert await runner.finish(assignment) == {"status": "Finished", "attempt": 1}


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_leases_pauses_and_limits_end_when_they_would_have(
    clock: SettableClock, server: CoordinatorProcess, step: int
) -> None:
    """Each within a few seconds, and none before a longer one that began with it is over."""
    with trio.fail_after(HANG):
        async with worker(server.ws, 1, capacity=9, lease=2.0) as runner:
            await submit(runner.api, 1, wide(3), timeout=600, retries=1)
            lost, failed, running = await runner.jobs(3)
            async with beating(runner, running):
                await runner.fail(failed)
                clock.set(step)
                again = {(await runner.job())["job"]["id"], (await runner.job())["job"]["id"]}
                assert again == {lost["job"]["id"], failed["job"]["id"]}
                assert (await progress(runner.api, job=lost["job"]["id"]))["lost"] == 1
            assert (await runner.finish(running))["attempt"] == 1


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_lease_begun_after_the_clock_was_set_ends_too(
    clock: SettableClock, server: CoordinatorProcess, step: int
) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, 1, capacity=9, lease=2.0) as runner:
            for flow in (1, 2, 3):
                clock.set(step if flow % 2 else 0)
                await submit(runner.api, 1, wide(1, flow), flow)
                await runner.job()
                await runner.finish(await runner.job())


async def test_created_at_is_the_time_that_was_set(
    clock: SettableClock, timed: ValkeyProcess, server: CoordinatorProcess
) -> None:
    with trio.fail_after(HANG):
        async with ws_api(server.ws) as api:
            await submit(api, 1, wide(1))
            clock.set(-HOUR)
            await submit(api, 1, wide(1, 2), 2)

            created = (await api.call("flow.load", context_id=1, id=2))["created_at"]
            assert abs(created - now_of(timed)) < 60


# -- nobody is there


async def test_a_restart_that_lasts_longer_than_the_lease_loses_nothing(tmp_path: Path) -> None:
    """Runners get a lease from when the coordinator is back."""
    with trio.fail_after(HANG):
        with coordinator("--data-dir", str(tmp_path)) as server:
            async with worker(server.ws, 1, capacity=3, session="mine", lease=4.0) as runner:
                await submit(runner.api, 1, wide(3))
                held = await runner.jobs(3)
            server.kill()
        await trio.sleep(6)

        with coordinator("--data-dir", str(tmp_path)) as again:
            await trio.sleep(1)
            async with worker(again.ws, 1, subscribed=False) as back:
                await back.subscribe(capacity=3, session="mine", holding=[given["token"] for given in held])
                assert back.lost == []
                for given in held:
                    assert await back.finish(given) == {"status": "Finished", "attempt": 1}


async def test_an_external_store_knows_that_no_coordinator_was_there(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        with coordinator("--redis-url", store.url) as server:
            async with worker(server.ws, 1, session="mine", lease=4.0) as runner:
                await submit(runner.api, 1, wide(1))
                held = await runner.job()
            server.process.kill()
            server.process.wait(10)
        await trio.sleep(6)

        with coordinator("--redis-url", store.url) as again:
            await trio.sleep(1)
            async with worker(again.ws, 1, subscribed=False) as back:
                assert await back.finish(held) == {"status": "Finished", "attempt": 1}


async def test_a_runner_that_does_not_come_back_is_missed_one_lease_after_the_restart(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        with coordinator("--data-dir", str(tmp_path)) as server:
            async with worker(server.ws, 1, lease=2.0) as runner:
                await submit(runner.api, 1, wide(1))
                await runner.job()
            server.kill()
        await trio.sleep(4)

        with coordinator("--data-dir", str(tmp_path)) as again:
            async with worker(again.ws, 1, 4) as other:
                assert (await other.job())["attempt"] == 2


async def test_a_store_that_stops_for_a_while_loses_nothing(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), coordinator("--redis-url", store.url, "--store-timeout", "20") as server:
        async with worker(server.ws, 1, lease=4.0) as runner:
            await submit(runner.api, 1, wide(1))
            held = await runner.job()
            os.kill(store.process.pid, signal.SIGSTOP)
            try:
                await trio.sleep(6)
            finally:
                os.kill(store.process.pid, signal.SIGCONT)
            await trio.sleep(1)

            assert await runner.finish(held) == {"status": "Finished", "attempt": 1}


async def test_a_store_that_cannot_be_reached_for_a_while_loses_nothing(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with proxied(store.port) as proxy:
            with coordinator("--redis-url", proxy.url, "--store-timeout", "2") as server:
                async with worker(server.ws, 1, lease=2.0) as runner:
                    await submit(runner.api, 1, wide(1))
                    held = await runner.job()
                    proxy.stall()
                    await trio.sleep(5)
                    proxy.cut()
                    await proxy.pass_all()

                    assert await runner.finish(held) == {"status": "Finished", "attempt": 1}
