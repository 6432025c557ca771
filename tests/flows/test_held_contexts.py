"""A context that is held still, as while it is exported: what writes to it waits and then is done, others go on."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest
import trio

from tests.support.api import http_api
from tests.support.flows import fields_of_job, submission
from tests.support.server import ValkeyProcess, coordinator
from tests.support.workers import register

pytestmark = pytest.mark.slow

HANG: Final = 60.0
HELD: Final = 4.0  # seconds


def ask(store: ValkeyProcess, context: int, *command: str | int) -> None:
    store.client(context).execute_command(*command)  # type: ignore[no-untyped-call]


def hold(store: ValkeyProcess, context: int, what: str, seconds: float) -> None:
    """As `herocoordinator export` does, or `import`."""
    ask(store, context, "FCALL", "hc_hold", 1, "engine", what, "a", int(seconds * 1000))


def let_go(store: ValkeyProcess, context: int) -> None:
    ask(store, context, "FCALL", "hc_let_go", 1, "engine", "a", "", f"herocoordinator:{context}")


async def test_what_writes_waits_and_others_go_on(store: ValkeyProcess) -> None:
    with coordinator("--redis-url", store.url, "--request-timeout", "30") as server:
        with trio.fail_after(HANG):
            async with http_api(server.http) as api, http_api(server.http) as other:
                await register(api, 1)
                await api.call("flow.submit", **submission(1, {1: [], 2: []}))
                asked = {"context_id": 1, "runner_id": 3, "script_types": ["Python"], "lease": 1.0}
                (taken,) = (await api.call("job.take", **asked))["jobs"]
                attempt = {"context_id": 1, "caller_id": 7, "id": taken["job"]["id"], "token": taken["token"]}
                hold(store, 1, "export", HELD)
                began = time.monotonic()
                ended: dict[str, float] = {}

                async def write(method: str, params: dict[str, Any]) -> None:
                    async with http_api(server.http) as own:
                        await own.call(method, **params)
                    ended[method] = time.monotonic() - began

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(write, "job.create", {"context_id": 1, "job": fields_of_job(1, 9)})
                    nursery.start_soon(write, "job.heartbeat", attempt)
                    while time.monotonic() - began < HELD - 1:
                        job = fields_of_job(2, 1)
                        await other.call("job.create", context_id=2, job=job)
                    assert ended == {}
                # It ends by itself when who held it does not say that it goes on; the attempt's lease has stood still.
                assert min(ended.values()) > HELD - 1
                assert (await api.call("job.finish", **attempt))["status"] == "Finished"


async def test_what_writes_during_an_import_is_refused_at_once_and_goes_on_after_it(store: ValkeyProcess) -> None:
    with coordinator("--redis-url", store.url, "--request-timeout", "30") as server:
        with trio.fail_after(HANG):
            async with http_api(server.http) as api:
                for context in (1, 2):
                    await api.call("job.create", context_id=context, job=fields_of_job(context, 1))
                for context in (1, 3):  # one that is served, and one that nobody has called
                    hold(store, context, "import", HELD)
                    began = time.monotonic()
                    refused = await api.refused("job.create", context_id=context, job=fields_of_job(context, 2))
                    assert refused.code == -32010
                    assert "herocoordinator import --abandon" in str(refused.data)
                    assert time.monotonic() - began < HANG / 4
                    let_go(store, context)
                    assert (await api.call("job.create", context_id=context, job=fields_of_job(context, 2)))["id"] == 2
