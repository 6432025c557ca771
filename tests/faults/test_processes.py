"""Real processes, killed, stopped and started again: what was acknowledged is there, what cannot start says why in one
line, and what is told to stop stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.support.commands import herocoordinator
from tests.support.looking import metric
from tests.support.server import CoordinatorProcess, coordinator, free_port
from tests.support.streaming import ConnectionLost, RawClient, StreamingClient, job, job_ids, streaming
from tests.support.waiting import until

HANG = 120.0


async def create_until_lost(client: StreamingClient, context: int, acknowledged: dict[tuple[int, int], str]) -> None:
    """Stream creates, many in flight, and note each that is acknowledged, until the connection ends."""

    async def create(id: int) -> None:
        script = f"{context}/{id} " + "x" * (id % 300)
        await client.call("job.create", job(context, id, script))
        acknowledged[context, id] = script

    async def create_every(first: int) -> None:
        id = first
        try:
            while True:
                await create(id)
                id += 8
        except ConnectionLost:
            pass

    async with trio.open_nursery() as lanes:
        for first in range(8):
            lanes.start_soon(create_every, first)


async def assert_stored(server: CoordinatorProcess, expected: dict[tuple[int, int], str]) -> None:
    async with streaming(server.ws) as client:
        keys = list(expected)
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            loaded = await client.batch([("job.load", job_ids(*key)) for key in part])
            assert [record["script"] for record in loaded] == [expected[key] for key in part]


def is_running(pid: int) -> bool:
    """Whether the process lives; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def run_to_end(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`herocoordinator serve` that is expected not to come up."""
    return herocoordinator("serve", "--api-http-port", "0", "--api-ws-port", "0", "--workers", "1", *arguments)


def only_line(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line a failed start leaves on standard error."""
    assert ended.returncode > 0
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("herocoordinator: ")
    return line


# -- kill -9


@pytest.mark.slow
@pytest.mark.parametrize("fsync", ["always", "everysec"])
@pytest.mark.parametrize("valkey_too", [False, True], ids=["coordinator", "coordinator and Valkey"])
async def test_every_acknowledged_write_survives_kill_9(tmp_path: Path, fsync: str, valkey_too: bool) -> None:
    arguments = ("--data-dir", str(tmp_path), "--fsync", fsync)
    acknowledged: dict[tuple[int, int], str] = {}
    with trio.fail_after(HANG):
        with coordinator(*arguments) as server:
            async with streaming(server.ws) as client, trio.open_nursery() as streams:
                for context in (0, 1, 2):
                    streams.start_soon(create_until_lost, client, context, acknowledged)
                await until(lambda: len(acknowledged) > 300)
                if valkey_too:
                    server.kill()
                else:
                    server.process.kill()
                    server.process.wait(10)

        with coordinator(*arguments) as again:
            assert len(acknowledged) > 300
            await assert_stored(again, acknowledged)


@pytest.mark.slow
async def test_kills_one_after_the_other_add_up_to_no_loss(tmp_path: Path) -> None:
    acknowledged: dict[tuple[int, int], str] = {}
    with trio.fail_after(HANG):
        for context in range(3):
            with coordinator("--data-dir", str(tmp_path)) as server:
                async with streaming(server.ws) as client, trio.open_nursery() as streams:
                    streams.start_soon(create_until_lost, client, context, acknowledged)
                    await until(lambda: (context, 50) in acknowledged)  # noqa: B023 - awaited at once
                    server.kill()

        with coordinator("--data-dir", str(tmp_path)) as last:
            await assert_stored(last, acknowledged)


@pytest.mark.slow
@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
async def test_a_restart_waits_for_the_valkey_of_a_killed_coordinator(tmp_path: Path, reaped: bool) -> None:
    arguments = ("--data-dir", str(tmp_path))
    started: list[CoordinatorProcess] = []
    with trio.fail_after(HANG), coordinator(*arguments) as server:
        (orphan,) = server.children()
        os.kill(orphan, signal.SIGSTOP)  # it cannot go before we let it
        server.process.kill()
        if reaped:
            server.process.wait(10)

        try:
            async with trio.open_nursery() as starting:
                starting.start_soon(trio.to_thread.run_sync, lambda: started.append(CoordinatorProcess(*arguments)))
                await trio.sleep(1)
                assert is_running(orphan)
                assert not started
                os.kill(orphan, signal.SIGCONT)
            (again,) = started
            assert again.stop() == 0
        finally:
            for process in started:
                process.process.kill()
            if is_running(orphan):
                os.kill(orphan, signal.SIGKILL)


@pytest.mark.slow
async def test_valkey_goes_when_its_coordinator_is_killed(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path)) as server:
        (valkey,) = server.children()

        server.process.kill()
        server.process.wait(10)

        await until(lambda: not is_running(valkey))


