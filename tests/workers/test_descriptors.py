"""Running out of file descriptors: what was promised to the store stays the store's, and nobody dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.looking import metric
from tests.support.multiprocess import worker_with
from tests.support.processes import holder_of, is_running
from tests.support.scarce import connect_idly, descriptors_of, limited
from tests.support.server import CoordinatorProcess, coordinator, limit_open_files
from tests.support.streaming import RawClient, job, job_ids, streaming
from tests.support.waiting import until

pytestmark = pytest.mark.slow

HANG = 90.0
REDUCED = "fewer connections than by default, for the limit of open files (ulimit -n)"

both = pytest.mark.parametrize("workers", [1, 2])


def run_to_end(limit: int, *arguments: str) -> tuple[int, str]:
    """The exit status of a coordinator that must not come up under this limit, and the one line it says."""
    command = [sys.executable, "-m", "coordinator", "serve", "--api-http-port", "0", "--api-ws-port", "0"]
    ended = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=lambda: limit_open_files(limit),
    )
    (line,) = ended.stderr.splitlines()
    return ended.returncode, line


def serious(server: CoordinatorProcess) -> list[str]:
    """What it has logged as an error, or not as a log entry at all."""
    return [
        entry.get("text") or entry["event"]
        for entry in server.logs
        if entry.get("level") in (None, "error", "critical") or "exception" in entry
    ]


def ok(server: CoordinatorProcess) -> bool:
    """Whether it serves a new HTTP client."""
    try:
        return httpx.get(f"{server.http}/readyz", timeout=20, verify=False).status_code == 200
    except httpx.TransportError:
        return False


async def is_ok(server: CoordinatorProcess, within: float = 30.0) -> None:
    """Wait until it serves a new client of either front-end."""
    await until(lambda: ok(server), within=within)
    async with streaming(server.ws) as client:
        await client.call("job.create", job(1, 1))


# -- at start


@both
def test_defaults_are_reduced_to_what_fits_and_one_line_says_so(tmp_path: Path, workers: int) -> None:
    arguments = ("--workers", f"{workers}", "--data-dir", str(tmp_path))
    with coordinator(*arguments, limit=200) as server:
        (entry,) = (entry for entry in server.logs if entry["event"] == REDUCED)
        assert ok(server)

    assert entry["limit"] == 200
    assert 8 <= entry["store_connections"] < 256
    assert 8 <= entry["max_connections"] < 4096


@both
def test_under_a_high_limit_nothing_is_said(tmp_path: Path, workers: int) -> None:
    with coordinator("--workers", f"{workers}", "--data-dir", str(tmp_path), limit=15_000) as server:
        said = [entry["event"] for entry in server.logs]

    assert [event for event in said if "--auth" not in event] == ["serving"]


@both
@pytest.mark.parametrize("setting", ["--max-connections", "--store-connections"])
def test_a_setting_that_does_not_fit_is_named_with_a_value_that_does(
    tmp_path: Path, workers: int, setting: str
) -> None:
    arguments = ("--workers", f"{workers}", "--data-dir", str(tmp_path))

    status, line = run_to_end(200, *arguments, setting, "4000")

    assert status == 2
    assert line.startswith(
        f"herocoordinator: {setting}: 4000 does not fit under the limit of open files, which is 200 "
    )
    fitting = line.split()[-3]
    with coordinator(*arguments, setting, fitting, limit=200) as server:
        assert ok(server)


# -- too many clients


@both
async def test_three_hundred_idle_clients_under_a_limit_of_100(tmp_path: Path, workers: int) -> None:
    arguments = ("--workers", f"{workers}", "--data-dir", str(tmp_path))
    with trio.fail_after(HANG), coordinator(*arguments, limit=100) as server:
        processes = server.children()
        async with streaming(server.ws) as client:
            await client.call("job.create", job(1, 1))
            with ExitStack() as stack:
                connect_idly(server.http, 150, stack)
                connect_idly(server.ws, 150, stack)
                for context in range(2, 32):  # each wants a connection to the store, more than there may be at once
                    await client.call("job.create", job(context, 1))
                    await trio.sleep(0.1)

            await is_ok(server)
            await until(lambda: metric(server.http, "websocket_connections") == 1)
            assert metric(server.http, "connections_refused_total") > 0
            await client.call("job.load", job_ids(1, 1))
        assert server.children() == processes
        assert serious(server) == []


@both
async def test_clients_at_the_limit_leave_the_store_its_own(tmp_path: Path, workers: int) -> None:
    arguments = ("--workers", f"{workers}", "--data-dir", str(tmp_path))
    with trio.fail_after(HANG), coordinator(*arguments, limit=150) as server, ExitStack() as stack:
        (entry,) = (entry for entry in server.logs if entry["event"] == REDUCED)
        async with streaming(server.ws) as client:
            clients = connect_idly(server.http, entry["max_connections"], stack)
            for _ in range(entry["max_connections"] - 1):
                ws = RawClient(server.ws)
                stack.callback(ws.close)
                ws.upgrade()
            pids = server.workers() or [server.process.pid]
            port = int(server.http.rpartition(":")[2])
            await until(lambda: all(holder_of(each.getsockname()[1], port, pids) for each in clients), within=40)

            contexts = entry["store_connections"]
            waiters = [await client.send("job.create", job(context, 1)) for context in range(1, contexts + 1)]
            for waiter in waiters:
                await waiter()

            with pytest.raises(AssertionError, match=" 503 "):
                RawClient(server.ws).upgrade()
            # One that has said nothing for two seconds, which pass quickly on a busy machine, gives way to it.
            assert not ok(server) or any(map(has_ended, clients))
        assert serious(server) == []


def has_ended(client: socket.socket) -> bool:
    """Whether the server has closed the connection."""
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@both
async def test_a_flood_of_connections_holds_up_nobody(tmp_path: Path, workers: int) -> None:
    arguments = ("--workers", f"{workers}", "--data-dir", str(tmp_path))
    with trio.fail_after(HANG), coordinator(*arguments, limit=1024) as server:
        async with streaming(server.ws) as client, trio.open_nursery() as nursery:
            flooded = 0

            async def flood(url: str) -> None:
                nonlocal flooded
                while True:
                    with ExitStack() as stack:
                        flooded += len(connect_idly(url, 20, stack))
                        await trio.sleep(0.02)

            nursery.start_soon(flood, server.http)
            nursery.start_soon(flood, server.ws)
            id = 0
            while flooded < 1000 or id < 50:
                await client.call("job.create", job(1, id))
                id += 1
            nursery.cancel_scope.cancel()
        await is_ok(server)
        assert serious(server) == []


# -- out of descriptors all the same, since somebody lowers the limit of a running process


async def test_one_process_out_of_descriptors_serves_those_it_has_and_says_so_once(tmp_path: Path) -> None:
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path)) as server, ExitStack() as stack:
        async with streaming(server.ws) as client:
            await client.call("job.create", job(1, 1))
            with limited(server.process.pid):
                waiting = connect_idly(server.http, 20, stack)
                for id in range(2, 100):
                    await client.call("job.create", job(1, id))
                    await trio.sleep(0.02)
            await is_ok(server)
            for each in waiting:
                each.setblocking(True)
                each.settimeout(20)
                each.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert each.recv(12) == b"HTTP/1.1 200"
            assert metric(server.http, "accept_failures_total") > 1
        (entry,) = (entry for entry in server.logs if entry.get("level") == "error")
        assert entry["event"] == "connections wait to be accepted"
        assert entry["listener"] == "http"
        assert entry["reason"].startswith("too many open files: raise ulimit -n")


async def test_an_embedded_valkey_that_dies_then_is_back_when_there_is_room(tmp_path: Path) -> None:
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path), "--fsync", "everysec") as server:
        (valkey,) = server.children()
        async with streaming(server.ws) as client:
            await client.call("job.create", job(1, 1))
            with limited(server.process.pid):
                await trio.to_thread.run_sync(server.wait_for, "cannot flush to the disk; trying again each second")
                os.kill(valkey, signal.SIGKILL)
                await trio.to_thread.run_sync(server.wait_for, "the embedded Valkey does not start; trying again")
            await trio.to_thread.run_sync(server.wait_for, "the embedded Valkey is back")
            await client.call("job.load", job_ids(1, 1))


async def test_a_worker_out_of_descriptors_sends_its_clients_to_the_other(embedded: CoordinatorProcess) -> None:
    short, other = embedded.workers()
    with trio.fail_after(HANG), ExitStack() as stack:

        def connect() -> tuple[RawClient, int]:
            client = RawClient(embedded.ws)
            stack.callback(client.close)
            client.upgrade()
            return client, worker_with(embedded, embedded.ws, client.port)

        with limited(short):
            assert [connect()[1] for _ in range(6)] == [other] * 6
        assert metric(embedded.http, "connections_returned_total") > 0

        client, home = connect()
        while home != short:  # it gets no others for a second
            client.close()
            await trio.sleep(0.1)
            client, home = connect()
        assert [connect()[1] for _ in range(5)] == [short] * 5  # the accounts of both are right

        assert embedded.workers() == [short, other]
        assert len(serious(embedded)) == 1


async def test_clients_of_workers_that_are_all_out_of_descriptors_wait(embedded: CoordinatorProcess) -> None:
    first, second = workers = embedded.workers()
    address = "127.0.0.1", int(embedded.http.rpartition(":")[2])

    def home(client: socket.socket) -> int | None:
        return holder_of(client.getsockname()[1], address[1], workers)

    with trio.fail_after(HANG), ExitStack() as stack:

        def connect() -> socket.socket:
            client = stack.enter_context(socket.create_connection(address))
            client.settimeout(30)
            return client

        with limited(second):
            with limited(first):
                clients = [connect() for _ in range(30)]
                await trio.to_thread.run_sync(embedded.wait_for, "a worker cannot receive a connection")
                await trio.sleep(2)  # meanwhile each of them is tried again
                assert [home(client) for client in clients] == [None] * 30
            await until(lambda: [home(client) for client in clients] == [first] * 30)

        newcomer = connect()
        while await home_when_served(newcomer, home) != second:  # it gets no others for a second
            newcomer.close()
            await trio.sleep(0.1)
            newcomer = connect()
        assert [await home_when_served(client, home) for client in clients] == [first] * 30
        # The accounts of both are right. They come one by one: of many at once some would go where fewer wait.
        assert [await home_when_served(connect(), home) for _ in range(29)] == [second] * 29
        assert embedded.workers() == workers
        assert {*serious(embedded)} == {"a worker cannot receive a connection"}


async def home_when_served(client: socket.socket, home: Callable[[socket.socket], int | None]) -> int | None:
    """Which worker answers it."""
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await trio.to_thread.run_sync(client.recv, 65536)).startswith(b"HTTP/1.1 200")
    return home(client)


@pytest.mark.parametrize("spare", [0, 2, 4, 6])  # a start takes some at a time: each number fails another call
async def test_a_parent_out_of_descriptors_replaces_a_worker_when_it_has_some(
    embedded: CoordinatorProcess, spare: int
) -> None:
    victim, other = embedded.workers()
    no_process = "cannot start a process: Too many open files"
    with trio.fail_after(HANG):
        with limited(embedded.process.pid, spare):
            os.kill(victim, signal.SIGKILL)
            await until(lambda: not is_running(victim))
            await until(lambda: spare > 2 or any(no_process in entry.get("reason", "") for entry in embedded.logs))
            await trio.sleep(1)
            assert embedded.process.poll() is None
            assert other in embedded.workers()
        await until(lambda: len(embedded.workers()) == 2 and victim not in embedded.workers(), within=30)
        await until(lambda: metric(embedded.http, "workers") == 2, within=30)
        await is_ok(embedded)


async def test_a_client_that_leaves_before_a_worker_has_it_frees_the_parent(embedded: CoordinatorProcess) -> None:
    parent = embedded.process.pid
    workers = embedded.workers()
    before = descriptors_of(parent)
    with trio.fail_after(HANG), ExitStack() as stack:
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
            stack.callback(os.kill, worker, signal.SIGCONT)
        with ExitStack() as waiting:
            connect_idly(embedded.http, 100, waiting)
            await until(lambda: len(descriptors_of(parent)) >= len(before) + 20)
            assert len(descriptors_of(parent)) <= len(before) + 40  # the others wait in the kernel's queue
        await until(lambda: descriptors_of(parent) == before, within=30)
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        await until(lambda: descriptors_of(parent) == before, within=30)
        await is_ok(embedded)
    assert embedded.workers() == workers
