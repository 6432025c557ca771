"""Workers and their parent start, are killed, crash and are told to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.support.looking import metric
from tests.support.multiprocess import one_of_each, worker_with
from tests.support.processes import children_of, holder_of, is_running
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import ConnectionLost, StreamingClient, job, job_ids, streaming
from tests.support.waiting import until

pytestmark = pytest.mark.slow

HANG = 120.0
CRASH = """
import os, pathlib, sys
if "coordinator.server.workers" in sys.orig_argv and pathlib.Path({flag!r}).exists():
    os._exit(3)
"""


def run_to_end(*arguments: str, env: dict[str, str] | None = None) -> str:
    """The one line that a coordinator of two workers, which must not come up, says on standard error."""
    command = [sys.executable, "-m", "coordinator", "serve", "--api-http-port", "0", "--api-ws-port", "0"]
    ended = subprocess.run(
        [*command, "--workers", "2", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


async def replaced(server: CoordinatorProcess, *gone: int) -> None:
    """Wait until two workers serve and none of them is one of these."""
    await until(lambda: len(server.workers()) == 2 and not {*gone} & {*server.workers()}, within=30)
    await until(lambda: metric(server.http, "workers") == 2, within=30)


class Stream:
    """Creates jobs without end, 16 calls in flight.

    Attributes:
        acknowledged: ids of the jobs, in context 1.
        is_lost: the connection has ended.
    """

    def __init__(self, client: StreamingClient, first: int) -> None:
        self.acknowledged: list[int] = []
        self.is_lost = False
        self._client = client
        self._first = first

    async def run(self) -> None:
        async with trio.open_nursery() as lanes:
            for lane in range(16):
                lanes.start_soon(self._create, self._first + lane)

    async def _create(self, id: int) -> None:
        try:
            while True:
                await self._client.call("job.create", job(1, id, f"{id}"))
                self.acknowledged.append(id)
                id += 16
        except ConnectionLost:
            self.is_lost = True


# -- killed


async def test_a_killed_worker_is_replaced_and_the_other_loses_no_call(two: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients, trio.open_nursery() as streaming_nursery:
            victim, survivor = two.workers()
            lost, kept = Stream(clients[victim], 0), Stream(clients[survivor], 1_000_000)
            streaming_nursery.start_soon(lost.run)
            streaming_nursery.start_soon(kept.run)
            await until(lambda: len(lost.acknowledged) > 100 and len(kept.acknowledged) > 100)

            os.kill(victim, signal.SIGKILL)

            await until(lambda: lost.is_lost)
            before = len(kept.acknowledged)
            for _ in range(20):  # and both ports go on accepting
                async with streaming(two.ws) as client, httpx.AsyncClient(verify=False) as http:
                    await client.call("job.load", job_ids(1, lost.acknowledged[0]))
                    assert (await http.get(f"{two.http}/readyz")).status_code == 200
            await replaced(two, victim)
            await until(lambda: len(kept.acknowledged) > before + 100)
            assert not kept.is_lost
            assert survivor in two.workers()
            streaming_nursery.cancel_scope.cancel()

        async with streaming(two.ws) as client:
            for acknowledged in (lost.acknowledged, kept.acknowledged):
                loaded = await client.batch([("job.load", job_ids(1, id)) for id in acknowledged[-900:]])
                assert [record["script"] for record in loaded] == [f"{id}" for id in acknowledged[-900:]]
        entry = two.wait_for("a worker ended; starting another")
        assert (entry["level"], entry["reason"]) == ("warning", "killed by signal 9")


async def test_all_workers_killed_at_once_are_replaced_and_who_connects_meanwhile_waits(
    two: CoordinatorProcess,
) -> None:
    with trio.fail_after(HANG):
        before = two.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)

        async with streaming(two.ws) as client:
            await client.call("job.create", job(1, 1))
        await replaced(two, *before)


async def test_a_client_that_was_handed_to_a_worker_which_died_before_taking_it_gets_another(
    embedded: CoordinatorProcess,
) -> None:
    stopped, running = embedded.workers()
    address = "127.0.0.1", int(embedded.http.rpartition(":")[2])
    with trio.fail_after(HANG), ExitStack() as stack:
        os.kill(stopped, signal.SIGSTOP)
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(4)]
        await until(lambda: has_accepted(embedded, clients))
        os.kill(stopped, signal.SIGKILL)

        for client in clients:
            client.settimeout(20)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        assert running in embedded.workers()


def has_accepted(server: CoordinatorProcess, clients: list[socket.socket]) -> bool:
    """Whether all these connections have been accepted."""
    open_in = [server.process.pid, *server.workers()]
    port = int(server.http.rpartition(":")[2])
    return all(holder_of(client.getsockname()[1], port, open_in) for client in clients)


async def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        with coordinator("--workers", "3", "--data-dir", str(tmp_path)) as server:
            children = server.children()
            assert len(children) == 4
            async with streaming(server.ws) as client:
                await client.call("job.create", job(1, 1, "kept"))
                server.process.kill()
                await until(lambda: not any(map(is_running, children)))
                await client.closed.wait()
            server.process.wait(10)
        ports = ("--api-http-port", server.http.rpartition(":")[2], "--api-ws-port", server.ws.rpartition(":")[2])
        with coordinator("--workers", "2", "--data-dir", str(tmp_path), *ports) as again:
            async with streaming(again.ws) as client:
                assert (await client.call("job.load", job_ids(1, 1)))["script"] == "kept"


async def test_a_valkey_killed_alone_comes_back_and_no_worker_loses_a_call(embedded: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with one_of_each(embedded) as clients, trio.open_nursery() as nursery:
            streams = [Stream(client, number * 1_000_000) for number, client in enumerate(clients.values())]
            for stream in streams:
                nursery.start_soon(stream.run)
            await until(lambda: all(len(stream.acknowledged) > 100 for stream in streams))
            workers = embedded.workers()
            (valkey,) = {*embedded.children()} - {*workers}

            os.kill(valkey, signal.SIGKILL)

            await trio.to_thread.run_sync(embedded.wait_for, "the embedded Valkey is back")
            counts = [len(stream.acknowledged) for stream in streams]
            await until(
                lambda: all(len(each.acknowledged) > count + 100 for each, count in zip(streams, counts, strict=True))
            )
            assert not any(stream.is_lost for stream in streams)
            assert embedded.workers() == workers
            nursery.cancel_scope.cancel()


# -- starts that fail


def test_a_data_directory_in_use_is_one_line(embedded: CoordinatorProcess, tmp_path: Path) -> None:
    line = run_to_end("--data-dir", str(tmp_path))

    assert str(tmp_path) in line
    assert str(embedded.process.pid) in line


@pytest.mark.parametrize("option", ["--api-http-port", "--api-ws-port"])
def test_a_port_in_use_is_one_line(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = run_to_end("--data-dir", str(tmp_path), option, str(taken.getsockname()[1]))

    assert option in line
    assert "in use" in line


@pytest.fixture
def crashing(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file while which exists workers crash as they start, and the environment that makes them."""
    directory = tmp_path / "crashing"
    directory.mkdir()
    flag = directory / "flag"
    flag.touch()
    (directory / "sitecustomize.py").write_text(CRASH.format(flag=str(flag)))
    return flag, {"PYTHONPATH": str(directory)}


