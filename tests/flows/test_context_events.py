"""Following all flows of a context: over WebSocket and in pages over HTTP, the same events, none missed, none twice."""

from __future__ import annotations

from typing import Any, Final

import pytest
import trio

from coordinator.client import ContextFollower, connect
from tests.support.api import Api, http_api, ws_api
from tests.support.flows import chain, submit, wide
from tests.support.proxy import proxied
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.workers import register, worker

HANG: Final = 60.0
NO_SUCH_SUBSCRIPTION, INVALID, NEEDS_WEBSOCKET = -32042, -32602, -32044


async def run_jobs(url: str, context: int, count: int) -> None:
    async with worker(url, context, capacity=4) as runner:
        for _ in range(count):
            await runner.finish(await runner.job())


async def until_finished(follower: ContextFollower, *flows: int) -> list[Any]:
    """The events until these flows have."""
    remaining, events = {*flows}, []
    while remaining:
        event = await anext(follower)
        events.append(event)
        if event.kind == "flow" and event.status == "Finished":
            remaining.discard(event.flow_id or 0)
    return events


@pytest.mark.slow
async def test_followers_pages_and_lost_connections_tell_the_same(
    server: CoordinatorProcess, http: Api, context: int
) -> None:
    begin = await http.call("context.events", context_id=context)
    with trio.fail_after(HANG):
        async with proxied(int(server.ws.rsplit(":", 1)[1])) as proxy, connect(server.ws) as near:
            async with connect(f"ws://127.0.0.1:{proxy.port}", timeout=10) as distant:
                whole, cut = near.follow_context(context), distant.follow_context(context, buffer=5)
                seen: dict[str, list[Any]] = {}

                async def follow(name: str, follower: ContextFollower) -> None:
                    seen[name] = await until_finished(follower, 1, 2)

                async def cut_often() -> None:
                    while "cut" not in seen:
                        await trio.sleep(0.15)
                        proxy.cut()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follow, "whole", whole)
                    nursery.start_soon(follow, "cut", cut)
                    while not (whole.last and cut.last):
                        await trio.sleep(0.01)
                    nursery.start_soon(cut_often)
                    await submit(http, context, chain(10), 1)
                    await submit(http, context, wide(20, first=100), 2)
                    nursery.start_soon(run_jobs, server.ws, context, 30)
    page = await http.call("context.events", context_id=context, after=begin["last_event"], limit=1000)
    ids = [event["event_id"] for event in page["events"]]
    assert [event.event_id for event in seen["whole"]] == ids[: len(seen["whole"])]
    assert [event.event_id for event in seen["cut"]] == ids[: len(seen["cut"])]
    assert (page["missed"], whole.missed, cut.missed) == (False, False, False)


async def test_a_subscription_says_where_it_begins_and_can_be_ended(ws: Api, http: Api, context: int) -> None:
    opened = await ws.call("context.subscribe", context_id=context)
    assert opened["missed"] is False
    assert (await http.refused("context.subscribe", context_id=context)).code == NEEDS_WEBSOCKET
    assert (await ws.refused("flow.unsubscribe", subscription=opened["subscription"])).code == NO_SUCH_SUBSCRIPTION
    beyond = await ws.refused("context.subscribe", context_id=context, after="9999999999999-0")
    assert (beyond.code, beyond.data[0]["loc"]) == (INVALID, ["after"])

    assert (await ws.call("context.unsubscribe", subscription=opened["subscription"]))["subscription"]

    again = await ws.call("context.subscribe", context_id=context, after=opened["last_event"])
    assert (again["missed"], again["last_event"]) == (False, opened["last_event"])
    assert (await ws.call("context.subscribe", context_id=context, after="0-0"))["missed"] is True


@pytest.mark.slow
async def test_what_is_done_at_one_coordinator_is_told_at_the_other(store: ValkeyProcess) -> None:
    with coordinator("--redis-url", store.url) as here, coordinator("--redis-url", store.url) as there:
        with trio.fail_after(HANG):
            async with connect(here.ws) as client, http_api(there.http) as api, ws_api(there.ws) as other:
                await register(other, 1)
                async with client.follow_context(1) as follower, trio.open_nursery() as nursery:
                    found: list[Any] = []

                    async def follow() -> None:
                        found.extend(await until_finished(follower, 1))

                    nursery.start_soon(follow)
                    while not follower.last:
                        await trio.sleep(0.01)
                    await submit(api, 1, chain(3), 1)
                    await run_jobs(there.ws, 1, 3)
                assert [event.job_id for event in found] == [None, 1, 1, 2, 2, 2, 3, 3, 3, None]
