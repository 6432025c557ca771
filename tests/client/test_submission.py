"""Flows of any size: small ones go in one step, large ones in parts that are nothing until they are all there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.client import (
    CallTooLarge,
    Client,
    Conflict,
    DagCycleDetected,
    InvalidParams,
    NotFound,
    connect,
)
from tests.client.conftest import CALLER, flow, job, runner
from tests.support.noop import noop_runner
from tests.support.server import CoordinatorProcess, coordinator, free_port

MANY = 1_200  # jobs: more than one step, and more than two batches


async def submitted(client: Client, context_id: int, count: int = MANY, **more: Any) -> Any:
    jobs = [job(context_id, id, depends=[id - 1] if id > 1 else []) for id in range(1, count + 1)]
    return await client.submit_flow(
        context_id=context_id, flow=flow(context_id, 1, [*range(1, count + 1)]), jobs=jobs, **more
    )


async def nothing_left(client: Client, context_id: int) -> bool:
    flows = await client.flow_list(context_id=context_id)
    jobs = await client.job_list(context_id=context_id, limit=1)
    return not flows.items and not jobs.items


class Progress:
    """Remembers what it was told, and does something once half is sent."""

    def __init__(self, halfway: Callable[[], None] = lambda: None) -> None:
        self.told: list[tuple[int, int]] = []
        self._halfway: Callable[[], None] | None = halfway

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if done and self._halfway is not None:
            halfway, self._halfway = self._halfway, None
            halfway()


async def test_a_small_flow_is_one_step(client: Client, context_id: int) -> None:
    progress = Progress()

    started = await submitted(client, context_id, 3, on_progress=progress)

    assert (started.status, started.jobs) == ("Started", [1, 2, 3])
    assert progress.told == []


async def test_a_large_flow_says_how_far_it_is_and_is_started_when_all_is_there(
    client: Client, context_id: int
) -> None:
    progress = Progress()

    started = await submitted(client, context_id, on_progress=progress)

    assert started.status == "Started"
    assert progress.told[0] == (0, MANY)
    assert progress.told[-1] == (MANY, MANY)
    assert [done for done, _ in progress.told] == sorted({done for done, _ in progress.told})
    report = await client.flow_status(context_id=context_id, id=1)
    assert report.counts["WaitingForPrerequisites"] == MANY - 1


async def test_nothing_runs_before_all_is_there(client: Client, server: CoordinatorProcess, context_id: int) -> None:
    await client.runner_create(context_id=context_id, runner=runner(1))
    seen: list[int] = []
    async with noop_runner(server.ws, context_id, 1) as working:
        jobs = [job(context_id, id) for id in range(1, MANY + 1)]
        await client.submit_flow(
            context_id=context_id,
            flow=flow(context_id, 1, [*range(1, MANY + 1)]),
            jobs=jobs,
            on_progress=lambda done, total: seen.append(working.finished),
        )
        async for _ in client.follow_flow(context_id, 1):
            pass

        assert max(seen) <= 1  # the answer to its subscription
        assert working.finished == MANY + 1
        assert (await client.flow_load(context_id=context_id, id=1)).status == "Finished"


async def test_a_flow_of_few_large_jobs_is_sent_in_parts(client: Client, context_id: int) -> None:
    progress = Progress()
    script = "#" * 300_000
    jobs = [job(context_id, id, script=script) for id in range(1, 6)]

    started = await client.submit_flow(
        context_id=context_id, flow=flow(context_id, 1, [1, 2, 3, 4, 5]), jobs=jobs, on_progress=progress
    )

    assert started.status == "Started"
    assert progress.told[-1] == (5, 5)
    assert (await client.job_load(context_id=context_id, caller_id=CALLER, id=5)).script == script


@pytest.mark.parametrize("count", [3, MANY])
async def test_submitting_it_again_changes_nothing(client: Client, context_id: int, count: int) -> None:
    await submitted(client, context_id, count)
    before = await client.flow_status(context_id=context_id, id=1)

    again = await submitted(client, context_id, count)

    assert again.status == "Started"
    after = await client.flow_status(context_id=context_id, id=1)
    assert (after.started_at, after.jobs) == (before.started_at, before.jobs)


async def test_another_large_flow_of_the_same_id_is_a_conflict(client: Client, context_id: int) -> None:
    await submitted(client, context_id, 3)

    with pytest.raises(Conflict, match="flow 1 is there already"):
        await submitted(client, context_id)

    assert (await client.flow_load(context_id=context_id, id=1)).jobs == [1, 2, 3]


async def test_one_that_is_cancelled_halfway_is_deleted(client: Client, context_id: int) -> None:
    with trio.CancelScope() as scope:
        await submitted(client, context_id, on_progress=Progress(scope.cancel))

    assert scope.cancelled_caught
    assert await nothing_left(client, context_id)


async def test_one_that_cannot_be_started_is_deleted(client: Client, context_id: int) -> None:
    jobs = [job(context_id, id, depends=[id % MANY + 1]) for id in range(1, MANY + 1)]

    with pytest.raises(DagCycleDetected):
        await client.submit_flow(context_id=context_id, flow=flow(context_id, 1, [*range(1, MANY + 1)]), jobs=jobs)

    assert await nothing_left(client, context_id)


async def test_one_with_a_job_that_another_flow_runs_is_deleted_and_the_other_goes_on(
    client: Client, context_id: int
) -> None:
    await client.flow_submit(context_id=context_id, flow=flow(context_id, 2, [5]), jobs=[job(context_id, 5)])

    with pytest.raises(Conflict):
        await submitted(client, context_id)

    assert [left.id for left in (await client.flow_list(context_id=context_id)).items] == [2]
    assert [left.id for left in (await client.job_list(context_id=context_id)).items] == [5]


async def test_one_whose_draft_was_there_before_is_not_deleted_if_it_fails(client: Client, context_id: int) -> None:
    await client.flow_create(context_id=context_id, flow=flow(context_id, 1, [1]))
    with trio.CancelScope() as scope:
        await submitted(client, context_id, on_progress=Progress(scope.cancel))

    assert (await client.flow_load(context_id=context_id, id=1)).status == "Dispatched"


@pytest.mark.parametrize("count", [3, MANY])
async def test_jobs_that_are_not_those_of_the_flow_are_refused_before_anything_is_there(
    client: Client, context_id: int, count: int
) -> None:
    jobs = [job(context_id, id) for id in range(1, count + 1)]

    with pytest.raises(InvalidParams, match=r"must be the jobs that flow\.jobs lists"):
        await client.submit_flow(context_id=context_id, flow=flow(context_id, 1, [1]), jobs=jobs)

    assert await nothing_left(client, context_id)


async def test_a_job_that_fits_no_message_is_refused_before_anything_is_there(client: Client, context_id: int) -> None:
    jobs = [job(context_id, 1), job(context_id, 2, script="#" * 2_000_000)]

    with pytest.raises(CallTooLarge, match="job 2 takes"):
        await client.submit_flow(context_id=context_id, flow=flow(context_id, 1, [1, 2]), jobs=jobs)

    assert await nothing_left(client, context_id)


KILLED = """
import os, signal, sys, trio
from coordinator.client import connect
from tests.client.test_submission import submitted

