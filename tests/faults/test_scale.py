"""Many contexts, many clients, and clients that harm: everybody is answered, and nothing grows beyond its bound."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from coordinator.actors.directory import Directory
from coordinator.engine.engine import Engine
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.websocket.server import WebSocketFrontEnd
from coordinator.storage.connection import Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import Layout
from tests.support.inprocess import http_url, in_memory, serving, ws_url
from tests.support.looking import metric
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.streaming import ErrorReply, RawClient, StreamingClient, call_frame, job, job_ids, streaming
from tests.support.waiting import until

HANG = 120.0


def store_connections(store: ValkeyProcess) -> int:
    """Connections of coordinators at this Valkey."""
    clients: Any = store.client().client_list()
    return sum(client["name"] == "herocoordinator" for client in clients)


def resident_peak(server: CoordinatorProcess) -> int:
    """The most memory it ever had, in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


@contextmanager
def serving_process(store: ValkeyProcess, *arguments: str) -> Iterator[CoordinatorProcess]:
    with coordinator("--redis-url", store.url, "--shutdown-grace", "1", *arguments) as server:
        yield server


@asynccontextmanager
async def raw_client(url: str, *, receive_bytes: int | None = None) -> AsyncIterator[RawClient]:
    """A connected client that reads nothing; it vanishes in the end."""
    client = RawClient(url, receive_bytes=receive_bytes)
    try:
        await trio.to_thread.run_sync(client.upgrade)
        yield client
    finally:
        client.vanish()


# -- contexts


@pytest.mark.slow
async def test_two_thousand_contexts_share_a_hundred_connections(store: ValkeyProcess) -> None:
    contexts = range(1, 2001)
    arguments = ("--store-connections", "100", "--context-idle-timeout", "1")
    with trio.fail_after(HANG), serving_process(store, *arguments) as server:
        most = 0
        async with streaming(server.ws) as client, trio.open_nursery() as watching:

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, await trio.to_thread.run_sync(store_connections, store))

            watching.start_soon(watch)
            writes = [await client.send("job.create", job(context, 1, f"{context}")) for context in contexts]
            reads = [await client.send("job.load", job_ids(context, 1)) for context in contexts]
            created = [await wait() for wait in writes]
            loaded = [await wait() for wait in reads]
            watching.cancel_scope.cancel()

            assert [record["script"] for record in created] == [f"{context}" for context in contexts]
            assert loaded == created
            assert 0 < most <= 100 + 5  # the store may see an end a moment after a new connection

            await until(lambda: store_connections(store) == 0)
            assert metric(server.http, "contexts_active") == 0

            again = await client.batch([("job.load", job_ids(context, 1)) for context in contexts[::4]])
            assert again == created[::4]


async def test_contexts_used_last_keep_their_connections(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url, store_connections=4) as app, streaming(ws_url(app)) as client:
        for context in (1, 2, 3, 4):
            await client.call("job.create", job(context, 1))

        await client.batch([("job.create", job(context, 1)) for context in (5, 6, 7, 8)])

        clients: Any = store.client().client_list()
        used = {int(entry["db"]) for entry in clients if entry["name"] == "herocoordinator"}
        assert used - {0} == {5, 6, 7, 8}  # 0 is no context: through it coordinators hear of each other


async def test_more_busy_contexts_than_connections_take_turns(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url, store_connections=2) as app:
        rounds = dict.fromkeys(range(1, 7), 0)
        enough = trio.Event()

        async def keep_busy(context: int) -> None:
            async with streaming(ws_url(app)) as client:
                while not enough.is_set():
                    outcomes = await client.batch([("job.create", job(context, id, "busy")) for id in range(20)])
                    assert [record["script"] for record in outcomes] == ["busy"] * 20
                    rounds[context] += 1
                    if min(rounds.values()) >= 3:
                        enough.set()

        with trio.fail_after(HANG):
            async with trio.open_nursery() as busy:
                for context in rounds:
                    busy.start_soon(keep_busy, context)

        await until(lambda: store_connections(store) <= 2 + 1)  # and the one that is for no context


# -- clients


@pytest.mark.slow
async def test_five_hundred_clients_read_their_own_writes(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), serving_process(store) as server:
        everybody = trio.Event()
        connected = 0
        finished = 0

        async def work(number: int) -> None:
            nonlocal connected, finished
            async with streaming(server.ws) as client:
                connected += 1
                if connected == 500:
                    everybody.set()
                await everybody.wait()
                context = number % 16
                waiters = []
                for id in range(number * 10, number * 10 + 4):
                    waiters.append((id, await client.send("job.create", job(context, id, f"{id}"))))
                    waiters.append((id, await client.send("job.load", job_ids(context, id))))
                for id, wait in waiters:
                    assert (await wait())["script"] == f"{id}"
                finished += 1

        async with trio.open_nursery() as clients:
            for number in range(500):
                clients.start_soon(work, number)
            await everybody.wait()
            assert await trio.to_thread.run_sync(metric, server.http, "websocket_connections") == 500

        assert finished == 500
        await until(lambda: metric(server.http, "websocket_connections") == 0)


