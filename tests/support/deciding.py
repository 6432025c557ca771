"""What people decide about what runs, once through, by one connection with a runner on another."""

from __future__ import annotations

from typing import Any, Final

import trio

from tests.support.api import Api, ws_api
from tests.support.flows import chain, submit
from tests.support.streaming import streaming
from tests.support.workers import Worker, register, worker

__all__ = ["decide"]

PATIENCE: Final = 20.0
A_WHILE: Final = 0.3  # in which a job would have come


async def decide(here: str, there: str, context: int) -> None:
    """Everything that is decided at the WebSocket URL `here` holds for a runner that is connected at `there`."""
    with trio.fail_after(PATIENCE * 3):
        async with ws_api(here) as api, worker(there, context) as runner:
            record = {"id": context, "admins": [], "readers": [], "executors": []}
            await api.call("context.create", context=record)
            await _pause(api, runner, context)
            await _drain(api, runner, context)
            await _cancel_and_rerun(api, runner, context)
        await ended_with(here, there, context)


async def _nothing_comes(runner: Worker) -> None:
    await trio.sleep(A_WHILE)
    assert runner.waiting == 0


async def _next(runner: Worker) -> dict[str, Any]:
    with trio.fail_after(PATIENCE):
        return await runner.job()


async def _pause(api: Api, runner: Worker, context: int) -> None:
    of = {"context_id": context}
    assert (await api.call("context.pause", **of))["paused"] is True
    await api.call("context.pause", script_type="Python", **of)
    await submit(api, context, chain(2))
    await _nothing_comes(runner)
    shown = await api.call("context.load", id=context)
    assert (shown["paused"], shown["paused_script_types"]) == (True, ["Python"])
    await api.call("context.resume", **of)
    await _nothing_comes(runner)
    await api.call("context.resume", script_type="Python", **of)
    first = await _next(runner)
    assert (await api.call("flow.pause", id=1, **of))["paused"] is True
    await runner.finish(first)  # which frees its place
    await _nothing_comes(runner)
    assert (await api.call("flow.status", id=1, **of))["flow"]["paused"] is True
    await api.call("flow.resume", id=1, **of)
    await runner.finish(await _next(runner))
    assert (await api.call("flow.load", id=1, **of))["status"] == "Finished"


async def _drain(api: Api, runner: Worker, context: int) -> None:
    of = {"context_id": context, "id": runner.id}
    await api.call("runner.drain", **of)
    await submit(api, context, {11: []}, 2)
    await _nothing_comes(runner)
    async with worker(runner.url, context, runner.id) as again:
        await _nothing_comes(again)
    assert (await api.call("runner.load", **of))["draining"] is True
    await api.call("runner.undrain", **of)
    await runner.finish(await _next(runner))


async def _cancel_and_rerun(api: Api, runner: Worker, context: int) -> None:
    of = {"context_id": context}
    await submit(api, context, chain(2, 21), 3)
    taken = await _next(runner)
    await api.call("job.cancel", caller_id=7, id=21, reason="too dear", **of)
    with trio.fail_after(PATIENCE):
        notice = await runner.cancelled()
    assert (notice["token"], notice["reason"]) == (taken["token"], "cancelled: too dear")
    await api.call("flow.rerun", id=3, overrides={"env_vars": {"A": "1"}}, **of)
    for id in (21, 22):
        again = await _next(runner)
        assert (again["job"]["id"], again["env_vars"]) == (id, {"A": "1"})
        await runner.finish(again)
    await api.call("flow.rerun", id=3, from_job=22, **of)
    await runner.finish(await _next(runner))
    everything = {"filter": {}, "dry_run": True, **of}
    found = await api.call("flow.delete_many", **everything)
    assert found["ids"] == [1, 2, 3], found


async def ended_with(here: str, there: str, context: int) -> None:
    """The context is deleted `here`: a runner `there` is told, and so are followers of a flow and of the context."""
    notices: list[dict[str, Any]] = []
    async with ws_api(here) as api, streaming(there, notices.extend) as client:
        other = Api(client)
        await register(api, context)
        runner = {"context_id": context, "runner_id": 3, "script_types": ["V"], "capacity": 1}
        runner_id = (await other.call("runner.subscribe", **runner))["subscription"]
        flow_id = (await other.call("flow.subscribe", context_id=context, id=3))["subscription"]
        context_follower = (await other.call("context.subscribe", context_id=context))["subscription"]

        deleted = (await api.call("context.delete", context_id=context))["deleted"]

        assert deleted == 10  # the context, a runner, three flows and five jobs
        with trio.fail_after(PATIENCE):
            while {notice["params"]["subscription"] for notice in notices} != {runner_id, flow_id, context_follower}:
                await trio.sleep(0.02)
            of_context = [notice["params"] for notice in notices if notice["method"] == "context.event"]
            assert (of_context[-1]["kind"], of_context[-1]["status"]) == ("context", "Deleted")
        with trio.fail_after(PATIENCE):
            while not any(notice["method"] == "auth.ended" for notice in notices):
                await trio.sleep(0.02)
        assert (await other.refused("flow.load", context_id=context, id=3)).code == -32001
        await submit(other, context, {1: []})
        listed = await api.call("context.list", cursor=str(context - 1) if context else "", limit=1)
        assert listed["items"] == [context]
        assert (await other.call("context.delete", context_id=context))["deleted"] == 2
