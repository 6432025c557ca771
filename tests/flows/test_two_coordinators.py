"""Two coordinators on one store: what is done at one takes effect at the other, and one takes over from the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest
import trio

from coordinator.engine import engine, membership
from tests.support.api import Api, ws_api
from tests.support.flows import chain, remains, submit, wide
from tests.support.inprocess import serving, ws_url
from tests.support.proxy import Side, proxied
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.waiting import until
from tests.support.workers import follower, outcome_of, register, worker

pytestmark = pytest.mark.slow

HANG: Final = 50.0
LONG: Final = 3600.0  # seconds of a lease nobody waits for

Pair = tuple[CoordinatorProcess, CoordinatorProcess]


@pytest.fixture
def pair(store: ValkeyProcess) -> Iterator[Pair]:
    with coordinator("--redis-url", store.url) as here, coordinator("--redis-url", store.url) as there:
        yield here, there


@pytest.fixture
def vigilant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator in this process misses others sooner than one that is running says that it lives."""
    monkeypatch.setattr(membership, "DEAD_AFTER", 3.0)
    monkeypatch.setattr(engine, "MEMBERSHIP_EVERY", 0.2)


# -- news


async def test_jobs_started_at_one_reach_the_runners_of_the_other(pair: Pair) -> None:
    here, there = pair
    with trio.fail_after(HANG):
        async with worker(here.ws, 1, 3) as one, worker(there.ws, 1, 4) as two, ws_api(there.ws) as api:
            for flow in range(1, 21):
                first = flow * 10
                await submit(api, 1, {first: [], first + 1: [], first + 2: [first, first + 1]}, flow)
                done = 0

                async def work(runner: Any, flow: int = flow) -> None:
                    nonlocal done
                    while done < 3:
                        taken = None
                        with trio.move_on_after(0.05):  # around nothing that would be half done
                            taken = await runner.job()
                        if taken is not None:
                            await runner.finish(taken)
                            done += 1

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(work, one)
                    nursery.start_soon(work, two)
                assert (await api.call("flow.load", context_id=1, id=flow))["status"] == "Finished"
            assert one.frames
            assert two.frames


async def test_a_finish_at_one_releases_what_waits_to_a_runner_of_the_other(pair: Pair) -> None:
    here, there = pair
    with trio.fail_after(HANG):
        async with worker(here.ws, 1, 3) as one, ws_api(there.ws) as api:
            await submit(api, 1, chain(2))
            first = await one.job()
            await one.api.call("runner.unsubscribe", subscription=one.subscription)
            async with worker(there.ws, 1, 4) as two:
                await one.finish(first, n="1")

                second = await two.job()

                assert (second["job"]["id"], second["inputs"]) == (2, {"1": {"n": "1"}})


async def test_a_satisfied_prerequisite_crosses_over(pair: Pair) -> None:
    here, there = pair
    with trio.fail_after(HANG):
        async with worker(here.ws, 1) as runner, ws_api(there.ws) as api:
            await submit(api, 1, wide(1), prerequisites=["go"])
            await api.call("prerequisite.satisfy", context_id=1, name="go")

            assert (await runner.job())["job"]["id"] == 1


@pytest.mark.parametrize("reason", ["no longer wanted", 'two\nlines of "reasons" \\ and a / ✓'])
async def test_a_cancel_crosses_over(pair: Pair, reason: str) -> None:
    here, there = pair
    with trio.fail_after(HANG):
        async with worker(here.ws, 1) as runner, ws_api(there.ws) as api:
            await submit(api, 1, wide(1))
            running = await runner.job()

            await api.call("flow.cancel", context_id=1, id=1, reason=reason)

            notice = await runner.cancelled()
            assert (notice["token"], notice["reason"]) == (running["token"], f"cancelled: {reason}")
            await submit(api, 1, wide(1, first=2), flow=2)  # the place is free, the coordinator well
            assert (await runner.job())["job"]["id"] == 2


async def test_events_cross_over(pair: Pair) -> None:
    here, there = pair
    with trio.fail_after(HANG):
        async with ws_api(there.ws) as api, worker(there.ws, 1) as runner:
            await submit(api, 1, chain(5))
            async with follower(here.ws, 1) as following:
                for id in range(1, 6):
                    await runner.finish(await runner.job())
                    await following.until(job_id=id, status="Finished")
                await following.until(kind="flow", status="Finished")

            page = await api.call("flow.events", context_id=1, id=1, limit=1000)
            assert [event["event_id"] for event in following.events] == [event["event_id"] for event in page["events"]]


async def test_contexts_listened_to_at_the_same_moment_all_get_their_news(pair: Pair) -> None:
    here, there = pair
    contexts = range(1, 101)
    with trio.fail_after(HANG):
        async with worker(here.ws, 1, subscribed=False) as runner, ws_api(there.ws) as api:
            for context in contexts:
                await register(runner.api, context)
            subscribe = {"runner_id": 3, "script_types": ["Python"], "capacity": 1}
            waiters = [
                await runner.client.send("runner.subscribe", {"context_id": context, **subscribe})
                for context in contexts
            ]
            for wait in waiters:
                await wait()

            for context in contexts:
                await submit(api, context, wide(1))

            got = {assignment["context_id"] for assignment in await runner.jobs(len(contexts))}
            assert got == {*contexts}


