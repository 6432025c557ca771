"""What people decide about what runs, through sockets: on one coordinator, and on two with one store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.deciding import decide
from tests.support.flows import submit, wide
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.workers import register

TAKE: dict[str, Any] = {"runner_id": 3, "script_types": ["Python"], "wait": 20}


async def test_on_one_coordinator(server: CoordinatorProcess, context: int) -> None:
    await decide(server.ws, server.ws, context)


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["index", "prefix"])
async def test_on_two_coordinators_of_one_store(store: ValkeyProcess, isolation: str) -> None:
    options = ("--redis-url", store.url, "--isolation", isolation)
    with coordinator(*options) as here, coordinator(*options) as there:
        await decide(here.ws, there.ws, 5)
        await decide(there.ws, here.ws, 5)  # and again, in a context created anew


async def test_a_waiting_take_gets_its_job_as_soon_as_that_is_resumed(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(1))
    await api.call("context.pause", context_id=context)
    taken: list[Any] = []

    async def take() -> None:
        taken.extend((await api.call("job.take", context_id=context, **TAKE))["jobs"])

    with trio.fail_after(15):  # sooner than it would have been answered without one
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.sleep(0.3)
            assert taken == []
            await api.call("context.resume", context_id=context)
    assert len(taken) == 1


@pytest.mark.slow
async def test_what_is_paused_or_drained_is_so_after_a_restart(tmp_path: Path) -> None:
    arguments = ("--data-dir", str(tmp_path))
    with coordinator(*arguments) as first:
        async with ws_api(first.ws) as api:
            for context in (1, 2, 3):
                await register(api, context)
                await submit(api, context, wide(2))
            await api.call("context.pause", context_id=1)
            await api.call("flow.pause", context_id=2, id=1)
            await api.call("runner.drain", context_id=3, id=3)
        first.kill()
    with coordinator(*arguments) as second:
        async with ws_api(second.ws) as api:
            await trio.sleep(1)  # in which it looks at the timers of what it has taken over
            for context in (1, 2, 3):
                params = {**TAKE, "context_id": context, "wait": 0.3}
                assert (await api.call("job.take", **params))["jobs"] == []
            await api.call("context.resume", context_id=1)
            await api.call("flow.resume", context_id=2, id=1)
            await api.call("runner.undrain", context_id=3, id=3)
            for context in (1, 2, 3):
                assert len((await api.call("job.take", context_id=context, **TAKE, count=2))["jobs"]) == 2
