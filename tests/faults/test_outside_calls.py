"""What comes from outside, at whatever moment, ends no process: of one worker and of two, on either kind of store."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import trio

from tests.support.api import Api, ws_api
from tests.support.flows import submit, wide
from tests.support.looking import metric, until_metric
from tests.support.multiprocess import one_of_each
from tests.support.processes import command_of
from tests.support.server import CoordinatorProcess, coordinator, valkey
from tests.support.streaming import StreamingClient, streaming
from tests.support.waiting import until
from tests.support.workers import follower, worker

pytestmark = pytest.mark.slow

HANG = 120.0
SILENCE = 5.5  # seconds; after five the store is asked whether it is there
ROUNDS = 3  # in each, either of two tasks may come first
FIRST = 10  # context

Setup = tuple[CoordinatorProcess, int, redis.Redis]
"""A coordinator, its Valkey's process id, and a client of that."""


@pytest.fixture(params=["embedded", "external"])
def setup(request: pytest.FixtureRequest, tmp_path: Path, workers: int) -> Iterator[Setup]:
    options = ("--workers", f"{workers}", "--store-timeout", "60", "--request-timeout", "60")
    if request.param == "embedded":
        with coordinator("--data-dir", str(tmp_path), *options) as server:
            (pid,) = [pid for pid in server.children() if "valkey" in command_of(pid)[0]]
            yield server, pid, redis.Redis(unix_socket_path=str(tmp_path / "valkey.sock"))
    else:
        with valkey(tmp_path) as own, coordinator("--redis-url", own.url, *options) as server:
            yield server, own.process.pid, own.client()


@pytest.fixture(params=[1, 2])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def serving_processes(server: CoordinatorProcess) -> list[int]:
    return server.workers() or [server.process.pid]


@asynccontextmanager
async def a_client_of_each(server: CoordinatorProcess) -> AsyncIterator[list[StreamingClient]]:
    """A WebSocket connection to each serving process."""
    async with AsyncExitStack() as stack:
        if server.workers():
            yield [*(await stack.enter_async_context(one_of_each(server))).values()]
        else:
            yield [await stack.enter_async_context(streaming(server.ws))]


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes do nothing meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_subscription_is_made_at_the_moment_the_store_has_been_silent_for_long(setup: Setup) -> None:
    """The reply that a subscription waits for, and the time at which the store is asked whether it is there, meet in
    one step of the loop, for the process was stopped before both. Both then want to send on one connection."""
    server, store, _ = setup
    serving = serving_processes(server)
    with trio.fail_after(HANG):
        async with ws_api(server.ws) as api:
            for context in range(FIRST, FIRST + ROUNDS + 1):
                await submit(api, context, wide(1))
        async with a_client_of_each(server) as clients:
            for client in clients:
                client._on_notices = lambda notices: None
                await client.call("flow.subscribe", {"context_id": FIRST, "id": 1})
            for round in range(1, ROUNDS + 1):
                of_flow = {"context_id": FIRST + round, "id": 1}
                for client in clients:
                    await client.call("flow.load", of_flow)  # so that its context is connected
                with stopped(store):
                    waiters = [await client.send("flow.subscribe", of_flow) for client in clients]
                    await trio.sleep(0.5)  # until it has been sent to the store
                    os.kill(server.process.pid, signal.SIGSTOP)  # or it might take its workers for hung
                    for pid in serving:
                        os.kill(pid, signal.SIGSTOP)
                await trio.sleep(SILENCE)
                for pid in (*serving, server.process.pid):
                    os.kill(pid, signal.SIGCONT)
                for waiter in waiters:
                    assert (await waiter())["subscription"]
            assert serving_processes(server) == serving
            assert await trio.to_thread.run_sync(metric, server.http, "internal_faults_total") == 0
            assert await trio.to_thread.run_sync(metric, server.http, "subscriptions") == (ROUNDS + 1) * len(clients)


async def test_somebody_publishes_nonsense_where_coordinators_talk(setup: Setup) -> None:
    server, _, store = setup
    serving = serving_processes(server)
    with trio.fail_after(HANG):
        async with worker(server.ws, 1, capacity=1) as runner, follower_of_new_flow(server, 1) as api:
            for message in (b"", b"x", b"x\n", b"x\nbogus:1", b"x\nevents:x", b"x\ncancel:1", b"\xff\n\xff\xff:\xff"):
                await until(partial(store.publish, "herocoordinator:1", message))
            await submit(api, 1, wide(3, first=10), 2)
            for _ in range(4):
                await runner.finish(await runner.job())
        assert serving_processes(server) == serving
        assert server.process.poll() is None
        # Five of them hold what is no effect; each serving process that listens reports each.
        assert await trio.to_thread.run_sync(metric, server.http, "internal_faults_total") in (5, 10)
    incidents = [entry["incident"] for entry in server.logs if entry["event"] == "an internal fault"]
    assert len({*incidents}) == len(incidents) >= 5


@asynccontextmanager
async def follower_of_new_flow(server: CoordinatorProcess, context: int) -> AsyncIterator[Api]:
    async with ws_api(server.ws) as api:
        await submit(api, context, wide(1), 1)
        async with follower(server.ws, context, 1):
            yield api


@pytest.mark.parametrize("workers", [2], indirect=True)
async def test_the_worker_that_asked_for_metrics_is_gone_when_they_are_there(setup: Setup) -> None:
    server, _, _ = setup
    address = urlsplit(server.http)
    with trio.fail_after(HANG):
        await until_metric(server.http, 2, "workers")
        slow, asker = server.workers()
        for _ in range(2):
            with stopped(slow):
                # Each worker gets a client: the one that does not stand still asks, and the parent waits for the other.
                async with AsyncExitStack() as stack:
                    for _ in range(2):
                        client = await trio.open_tcp_stream(address.hostname or "", address.port or 0)
                        await stack.enter_async_context(client)
                        await client.send_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                    await trio.sleep(0.4)
                    os.kill(asker, signal.SIGKILL)
                    await trio.sleep(1.5)
            await until(lambda: len(server.workers()) == 2, within=30)
            slow, asker = server.workers()
        assert server.process.poll() is None
        await until_metric(server.http, 2, "workers")
        assert await trio.to_thread.run_sync(metric, server.http, "worker_restarts_total") == 2