def test_a_worker_that_crashes_as_it_starts_is_one_line(tmp_path: Path, crashing: tuple[Path, dict[str, str]]) -> None:
    _, env = crashing

    line = run_to_end("--data-dir", str(tmp_path / "data"), env=env)

    assert line.startswith("herocoordinator: worker ")
    assert "exit status 3" in line


async def test_a_worker_whose_successors_crash_is_tried_again_and_the_other_serves(
    tmp_path: Path, crashing: tuple[Path, dict[str, str]]
) -> None:
    flag, env = crashing
    flag.unlink()
    with trio.fail_after(HANG), coordinator("--workers", "2", "--data-dir", str(tmp_path / "data"), env=env) as server:
        victim, survivor = server.workers()
        flag.touch()
        os.kill(victim, signal.SIGKILL)

        await until(lambda: metric(server.http, "worker_restarts_total") >= 4)

        assert metric(server.http, "workers") == 1
        assert survivor in server.workers()
        async with streaming(server.ws) as client:
            await client.call("job.create", job(1, 1))
            flag.unlink()
            await replaced(server, victim)
            await client.call("job.load", job_ids(1, 1))


# -- told to stop


@pytest.mark.parametrize("signalled", ["SIGTERM", "SIGINT to the group", "SIGTERM to each"])
async def test_told_to_stop_all_workers_answer_what_is_in_flight(tmp_path: Path, signalled: str) -> None:
    with (
        trio.fail_after(HANG),
        coordinator("--workers", "2", "--data-dir", str(tmp_path), own_group=True) as server,
    ):
        workers = server.workers()
        (valkey,) = {*server.children()} - {*workers}
        async with one_of_each(server) as clients:
            for id, client in enumerate(clients.values()):
                await client.call("job.create", job(1, id, f"{id}"))
            os.kill(valkey, signal.SIGSTOP)
            try:
                waiters = [await client.send("job.load", job_ids(1, id)) for id, client in enumerate(clients.values())]
                await until(lambda: metric(server.http, "calls_pending") >= 2)
                if signalled == "SIGTERM":
                    server.process.terminate()
                elif signalled == "SIGINT to the group":  # as a terminal sends it
                    os.killpg(server.process.pid, signal.SIGINT)
                else:
                    for pid in (server.process.pid, *workers):
                        os.kill(pid, signal.SIGTERM)
                await until(lambda: sum(entry["event"] == "stopping" for entry in server.logs) == 3)
            finally:
                os.kill(valkey, signal.SIGCONT)

            assert [(await waiter())["script"] for waiter in waiters] == ["0", "1"]
            for client in clients.values():
                await client.closed.wait()
                assert client.close_code == 1001
        assert await trio.to_thread.run_sync(server.process.wait, 20) == 0
        assert not any(map(is_running, [valkey, *workers]))


