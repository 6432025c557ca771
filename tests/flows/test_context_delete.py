"""A context is deleted while clients wait in it, are subscribed there and go on calling."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.flows import submit, wide
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import ErrorReply, streaming
from tests.support.workers import register

NOT_FOUND: Final = -32001
STORAGE: Final = -32010
PY: Final = {"script_types": ["Python"]}


async def until(condition: Any) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.02)


async def test_who_waits_or_is_subscribed_is_told_and_the_context_can_be_created_anew(
    api: Api, server: CoordinatorProcess, context: int
) -> None:
    notices: list[dict[str, Any]] = []
    record = {"id": context, "admins": [7], "readers": [], "executors": []}
    await api.call("context.create", context=record)
    await register(api, context)
    await register(api, context, 4)
    await submit(api, context, wide(3))
    async with streaming(server.ws, notices.extend) as client, trio.open_nursery() as nursery:
        there = Api(client)
        runner = await there.call("runner.subscribe", context_id=context, runner_id=3, capacity=1, **PY)
        follower = await there.call("flow.subscribe", context_id=context, id=1)
        await until(lambda: any(notice["method"] == "runner.job" for notice in notices))
        waited: list[Any] = []

        async def wait_for_a_job() -> None:
            waiting = {"context_id": context, "runner_id": 4, "script_types": ["V"], "wait": 50}
            waited.append(await there.refused("job.take", **waiting))

        nursery.start_soon(wait_for_a_job)
        await trio.sleep(0.2)

        # The context, two runners, a flow and its jobs.
        assert await api.call("context.delete", context_id=context) == {"deleted": 7}

        await until(lambda: waited)
        assert waited[0].code in (STORAGE, NOT_FOUND)
        await until(lambda: any(notice["params"].get("status") == "Deleted" for notice in notices))
        ended = [notice["params"] for notice in notices if notice["method"] == "auth.ended"]
        assert ended == [{"subscription": runner["subscription"], "reason": f"context {context} is deleted"}]
        deleted = next(notice["params"] for notice in notices if notice["params"].get("status") == "Deleted")
        assert deleted["subscription"] == follower["subscription"]

        assert (await api.refused("context.load", id=context)).code == NOT_FOUND
        assert context not in (await api.call("context.list", cursor=str(context - 1), limit=1))["items"]
        assert await api.call("context.delete", context_id=context) == {"deleted": 0}
        await there.call("context.create", context=record)  # on a connection that knew the one before
        assert (await api.call("context.list", cursor=str(context - 1), limit=1))["items"] == [context]
        assert await api.call("flow.list", context_id=context) == {"items": []}
        await register(api, context)
        await submit(api, context, wide(1))
        (taken,) = (await api.call("job.take", context_id=context, runner_id=3, wait=10, **PY))["jobs"]
        assert taken["attempt"] == 1


async def test_calls_go_on_elsewhere_and_those_that_create_there_come_before_or_after(ws: Api, context: int) -> None:
    """Nothing of one context is found in the other."""
    await ws.call("context.create", context={"id": context, "admins": [], "readers": [], "executors": []})
    for id in range(1, 4):
        await submit(ws, context, wide(40, id * 100), id)
    outcomes: list[str] = []

    async def create() -> None:
        for number in range(1, 200):
            job = {"id": number, "caller_id": 8, "context_id": context, "script": "", "script_type": "V", "timeout": 0}
            job |= {"retries": 0, "env_vars": {}, "prerequisites": [], "depends": []}
            try:
                await ws.call("job.create", context_id=context, job=job)
                outcomes.append("created")
            except ErrorReply as error:
                outcomes.append("refused" if error.code == STORAGE else f"fault: {error}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create)
        await ws.call("context.delete", context_id=context)
    assert {*outcomes} <= {"created", "refused"}
    jobs = (await ws.call("job.list", context_id=context, limit=1000))["items"]
    after = len(outcomes) - max((at for at, outcome in enumerate(outcomes, 1) if outcome == "refused"), default=0)
    assert len(jobs) <= after
    assert all(job["caller_id"] == 8 for job in jobs)


async def has_flows(api: Api, context: int, count: int) -> bool:
    """Whether it has as many, and is not being deleted."""
    try:
        return len((await api.call("flow.list", context_id=context))["items"]) == count
    except ErrorReply:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("is_cut_off", [True, False], ids=["cut off", "whole"])
async def test_after_a_crash_a_deletion_goes_on_by_itself_and_nothing_is_there_again(
    tmp_path: Any, is_cut_off: bool
) -> None:
    arguments = ("--data-dir", str(tmp_path))
    with coordinator(*arguments) as first:
        async with ws_api(first.ws) as api, ws_api(first.ws) as other:
            for id in range(1, 5):
                await submit(api, 5, wide(1000, id * 1000), id)
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(api.call, "context.delete", context_id=5))
                    while is_cut_off and await has_flows(other, 5, 4):
                        pass
                    if is_cut_off:
                        first.kill()
                        nursery.cancel_scope.cancel()
        first.kill()
    with coordinator(*arguments) as second:
        async with ws_api(second.ws) as api:
            listed: list[int] = [5]
            with trio.fail_after(30):
                while listed:
                    await trio.sleep(0.2)
                    listed = (await api.call("context.list"))["items"]
            await trio.sleep(1)  # timers have been looked at
            assert (await api.call("context.list"))["items"] == []
            assert (await api.call("flow.list", context_id=5)) == {"items": []}
