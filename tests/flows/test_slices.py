"""A large flow on its way, and what happens to the coordinator in between: the store's timers go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.flows import fields_of_job
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.workers import worker

JOBS: Final = 3_000
HANG: Final = 150.0


async def create(api: Api) -> None:
    for first in range(1, JOBS + 1, 250):
        async with trio.open_nursery() as nursery:
            for id in range(first, first + 250):
                job = fields_of_job(1, id, depends=[id - 1000] if id > 1000 else [])
                nursery.start_soon(partial(api.call, "job.create", context_id=1, job=job))
    flow = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [*range(1, JOBS + 1)], "env_vars": {}}
    await api.call("flow.create", context_id=1, flow=flow)


async def until(api: Api, status: str) -> dict[str, Any]:
    while True:
        flow: dict[str, Any] = await api.call("flow.load", context_id=1, id=1)
        if flow["status"] == status:
            return flow
        await trio.sleep(0.05)


def kill(server: CoordinatorProcess) -> None:
    server.kill()


def stop(server: CoordinatorProcess) -> None:
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("leave", [kill, stop])
async def test_a_start_that_is_cut_off_is_gone_on_with_by_the_next_coordinator(
    tmp_path: Path, leave: Callable[[CoordinatorProcess], None]
) -> None:
    arguments = ("--data-dir", str(tmp_path))
    with trio.fail_after(HANG):
        with coordinator(*arguments, "--shutdown-grace", "0.1") as server:
            # What is sent behind the start on its own connection waits for the start's end.
            async with ws_api(server.ws) as api, ws_api(server.ws) as watching:
                await create(api)

                async def start() -> None:
                    with contextlib.suppress(Exception):  # the connection ends
                        await api.call("flow.start", context_id=1, id=1)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(start)
                    # The first job that waits for another one is seen to do so as soon as it is the flow's.
                    job = {"context_id": 1, "caller_id": 7, "id": 1001}
                    while (await watching.call("job.load", **job))["status"] == "Dispatched":
                        await trio.lowlevel.checkpoint()
                    await trio.to_thread.run_sync(leave, server)

        with coordinator(*arguments) as again:
            async with ws_api(again.ws) as api, worker(again.ws, 1, capacity=10) as runner:
                await until(api, "Started")
                assigned = await runner.job()
                await runner.finish(assigned)
                counts = (await api.call("flow.status", context_id=1, id=1))["counts"]
                assert (counts["Finished"], counts["Error"], sum(counts.values())) == (1, 0, JOBS)
                assert (await api.call("flow.cancel", context_id=1, id=1))["status"] == "Error"
                assert await api.call("flow.delete", context_id=1, id=1) == {"deleted": JOBS + 1}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_submission_that_is_sent_again_meanwhile_is_answered_what_the_first_one_did(
    tmp_path: Path, workers: str
) -> None:
    """By others here; by the same client after a lost connection."""
    jobs = [fields_of_job(1, id, depends=[id - 100] if id > 100 else []) for id in range(1, 601)]
    flow = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [*range(1, 601)], "env_vars": {}}
    answers: list[dict[str, Any]] = []

    async def submit(url: str) -> None:
        async with ws_api(url) as api:
            answers.append(await api.call("flow.submit", context_id=1, flow=flow, jobs=jobs))

    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path), "--workers", workers) as server:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(submit, server.ws)

    assert [answer["status"] for answer in answers] == ["Started"] * 8
    assert len({answer["created_at"] for answer in answers}) == 1
