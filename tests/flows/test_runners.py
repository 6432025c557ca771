"""Runners over WebSocket: what they get, when, and what becomes of it when they leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.flows import chain, submission, submit, wide
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.looking import until_metric
from tests.support.server import CoordinatorProcess, ValkeyProcess
from tests.support.streaming import RawClient
from tests.support.waiting import until
from tests.support.workers import outcome_of, register, worker

HANG = 40.0
OVERLOADED = -32043


async def test_a_flow_runs_to_its_end(server: CoordinatorProcess, ws: Api, context: int) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, context) as runner:
            await submit(ws, context, {1: [], 2: [1], 3: [1], 4: [2, 3]})
            order = []
            for _ in range(4):
                assignment = await runner.job()
                id = assignment["job"]["id"]
                order.append(id)
                assert {*assignment["inputs"]} == {"4": {"2", "3"}, "1": set()}.get(str(id), {"1"})
                assert await runner.finish(assignment, n=str(id)) == {"status": "Finished", "attempt": 1}

            assert (order[0], order[-1]) == (1, 4)
            flow = await ws.call("flow.load", context_id=context, id=1)
            assert (flow["status"], flow["result"]) == ("Finished", {"4": '{"n":"4"}'})


@pytest.mark.parametrize(("options", "frames"), [({}, [1] * 8), ({"batch": False}, [1] * 8), ({"batch": True}, [8])])
async def test_assignments_come_one_a_frame_unless_the_runner_asks_for_batches(
    server: CoordinatorProcess, ws: Api, context: int, options: dict[str, bool], frames: list[int]
) -> None:
    await submit(ws, context, wide(8))
    with trio.fail_after(HANG):
        async with worker(server.ws, context, capacity=8, **options) as runner:
            await runner.jobs(8)

            assert [len(frame) for frame in runner.frames] == frames


async def test_a_runner_holds_as_many_as_its_capacity_and_a_finish_frees_a_place(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, wide(7), retries=1)
    with trio.fail_after(HANG):
        async with worker(server.ws, context, capacity=3) as runner:
            held = await runner.jobs(3)
            status = await ws.call("flow.status", context_id=context, id=1)
            assert status["counts"]["Started"] == 3
            await runner.api.call("job.heartbeat", **outcome_of(held[0]))
            assert runner.waiting == 0

            await runner.finish(held[0])
            await runner.job()
            await runner.fail(held[1])  # a failure frees one as well
            await runner.job()
            await runner.api.call("job.heartbeat", **outcome_of(held[2]))

            assert runner.waiting == 0
            status = await ws.call("flow.status", context_id=context, id=1)
            assert status["counts"]["Started"] == 3


async def test_what_ended_on_another_connection_frees_its_place_when_its_lease_would_have_ended(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, wide(2))
    with trio.fail_after(HANG):
        async with worker(server.ws, context, capacity=1, lease=0.5) as runner:
            await ws.call("job.finish", **outcome_of(await runner.job()))

            second = await runner.job()

            assert (second["job"]["id"], second["attempt"]) == (2, 1)


async def test_two_runners_share_the_jobs(server: CoordinatorProcess, ws: Api, context: int) -> None:
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3, capacity=2) as one, worker(server.ws, context, 4, capacity=2) as two:
            await submit(ws, context, wide(4))
            jobs = [*(await one.jobs(2)), *(await two.jobs(2))]

            assert {assignment["job"]["id"] for assignment in jobs} == {1, 2, 3, 4}


async def test_a_cancelled_flow_stops_its_runners(server: CoordinatorProcess, ws: Api, context: int) -> None:
    await submit(ws, context, wide(2))
    with trio.fail_after(HANG):
        async with worker(server.ws, context, capacity=2) as runner:
            running = await runner.jobs(2)

            await ws.call("flow.cancel", context_id=context, id=1, reason="two\nlines")

            notices = [await runner.cancelled() for _ in running]
            assert {notice["token"] for notice in notices} == {assignment["token"] for assignment in running}
            assert {notice["reason"] for notice in notices} == {"cancelled: two\nlines"}
            await submit(ws, context, wide(2, first=10), flow=2)
            assert {assignment["job"]["id"] for assignment in await runner.jobs(2)} == {10, 11}  # both places are free


async def test_an_attempt_past_its_time_is_stopped(server: CoordinatorProcess, ws: Api, context: int) -> None:
    await submit(ws, context, wide(1), timeout=1)
    with trio.fail_after(HANG):
        async with worker(server.ws, context) as runner:
            assignment = await runner.job()

            notice = await runner.cancelled()

            assert (notice["token"], notice["reason"]) == (assignment["token"], "timed out after 1 s")


async def test_what_a_silent_runner_had_is_given_to_another(server: CoordinatorProcess, ws: Api, context: int) -> None:
    await submit(ws, context, wide(1), retries=1)
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3, lease=0.3) as silent:
            first = await silent.job()
            await silent.api.call("runner.unsubscribe", subscription=silent.subscription)
            async with worker(server.ws, context, 4) as other:
                second = await other.job()

                assert (second["job"]["id"], second["attempt"]) == (first["job"]["id"], 2)
                assert (await silent.api.refused("job.finish", **outcome_of(first))).code == -32041


async def test_a_runner_that_reconnects_keeps_what_it_names_and_returns_the_rest(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, wide(3))
    with trio.fail_after(HANG):
        async with worker(server.ws, context, capacity=3, session="mine") as runner:
            one, two, three = await runner.jobs(3)
        await ws.call("job.finish", **outcome_of(three))
        async with worker(server.ws, context, subscribed=False) as again:
            holding = [one["token"], three["token"], "1-1"]
            await again.subscribe(capacity=3, session="mine", holding=holding)

            returned = await again.job()

            assert again.lost == sorted(holding[1:])
            assert (returned["job"]["id"], returned["attempt"]) == (two["job"]["id"], 1)
            assert returned["token"] != two["token"]
            assert (await again.finish(one))["status"] == "Finished"


async def test_subscriptions_of_a_connection_are_bounded(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url, max_subscriptions=2) as app, worker(ws_url(app), 1) as runner:
        await runner.subscribe()

        error = await runner.api.refused("runner.subscribe", context_id=1, runner_id=3, script_types=["V"], capacity=1)

        assert (error.code, error.data["limit"], error.data["setting"]) == (OVERLOADED, 2, "max_subscriptions")
        await runner.api.call("runner.unsubscribe", subscription=runner.subscription)
        await runner.subscribe()


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.vanish])
async def test_a_client_that_leaves_while_subscribed_leaves_nothing_behind(
    store: ValkeyProcess, leave: Callable[[RawClient], None]
) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, context_idle_timeout=0.3) as app:
            async with ws_api(ws_url(app)) as api:
                await submit(api, 1, chain(2))
                client = RawClient(ws_url(app))
                await trio.to_thread.run_sync(client.upgrade)
                for context in (1, 2, 3):
                    await register(api, context)
                    params = {"context_id": context, "runner_id": 3, "script_types": ["V"], "capacity": 1}
                    client.send_call(context, "runner.subscribe", params)
                client.send_call(9, "flow.subscribe", {"context_id": 1, "id": 1})
                await until_metric(http_url(app), 4)

                leave(client)

                await until_metric(http_url(app), 0)
            await until_metric(http_url(app), 0, "contexts_active")
            assert await trio.to_thread.run_sync(listening, store) == []


def listening(store: ValkeyProcess) -> list[str]:
    """Channels some coordinator listens to."""
    channels: Any = store.client().pubsub_channels()
    return list(channels)


async def test_a_job_taken_for_a_runner_that_has_just_left_goes_to_another_at_once(store: ValkeyProcess) -> None:
    """Not when its lease ends, and not as an attempt: it may have no other."""
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url) as app, worker(ws_url(app), 1, 4, subscribed=False) as other:
            for flow in range(1, 21):
                async with worker(ws_url(app), 1, 3, capacity=1, lease=3600) as leaving:
                    # The job is on its way to the store when the runner unsubscribes: both are in one batch.
                    params = {"subscription": leaving.subscription}
                    start = ("flow.submit", submission(1, wide(1, first=flow), flow))
                    await leaving.client.batch([start, ("runner.unsubscribe", params)])
                    told = {assignment["job"]["id"] for frame in leaving.frames for assignment in frame}
                if flow not in told:
                    await other.subscribe(capacity=1)
                    assignment = await other.job()
                    assert (assignment["job"]["id"], assignment["attempt"]) == (flow, 1)
                    await other.finish(assignment)
                    await other.api.call("runner.unsubscribe", subscription=other.subscription)


async def test_jobs_left_over_are_taken_by_whoever_is_free(server: CoordinatorProcess, ws: Api, context: int) -> None:
    with trio.fail_after(HANG):
        async with (
            worker(server.ws, context, 3, capacity=1),
            worker(server.ws, context, 4, capacity=1) as two,
            worker(server.ws, context, 5, capacity=1) as three,
        ):
            await until(lambda: bool(two.subscription and three.subscription))

            await submit(ws, context, wide(3))

            assert {(await two.job())["job"]["id"], (await three.job())["job"]["id"]} <= {1, 2, 3}
