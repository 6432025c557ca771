"""job.take: a runner without a WebSocket waits for jobs."""

from __future__ import annotations

from typing import Any, Final

import httpx
import trio

from tests.support.api import Api, http_api, ws_api
from tests.support.flows import submit, wide
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.looking import metric, until_metric
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.waiting import until
from tests.support.workers import register

HANG: Final = 40.0
OVERLOADED: Final = -32043
RUNNER: Final[dict[str, Any]] = {"runner_id": 3, "script_types": ["Python"]}


async def test_a_call_that_waits_is_answered_when_a_job_comes(
    server: CoordinatorProcess, api: Api, ws: Api, context: int
) -> None:
    await register(ws, context)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            answers: list[dict[str, Any]] = []

            async def take() -> None:
                answers.append(await api.call("job.take", context_id=context, wait=60, **RUNNER))

            nursery.start_soon(take)
            await ws.call("flow.list", context_id=context)
            await submit(ws, context, wide(1))

        assert [taken["job"]["id"] for taken in answers[0]["jobs"]] == [1]


async def test_no_script_type_starves_another(api: Api, context: int) -> None:
    types = ["Python", "Sal", "V"]
    await register(api, context)
    for number, script_type in enumerate(types):
        dag = wide(40, 1 + 40 * number)
        await submit(api, context, dag, 1 + number, script_type=script_type)

    seen: list[str] = []
    for _ in range(40):
        answer = await api.call("job.take", context_id=context, runner_id=3, script_types=types)
        seen.extend(taken["job"]["script_type"] for taken in answer["jobs"])

    assert len(seen) == 40
    assert set(seen) == set(types)


async def test_every_waiting_call_gets_one_of_the_jobs_that_come(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await register(ws, context)
    with trio.fail_after(HANG):
        async with http_api(server.http) as http, trio.open_nursery() as nursery:
            ids: list[int] = []

            async def take() -> None:
                answer = await http.call("job.take", context_id=context, wait=60, **RUNNER)
                ids.extend(taken["job"]["id"] for taken in answer["jobs"])

            for _ in range(5):
                nursery.start_soon(take)
            await until(lambda: metric(server.http, "http_connections") >= 5)
            await submit(ws, context, wide(5))

        assert sorted(ids) == [1, 2, 3, 4, 5]


async def test_a_call_is_answered_at_its_deadline(api: Api, context: int) -> None:
    await register(api, context)
    with trio.fail_after(HANG):
        started = trio.current_time()

        answer = await api.call("job.take", context_id=context, wait=0.3, **RUNNER)

        assert answer == {"jobs": []}
        assert trio.current_time() - started >= 0.3


async def test_a_call_that_waits_is_answered_when_the_coordinator_is_told_to_stop(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), coordinator("--redis-url", store.url) as server:
        answers: list[dict[str, Any]] = []
        async with http_api(server.http) as http, ws_api(server.ws) as ws, trio.open_nursery() as nursery:
            await register(ws, 1)

            async def take(api: Api) -> None:
                answers.append(await api.call("job.take", context_id=1, wait=60, **RUNNER))

            nursery.start_soon(take, http)
            nursery.start_soon(take, ws)
            await until(lambda: metric(server.http, "calls_total") >= 3)

            server.process.terminate()

        assert answers == [{"jobs": []}, {"jobs": []}]
        assert await trio.to_thread.run_sync(server.process.wait, 15) == 0


async def test_waiting_calls_are_bounded(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_subscriptions=2) as app, ws_api(ws_url(app)) as ws:
            await register(ws, 1)
            refused = []

            async def take() -> None:
                try:
                    await ws.call("job.take", context_id=1, wait=60, **RUNNER)
                except Exception as error:
                    refused.append(error)

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(take)
                await until(lambda: bool(refused))
                nursery.cancel_scope.cancel()

            assert [getattr(error, "code", error) for error in refused] == [OVERLOADED]


async def test_a_client_that_leaves_is_waited_for_no_more_and_the_job_goes_to_somebody_else(
    store: ValkeyProcess,
) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "job.take", "params": {"context_id": 1, "wait": 60, **RUNNER}}
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_subscriptions=1) as app, ws_api(ws_url(app)) as ws:
            base = http_url(app)
            await register(ws, 1)
            async with httpx.AsyncClient(verify=False) as leaving, trio.open_nursery() as nursery:
                nursery.start_soon(lambda: leaving.post(base, json=call, timeout=60))
                await until_parked(base, calls=2)
                nursery.cancel_scope.cancel()
            await until_metric(base, 1, "http_connections")  # the one that asks

            async with trio.open_nursery() as nursery:
                answers: list[dict[str, Any]] = []

                async def take() -> None:
                    answers.append(await ws.call("job.take", context_id=1, wait=60, **RUNNER))

                nursery.start_soon(take)  # there is room for one, so the first is forgotten
                await until_parked(base, calls=3)
                await submit(ws, 1, wide(1))

            assert [(taken["job"]["id"], taken["attempt"]) for taken in answers[0]["jobs"]] == [(1, 1)]


async def until_parked(base: str, *, calls: int) -> None:
    """Until so many calls have come and none is in a mailbox: those that are not answered wait for a job."""
    await until_metric(base, calls, "calls_total")
    await until_metric(base, 0, "calls_pending")


async def test_a_job_taken_for_a_client_that_has_just_left_goes_to_somebody_else(store: ValkeyProcess) -> None:
    """Clients leave at the very moment their job comes, again and again; none is lost, and no attempt is."""
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url) as app, ws_api(ws_url(app)) as steady:
            await register(steady, 1)
            for flow in range(1, 16):
                async with ws_api(ws_url(app)) as leaving, trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: leaving.call("job.take", context_id=1, wait=60, lease=3600, **RUNNER))
                    await steady.call("flow.list", context_id=1)
                    await submit(steady, 1, wide(1, first=flow), flow=flow, retries=0)
                    nursery.cancel_scope.cancel()
                # Either the first one was answered before it left, or the other gets the job as its first attempt.
                while True:
                    answer = await steady.call("job.take", context_id=1, wait=0.1, **RUNNER)
                    status = await steady.call("flow.status", context_id=1, id=flow)
                    if status["counts"]["Started"] == 1:
                        break
                assert [(taken["job"]["id"], taken["attempt"]) for taken in answer["jobs"]] in ([(flow, 1)], [])
                assert status["jobs"][0]["attempt"] == 1
