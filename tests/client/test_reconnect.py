"""Lost connections and restarted coordinators, as those who call see them: they do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from coordinator.client import Client, ConnectionLost, connect
from tests.client.conftest import CALLER, context, job, port_of
from tests.support.proxy import Proxy, Side, proxied
from tests.support.server import CoordinatorProcess, coordinator, free_port


@pytest.fixture
async def proxy(server: CoordinatorProcess) -> AsyncIterator[Proxy]:
    async with proxied(port_of(server.ws)) as proxy:
        yield proxy


@pytest.fixture
async def distant(proxy: Proxy) -> AsyncIterator[Client]:
    """A client of the session's coordinator, behind the proxy."""
    async with connect(f"ws://127.0.0.1:{proxy.port}") as client:
        await client.wait_connected()
        yield client


async def test_the_state_of_the_connection_can_be_watched(proxy: Proxy) -> None:
    seen: list[str] = []
    back = trio.Event()

    def connected() -> None:
        seen.append("connected")
        if len(seen) > 1:
            back.set()

    async with connect(
        f"ws://127.0.0.1:{proxy.port}", on_connect=connected, on_disconnect=lambda: seen.append("disconnected")
    ) as client:
        await client.wait_connected()
        assert (client.connected, client.connections) == (True, 1)
        proxy.cut()
        await back.wait()
        assert (client.connected, client.connections) == (True, 2)
        assert seen == ["connected", "disconnected", "connected"]


@pytest.mark.parametrize("side", list(Side))
async def test_every_call_is_answered_while_the_connection_is_cut_again_and_again(
    proxy: Proxy, distant: Client, context_id: int, side: Side
) -> None:
    await distant.context_create(context=context(context_id))
    proxy.cut_each_after(20_000 if side is Side.TO_STORE else 30_000, side)
    proxy.cut()
    created: list[int] = []

    async def create(first: int) -> None:
        for id in range(first, first + 20):
            made = await distant.job_create(context_id=context_id, job=job(context_id, id, script=str(id)))
            created.append(made.id)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for first in range(0, 400, 20):
                nursery.start_soon(create, first)
    await proxy.pass_all()

    assert distant.connections > 2
    assert sorted(created) == list(range(400))
    loads = [("job.load", {"context_id": context_id, "caller_id": CALLER, "id": id}) for id in range(400)]
    assert [loaded["script"] for loaded in await distant.call_many(loads)] == [str(id) for id in range(400)]


async def test_calls_made_without_a_connection_wait_for_it(proxy: Proxy, distant: Client, context_id: int) -> None:
    await proxy.refuse()
    done = trio.Event()

    async def create() -> None:
        await distant.context_create(context=context(context_id))
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create)
        with trio.move_on_after(0.3):
            await done.wait()
        assert not done.is_set()
        with trio.fail_after(20):
            await proxy.pass_all()
            await done.wait()


async def test_a_call_that_must_not_be_repeated_fails_with_the_connection(proxy: Proxy, distant: Client) -> None:
    proxy.stall(Side.TO_CLIENT)
    failed: list[str] = []

    async def call() -> None:
        try:
            await distant.call("rpc.discover", resend=False)
        except ConnectionLost as error:
            failed.append(str(error))

    with trio.fail_after(20):
        sent = proxy.forwarded[Side.TO_STORE]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await proxy.until_forwarded(sent + 1, Side.TO_STORE)
            proxy.cut()
        await proxy.pass_all()

    assert len(failed) == 1


@pytest.mark.slow
async def test_a_killed_coordinator_is_waited_for(tmp_path: Path) -> None:
    port = str(free_port())
    arguments = ("--data-dir", str(tmp_path), "--api-ws-port", port)
    with coordinator(*arguments) as first:
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await client.context_create(context=context(1))
            await client.job_create(context_id=1, job=job(1, 1))
            first.kill()
            loaded: list[int] = []

            async def load() -> None:
                loaded.append((await client.job_load(context_id=1, caller_id=CALLER, id=1)).id)

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(load)
                second = await trio.to_thread.run_sync(lambda: CoordinatorProcess(*arguments))
            second.stop()

    assert loaded == [1] * 10


@pytest.mark.slow
async def test_a_coordinator_shutting_down_answers_what_it_was_sent_and_the_next_one_the_rest(tmp_path: Path) -> None:
    port = str(free_port())
    arguments = ("--data-dir", str(tmp_path), "--api-ws-port", port)
    with coordinator(*arguments) as first:
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await client.context_create(context=context(1))
            done: list[int] = []
            some = trio.Event()

            async def create(worker: int) -> None:
                for number in range(40):
                    made = await client.job_create(context_id=1, job=job(1, worker * 100 + number))
                    done.append(made.id)
                    if len(done) == 50:
                        some.set()

            async with trio.open_nursery() as nursery:
                for worker in range(10):
                    nursery.start_soon(create, worker)
                await some.wait()
                assert await trio.to_thread.run_sync(first.stop) == 0
                second = await trio.to_thread.run_sync(lambda: CoordinatorProcess(*arguments))
            page = await client.job_list(context_id=1, limit=1000)
            second.stop()

    assert len(page.items) == 400
    assert len(set(done)) == 400
