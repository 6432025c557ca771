"""Clients of several workers: how they are dealt out, what one sees of another's writes, what is counted."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections import Counter
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.looking import metric
from tests.support.multiprocess import one_of_each, worker_with
from tests.support.processes import holder_of
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator
from tests.support.streaming import RawClient, StreamingClient, job, job_ids
from tests.support.waiting import until

pytestmark = pytest.mark.slow

HANG = 120.0


def raw_client(server: CoordinatorProcess, stack: ExitStack) -> RawClient:
    client = RawClient(server.ws)
    stack.callback(client.close)
    client.upgrade()
    return client


def got(url: str, timeout: float = 30.0) -> httpx.Response:
    """Over a connection of its own."""
    return httpx.get(url, timeout=timeout, verify=False)


# -- who gets whom


@pytest.mark.parametrize(("workers", "shares"), [(2, [10, 10]), (3, [6, 7, 7])])
async def test_websocket_connections_are_dealt_out_evenly(
    store: ValkeyProcess, workers: int, shares: list[int]
) -> None:
    with trio.fail_after(HANG), coordinator("--workers", str(workers), "--redis-url", store.url) as server:
        for _ in range(3):
            with ExitStack() as stack:
                clients = [raw_client(server, stack) for _ in range(20)]

                holders = Counter(worker_with(server, server.ws, client.port) for client in clients)
                assert sorted(holders.values()) == shares
            await until(lambda: metric(server.http, "websocket_connections") == 0)


def test_http_connections_made_at_the_same_moment_are_dealt_out_evenly(embedded: CoordinatorProcess) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(20)]
        for client in clients:
            client.setblocking(False)
        port = int(embedded.http.rpartition(":")[2])
        for client in clients:
            client.connect_ex(("127.0.0.1", port))
        for client in clients:
            client.setblocking(True)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for client in clients:
            assert client.recv(12) == b"HTTP/1.1 200"

        holders = Counter(worker_with(embedded, embedded.http, client.getsockname()[1]) for client in clients)

    assert sorted(holders.values()) == [10, 10]


async def test_the_worker_whose_clients_have_left_gets_the_next(embedded: CoordinatorProcess) -> None:
    with trio.fail_after(HANG), ExitStack() as stack:
        clients = [raw_client(embedded, stack) for _ in range(8)]
        homes = [worker_with(embedded, embedded.ws, client.port) for client in clients]
        for client, home in zip(clients, homes, strict=True):
            if home == homes[0]:
                client.close()
        await until(lambda: metric(embedded.http, "websocket_connections") == 4)

        more = [raw_client(embedded, stack) for _ in range(4)]

        assert {worker_with(embedded, embedded.ws, client.port) for client in more} == {homes[0]}


async def test_a_stopped_worker_gets_no_clients_once_one_has_waited_for_it(embedded: CoordinatorProcess) -> None:
    stopped, running = embedded.workers()
    port = int(embedded.ws.rpartition(":")[2])
    with trio.fail_after(HANG), ExitStack() as stack:
        os.kill(stopped, signal.SIGSTOP)
        try:
            waiting = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            await trio.sleep(1.5)
            for _ in range(5):
                assert worker_with(embedded, embedded.ws, raw_client(embedded, stack).port) == running
        finally:
            os.kill(stopped, signal.SIGCONT)
        await until(lambda: holder_of(waiting.getsockname()[1], port, [stopped]))


async def test_max_connections_is_that_of_all_workers_together(store: ValkeyProcess) -> None:
    arguments = ("--workers", "2", "--max-connections", "5", "--redis-url", store.url)
    with trio.fail_after(HANG), coordinator(*arguments) as server, ExitStack() as stack:
        for _ in range(5):
            raw_client(server, stack)
        with pytest.raises(AssertionError, match=" 503 "):
            raw_client(server, stack)

        address = "127.0.0.1", int(server.http.rpartition(":")[2])
        idle = [stack.enter_context(socket.create_connection(address)) for _ in range(5)]
        await until(lambda: all(holder_of(each.getsockname()[1], address[1], server.workers()) for each in idle))
        assert got(f"{server.http}/healthz").status_code == 503


# -- what they see


async def test_what_one_worker_acknowledged_the_other_loads(two: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients:
            here, there = clients.values()
            for id in range(200):
                written = await here.call("job.create", job(1, id, f"{id}"))
                assert await there.call("job.load", job_ids(1, id)) == written
                here, there = there, here


async def test_writes_of_both_to_one_context_keep_each_ones_order(two: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients:

            async def write(client: StreamingClient, id: int) -> None:
                waiters = [await client.send("job.create", job(1, id, f"{turn}")) for turn in range(300)]
                last = await client.send("job.load", job_ids(1, id))
                for waiter in waiters:
                    await waiter()
                assert (await last())["script"] == "299"

            async with trio.open_nursery() as writing:
                for id, client in enumerate(clients.values(), 1):
                    writing.start_soon(write, client, id)


async def test_both_create_the_same_record_and_one_creation_time_holds(two: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients:
            for id in range(50):
                results: list[dict[str, object]] = []

                async def create(
                    client: StreamingClient, script: str, id: int = id, results: list[dict[str, object]] = results
                ) -> None:
                    results.append(await client.call("job.create", job(1, id, script)))

                async with trio.open_nursery() as creating:
                    for script, client in zip("ab", clients.values(), strict=True):
                        creating.start_soon(create, client, script)

                assert {result["created_at"] for result in results} == {results[0]["created_at"]}


# -- metrics


async def test_metrics_are_those_of_all_workers_whoever_is_asked(two: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients:
            for calls, client in enumerate(clients.values(), 1):
                for id in range(calls * 10):
                    await client.call("job.create", job(1, id))
            pages = {}
            with ExitStack() as stack:
                for _ in range(2):
                    connection = stack.enter_context(closing(HTTPConnection("127.0.0.1", httpx.URL(two.http).port)))
                    connection.request("GET", "/metrics")
                    pages[worker_with(two, two.http, connection.sock.getsockname()[1])] = (
                        connection.getresponse().read()
                    )

        assert pages.keys() == {*two.workers()}
        for page in map(bytes.decode, pages.values()):
            assert "\nherocoordinator_calls_total 30.0\n" in page
            assert "\nherocoordinator_websocket_connections 2.0\n" in page
            assert "\nherocoordinator_workers 2.0\n" in page
            assert {*re.findall(r'^process_cpu_seconds_total\{worker="(\w+)"\}', page, re.M)} == {"1", "2", "parent"}


async def test_counters_never_go_backwards_though_workers_are_killed(embedded: CoordinatorProcess) -> None:
    counted = 0.0
    with trio.fail_after(HANG):
        for round in range(1, 4):
            async with one_of_each(embedded) as clients:
                for client in clients.values():
                    for id in range(10):
                        await client.call("job.create", job(1, id))
                assert metric(embedded.http, "calls_total") == counted + 20
                counted += 20
                os.kill(embedded.workers()[0], signal.SIGKILL)
                assert metric(embedded.http, "calls_total") >= counted
                await until(lambda: metric(embedded.http, "worker_restarts_total") == round)  # noqa: B023
                await until(lambda: metric(embedded.http, "workers") == 2)
            assert metric(embedded.http, "calls_total") == counted


async def test_a_worker_that_does_not_answer_counts_as_it_last_did(tmp_path: Path) -> None:
    with trio.fail_after(HANG), coordinator("--workers", "2", "--data-dir", str(tmp_path)) as server:
        async with one_of_each(server) as clients:
            for client in clients.values():
                await client.call("job.create", job(1, 1))
            assert metric(server.http, "calls_total") == 2
            stopped, running = server.workers()
            os.kill(stopped, signal.SIGSTOP)
            try:
                await clients[running].call("job.create", job(1, 2))
                try:
                    page = got(f"{server.http}/metrics", timeout=5.0)
                except httpx.TimeoutException:  # it was the stopped one's, which gets no other now
                    page = got(f"{server.http}/metrics")
                assert "\nherocoordinator_calls_total 3.0\n" in page.text
            finally:
                os.kill(stopped, signal.SIGCONT)
