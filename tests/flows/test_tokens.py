"""What a runner was given is its own: neither a take_id nor a token it might know gives another one any of it."""

from __future__ import annotations

from typing import Any

import trio

from tests.support.api import Api
from tests.support.flows import submit, wide
from tests.support.server import CoordinatorProcess
from tests.support.workers import outcome_of, register, worker

HANG = 40.0


async def take(api: Api, context: int, runner: int, **options: Any) -> list[dict[str, Any]]:
    answer = await api.call("job.take", context_id=context, runner_id=runner, script_types=["Python"], **options)
    jobs: list[dict[str, Any]] = answer["jobs"]
    return jobs


async def test_a_take_of_another_runner_is_its_own(api: Api, context: int) -> None:
    await register(api, context, 3)
    await register(api, context, 4)
    await submit(api, context, wide(4))

    mine = await take(api, context, 3, take_id="shared", count=2)
    others = await take(api, context, 4, take_id="shared", count=9)

    assert {taken["job"]["id"] for taken in mine} & {taken["job"]["id"] for taken in others} == set()
    assert {taken["token"] for taken in mine} & {taken["token"] for taken in others} == set()
    assert len(others) == 2
    assert await take(api, context, 3, take_id="shared", count=2) == mine  # the other's take has not replaced it
    assert await take(api, context, 4, take_id="shared", count=9) == others


async def test_a_subscription_is_not_asked_for_its_jobs_by_job_take(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    await submit(ws, context, wide(2))
    with trio.fail_after(HANG):
        async with worker(server.ws, context, 3, capacity=1) as runner:
            await runner.job()
            taken = [await take(ws, context, 3, take_id=runner.subscription, count=9) for _ in range(2)]

            assert [[each["job"]["id"] for each in once] for once in taken] == [[2], [2]]


async def test_a_stranger_takes_over_nothing(server: CoordinatorProcess, ws: Api, context: int) -> None:
    """Even with a token that it should not know, it is told no more than of one that never was, gets no notice of the
    attempt's end, and its own place stays free."""
    await submit(ws, context, wide(2))
    with trio.fail_after(HANG):
        async with (
            worker(server.ws, context, 3, session="mine", capacity=1) as runner,
            worker(server.ws, context, 4, subscribed=False) as stranger,
        ):
            given = await runner.job()
            await stranger.subscribe(session="mine", capacity=1, holding=[given["token"], "a guess"])
            got = await stranger.job()

            assert stranger.lost == sorted([given["token"], "a guess"])
            assert {got["job"]["id"], given["job"]["id"]} == {1, 2}
            assert (await runner.api.call("job.finish", **outcome_of(given)))["status"] == "Finished"