@pytest.mark.slow
async def test_a_valkey_killed_alone_is_started_again_and_no_request_is_lost(tmp_path: Path) -> None:
    created: list[int] = []
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path)) as server:
        async with streaming(server.ws) as client, trio.open_nursery() as workers:

            async def create_jobs(first: int) -> None:
                for id in range(first, first + 100):
                    result = await client.call("job.create", job(id % 3, id, f"{id}"))
                    assert result["script"] == f"{id}"
                    created.append(id)

            for first in range(0, 400, 100):
                workers.start_soon(create_jobs, first)
            for count in (50, 150):
                await until(lambda: len(created) >= count)  # noqa: B023 - awaited at once
                (valkey,) = server.children()
                logged = len(server.logs)
                os.kill(valkey, signal.SIGKILL)
                back = await trio.to_thread.run_sync(
                    lambda: server.wait_for("the embedded Valkey is back", after=logged)  # noqa: B023
                )
                assert back["level"] == "info"
                assert server.children() != [valkey]
        await assert_stored(server, {(id % 3, id): f"{id}" for id in range(400)})


@pytest.mark.slow
async def test_a_command_half_written_when_everything_died_is_dropped(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        with coordinator("--data-dir", str(tmp_path)) as server:
            async with streaming(server.ws) as client:
                await client.call("job.create", job(1, 1, "whole"))
            server.kill()
        (log,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
        with log.open("ab") as file:
            file.write(b"*3\r\n$3\r\nSET\r\n$5\r\nha")

        with coordinator("--data-dir", str(tmp_path)) as again:
            await assert_stored(again, {(1, 1): "whole"})


# -- starts that must fail


@pytest.mark.slow
def test_a_data_directory_has_one_coordinator(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path)) as first:
        line = only_line(run_to_end("--data-dir", str(tmp_path)))

        assert str(tmp_path) in line
        assert str(first.process.pid) in line
        assert httpx.get(f"{first.http}/readyz", verify=False).status_code == 200  # and the first one was not harmed


@pytest.mark.parametrize("option", ["--api-http-port", "--api-ws-port"])
def test_a_port_in_use_is_named(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        line = only_line(run_to_end("--data-dir", str(tmp_path), option, port))

    assert f"127.0.0.1:{port}" in line
    assert "in use" in line
    assert option in line


def test_a_file_where_the_data_directory_should_be_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    ended = run_to_end("--data-dir", str(file))

    assert ended.returncode > 0
    assert str(file) in ended.stderr.splitlines()[-1]
    assert "file" in ended.stderr.splitlines()[-1]


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    impossible = tmp_path / "file" / "data"

    assert str(impossible) in only_line(run_to_end("--data-dir", str(impossible)))


def test_a_valkey_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").touch()  # where it wants a directory

    line = only_line(run_to_end("--data-dir", str(tmp_path)))

    assert "Valkey exited" in line
    assert "append" in line.lower()


# -- told to stop


def pending_calls(server: CoordinatorProcess) -> int:
    """Calls of clients, and maybe one of the coordinator's own."""
    return metric(server.http, "calls_pending")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_answers_what_is_in_flight(tmp_path: Path, number: signal.Signals) -> None:
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path)) as server:
        (valkey,) = server.children()
        async with streaming(server.ws) as client, httpx.AsyncClient(timeout=30, verify=False) as http:
            created = await client.call("job.create", job(1, 1, "kept"))
            posted: list[Any] = []
            os.kill(valkey, signal.SIGSTOP)
            try:
                read = await client.send("job.load", job_ids(1, 1))
                write = await client.send("job.create", job(2, 1, "late"))
                async with trio.open_nursery() as nursery:

                    async def post() -> None:
                        request = {"jsonrpc": "2.0", "id": 1, "method": "job.load", "params": job_ids(1, 1)}
                        posted.append((await http.post(server.http, json=request)).json())

                    nursery.start_soon(post)
                    await until(lambda: metric(server.http, "calls_total") == 4)
                    server.process.send_signal(number)
                    await trio.to_thread.run_sync(server.wait_for, "stopping")
                    os.kill(valkey, signal.SIGCONT)
            finally:
                os.kill(valkey, signal.SIGCONT) if is_running(valkey) else None

            assert await read() == created
            assert (await write())["script"] == "late"
            assert posted[0]["result"] == created
            await client.closed.wait()
            assert client.close_code == 1001
        assert await trio.to_thread.run_sync(server.process.wait, 20) == 0
        assert not is_running(valkey)


