"""Runners that take jobs and say nothing more, or fail all they get: others get those jobs, and they get less."""

from __future__ import annotations

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.flows import submit, wide
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.workers import outcome_of, register, worker

pytestmark = pytest.mark.slow

HANG = 60.0


async def until_lost(api: Api, context: int, times: int = 1) -> None:
    while (await api.call("flow.status", context_id=context, id=1))["jobs"][0].get("lost", 0) < times:
        await trio.sleep(0.05)


async def test_a_silent_session_gets_nothing_more_and_the_next_runner_gets_it_all(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3, lease=0.5) as silent:
            await submit(ws, context, wide(3), retries=0)
            await silent.job()
            await until_lost(ws, context)
            await trio.sleep(3)  # in which it would be given a job again and again
            assert silent.waiting == 0

            async with worker(server.ws, context, 4, capacity=3) as healthy:
                for assignment in await healthy.jobs(3):
                    await healthy.finish(assignment)
            assert (await ws.call("flow.load", context_id=context, id=1))["status"] == "Finished"
            assert silent.waiting == 0


@pytest.mark.parametrize("word", ["any call", "a stale report", "a batch"])
async def test_a_silent_session_that_speaks_gets_jobs_again(
    server: CoordinatorProcess, ws: Api, context: int, word: str
) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3, lease=2.0) as silent:  # long enough for it to finish in
            await submit(ws, context, wide(1))
            lost = await silent.job()
            await until_lost(ws, context)
            await trio.sleep(2)
            assert silent.waiting == 0

            if word == "any call":
                await silent.api.call("runner.load", context_id=context, id=3)
            elif word == "a stale report":
                assert (await silent.api.refused("job.finish", **outcome_of(lost))).code == -32041
            else:
                await silent.client.batch([("runner.load", {"context_id": context, "id": 3})])
            assert await silent.finish(await silent.job()) == {"status": "Finished", "attempt": 2}


async def test_a_silent_session_is_known_to_the_other_coordinator(store: ValkeyProcess) -> None:
    with (
        trio.fail_after(HANG),
        coordinator("--redis-url", store.url) as here,
        coordinator("--redis-url", store.url) as there,
    ):
        async with worker(here.ws, 1, 3, lease=0.5) as silent, ws_api(there.ws) as api:
            await submit(api, 1, wide(1))
            await silent.job()
            await until_lost(api, 1)
            await trio.sleep(2)
            async with worker(there.ws, 1, 4) as healthy:
                assert await healthy.finish(await healthy.job()) == {"status": "Finished", "attempt": 2}
            assert silent.waiting == 0


async def test_a_job_that_failed_is_tried_again_by_another(server: CoordinatorProcess, ws: Api, context: int) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3, capacity=4) as failing:
            await submit(ws, context, wide(4), retries=1)
            held = await failing.jobs(4)
            async with worker(server.ws, context, 4, capacity=4) as other:
                for assignment in held:
                    await failing.fail(assignment)
                again = await other.jobs(4)
                assert {assignment["attempt"] for assignment in again} == {2}
                assert failing.waiting == 0


async def test_the_only_runner_of_a_type_tries_again_itself(server: CoordinatorProcess, ws: Api, context: int) -> None:
    with trio.fail_after(HANG):
        async with (
            worker(server.ws, context, 3) as runner,
            worker(server.ws, context, 4, script_types=["V"]) as other,
        ):
            await submit(ws, context, wide(1), retries=1)
            await runner.fail(await runner.job())
            assert (await runner.job())["attempt"] == 2
            assert other.waiting == 0


async def test_a_job_waits_for_another_runner_only_for_a_while(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    """The other one is there, but has no room."""
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3) as failing, worker(server.ws, context, 4) as full:
            await submit(ws, context, wide(2), retries=1)
            held = await full.job()
            failed = await failing.job()
            await failing.fail(failed)
            assert (await failing.job())["job"]["id"] == failed["job"]["id"]
            await full.finish(held)


async def test_a_runner_that_polls_and_says_nothing_leaves_the_job_to_another(
    server: CoordinatorProcess, http: Api, context: int
) -> None:
    polling = {"context_id": context, "script_types": ["Python"], "wait": 2}
    with trio.fail_after(HANG):
        await register(http, context, 3)
        await register(http, context, 4)
        await submit(http, context, wide(1), lost_retries=1)
        assert (await http.call("job.take", **polling, runner_id=3, lease=4))["jobs"]
        await until_lost(http, context)

        # It waits for longer than the pause between attempts, and is held back for four seconds.
        assert (await http.call("job.take", **polling, runner_id=3))["jobs"] == []
        (again,) = (await http.call("job.take", **polling, runner_id=4))["jobs"]
        assert (await http.call("job.finish", **outcome_of(again)))["attempt"] == 2


async def test_a_runner_that_polls_gets_jobs_again_in_the_end(
    server: CoordinatorProcess, http: Api, context: int
) -> None:
    """It may have been started again, and cannot know what it was given before."""
    polling = {"context_id": context, "script_types": ["Python"], "runner_id": 3}
    with trio.fail_after(HANG):
        await register(http, context, 3)
        await submit(http, context, wide(1))
        await http.call("job.take", **polling, lease=0.5)
        await until_lost(http, context)

        (again,) = (await http.call("job.take", **polling, wait=20))["jobs"]
        assert (await http.call("job.finish", **outcome_of(again)))["attempt"] == 2


async def test_a_runner_that_fails_all_it_gets_leaves_the_queue_to_others(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    """The other one takes its time, and yet gets by far the most."""
    count = 40
    failures = 0
    with trio.fail_after(HANG):
        async with (
            worker(server.ws, context, 3, capacity=4) as broken,
            worker(server.ws, context, 4, capacity=1) as healthy,
        ):
            for id in range(1, count + 1):
                await submit(ws, context, wide(1, id), id)

            async def fail() -> None:
                nonlocal failures
                while True:
                    await broken.fail(await broken.job())
                    failures += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                for _ in range(count - 15):
                    assignment = await healthy.job()
                    await trio.sleep(0.05)
                    await healthy.finish(assignment)
                nursery.cancel_scope.cancel()
            assert failures <= 15
            listed = {runner["id"]: runner for runner in (await ws.call("runner.list", context_id=context))["items"]}
            assert listed[3]["failed_in_a_row"] == failures
            assert not {"failed_in_a_row", "held_back_for"} & listed[4].keys()

            for flow in range(100, 110):  # it gets one in the end, and does well
                await submit(ws, context, wide(1, flow), flow)
            await broken.finish(await broken.job())
            listed = {runner["id"]: runner for runner in (await ws.call("runner.list", context_id=context))["items"]}
            assert not {"failed_in_a_row", "held_back_for"} & listed[3].keys()


async def test_a_runner_that_reports_on_another_connection_is_not_silent(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3, lease=2.0) as runner:
            for flow in range(1, 4):
                await submit(ws, context, wide(1, flow), flow)
                assignment = await runner.job()
                await ws.call("job.finish", **outcome_of(assignment))
