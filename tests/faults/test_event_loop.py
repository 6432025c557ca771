"""The event loop is not held by what one client sends."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import trio

from tests.support.inprocess import http_url, serving
from tests.support.server import ValkeyProcess
from tests.support.streaming import job
from tests.unit.test_costly_messages import READER, SHAPES, fitting


class Steps(trio.abc.Instrument):
    """The longest step of a task, in seconds of the processor."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._begun = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._begun = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.thread_time() - self._begun)


@pytest.fixture(autouse=True)
def garbage_as_in_the_server() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    yield
    gc.set_threshold(*before)


def large_submission() -> bytes:
    jobs = [job(1, id, "")["job"] for id in range(4_000)]
    flow = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [spec["id"] for spec in jobs], "env_vars": {}}
    params = {"context_id": 1, "flow": flow, "jobs": jobs}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "flow.submit", "params": params}).encode()


MESSAGES: Final = {
    "jobs of a flow": lambda: fitting(*SHAPES["jobs of a flow"]),
    "jobs of a message": lambda: fitting(*SHAPES["jobs of a message"]),
    "addresses of many actors": lambda: fitting(*SHAPES["addresses of many actors"]),
    "a submission": large_submission,
}


def read_in_one_go(data: bytes) -> float:
    """Seconds; the shortest of a few."""
    best = float("inf")
    for _ in range(3):
        begun = time.thread_time()
        _, items = READER.read(data)
        _ = [*items]
        best = min(best, time.thread_time() - begun)
    return best


@pytest.mark.parametrize("shape", MESSAGES)
async def test_a_message_that_is_slow_to_read_does_not_hold_it(store: ValkeyProcess, shape: str) -> None:
    data = MESSAGES[shape]()
    steps = Steps()
    shortest = float("inf")
    async with serving(redis_url=store.url) as app, httpx.AsyncClient(timeout=60) as client:
        for _ in range(3):
            trio.lowlevel.add_instrument(steps)
            steps.longest = 0.0
            reply: Any = await client.post(http_url(app), content=data, headers={"content-type": "application/json"})
            trio.lowlevel.remove_instrument(steps)
            assert reply.status_code == 200
            shortest = min(shortest, steps.longest)

    assert shortest < read_in_one_go(data) / 2
