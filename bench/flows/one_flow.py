"""One flow of very many jobs, sent as our clients send it, in parts, then started; a runner that does nothing runs it.

`python -m bench.flows.one_flow URL JOBS DEPENDS`; prints its figures as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from bench.flows.hero import Client, Runner, connected, flow_of, job
from coordinator.client.submission import ABANDON_AFTER, AT_ONCE, BATCH

LEVELS: Final = 10
TRY_AGAIN: Final = -32010  # the store was busy: our clients ask again, too
PAUSE: Final = 0.1  # seconds before that

Call = tuple[str, dict[str, Any]]


def jobs_of(count: int, depends: int) -> Iterator[dict[str, Any]]:
    """Levels of the same width; each job but those of the first depends on so many neighbours of the level before."""
    width = count // LEVELS
    for place in range(width * LEVELS):
        level, column = divmod(place, width)
        before = (level - 1) * width + 1
        yield job(place + 1, [before + (column + at) % width for at in range(depends)] if level else [])


class _Producer(Client):
    """Sends messages and knows which answer is to which."""

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0
        self._pending: dict[int, asyncio.Future[bool]] = {}

    async def ask(self, calls: list[Call]) -> None:
        """Have all of these done."""
        while True:
            first, self._sent = self._sent, self._sent + len(calls)
            answered = self._pending[first] = asyncio.get_running_loop().create_future()
            self.send(
                [
                    {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
                    for id, (method, params) in enumerate(calls, first)
                ]
            )
            if await answered:
                return
            await asyncio.sleep(PAUSE)

    def received(self, messages: list[dict[str, Any]]) -> None:
        lasting = [one for one in messages if one.get("error", {}).get("code") != TRY_AGAIN]
        super().received(lasting)
        self._pending.pop(messages[0]["id"]).set_result(len(lasting) == len(messages))


async def _create(producer: _Producer, batches: Iterator[list[Call]]) -> None:
    for batch in batches:
        await producer.ask(batch)


async def run(url: str, count: int, depends: int) -> dict[str, float]:
    jobs = list(jobs_of(count, depends))
    runner = await connected(url, Runner(len(jobs)))
    producer = await connected(url, _Producer())
    await runner.subscribe()
    began = time.perf_counter()
    draft = {"context_id": 1, "flow": flow_of(1, jobs), "abandon_after": ABANDON_AFTER}
    await producer.ask([("flow.create", draft)])
    batches = (
        [("job.create", {"context_id": 1, "job": one}) for one in jobs[first : first + BATCH]]
        for first in range(0, len(jobs), BATCH)
    )
    await asyncio.gather(*(_create(producer, batches) for _ in range(AT_ONCE)))
    created = time.perf_counter()
    await producer.ask([("flow.start", {"context_id": 1, "id": 1})])
    started = time.perf_counter()
    await runner.done.wait()
    ended = time.perf_counter()
    return {
        "jobs_per_s": len(jobs) / (ended - began),
        "create_s": created - began,
        "start_s": started - created,
        "run_s": ended - started,
    }


if __name__ == "__main__":
    _, target, *amounts = sys.argv
    print(json.dumps(asyncio.run(run(target, *map(int, amounts)))))