async def test_told_to_stop_twice_all_leave_at_once(tmp_path: Path) -> None:
    arguments = ("--workers", "2", "--data-dir", str(tmp_path), "--shutdown-grace", "50")
    with trio.fail_after(HANG), coordinator(*arguments) as server:
        children = server.children()
        (valkey,) = {*children} - {*server.workers()}
        async with streaming(server.ws) as client:
            os.kill(valkey, signal.SIGSTOP)
            try:
                await client.send("job.load", job_ids(1, 1))
                await until(lambda: metric(server.http, "calls_pending") >= 1)
                server.process.terminate()
                await until(lambda: sum(entry["event"] == "stopping" for entry in server.logs) == 3)

                server.process.terminate()

                assert await trio.to_thread.run_sync(server.process.wait, 10) == 1
            finally:
                os.kill(valkey, signal.SIGCONT)
        await until(lambda: not any(map(is_running, children)))


DEAF = """
import sys
if "coordinator.server.workers" in sys.orig_argv:
    import trio
    from coordinator.server.workers import worker
    worker._Worker._obey = lambda self: trio.sleep_forever()
"""
"""Workers whose event loop runs, so that they are not killed because they hang, but that do not hear the parent."""


async def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEAF)
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    arguments = ("--workers", "2", "--data-dir", str(tmp_path / "data"), "--shutdown-grace", "0.5")
    with trio.fail_after(HANG), coordinator(*arguments, env=env) as server:
        children = server.children()

        assert await trio.to_thread.run_sync(server.stop) == 0

        assert not any(map(is_running, children))
        entry: dict[str, Any] = server.wait_for("a worker does not stop; killing it")
        assert entry["level"] == "warning"


def test_told_to_stop_while_it_starts_it_stops(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coordinator", "serve", "--api-http-port", "0", "--api-ws-port", "0"]
    process = subprocess.Popen([*command, "--workers", "2", "--data-dir", str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        while len(started := children_of(process.pid)) < 3:
            assert process.poll() is None
            time.sleep(0.01)

        process.terminate()

        assert process.wait(30) == 0
        assert not any(map(is_running, started))
    finally:
        process.kill()
        process.wait()


async def test_a_worker_told_to_stop_by_itself_finishes_its_calls_and_is_replaced(two: CoordinatorProcess) -> None:
    with trio.fail_after(HANG):
        async with one_of_each(two) as clients:
            leaving, _ = two.workers()
            waiters = [await clients[leaving].send("job.create", job(1, id, f"{id}")) for id in range(100)]
            await waiters[0]()

            os.kill(leaving, signal.SIGTERM)

            await clients[leaving].closed.wait()
            assert clients[leaving].close_code == 1001
            await replaced(two, leaving)
        entry = two.wait_for("a worker ended; starting another")
        assert (entry["level"], entry["reason"]) == ("info", "exit status 0")
        async with one_of_each(two) as clients:
            assert leaving not in clients


async def test_who_connects_while_a_worker_stops_gets_another(embedded: CoordinatorProcess) -> None:
    leaving, staying = embedded.workers()
    (valkey,) = {*embedded.children()} - {leaving, staying}
    with trio.fail_after(HANG):
        async with one_of_each(embedded) as clients:
            os.kill(valkey, signal.SIGSTOP)
            try:
                waiter = await clients[leaving].send("job.create", job(1, 1))  # it cannot stop before this is answered
                await until(lambda: metric(embedded.http, "calls_pending") >= 1)
                os.kill(leaving, signal.SIGTERM)
                await trio.to_thread.run_sync(embedded.wait_for, "stopping")

                for _ in range(10):
                    async with streaming(embedded.ws) as client, httpx.AsyncClient(verify=False) as http:
                        assert worker_with(embedded, embedded.ws, client.port) == staying
                        assert (await http.get(f"{embedded.http}/healthz")).status_code == 200

                assert leaving in embedded.workers()
            finally:
                os.kill(valkey, signal.SIGCONT)
            assert (await waiter())["id"] == 1
            await replaced(embedded, leaving)