@pytest.mark.slow
async def test_a_client_that_never_reads_costs_bounded_memory_and_nobody_else(store: ValkeyProcess) -> None:
    arguments = ("--max-in-flight", "64", "--client-write-timeout", "4")
    with trio.fail_after(HANG), serving_process(store, *arguments) as server:
        async with streaming(server.ws) as other:
            await other.call("job.create", job(1, 1, "x" * 200_000))
            await other.call("job.create", job(2, 1, "small"))
            before = resident_peak(server)
            async with raw_client(server.ws, receive_bytes=4096) as silent:
                flood = b"".join(call_frame(id, "job.load", job_ids(1, 1)) for id in range(20_000))
                silent.socket.setblocking(False)
                sent = 0
                with trio.move_on_after(1.5):  # as fast as it is taken
                    while sent < len(flood):
                        await trio.lowlevel.wait_writable(silent.socket)
                        sent += silent.socket.send(flood[sent : sent + 65536])

                for _ in range(50):
                    assert (await other.call("job.load", job_ids(2, 1)))["script"] == "small"
                    assert len((await other.call("job.load", job_ids(1, 1)))["script"]) == 200_000

                # 20,000 replies of 200 kB are 4 GB; 64 in flight and the outbox are 13 MB
                assert resident_peak(server) - before < 150
                calls = -1
                while calls < (calls := metric(server.http, "calls_total")):
                    await trio.sleep(0.3)
                assert calls < 5_000  # its socket is not read from any more

                await until(lambda: metric(server.http, "websocket_connections") == 1)  # it had its time to read


@pytest.mark.slow
async def test_a_client_that_floods_one_context_does_not_keep_others_waiting(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), serving_process(store) as server:
        async with streaming(server.ws) as flooder, trio.open_nursery() as flood:
            flooded = 0

            async def take(waiters: trio.MemoryReceiveChannel[Any]) -> None:
                nonlocal flooded
                async for wait in waiters:
                    assert (await wait())["script"] == "flood"
                    flooded += 1

            async def post(waiters: trio.MemorySendChannel[Any]) -> None:
                while True:
                    await waiters.send(await flooder.send("job.create", job(1, 1, "flood")))

            send, receive = trio.open_memory_channel[Any](5_000)
            flood.start_soon(take, receive)
            flood.start_soon(post, send)
            await until(lambda: flooded > 500)

            async def work(context: int) -> None:
                async with streaming(server.ws) as client:
                    for id in range(20):
                        assert (await client.call("job.create", job(context, id, "calm")))["id"] == id

            before = flooded
            with trio.fail_after(30):
                async with trio.open_nursery() as others:
                    for context in (1, 2, 3, 4, 5):  # the first one lives in the flooded context
                        others.start_soon(work, context)

            assert flooded > before
            flood.cancel_scope.cancel()


@pytest.mark.slow
async def test_clients_that_vanish_leave_nothing_behind(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), serving_process(store) as server:

        def vanish_with_requests_in_flight(number: int) -> None:
            client = RawClient(server.ws)
            client.upgrade()
            calls = [call_frame(id, "job.create", job(number % 8, id, "x" * 500)) for id in range(number % 40)]
            client.socket.sendall(b"".join(calls) + call_frame(99, "job.load", job_ids(1, 1))[: number % 50])
            client.vanish()

        async with trio.open_nursery() as clients:
            limiter = trio.CapacityLimiter(8)
            for number in range(300):
                leave = partial(vanish_with_requests_in_flight, number)
                clients.start_soon(partial(trio.to_thread.run_sync, leave, limiter=limiter))

        await until(lambda: metric(server.http, "websocket_connections") == 0)
        await until(lambda: metric(server.http, "calls_pending") == 0)
        async with streaming(server.ws) as client:
            assert (await client.call("job.create", job(1, 1, "still here")))["script"] == "still here"
        assert not [entry for entry in server.logs if entry.get("level") in ("error", "critical")]


GARBAGE = [
    b"\x00" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # a TLS greeting
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",  # no upgrade
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",  # no key
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000,
    b"\r\n\r\n\r\n",
    b"HELLO 3\r\n",
    b"",
]


@pytest.mark.slow
async def test_garbage_in_place_of_a_handshake_does_no_harm(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), serving_process(store) as server:
        async with streaming(server.ws) as client:
            for garbage in GARBAGE:
                for way_out in ("vanish", "wait"):
                    intruder = RawClient(server.ws)
                    await trio.to_thread.run_sync(send_what_is_taken, intruder, garbage)
                    if way_out == "wait" and garbage.startswith((b"GET", b"POST")):
                        answer = await trio.to_thread.run_sync(intruder.socket.recv, 4096)
                        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
                    intruder.vanish()

            assert (await client.call("job.create", job(1, 1, "unharmed")))["script"] == "unharmed"
        assert not [entry for entry in server.logs if entry.get("level") in ("error", "critical")]


