"""A runner that waits has its job in the round that queues it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redis
import trio

from coordinator.server.app import App
from tests.support.api import Api, http_api, ws_api
from tests.support.flows import chain, fields_of_job, submit, wide
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.server import ValkeyProcess
from tests.support.waiting import until
from tests.support.workers import outcome_of, register, worker

HANG = 40.0
CONTEXT = 1


def waiting(app: App) -> list[Any]:
    """The runners and calls that have found nothing, at this coordinator."""
    assert app._service is not None
    context = app._service._engine.contexts.of(CONTEXT)
    runners = [runner for runner in context.runners.values() if runner.is_hungry and runner.is_parked]
    return [*runners, *(waiter for waiter in context.waiters if waiter.is_parked)]


async def draft(api: Api, id: int = 1) -> None:
    """A flow of one job, which has the same id, that is not started."""
    await api.call("job.create", context_id=CONTEXT, job=fields_of_job(CONTEXT, id))
    flow = {"id": id, "caller_id": 7, "context_id": CONTEXT, "jobs": [id], "env_vars": {}}
    await api.call("flow.create", context_id=CONTEXT, flow=flow)


class Calls:
    """The calls of the function library in the context, by the names of the functions, since this was made."""

    def __init__(self, store: ValkeyProcess) -> None:
        self._client = redis.Redis.from_url(store.url)
        self._client.config_set("slowlog-log-slower-than", 0)
        self._client.config_set("slowlog-max-len", 10_000)
        self._client.slowlog_reset()

    def names(self) -> list[str]:
        entries = self._client.slowlog_get(10_000)
        commands = [entry["command"].decode(errors="replace").split(" ") for entry in reversed(entries)]
        return [words[1] for words in commands if words[0] == "FCALL" and f"herocoordinator:{CONTEXT}" in words]

    def close(self) -> None:
        self._client.config_set("slowlog-log-slower-than", 10_000)
        self._client.close()


@asynccontextmanager
async def listening(store: ValkeyProcess) -> AsyncIterator[App]:
    """A coordinator that has begun to listen to others about the context, upon which everybody in it looks once more:
    for a runner of another type."""
    async with serving(redis_url=store.url) as app:
        calls = Calls(store)
        async with worker(ws_url(app), CONTEXT, 9, script_types=["V"]):
            await until(lambda: sum(name in ("hc_take", "hc_many_ending") for name in calls.names()) > 1)
            await until(lambda: len(waiting(app)) == 1)
            calls.close()
            yield app


@pytest.mark.parametrize("transport", ["ws", "http"])
async def test_a_waiting_runner_has_it_by_the_call_that_submits_it(store: ValkeyProcess, transport: str) -> None:
    with trio.fail_after(HANG):
        async with listening(store) as app, worker(ws_url(app), CONTEXT, 3, capacity=2) as runner:
            await until(lambda: len(waiting(app)) == 2)
            opened = http_api(http_url(app)) if transport == "http" else ws_api(ws_url(app))
            async with opened as api:
                calls = Calls(store)
                await submit(api, CONTEXT, chain(1))
                assignment = await runner.job()
                await until(lambda: len(waiting(app)) == 2)
                names = calls.names()
                calls.close()

            assert assignment["job"]["id"] == 1
            assert names.count("hc_many") == 1
            assert "hc_take" not in names
            assert "hc_flow_submit" not in names


@pytest.mark.parametrize("method", ["flow.start", "prerequisite.satisfy", "flow.retry"])
async def test_a_waiting_runner_has_it_by_the_call_that_makes_it_ready(store: ValkeyProcess, method: str) -> None:
    """Although only the store knows of which type it is: one runner of each type asks, in the same round."""
    with trio.fail_after(HANG):
        async with (
            listening(store) as app,
            worker(ws_url(app), CONTEXT, 3, capacity=2) as three,
            worker(ws_url(app), CONTEXT, 4, capacity=2) as four,
            ws_api(ws_url(app)) as api,
        ):
            await until(lambda: len(waiting(app)) == 3)
            params: dict[str, Any] = {"context_id": CONTEXT, "id": 1}
            if method == "flow.start":
                await draft(api)
            elif method == "prerequisite.satisfy":
                await submit(api, CONTEXT, chain(1), prerequisites=["approved"])
                params = {"context_id": CONTEXT, "name": "approved"}
            else:
                await submit(api, CONTEXT, chain(1))
                await until(lambda: bool(three.frames or four.frames))
                runner = three if three.frames else four
                await runner.fail(await runner.job(), retry=False)
            await until(lambda: len(waiting(app)) == 3)
            before = len(three.frames) + len(four.frames)
            calls = Calls(store)
            await api.call(method, **params)
            await until(lambda: len(three.frames) + len(four.frames) == before + 1)
            await until(lambda: len(waiting(app)) == 3)
            names = calls.names()
            calls.close()

            # Two ask together, before anybody was told that there is one. Then there may be another for the next.
            assert names[:2] == ["hc_" + method.replace(".", "_"), "hc_many_ending"]
            assert set(names[2:]) <= {"hc_take"}
            assert len(names) <= 3


async def test_whoever_asked_for_nothing_waits_again(store: ValkeyProcess) -> None:
    """A flow is refused, and of another one no job may run yet."""
    with trio.fail_after(HANG):
        async with (
            listening(store) as app,
            worker(ws_url(app), CONTEXT, 3, capacity=1) as runner,
            ws_api(ws_url(app)) as api,
        ):
            await until(lambda: len(waiting(app)) == 2)
            await api.refused("flow.start", context_id=CONTEXT, id=99)
            await until(lambda: len(waiting(app)) == 2)
            await api.call("prerequisite.satisfy", context_id=CONTEXT, name="nobody waits for it")
            await until(lambda: len(waiting(app)) == 2)
            await api.call("context.pause", context_id=CONTEXT)
            await draft(api)
            await api.call("flow.start", context_id=CONTEXT, id=1)
            await until(lambda: len(waiting(app)) == 2)
            assert runner.frames == []

            await api.call("context.resume", context_id=CONTEXT)

            assert (await runner.job())["job"]["id"] == 1


async def test_one_place_gets_one_of_many_flows_that_start_at_once(store: ValkeyProcess) -> None:
    """And each is carried out once, whoever asked for it."""
    with trio.fail_after(HANG):
        async with (
            listening(store) as app,
            worker(ws_url(app), CONTEXT, 3, capacity=1) as runner,
            ws_api(ws_url(app)) as api,
        ):
            for flow in range(1, 9):
                await draft(api, flow)
            await until(lambda: len(waiting(app)) == 2)
            async with trio.open_nursery() as nursery:
                for flow in range(1, 9):
                    nursery.start_soon(partial(api.call, "flow.start", context_id=CONTEXT, id=flow))
            done = []
            for _ in range(8):
                assignment = await runner.job()
                assert runner.waiting == 0
                done.append((assignment["job"]["id"], assignment["attempt"]))
                await runner.finish(assignment)

            assert sorted(done) == [(job, 1) for job in range(1, 9)]


async def test_a_runner_that_leaves_as_its_job_starts_loses_nothing(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with listening(store) as app, ws_api(ws_url(app)) as api:
            await draft(api)
            async with trio.open_nursery() as nursery:
                async with worker(ws_url(app), CONTEXT, 3, lease=1.0):
                    await until(lambda: len(waiting(app)) == 2)
                    nursery.start_soon(partial(api.call, "flow.start", context_id=CONTEXT, id=1))
                    await trio.lowlevel.checkpoint()  # the call is sent, and the connection closed
            async with worker(ws_url(app), CONTEXT, 4) as staying:
                assert (await staying.job())["job"]["id"] == 1


async def test_a_waiting_call_has_it_by_the_call_that_submits_it(store: ValkeyProcess) -> None:
    taken: list[Any] = []

    async def take(api: Api) -> None:
        answer = await api.call("job.take", context_id=CONTEXT, runner_id=3, script_types=["Python"], wait=30)
        taken.extend(answer["jobs"])

    with trio.fail_after(HANG):
        async with listening(store) as app, http_api(http_url(app)) as one, ws_api(ws_url(app)) as two:
            await register(two, CONTEXT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take, one)
                await until(lambda: len(waiting(app)) == 2)
                calls = Calls(store)
                await submit(two, CONTEXT, chain(1))
            names = calls.names()
            calls.close()

            assert [each["job"]["id"] for each in taken] == [1]
            assert "hc_take" not in names


async def test_a_place_that_is_freed_is_filled_by_the_call_that_frees_it(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with listening(store) as app, worker(ws_url(app), CONTEXT, 3, capacity=1) as runner:
            await submit(runner.api, CONTEXT, wide(3))
            first = await runner.job()
            calls = Calls(store)
            await runner.api.call("job.finish", **outcome_of(first))
            second = await runner.job()
            names = calls.names()
            calls.close()

            assert second["job"]["id"] != first["job"]["id"]
            assert "hc_many_ending" in names
            assert "hc_take" not in names
            assert "hc_finish" not in names


async def test_they_are_asked_in_turn_and_nobody_for_what_is_taken(store: ValkeyProcess) -> None:
    """Whoever was not asked for longest is next, and each job costs one take."""
    with trio.fail_after(HANG):
        async with (
            listening(store) as app,
            worker(ws_url(app), CONTEXT, 3, capacity=9) as three,
            worker(ws_url(app), CONTEXT, 4, capacity=9) as four,
        ):
            await until(lambda: len(waiting(app)) == 3)
            calls = Calls(store)
            for flow in range(1, 7):
                await submit(three.api, CONTEXT, {flow: []}, flow)
                while len(three.frames) + len(four.frames) < flow or len(waiting(app)) < 3:
                    await trio.sleep(0.01)
            names = calls.names()
            calls.close()

            assert (len(three.frames), len(four.frames)) == (3, 3)
            assert names.count("hc_many") == 6
            assert "hc_take" not in names


async def test_what_one_cannot_take_is_the_next_ones(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with (
            listening(store) as app,
            worker(ws_url(app), CONTEXT, 3, capacity=2) as three,
            worker(ws_url(app), CONTEXT, 4, capacity=2) as four,
            worker(ws_url(app), CONTEXT, 5, capacity=9) as five,
        ):
            await until(lambda: len(waiting(app)) == 4)
            await submit(three.api, CONTEXT, wide(7))
            await until(lambda: sum(len(runner.frames) for runner in (three, four, five)) == 7)

            assert [len(three.frames), len(four.frames)] == [2, 2]
