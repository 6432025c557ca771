"""Following a flow: nothing is missed, nothing comes twice, whatever happens in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.flows import chain, submit, wide
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, free_port
from tests.support.workers import Follower, follower, outcome_of, register, worker

HANG: Final = 60.0


async def every_event(api: Api, context: int, flow: int = 1) -> list[str]:
    """The ids of all events kept, in order."""
    ids: list[str] = []
    after = "0-0"
    while True:
        page = await api.call("flow.events", context_id=context, id=flow, after=after, limit=1000)
        if not page["events"]:
            return ids
        ids += [event["event_id"] for event in page["events"]]
        after = page["last_event"]


def ids_of(following: Follower) -> list[str]:
    return [event["event_id"] for event in following.events]


async def run_jobs(url: str, context: int, count: int) -> None:
    """Finish so many jobs, each with a line in its log. What came beyond those, the next one returns."""
    async with worker(url, context, capacity=4, session="one after the other") as runner:
        for _ in range(count):
            assignment = await runner.job()
            await runner.api.call("job.log", **outcome_of(assignment, lines=["a line"]))
            await runner.finish(assignment)


async def test_a_follower_sees_every_event_in_order_as_it_happens(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, chain(20))
    with trio.fail_after(HANG):
        async with follower(server.ws, context) as following:
            await run_jobs(server.ws, context, 20)
            await following.until(kind="flow", status="Finished")

            assert ids_of(following) == await every_event(ws, context)
            steps = [(event["kind"], event.get("status")) for event in following.events if event.get("job_id") == 7]
            assert steps == [("job", "Dispatched"), ("job", "Started"), ("log", None), ("job", "Finished")]
            assert following.missed is False


async def test_a_follower_goes_on_after_the_last_event_it_saw(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, chain(8))
    with trio.fail_after(HANG):
        seen: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_jobs, server.ws, context, 8)
            last: dict[str, Any] = {}
            while (last.get("kind"), last.get("status")) != ("flow", "Finished"):
                async with follower(server.ws, context, after=seen[-1] if seen else "0-0") as following:
                    while not following.events:
                        await trio.lowlevel.checkpoint()
                seen += ids_of(following)
                last = following.events[-1]

        assert seen == await every_event(ws, context)


@pytest.mark.slow
async def test_a_late_follower_sees_all_that_is_kept_and_nothing_of_what_it_saw(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, wide(300))
    with trio.fail_after(HANG):
        await run_jobs(server.ws, context, 300)  # 900 events and more: several steps of a subscription
        kept = await every_event(ws, context)
        for at in (0, 137, len(kept) - 2):
            async with follower(server.ws, context, after=kept[at]) as following:
                await following.until(kind="flow", status="Finished")

                assert ids_of(following) == kept[at + 1 :]


async def test_followers_of_a_flow_do_not_share_what_they_are_sent(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, wide(4))
    with trio.fail_after(HANG):
        async with follower(server.ws, context) as one, follower(server.ws, context) as two:
            await run_jobs(server.ws, context, 4)
            for following in (one, two):
                await following.until(kind="flow", status="Finished")
                assert ids_of(following) == await every_event(ws, context)
                assert {event["subscription"] for event in following.events} == {following.subscription}


async def test_a_follower_is_told_that_events_are_no_longer_kept(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), coordinator("--redis-url", store.url, "--event-retention", "0.2") as server:
        async with ws_api(server.ws) as api:
            await submit(api, 1, wide(1))
            await run_jobs(server.ws, 1, 1)
            while await every_event(api, 1):
                await trio.sleep(0.05)

            async with follower(server.ws, 1) as following:
                assert following.missed is True
            page = await api.call("flow.events", context_id=1, id=1)
            assert (page["events"], page["missed"]) == ([], True)


@pytest.mark.slow
async def test_resuming_misses_and_repeats_nothing_though_the_coordinator_is_killed(tmp_path: Path) -> None:
    arguments = ("--data-dir", str(tmp_path), "--api-ws-port", str(free_port()))
    seen: list[str] = []
    with trio.fail_after(HANG):
        with coordinator(*arguments) as server:
            async with ws_api(server.ws) as api:
                await submit(api, 1, chain(6))
            async with follower(server.ws, 1) as following:
                await run_jobs(server.ws, 1, 3)
                await following.until(job_id=3, status="Finished")
                server.kill()
            seen += ids_of(following)

        with coordinator(*arguments) as again:
            async with follower(again.ws, 1, after=seen[-1]) as following:
                await run_jobs(again.ws, 1, 3)
                await following.until(kind="flow", status="Finished")
            seen += ids_of(following)

            async with ws_api(again.ws) as api:
                assert seen == await every_event(api, 1)


@pytest.mark.slow
async def test_a_follower_hears_of_what_happened_while_nobody_was_to_announce_it(store: ValkeyProcess) -> None:
    """Its coordinator could not say for a while that somebody follows, so the other one kept silent."""
    with trio.fail_after(HANG):
        with coordinator("--redis-url", store.url) as here, coordinator("--redis-url", store.url) as there:
            async with ws_api(there.ws) as api:
                await register(api, 1)
                await submit(api, 1, wide(1))
                async with follower(here.ws, 1) as following:
                    await following.until(status="Started")
                    store.client(1).delete("followed:1")

                    await api.call("flow.cancel", context_id=1, id=1)

                    await following.until(kind="flow", status="Error")