def send_what_is_taken(client: RawClient, data: bytes) -> None:
    """The other side may hang up before the end of it."""
    with suppress(ConnectionError):
        client.socket.sendall(data)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: local"])
@pytest.mark.parametrize("leave", [RawClient.vanish, RawClient.close])
async def test_a_client_that_leaves_in_the_handshake_is_soon_forgotten(
    server: CoordinatorProcess, leave: Callable[[RawClient], None], sent: bytes
) -> None:
    before = metric(server.http, "websocket_connections")
    visitor = RawClient(server.ws)
    visitor.socket.sendall(sent)
    await until(lambda: metric(server.http, "websocket_connections") > before)

    leave(visitor)

    await until(lambda: metric(server.http, "websocket_connections") == before, within=3)


@pytest.mark.slow
async def test_handshakes_that_never_end_do_not_keep_others_out(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG), serving_process(store) as server:
        lorises = [RawClient(server.ws) for _ in range(100)]
        for loris in lorises:
            loris.socket.sendall(b"GET / HTTP/1.1\r\nHost: local")

        async with streaming(server.ws) as client:
            for letter in b"host\r\nX-Slow: ":
                for loris in lorises:
                    loris.socket.sendall(bytes([letter]))
                assert (await client.call("job.create", job(1, letter)))["id"] == letter

        for loris in lorises:
            loris.vanish()


class OneClient(trio.abc.Listener[trio.abc.Stream]):
    """Takes one connection, in memory."""

    def __init__(self) -> None:
        self.client: trio.abc.Stream
        self._server: trio.abc.Stream
        self.client, self._server = in_memory()
        self._taken = False

    async def accept(self) -> trio.abc.Stream:
        if self._taken:
            await trio.sleep_forever()
        self._taken = True
        return self._server

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_handshake_has_its_time_however_steadily_it_drips(autojump: None) -> None:
    store = Store(Endpoint(), Layout())  # never asked
    directory = Directory(store)
    engine = Engine(directory, store, max_subscriptions=10)
    limits: dict[str, Any] = {"request_timeout": 30, "max_batch": 10, "max_batch_reply": 1000}
    dispatcher = Dispatcher(directory, engine, store.layout, **limits)
    bounds: dict[str, Any] = {
        "max_connections": 10,
        "max_in_flight": 10,
        "max_frame_bytes": 1000,
        "max_unsent_bytes": 1 << 20,
    }
    front_end = WebSocketFrontEnd(dispatcher, AccessPolicy("127.0.0.1"), **bounds, write_timeout=30)
    listener = OneClient()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front_end.serve, cast(trio.SocketListener, listener))
        begun = trio.current_time()
        await listener.client.send_all(b"GET / HTTP/1.1\r\nHost: ")
        with suppress(trio.BrokenResourceError), trio.move_on_after(60):
            while True:
                await listener.client.send_all(b"x")
                await trio.sleep(1)

        assert trio.current_time() - begun < 30
        await trio.sleep(5)
        assert front_end.connections == 0
        nursery.cancel_scope.cancel()


# -- extremes


@pytest.mark.parametrize(
    "extremes",
    [
        {"mailbox_length": 1},
        {"max_in_flight": 1},
        {"mailbox_length": 1, "max_in_flight": 1, "store_connections": 1},
    ],
    ids=" ".join,
)
async def test_the_smallest_bounds_still_answer_everything_in_order(
    store: ValkeyProcess, extremes: dict[str, int]
) -> None:
    async def work(client: StreamingClient, contexts: tuple[int, ...]) -> None:
        waiters = []
        for id in range(60):
            for context in contexts:
                waiters.append(await client.send("job.create", job(context, id, f"{context}/{id}")))
                waiters.append(await client.send("job.load", job_ids(context, id)))
        records = [await wait() for wait in waiters]
        expected = [f"{context}/{id}" for id in range(60) for context in contexts for _ in range(2)]
        assert [record["script"] for record in records] == expected

    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, **extremes) as app, streaming(ws_url(app)) as client:
            await work(client, (1,))
            assert client.order == sorted(client.order)

            batched = await client.batch([("job.load", job_ids(1, id)) for id in range(61)])
            assert [record["script"] for record in batched[:60]] == [f"1/{id}" for id in range(60)]
            assert isinstance(batched[60], ErrorReply)

            async with streaming(ws_url(app)) as second, trio.open_nursery() as both:
                both.start_soon(work, client, (2, 3))
                both.start_soon(work, second, (3, 2, 4))
            while await trio.to_thread.run_sync(metric, http_url(app), "calls_pending"):
                await trio.sleep(0.01)  # the coordinator has calls of its own, too