def progress(done, total):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with connect(sys.argv[1]) as client:
        await submitted(client, int(sys.argv[2]), on_progress=progress, abandon_after=2)

trio.run(main)
"""


@pytest.mark.slow
async def test_the_server_deletes_what_a_client_that_was_killed_has_sent(
    client: Client, server: CoordinatorProcess, context_id: int
) -> None:
    arguments = [sys.executable, "-c", KILLED, server.ws, str(context_id)]
    done = await trio.run_process(arguments, check=False, capture_stderr=True)
    assert done.returncode == -9, done.stderr

    with trio.fail_after(60):
        while not await nothing_left(client, context_id):
            await trio.sleep(0.1)


@pytest.mark.slow
async def test_it_gets_over_a_coordinator_that_is_killed_halfway(tmp_path: Path) -> None:
    served = ("--data-dir", str(tmp_path / "data"), "--api-ws-port", str(free_port()))
    with coordinator(*served) as server:
        url = server.ws
        async with connect(url) as client, trio.open_nursery() as nursery:
            started: list[Any] = []
            killed = trio.Event()

            def kill() -> None:
                server.kill()
                killed.set()

            async def submit() -> None:
                started.append(await submitted(client, 1, on_progress=Progress(kill)))

            nursery.start_soon(submit)
            await killed.wait()
            with coordinator(*served):
                with trio.fail_after(90):
                    while not started:
                        await trio.sleep(0.1)
                report = await client.flow_status(context_id=1, id=1)

    assert started[0].status == "Started"
    assert len(report.jobs) == MANY


async def test_a_flow_that_was_deleted_while_it_was_sent_is_an_error(client: Client, context_id: int) -> None:
    """As when we were silent for too long: what the server deletes is not started without the jobs it had."""
    async with trio.open_nursery() as nursery:

        async def delete() -> None:
            await client.flow_delete(context_id=context_id, id=1)

        with pytest.raises(NotFound):
            await submitted(client, context_id, on_progress=Progress(lambda: nursery.start_soon(delete)))

    assert await nothing_left(client, context_id)
