"""Coordinators on a cluster or behind Sentinels, with what tests of both need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import httpx
import trio

from coordinator.server.app import App
from tests.support.api import Api, HttpCaller
from tests.support.flows import chain, submit
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.streaming import ErrorReply, StreamingClient, streaming
from tests.support.waiting import until
from tests.support.workers import Worker, worker

__all__ = ["Clients", "Flows", "clients_of", "in_thread", "running_flows", "serving_store"]

T = TypeVar("T")

HANG: Final = 150.0
LEASE: Final = 2.0  # seconds after which a job whose take or finish the store has lost is tried again
_JOBS: Final = 4  # of a flow
_STALE_TOKEN: Final = -32041
_NOT_FOUND: Final = -32001
Clients = tuple[HttpCaller, StreamingClient]

_LIMITS: Final = httpx.Limits(max_connections=None)


async def in_thread(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call what blocks while the coordinator, which is in this loop, goes on."""
    return await trio.to_thread.run_sync(partial(function, *arguments, **named))


@asynccontextmanager
async def clients_of(http: str, ws: str) -> AsyncIterator[Clients]:
    """A client of each transport."""
    async with (
        httpx.AsyncClient(base_url=http, timeout=HANG, limits=_LIMITS, verify=False) as bare,
        streaming(ws) as socket,
    ):
        yield HttpCaller(bare), socket


@asynccontextmanager
async def serving_store(redis_url: str, **settings: Any) -> AsyncIterator[tuple[App, Clients]]:
    """A patient coordinator on this store and a client of each transport; a hang of any fails the test."""
    with trio.fail_after(HANG):
        async with serving(redis_url=redis_url, **{"request_timeout": 90.0, **settings}) as app:
            async with clients_of(http_url(app), ws_url(app)) as clients:
                yield app, clients


class Flows:
    """Flows of some contexts, submitted one after another and worked on.

    Attributes:
        finished: how many have, by context.
    """

    def __init__(self, api: Api, contexts: Sequence[int]) -> None:
        self._api = api
        self.finished = dict.fromkeys(contexts, 0)
        self._is_over = False

    async def run(self, context: int) -> None:
        """Submit a flow, wait until it has Finished, and begin anew."""
        first = 1_000_000  # beside the ids of other jobs
        while not self._is_over:
            status = None
            while status != "Finished":
                if status is None:
                    await submit(self._api, context, chain(_JOBS, first), first, retries=20)
                await trio.sleep(0.02)
                status = await self._status(context, first)
            self.finished[context] += 1
            first += _JOBS

    async def _status(self, context: int, flow: int) -> str | None:
        """None if the store has lost that it was submitted."""
        try:
            status: str = (await self._api.call("flow.load", context_id=context, id=flow))["status"]
        except ErrorReply as error:
            if error.code != _NOT_FOUND:
                raise
            return None
        assert status in ("Started", "Finished")
        return status

    async def go_on(self) -> None:
        """Wait until one more flow has run from its beginning to its end in every context."""
        before = dict(self.finished)
        await until(lambda: all(self.finished[context] >= before[context] + 2 for context in before), within=60.0)

    def stop(self) -> None:
        self._is_over = True


@asynccontextmanager
async def running_flows(url: str, contexts: Sequence[int]) -> AsyncIterator[Flows]:
    """Flows that run while the block does, each with a runner of its context; it ends when the last have."""
    async with AsyncExitStack() as stack:
        runners = [await stack.enter_async_context(worker(url, context, lease=LEASE)) for context in contexts]
        flows = Flows(runners[0].api, contexts)
        async with trio.open_nursery() as workers:
            for runner in runners:
                workers.start_soon(_work, runner)
            async with trio.open_nursery() as nursery:
                for context in contexts:
                    nursery.start_soon(flows.run, context)
                await flows.go_on()
                yield flows
                flows.stop()
            workers.cancel_scope.cancel()


async def _work(runner: Worker) -> None:
    while True:
        taken = await runner.job()
        try:
            await runner.finish(taken)
        except ErrorReply as error:
            if error.code not in (_STALE_TOKEN, _NOT_FOUND):  # the store may have lost that it was taken
                raise