# -- the connection to the store is lost


async def test_runners_get_jobs_though_the_connection_that_brings_news_was_cut(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with (
            proxied(store.port) as proxy,
            serving(redis_url=proxy.url) as here,
            serving(redis_url=store.url) as there,
            worker(ws_url(here), 1) as runner,
            ws_api(ws_url(there)) as api,
        ):
            for flow in range(1, 6):
                assert proxy.cut(reset=flow % 2 == 0)
                await submit(api, 1, wide(1, first=flow), flow)
                await runner.finish(await runner.job())


async def test_runners_get_jobs_that_came_while_the_store_could_not_be_reached(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with (
            proxied(store.port) as proxy,
            serving(redis_url=proxy.url) as here,
            serving(redis_url=store.url) as there,
            worker(ws_url(here), 1) as runner,
            ws_api(ws_url(there)) as api,
        ):
            await proxy.refuse()
            await submit(api, 1, wide(1))

            await proxy.pass_all()

            assert (await runner.job())["job"]["id"] == 1


async def test_a_timer_is_seen_to_though_the_reply_that_told_of_it_was_lost(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with (
            proxied(store.port) as proxy,
            serving(redis_url=proxy.url) as here,
            worker(ws_url(here), 1, lease=LONG) as runner,
            trio.open_nursery() as nursery,
        ):
            await submit(runner.api, 1, wide(1), retries=1)
            running = await runner.job()
            proxy.stall(Side.TO_CLIENT)
            nursery.start_soon(runner.fail, running)
            await until(lambda: remains(store.client(1)).get("timers") == ["retry:job:7:1"])

            proxy.cut()
            await proxy.pass_all()

            assert (await runner.job())["attempt"] == 2


async def test_a_timer_is_seen_to_though_its_call_was_given_up_meanwhile(store: ValkeyProcess) -> None:
    settings = {"request_timeout": 0.5, "store_timeout": 20.0}
    with trio.fail_after(HANG):
        async with (
            proxied(store.port) as proxy,
            serving(redis_url=proxy.url, **settings) as here,
            worker(ws_url(here), 1, lease=LONG) as runner,
        ):
            await submit(runner.api, 1, wide(1), retries=1)
            running = await runner.job()
            proxy.stall(Side.TO_CLIENT)
            error = await runner.api.refused("job.fail", **outcome_of(running, error="no"))
            assert error.data["may_have_been_applied"] is True

            await proxy.pass_all()

            assert (await runner.job())["attempt"] == 2


# -- one dies


async def leave_work_behind(api: Api, url: str) -> None:
    """In context 1: an attempt whose runner has gone, a job in its pause, a queued one, a message nobody takes."""
    await submit(api, 1, wide(3), retries=3)
    async with worker(url, 1, 3, capacity=2, lease=2.0) as runner:
        _, failing = await runner.jobs(2)
        await runner.api.call("runner.unsubscribe", subscription=runner.subscription)
        await runner.fail(failing)


async def test_one_takes_over_the_leases_and_pauses_of_one_that_was_killed(
    store: ValkeyProcess, vigilant: None
) -> None:
    with trio.fail_after(HANG), coordinator("--redis-url", store.url) as victim:
        async with ws_api(victim.ws) as api:
            await leave_work_behind(api, victim.ws)
            victim.process.kill()
        async with serving(redis_url=store.url) as survivor, worker(ws_url(survivor), 1, 4, capacity=5) as runner:
            got = {assignment["job"]["id"]: assignment["attempt"] for assignment in await runner.jobs(3)}

            assert got == {1: 2, 2: 2, 3: 1}
            for frame in runner.frames:
                for assignment in frame:
                    await runner.finish(assignment)
            assert (await runner.api.call("flow.load", context_id=1, id=1))["status"] == "Finished"
            assert remains(store.client(1)) == {}
            await until(lambda: store.client().zcard("coordinators") == 1)


async def test_one_that_was_thought_dead_is_taken_over_from_once_more_when_it_dies(
    store: ValkeyProcess, vigilant: None
) -> None:
    with trio.fail_after(HANG), coordinator("--redis-url", store.url) as victim:
        (name,) = await names(store)
        async with ws_api(victim.ws) as api:
            await submit(api, 1, wide(1), retries=1)
            victim.process.send_signal(signal.SIGSTOP)
            try:
                async with serving(redis_url=store.url):
                    await until(lambda: store.client().zscore("coordinators", name) is None)
            finally:
                victim.process.send_signal(signal.SIGCONT)
            await until(lambda: store.client().sismember(f"engaged:{name}", "1"))

            async with worker(victim.ws, 1, 3, lease=1.0) as runner:
                await runner.job()
                os.kill(victim.process.pid, signal.SIGKILL)
        async with serving(redis_url=store.url) as survivor, worker(ws_url(survivor), 1, 4) as runner:
            assert (await runner.job())["attempt"] == 2


async def names(store: ValkeyProcess) -> list[str]:
    """Coordinators that have said they live."""
    await until(lambda: store.client().zcard("coordinators"))
    found: Any = store.client().zrange("coordinators", 0, -1)
    return list(found)
