"""A steady load of creates and loads over some contexts, of which everything acknowledged is remembered."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from tests.support.api import Caller
from tests.support.streaming import ErrorReply, StreamingClient, job, job_ids
from tests.support.waiting import until

__all__ = ["Load", "loading", "stored"]

_LANES: Final = 2  # calls in flight a context and client
_PAUSE: Final = 0.005  # seconds between a lane's calls
_MARK: Final = 10  # creates that count as having gone on
_PATIENCE: Final = 60.0


class Load:
    """Each create is of a job of its own. An error reply ends the test.

    Args:
        may_lose: the store may lose what it has acknowledged; if not, each job is loaded after it was created.

    Attributes:
        acknowledged: by context and id, the scripts of the jobs whose create was answered.
    """

    def __init__(self, contexts: Sequence[int], *, may_lose: bool) -> None:
        self.contexts = contexts
        self.acknowledged: dict[tuple[int, int], str] = {}
        self._ids = itertools.count(1)
        self._may_lose = may_lose
        self._is_over = False

    async def run(self, clients: Sequence[Caller]) -> None:
        async with trio.open_nursery() as lanes:
            for client in clients:
                for context in self.contexts:
                    for _ in range(_LANES):
                        lanes.start_soon(self._lane, client, context)

    async def _lane(self, client: Caller, context: int) -> None:
        while not self._is_over:
            id = next(self._ids)
            script = f"{context}/{id}"
            await client.call("job.create", job(context, id, script))
            self.acknowledged[context, id] = script
            if not self._may_lose:
                assert (await client.call("job.load", job_ids(context, id)))["script"] == script
            await trio.sleep(_PAUSE)

    def count(self, context: int) -> int:
        """Creates acknowledged in a context."""
        return sum(1 for of, _ in self.acknowledged if of == context)

    async def goes_on(self) -> None:
        """Wait until some more creates have been acknowledged in every context."""
        before = {context: self.count(context) for context in self.contexts}
        await until(
            lambda: all(self.count(context) >= before[context] + _MARK for context in self.contexts), within=_PATIENCE
        )

    def stop(self) -> None:
        """Let every call come to its end."""
        self._is_over = True


@asynccontextmanager
async def loading(clients: Sequence[Caller], contexts: Sequence[int], *, may_lose: bool = False) -> AsyncIterator[Load]:
    """A load while the block runs; the block ends once its last call is answered."""
    load = Load(contexts, may_lose=may_lose)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run, clients)
        await load.goes_on()
        yield load
        load.stop()


async def stored(client: StreamingClient, expected: dict[tuple[int, int], str]) -> dict[tuple[int, int], str]:
    """Which of these jobs are stored with this script."""
    found = {}
    keys = [*expected]
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        records = await client.batch([("job.load", job_ids(*key)) for key in part])
        for key, record in zip(part, records, strict=True):
            if not isinstance(record, ErrorReply) and record["script"] == expected[key]:
                found[key] = record["script"]
    return found