@pytest.mark.slow
async def test_told_to_stop_twice_it_leaves_at_once(tmp_path: Path) -> None:
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path), "--shutdown-grace", "50") as server:
        (valkey,) = server.children()
        async with streaming(server.ws) as client:
            os.kill(valkey, signal.SIGSTOP)
            try:
                await client.send("job.load", job_ids(1, 1))
                await until(lambda: pending_calls(server) >= 1)
                server.process.terminate()
                await trio.to_thread.run_sync(server.wait_for, "stopping")

                server.process.terminate()

                assert await trio.to_thread.run_sync(server.process.wait, 10) == 1
            finally:
                os.kill(valkey, signal.SIGCONT)
        await until(lambda: not is_running(valkey))


@pytest.mark.slow
async def test_told_to_stop_it_does_not_wait_for_clients_that_never_read(tmp_path: Path) -> None:
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path), "--shutdown-grace", "1") as server:
        async with streaming(server.ws) as client:
            await client.call("job.create", job(1, 1, "x" * 100_000))
        over_http = RawClient(server.http, receive_bytes=4096)
        body = b"[%b]" % b",".join(
            b'{"jsonrpc":"2.0","id":%d,"method":"job.load","params":{"context_id":1,"caller_id":7,"id":1}}' % id
            for id in range(150)
        )
        over_http.socket.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        assert over_http.socket.recv(12) == b"HTTP/1.1 200"  # the rest of 15 MB it does not read
        over_ws = RawClient(server.ws, receive_bytes=4096)
        over_ws.upgrade()
        for id in range(200):
            over_ws.send_call(id, "job.load", job_ids(1, 1))
        assert over_ws.socket.recv(1) == b"\x81"
        await until(lambda: pending_calls(server) == 0)

        server.process.terminate()

        assert await trio.to_thread.run_sync(server.process.wait, 25) == 0
        over_http.vanish()
        over_ws.vanish()


# -- where the data is


@pytest.mark.slow
async def test_a_data_directory_may_have_a_long_and_strange_name(tmp_path: Path) -> None:
    directory = tmp_path / ("long " * 20) / ("näme'\"\\" * 10)
    assert len(os.fsencode(directory / "valkey.sock")) > 108
    with trio.fail_after(HANG):
        with coordinator("--data-dir", str(directory)) as server:
            async with streaming(server.ws) as client:
                await client.call("job.create", job(1, 1, "kept"))
            server.kill()

        with coordinator("--data-dir", str(directory)) as again:
            await assert_stored(again, {(1, 1): "kept"})
            assert again.stop() == 0
    assert (directory / "appendonlydir").is_dir()


@pytest.mark.slow
async def test_a_port_is_free_again_right_after_a_kill(tmp_path: Path) -> None:
    arguments = ("--data-dir", str(tmp_path), "--api-http-port", str(free_port()), "--api-ws-port", str(free_port()))
    with trio.fail_after(HANG):
        with coordinator(*arguments) as server:
            async with streaming(server.ws) as client:
                await client.call("job.create", job(1, 1, "kept"))
                server.kill()

        with coordinator(*arguments) as again:
            assert again.ws == server.ws
            await assert_stored(again, {(1, 1): "kept"})


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_socket_that_was_cleaned_away_is_there_again(tmp_path: Path, whole: bool, workers: str) -> None:
    """Something cleans up the directory for temporary files: connections that are there go on, so nobody notices
    before another one is needed."""
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path), "--workers", workers) as server:
        async with streaming(server.ws) as client:
            await client.call("job.create", job(1, 1, "kept"))
            _clean_away(tmp_path / "valkey.sock", whole=whole)

            await client.call("job.create", job(2, 1, "of a context that needs a connection"))

            await assert_stored(server, {(1, 1): "kept", (2, 1): "of a context that needs a connection"})
        gone = server.wait_for("the embedded Valkey's socket was removed; starting Valkey again")
        runtime = Path(gone["socket"]).parent
        assert runtime.stat().st_mode & 0o777 == 0o700
        assert server.stop() == 0
        assert not runtime.exists()


def _clean_away(link: Path, *, whole: bool) -> None:
    socket_file = Path(os.readlink(link))
    socket_file.unlink()
    if whole:
        socket_file.parent.rmdir()
