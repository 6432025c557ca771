"""A runner's subscription: assignments and cancels arrive once, however often the connection is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection

from coordinator.client import Client, NotFound, RunnerSubscription, StaleToken, connect
from coordinator.models import AssignmentNotice, CancelNotice
from tests.client.conftest import flow, job, port_of, runner
from tests.support.peer import Peer, peer
from tests.support.proxy import Side, proxied
from tests.support.server import CoordinatorProcess
from tests.support.waiting import until

RUNNER = 3


async def submit(client: Client, context_id: int, jobs: int, *, retries: int = 0, lost_retries: int = 3) -> None:
    """A flow of independent jobs."""
    await client.runner_create(context_id=context_id, runner=runner(RUNNER))
    ids = list(range(1, jobs + 1))
    await client.flow_submit(
        context_id=context_id,
        flow=flow(context_id, 1, ids),
        jobs=[job(context_id, id, retries=retries, lost_retries=lost_retries) for id in ids],
    )


def subscribe(client: Client, context_id: int, capacity: int, lease: float = 30.0):  # type: ignore[no-untyped-def]
    return client.subscribe_runner(
        context_id=context_id, runner_id=RUNNER, script_types=["Python"], capacity=capacity, lease=lease
    )


async def assignment(work: RunnerSubscription) -> AssignmentNotice:
    with trio.fail_after(20):
        item = await anext(work)
    assert isinstance(item, AssignmentNotice)
    return item


async def test_all_jobs_of_a_flow_come_and_are_finished(client: Client, context_id: int) -> None:
    await submit(client, context_id, jobs=100)
    done: list[int] = []

    with trio.fail_after(60):
        async with subscribe(client, context_id, capacity=8) as work, trio.open_nursery() as nursery:

            async def run(item: AssignmentNotice) -> None:
                await work.log(item, ["hello"])
                await work.heartbeat(item)
                outcome = await work.finish(item, {"id": str(item.job.id)})
                assert outcome.status == "Finished"
                done.append(item.job.id)

            async for item in work:
                assert isinstance(item, AssignmentNotice)
                assert len(set(work.holding) - work._reporting) <= 8
                nursery.start_soon(run, item)
                if item.job.id == 100:
                    break
            await until(lambda: len(done) == 100)
            assert work.holding == []

    report = await client.flow_status(context_id=context_id, id=1)
    assert report.flow.status == "Finished"
    assert report.flow.result["100"] == '{"id":"100"}'


async def test_the_task_that_iterates_may_call_while_more_waits_to_be_read(client: Client, context_id: int) -> None:
    await submit(client, context_id, jobs=200)

    with trio.fail_after(60):
        async with subscribe(client, context_id, capacity=50) as work:
            for _ in range(200):
                await work.finish(await assignment(work))

    assert (await client.flow_load(context_id=context_id, id=1)).status == "Finished"


async def test_a_failed_attempt_is_followed_by_another(client: Client, context_id: int) -> None:
    await submit(client, context_id, jobs=1, retries=1)

    async with subscribe(client, context_id, capacity=1) as work:
        first = await assignment(work)
        outcome = await work.fail(first, "broken")
        assert outcome.status == "Dispatched"
        second = await assignment(work)
        outcome = await work.fail(second, "broken again", result={"a": "b"})

    assert (first.attempt, second.attempt) == (1, 2)
    assert outcome.status == "Error"


async def test_a_cancel_comes_for_what_was_given_out_and_takes_back_what_was_not(
    client: Client, context_id: int
) -> None:
    await submit(client, context_id, jobs=3)

    async with subscribe(client, context_id, capacity=3) as work:
        held = await assignment(work)
        await until(lambda: len(work.holding) == 3)
        await client.flow_cancel(context_id=context_id, id=1, reason="enough")

        with trio.fail_after(20):
            cancel = await anext(work)
        assert isinstance(cancel, CancelNotice)
        assert (cancel.id, cancel.token) == (held.job.id, held.token)
        assert "enough" in cancel.reason
        await until(lambda: work.holding == [])
        with trio.move_on_after(0.2) as quiet:
            await anext(work)
        assert quiet.cancelled_caught
        with pytest.raises(StaleToken):
            await work.finish(held)


@pytest.mark.slow
async def test_a_runner_keeps_its_attempts_over_a_lost_connection(
    server: CoordinatorProcess, client: Client, context_id: int
) -> None:
    await submit(client, context_id, jobs=3)
    async with proxied(port_of(server.ws)) as proxy, connect(f"ws://127.0.0.1:{proxy.port}") as distant:
        async with subscribe(distant, context_id, capacity=2) as work:
            first = await assignment(work)
            second = await assignment(work)
            proxy.cut()

            assert (await work.finish(first)).status == "Finished"
            third = await assignment(work)  # the place is free, so the finish went over the new subscription
            assert (await work.finish(second)).status == "Finished"
            assert (await work.finish(third)).status == "Finished"
            assert distant.connections == 2

    report = await client.flow_status(context_id=context_id, id=1)
    assert [progress.attempt for progress in report.jobs] == [1, 1, 1]


async def test_assignments_that_never_arrived_come_again_without_counting(
    server: CoordinatorProcess, client: Client, context_id: int
) -> None:
    await submit(client, context_id, jobs=0)
    async with proxied(port_of(server.ws)) as proxy, connect(f"ws://127.0.0.1:{proxy.port}") as distant:
        async with subscribe(distant, context_id, capacity=5) as work:
            proxy.stall(Side.TO_CLIENT)
            ids = [1, 2, 3]
            jobs = [job(context_id, id) for id in ids]
            await client.flow_submit(context_id=context_id, flow=flow(context_id, 2, ids), jobs=jobs)
            with trio.fail_after(20):
                while (await client.flow_status(context_id=context_id, id=2)).counts["Started"] < 3:
                    await trio.sleep(0.01)
            proxy.cut()
            await proxy.pass_all()

            items = [await assignment(work) for _ in ids]
            for item in items:
                await work.finish(item)

    assert sorted(item.job.id for item in items) == ids
    assert [item.attempt for item in items] == [1, 1, 1]


@pytest.mark.slow
async def test_attempts_lost_while_not_connected_are_cancelled(
    server: CoordinatorProcess, client: Client, context_id: int
) -> None:
    await submit(client, context_id, jobs=1, lost_retries=0)
    async with proxied(port_of(server.ws)) as proxy, connect(f"ws://127.0.0.1:{proxy.port}") as distant:
        async with subscribe(distant, context_id, capacity=1, lease=0.3) as work:
            held = await assignment(work)
            await proxy.refuse()
            with trio.fail_after(20):
                while (await client.flow_load(context_id=context_id, id=1)).status != "Error":
                    await trio.sleep(0.01)
            await proxy.pass_all()

            with trio.fail_after(20):
                cancel = await anext(work)

    assert isinstance(cancel, CancelNotice)
    assert (cancel.context_id, cancel.caller_id, cancel.id) == (context_id, 7, 1)
    assert cancel.token == held.token
    assert work.holding == []


@pytest.mark.slow
@pytest.mark.parametrize("side", list(Side))
async def test_a_flow_gets_done_over_a_connection_that_is_cut_again_and_again(
    server: CoordinatorProcess, client: Client, context_id: int, side: Side
) -> None:
    await submit(client, context_id, jobs=100)
    async with proxied(port_of(server.ws)) as proxy, connect(f"ws://127.0.0.1:{proxy.port}") as distant:
        async with subscribe(distant, context_id, capacity=5) as work:
            proxy.cut_each_after(4_000, side)
            proxy.cut()
            with trio.fail_after(90):
                for _ in range(100):
                    await work.finish(await assignment(work))
            assert distant.connections > 3
            await proxy.pass_all()

    report = await client.flow_status(context_id=context_id, id=1)
    assert report.flow.status == "Finished"
    assert {progress.attempt for progress in report.jobs} == {1}


async def test_who_unsubscribes_still_gets_what_had_come_and_may_finish_it(client: Client, context_id: int) -> None:
    await submit(client, context_id, jobs=5)

    async with subscribe(client, context_id, capacity=3) as work:
        first = await assignment(work)
        await until(lambda: len(work.holding) == 3)
        await work.unsubscribe()
        rest = [item async for item in work]
        for item in [first, *rest]:
            assert isinstance(item, AssignmentNotice)
            await work.finish(item)

    assert len(rest) == 2
    report = await client.flow_status(context_id=context_id, id=1)
    assert report.counts["Finished"] == 3
    assert report.counts["Started"] == 0


async def test_a_runner_that_was_not_created_is_an_error(client: Client, context_id: int) -> None:
    with pytest.raises(NotFound, match="no runner"):
        async with subscribe(client, context_id, capacity=1):
            pass


@pytest.mark.slow
async def test_a_runner_deleted_meanwhile_ends_the_iteration_with_that_error(
    server: CoordinatorProcess, client: Client, context_id: int
) -> None:
    await submit(client, context_id, jobs=0)
    async with proxied(port_of(server.ws)) as proxy, connect(f"ws://127.0.0.1:{proxy.port}") as distant:
        async with subscribe(distant, context_id, capacity=1) as work:
            await client.runner_delete(context_id=context_id, id=RUNNER)
            proxy.cut()
            with trio.fail_after(20), pytest.raises(NotFound):
                await anext(work)


@pytest.mark.slow
async def test_subscribing_again_is_tried_until_the_coordinator_can(caplog: pytest.LogCaptureFixture) -> None:
    """A coordinator without its store for a while, and one that does not answer at all."""
    refusals = [
        {"error": {"code": -32010, "message": "Storage Error", "data": {"detail": "away"}}},
        {"error": {"code": -32043, "message": "Overloaded", "data": {"detail": "busy"}}},
        None,
    ]
    subscribed = {"result": {"subscription": "s", "lease": 30.0, "lost": []}}

    async def reply(server: Peer, socket: WebSocketConnection, frame: Any) -> None:
        if frame["method"] != "runner.subscribe":
            return
        answer: Any = subscribed
        if server.connections > 1 and refusals:
            answer = refusals.pop(0)
        if answer is not None:
            await socket.send_message(json.dumps({"jsonrpc": "2.0", "id": frame["id"], **answer}))
        if server.connections == 1:
            await socket.aclose()
        elif answer is subscribed:
            params = {"subscription": "s", "context_id": 1, "caller_id": 7, "id": 1, "token": "t", "reason": "r"}
            for token in ("unknown", "t"):
                params["token"] = token
                notice = {"jsonrpc": "2.0", "method": "runner.cancel", "params": params}
                await socket.send_message(json.dumps(notice))

    with trio.fail_after(20):
        async with peer(reply) as server, connect(server.url, timeout=0.5) as client:
            async with subscribe(client, 1, capacity=1) as work:
                work._held["t"] = {}
                item = await anext(work)
                assert (type(item), item.token) == (CancelNotice, "t")

    subscribes = [frame["params"] for frame in server.frames if frame["method"] == "runner.subscribe"]
    assert len(subscribes) == 5
    assert len({params["session"] for params in subscribes}) == 1
    assert [params["holding"] for params in subscribes[1:]] == [["t"]] * 4
    assert server.connections == 3
    assert "cannot subscribe again yet" in caplog.text
    assert "did not answer runner.subscribe" in caplog.text
