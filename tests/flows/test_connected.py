"""Who is connected to take jobs, as every coordinator on the store tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from coordinator.engine import renewals
from tests.support.api import Api, ws_api
from tests.support.inprocess import serving, ws_url
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, valkey
from tests.support.streaming import job
from tests.support.workers import register, worker

HANG: Final = 60.0
NOBODY: Final = {"Osis": 0, "Sal": 0, "V": 0, "Python": 0}


async def count(api: Api, context: int) -> dict[str, int]:
    answer: dict[str, dict[str, int]] = await api.call("runner.connected", context_id=context)
    return answer["script_types"]


async def until_count(api: Api, context: int, expected: dict[str, int]) -> None:
    with trio.fail_after(HANG):
        while (found := await count(api, context)) != expected:
            await trio.sleep(0.05)
            assert found.keys() == expected.keys()


async def test_nobody_is_connected_to_a_context_without_runners(api: Api, context: int) -> None:
    assert await count(api, context) == NOBODY


async def test_a_runner_counts_from_its_subscription_to_the_end_of_its_connection(
    server: CoordinatorProcess, api: Api, context: int
) -> None:
    async with worker(server.ws, context, 3):
        await until_count(api, context, {**NOBODY, "Python": 1})
        async with worker(server.ws, context, 4, script_types=["V", "Python"]):
            await until_count(api, context, {**NOBODY, "V": 1, "Python": 2})

    await until_count(api, context, NOBODY)


async def test_a_runner_that_unsubscribes_counts_no_more(ws: Api, context: int) -> None:
    await register(ws, context)
    subscribed: dict[str, Any] = await ws.call(
        "runner.subscribe", context_id=context, runner_id=3, script_types=["Sal"], capacity=1
    )
    await until_count(ws, context, {**NOBODY, "Sal": 1})

    await ws.call("runner.unsubscribe", subscription=subscribed["subscription"])

    await until_count(ws, context, NOBODY)


async def test_a_runner_that_asks_by_job_take_counts_once(api: Api, ws: Api, context: int) -> None:
    await register(ws, context)
    for _ in range(3):
        await api.call("job.take", context_id=context, runner_id=3, script_types=["Osis", "Sal"], wait=0)

    await until_count(api, context, {**NOBODY, "Osis": 1, "Sal": 1})


async def test_runners_of_another_coordinator_count(store: ValkeyProcess) -> None:
    with coordinator("--redis-url", store.url) as here, coordinator("--redis-url", store.url) as there:
        async with worker(here.ws, 1, 3), ws_api(there.ws) as api:
            await until_count(api, 1, {**NOBODY, "Python": 1})


@pytest.mark.parametrize("skew", [-3_600_000, 3_600_000])
async def test_runners_count_however_far_the_clock_of_timers_is_from_the_server_s(
    store: ValkeyProcess, skew: int
) -> None:
    with coordinator("--redis-url", store.url) as running:
        store.client().hset("engine", "skew", skew)
        async with worker(running.ws, 1, 3), ws_api(running.ws) as api:
            await until_count(api, 1, {**NOBODY, "Python": 1})
        async with ws_api(running.ws) as api:
            await until_count(api, 1, NOBODY)


@pytest.mark.slow
async def test_runners_of_a_coordinator_that_was_killed_count_no_more_after_a_while(store: ValkeyProcess) -> None:
    with coordinator("--redis-url", store.url) as there, coordinator("--redis-url", store.url) as here:
        async with ws_api(here.ws) as api, worker(there.ws, 1, 3):
            await until_count(api, 1, {**NOBODY, "Python": 1})
            there.kill()
            await until_count(api, 1, NOBODY)


@pytest.mark.slow
async def test_those_that_stay_are_renewed(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url) as app, worker(ws_url(app), 1, 3), ws_api(ws_url(app)) as api:
        await until_count(api, 1, {**NOBODY, "Python": 1})
        ends = trio.current_time() + renewals.THERE_FOR + 2
        while trio.current_time() < ends:
            assert await count(api, 1) == {**NOBODY, "Python": 1}
            await trio.sleep(0.2)


@pytest.mark.slow
async def test_runners_count_again_when_the_store_s_server_was_started_again(tmp_path: Path) -> None:
    with valkey(tmp_path, "--appendonly", "yes") as own, coordinator("--redis-url", own.url) as running:
        async with worker(running.ws, 1, 3):
            own.kill()
            own.start()
            async with ws_api(running.ws) as api:
                await until_count(api, 1, {**NOBODY, "Python": 1})


def ignore(notices: Sequence[Any]) -> None:
    """What comes is nobody's here."""


async def test_a_list_of_runners_says_who_is_there_and_what_each_has(
    server: CoordinatorProcess, http: Api, context: int
) -> None:
    await register(http, context)
    jobs = [{**job(context, id)["job"], "script_type": "Sal"} for id in range(1, 26)]
    flow = {"id": 1, "caller_id": 7, "context_id": context, "jobs": [*range(1, 26)], "env_vars": {}}
    before = (await http.call("runner.list", context_id=context))["items"]
    begun = time.time() * 1000
    async with ws_api(server.ws, ignore) as ws:
        await ws.call("runner.subscribe", context_id=context, runner_id=3, script_types=["Sal"], capacity=23)
        (listed,) = (await http.call("runner.list", context_id=context))["items"]
        assert before == [{name: value for name, value in listed.items() if name in before[0]}]
        assert (listed["connected"], listed["capacity"]) == (True, 23)
        assert begun - 1000 < listed["connected_since"] < begun + 60_000
        assert "jobs" not in listed

        await http.call("flow.submit", context_id=context, flow=flow, jobs=jobs)
        with trio.fail_after(HANG):
            while listed.get("attempts") != 23:
                (listed,) = (await http.call("runner.list", context_id=context))["items"]
        stats = await http.call("context.stats", context_id=context)
        assert stats["runners"] == {"connected": 1, "busy": 1}
        assert (stats["jobs"]["Started"], stats["script_types"]["Sal"]["queued"]) == (23, 2)
        assert len(listed["jobs"]) == 20
        assert all(it["caller_id"] == 7 and 1 <= it["id"] <= 23 for it in listed["jobs"])
