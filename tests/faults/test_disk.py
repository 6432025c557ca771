"""A disk that is full, cannot be flushed or goes away under the embedded store: what was acknowledged is kept, reads go
on, writes are refused with the reason, and all is well again by itself."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.storage.disk import NO_SPACE
from tests.support.clients import JSON, connected
from tests.support.disks import small_file_system
from tests.support.looking import metric
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import job
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow

REFUSED_LOG = "the embedded store takes no writes; reads go on"
BACK_LOG = "the embedded store takes writes again"
SCRIPT = "x" * 300_000
HTTP = httpx.Client(timeout=30)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    with small_file_system(tmp_path, "24m") as mounted:
        yield mounted


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all the room there is, but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        room = os.statvfs(disk)
        remaining = room.f_bfree * room.f_frsize - leave
        if remaining > 0:
            os.posix_fallocate(file.fileno(), 0, remaining)
    return ballast


def reply(server: CoordinatorProcess, method: str, params: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer: dict[str, Any] = HTTP.post(server.http, json=message, headers=JSON).json()
    return answer


def create(server: CoordinatorProcess, id: int, script: str = SCRIPT) -> dict[str, Any]:
    return reply(server, "job.create", job(3, id, script))


def load(server: CoordinatorProcess, id: int) -> dict[str, Any]:
    return reply(server, "job.load", {"context_id": 3, "caller_id": 7, "id": id})


def ready(server: CoordinatorProcess) -> tuple[int, dict[str, Any]]:
    response = HTTP.get(f"{server.http}/readyz")
    return response.status_code, response.json()


def is_refused(answer: dict[str, Any], reason: str) -> bool:
    if "error" not in answer:
        return False
    assert answer["error"]["code"] == -32010, answer
    assert reason in answer["error"]["data"]["detail"], answer
    return True


def create_until_refused(server: CoordinatorProcess) -> list[int]:
    """The jobs that were acknowledged."""
    acknowledged: list[int] = []
    for id in range(1, 1000):
        answer = create(server, id)
        if is_refused(answer, NO_SPACE):
            return acknowledged
        acknowledged.append(id)
    raise AssertionError("the disk does not get full")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_disk_that_fills_up_refuses_writes_and_loses_none(small_disk: Path, fsync: str, workers: str) -> None:
    options = "--data-dir", str(small_disk / "data"), "--fsync", fsync, "--workers", workers
    with coordinator(*options) as server:
        acknowledged = create_until_refused(server)

        assert len(acknowledged) > 10
        assert load(server, acknowledged[-1])["result"]["script"] == SCRIPT
        assert ready(server) == (503, {"status": "not ready", "reason": f"the store takes no writes now: {NO_SPACE}"})
        with connected(server, "ws") as client:
            assert client.error("job.delete", {"context_id": 3, "caller_id": 7, "id": 1})["code"] == -32010
        events = [entry["event"] for entry in server.logs]
        died = [entry for entry in server.logs if entry["event"] == "the embedded Valkey died; starting it again"]
        assert died == []
        assert events.count(REFUSED_LOG) == 1
        assert not any("exception" in entry or "text" in entry for entry in server.logs)
        server.kill()

    (small_disk / "data" / "valkey.log").unlink()
    with coordinator(*options) as server:
        assert all(load(server, id)["result"]["script"] == SCRIPT for id in acknowledged)


def test_a_disk_that_somebody_else_fills_refuses_writes_until_there_is_room(small_disk: Path) -> None:
    with coordinator("--data-dir", str(small_disk / "data")) as server:
        assert "result" in create(server, 1)
        ballast = fill(small_disk)
        acknowledged = create_until_refused(server)

        ballast.unlink()
        server.wait_for(BACK_LOG)

        assert "result" in create(server, 1001)
        assert ready(server)[0] == 200
        assert "result" in load(server, 1001)
        assert all("result" in load(server, id) for id in acknowledged)


def test_a_start_on_a_full_disk_serves_reads_and_takes_writes_once_there_is_room(small_disk: Path) -> None:
    options = "--data-dir", str(small_disk / "data")
    with coordinator(*options) as server:
        assert "result" in create(server, 1)
    ballast = fill(small_disk)

    with coordinator(*options) as server:
        assert is_refused(create(server, 2), NO_SPACE)
        assert "result" in load(server, 1)
        assert ready(server)[0] == 503
        ballast.unlink()
        server.wait_for(BACK_LOG)
        assert "result" in create(server, 2)


def test_a_first_start_on_a_full_disk_waits_for_room(small_disk: Path) -> None:
    (small_disk / "data").mkdir()
    for name in ("lock", "valkey.lock", "valkey.log"):
        (small_disk / "data" / name).touch()
    ballast = fill(small_disk)

    with coordinator("--data-dir", str(small_disk / "data")) as server:
        server.wait_for(REFUSED_LOG)
        assert ready(server)[0] == 503
        ballast.unlink()
        server.wait_for(BACK_LOG)
        until_sync(lambda: ready(server)[0] == 200)
        assert "result" in create(server, 2)
        assert not any("exception" in entry for entry in server.logs)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_data_directory_that_goes_away_refuses_writes_until_it_is_back(tmp_path: Path, workers: str) -> None:
    data = tmp_path / "data"
    with coordinator("--data-dir", str(data), "--workers", workers) as server:
        assert "result" in create(server, 1)
        data.rename(tmp_path / "elsewhere")
        server.wait_for(REFUSED_LOG)

        until_sync(lambda: is_refused(create(server, 2), "is gone"))
        assert "result" in load(server, 1)
        status, page = ready(server)
        assert status == 503
        assert "is gone" in page["reason"]

        (tmp_path / "elsewhere").rename(data)
        server.wait_for(BACK_LOG)
        assert "result" in create(server, 2)
        assert not any("exception" in entry for entry in server.logs)
    with coordinator("--data-dir", str(data)) as server:
        assert "result" in load(server, 2)


def test_a_data_directory_that_is_removed_refuses_writes_and_ends_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with coordinator("--data-dir", str(data)) as server:
        assert "result" in create(server, 1)
        shutil.rmtree(data)
        server.wait_for(REFUSED_LOG)
        data.mkdir()  # another one is not the one that is gone

        # The append-only file was gone a moment before the directory was another one.
        until_sync(lambda: is_refused(create(server, 2), f"{data} is "))
        assert "result" in load(server, 1)
        assert server.stop() == 0
        assert not any("exception" in entry for entry in server.logs)


@pytest.mark.parametrize("what", ["appendonlydir", "appendonlydir/appendonly.aof.1.incr.aof"])
def test_files_that_are_replaced_while_the_store_runs_take_no_writes(tmp_path: Path, what: str) -> None:
    """What is written then goes to files that nobody finds again: a backup was put in their place."""
    data, aside = tmp_path / "data", tmp_path / "aside"
    place = data / what
    with coordinator("--data-dir", str(data)) as server:
        assert "result" in create(server, 1)
        place.rename(aside)
        if aside.is_dir():
            shutil.copytree(aside, place)
        else:
            shutil.copy2(aside, place)

        until_sync(lambda: "was replaced" in ready(server)[1].get("reason", ""))
        assert is_refused(create(server, 2), "was replaced")
        assert "result" in load(server, 1)

        if place.is_dir():
            shutil.rmtree(place)
        aside.rename(place)
        until_sync(lambda: "result" in create(server, 3))
    with coordinator("--data-dir", str(data)) as server:
        assert "result" in load(server, 3)


def test_a_flush_that_fails_refuses_writes_until_all_was_written_anew(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with coordinator("--data-dir", str(data), "--fsync", "everysec") as server:
        assert "result" in create(server, 1)
        (data / "appendonlydir" / "other.incr.aof").symlink_to("/dev/null")  # which cannot be flushed
        assert "cannot flush to the disk" in server.wait_for(REFUSED_LOG)["reason"]

        until_sync(lambda: is_refused(create(server, 2), "cannot flush to the disk"))
        assert "result" in load(server, 1)
        assert ready(server)[0] == 503
        files = {*(data / "appendonlydir").iterdir()}
        (data / "appendonlydir" / "other.incr.aof").unlink()
        server.wait_for(BACK_LOG)

        assert "result" in create(server, 2)
        assert ready(server)[0] == 200
        assert not files & {*(data / "appendonlydir").glob("*.base.*")}
        assert not any("exception" in entry for entry in server.logs)


def test_a_write_in_doubt_is_refused_while_the_store_that_came_back_takes_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with coordinator("--data-dir", str(data), "--fsync", "everysec") as server, ThreadPoolExecutor() as pool:
        assert "result" in create(server, 1)
        (valkey,) = server.children()
        os.kill(valkey, signal.SIGSTOP)
        writing, reading = pool.submit(create, server, 2), pool.submit(load, server, 1)
        until_sync(lambda: metric(server.http, "calls_pending") >= 2)  # the coordinator's own may be among them
        time.sleep(0.1)  # both are on the wire
        (data / "appendonlydir" / "other.incr.aof").symlink_to("/dev/null")  # which cannot be flushed
        server.wait_for(REFUSED_LOG)
        os.kill(valkey, signal.SIGKILL)

        assert is_refused(writing.result(), "cannot flush to the disk")
        assert writing.result()["error"]["data"]["may_have_been_applied"] is True
        assert "result" in reading.result()
        refused = create(server, 3)
        assert is_refused(refused, "cannot flush to the disk")
        assert refused["error"]["data"]["may_have_been_applied"] is False
        assert "result" in load(server, 1)

        (data / "appendonlydir" / "other.incr.aof").unlink()
        server.wait_for(BACK_LOG)
        assert "result" in create(server, 2)
        assert not any("exception" in entry for entry in server.logs)
