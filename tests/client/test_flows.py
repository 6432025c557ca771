"""Following a flow: every event once and in order, whatever the connection and the reader do."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from coordinator.client import Client, NotFound, connect
from coordinator.models import FlowEvent
from tests.client.conftest import CALLER, flow, job, port_of, runner
from tests.support.proxy import Side, proxied
from tests.support.server import CoordinatorProcess, coordinator

RUNNER = 3


async def submit(client: Client, context_id: int, id: int, jobs: int, *, retries: int = 0) -> None:
    """A flow of so many jobs, each depending on the one before."""
    await client.runner_create(context_id=context_id, runner=runner(RUNNER))
    ids = list(range(1, jobs + 1))
    await client.flow_submit(
        context_id=context_id,
        flow=flow(context_id, id, ids),
        jobs=[job(context_id, id, depends=[id - 1] if id > 1 else [], retries=retries) for id in ids],
    )


async def run_one(client: Client, context_id: int, *, lines: int = 0, error: str | None = None) -> int:
    """Run whatever job is ready; its id."""
    (taken,) = await client.job_take(context_id=context_id, runner_id=RUNNER, script_types=["Python"], wait=20)
    attempt = {"context_id": context_id, "caller_id": CALLER, "id": taken.job.id, "token": taken.token}
    for number in range(lines):
        await client.call("job.log", {**attempt, "lines": [str(number)]})
    if error is None:
        await client.call("job.finish", attempt)
    else:
        await client.call("job.fail", {**attempt, "error": error, "retry": False})
    return taken.job.id


def told(events: list[FlowEvent]) -> list[tuple[int | None, str | None]]:
    return [(event.job_id, event.status) for event in events if event.kind != "log"]


CHAIN_OF_TWO = [
    (None, "Started"),
    (1, "Started"),
    (1, "Finished"),
    (2, "Dispatched"),
    (2, "Started"),
    (2, "Finished"),
    (None, "Finished"),
]


async def test_a_flow_is_followed_to_its_end(client: Client, context_id: int) -> None:
    await submit(client, context_id, 1, jobs=2)
    seen: list[FlowEvent] = []

    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            async for event in client.follow_flow(context_id, 1):
                seen.append(event)

        nursery.start_soon(follow)
        await run_one(client, context_id, lines=2)
        await run_one(client, context_id)

    assert told(seen) == CHAIN_OF_TWO
    assert [event.lines for event in seen if event.kind == "log"] == [["0"], ["1"]]


async def test_an_ended_flow_is_followed_to_its_end_again_and_from_any_event(client: Client, context_id: int) -> None:
    await submit(client, context_id, 1, jobs=2)
    await run_one(client, context_id)
    await run_one(client, context_id)

    with trio.fail_after(20):
        whole = [event async for event in client.follow_flow(context_id, 1)]
        rest = [event async for event in client.follow_flow(context_id, 1, after=whole[3].event_id)]
        nothing = [event async for event in client.follow_flow(context_id, 1, after=whole[-1].event_id)]

    assert told(whole) == CHAIN_OF_TWO
    assert rest == whole[4:]
    assert nothing == []


async def test_a_flow_tried_again_is_followed_to_its_last_end(client: Client, context_id: int) -> None:
    await submit(client, context_id, 1, jobs=1)
    await run_one(client, context_id, error="broken")
    await client.flow_retry(context_id=context_id, id=1)
    await run_one(client, context_id)

    with trio.fail_after(20):
        seen = [event async for event in client.follow_flow(context_id, 1)]

    statuses = [event.status for event in seen if event.kind == "flow"]
    assert statuses == ["Started", "Error", "Started", "Finished"]


async def test_one_may_go_on_following_after_the_end(client: Client, context_id: int) -> None:
    await submit(client, context_id, 1, jobs=1)
    await run_one(client, context_id, error="broken")

    with trio.fail_after(20):
        async with client.follow_flow(context_id, 1, forever=True) as events:
            async for event in events:
                if (event.kind, event.status) == ("flow", "Error"):
                    await client.flow_retry(context_id=context_id, id=1)
                    await run_one(client, context_id)
                if event.status == "Finished" and event.kind == "flow":
                    break


async def test_a_slow_reader_gets_everything_and_holds_nobody_up(client: Client, context_id: int) -> None:
    await submit(client, context_id, 1, jobs=30)
    events = client.follow_flow(context_id, 1, buffer=5)
    first = await anext(events)

    with trio.fail_after(60):
        for _ in range(30):
            await run_one(client, context_id, lines=3)
        assert len(events._buffer) <= 5
        rest = [event async for event in events]

    finished = [event.job_id for event in [first, *rest] if event.kind == "job" and event.status == "Finished"]
    assert finished == list(range(1, 31))
    ids = [tuple(map(int, event.event_id.split("-"))) for event in [first, *rest]]
    assert ids == sorted(set(ids))


@pytest.mark.slow
async def test_no_event_is_lost_or_repeated_when_the_connection_is(
    server: CoordinatorProcess, client: Client, context_id: int
) -> None:
    await submit(client, context_id, 1, jobs=40)
    seen: list[FlowEvent] = []
    async with proxied(port_of(server.ws)) as proxy, connect(f"ws://127.0.0.1:{proxy.port}") as distant:

        async def follow() -> None:
            async for event in distant.follow_flow(context_id, 1):
                seen.append(event)

        with trio.fail_after(90):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                for number in range(40):
                    await run_one(client, context_id, lines=2)
                    if number % 8 == 0:
                        await distant.wait_connected()
                        proxy.cut_after(700, Side.TO_CLIENT)  # somewhere in the events that come next
        assert distant.connections > 3

    at_once = [event async for event in client.follow_flow(context_id, 1)]
    assert seen == at_once
    assert len(seen) > 150


async def test_a_flow_that_does_not_exist_is_an_error(client: Client, context_id: int) -> None:
    with pytest.raises(NotFound):
        await anext(client.follow_flow(context_id, 99))


async def test_a_closed_follower_gives_no_more_and_the_server_is_told(client: Client, context_id: int) -> None:
    await submit(client, context_id, 1, jobs=1)
    events = client.follow_flow(context_id, 1)
    await anext(events)
    subscription = events._subscription

    events.close()

    assert [event async for event in events] == []
    with pytest.raises(Exception, match="no such subscription"):
        await client.call("flow.unsubscribe", {"subscription": subscription})


@pytest.mark.slow
async def test_a_flow_whose_events_are_no_longer_kept_is_over_at_once_and_says_so(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path), "--event-retention", "0.5") as server:
        async with connect(server.ws) as client:
            await submit(client, 1, 1, jobs=1)
            await run_one(client, 1)
            with trio.fail_after(20):
                while (await client.flow_events(context_id=1, id=1)).events:
                    await trio.sleep(0.02)

                events = client.follow_flow(1, 1)
                assert [event async for event in events] == []
                assert events.missed


@pytest.mark.parametrize("ended", [True, False])
async def test_a_follower_of_a_flow_that_is_deleted_ends_with_a_word(
    client: Client, context_id: int, ended: bool
) -> None:
    await client.runner_create(context_id=context_id, runner=runner(RUNNER))
    await client.flow_create(context_id=context_id, flow=flow(context_id, 1, [1]))
    if ended:
        await submit(client, context_id, 1, jobs=1)
        await run_one(client, context_id)
    seen: list[FlowEvent] = []
    follower = client.follow_flow(context_id, 1, forever=True)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                seen.extend([event async for event in follower])

            nursery.start_soon(follow)
            await trio.sleep(0.2)
            await client.flow_delete(context_id=context_id, id=1)

    assert (seen[-1].kind, seen[-1].status) == ("flow", "Deleted")
    assert follower.deleted
    assert not follower.missed
