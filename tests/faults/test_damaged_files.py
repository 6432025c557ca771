"""Append-only files that are damaged or missing: nothing starts empty, what is there is said, `repair` saves much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.storage import aof
from tests.support.clients import connected
from tests.support.records import create, load, sample
from tests.support.server import coordinator

pytestmark = pytest.mark.slow

CUT = "the append-only file ended in the middle of a command, which was cut off"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with jobs 1 to 20 of context 1."""
    directory = tmp_path / "data"
    with coordinator("--data-dir", str(directory)) as server, connected(server, "http") as client:
        for id in range(1, 21):
            client.result(*create("job", 1, sample("job", 1, id)))
    return directory


def incr(data: Path) -> Path:
    (found,) = (data / "appendonlydir").glob("*.incr.aof")
    return found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coordinator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def refused_start(data: Path) -> str:
    ended = run("serve", "--data-dir", str(data), "--api-http-port", "0", "--api-ws-port", "0", "--workers", "1")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def repaired(data: Path) -> str:
    ended = run("repair", "--data-dir", str(data))
    assert ended.returncode == 0, ended.stderr
    assert [*data.glob("appendonlydir.before-repair-*")]
    return ended.stdout


def stored(data: Path) -> int:
    """How many of the jobs are there: the first ones."""
    with coordinator("--data-dir", str(data)) as server, connected(server, "http") as client:
        found = ["result" in client.reply(*load("job", 1, id)) for id in range(1, 21)]
    assert found == sorted(found, reverse=True)
    return sum(found)


def test_a_tail_that_was_cut_off_is_told(data: Path) -> None:
    with incr(data).open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$5\r\nha")
    with coordinator("--data-dir", str(data)) as server, connected(server, "http") as client:
        assert server.wait_for(CUT)["lost_bytes"] == 19
        assert "result" in client.reply(*load("job", 1, 20))


def test_zeros_at_the_end_are_named_and_repaired(data: Path) -> None:
    size = incr(data).stat().st_size
    with incr(data).open("ab") as file:
        file.write(bytes(4096))

    assert f"herocoordinator repair --data-dir {data}" in refused_start(data)
    said = repaired(data)

    assert f"at byte {size}" in said
    assert "4096 bytes behind that, which begin with zeros" in said
    assert stored(data) == 20


def test_damage_in_the_middle_keeps_what_came_before(data: Path) -> None:
    content = incr(data).read_bytes()
    place = content.rindex(b"job:7:15")
    incr(data).write_bytes(content[: place - 30] + b"\xff" * 60 + content[place + 30 :])

    assert "herocoordinator repair" in refused_start(data)
    assert "lost: " in repaired(data)
    assert 10 <= stored(data) < 20


@pytest.mark.parametrize("name", ["appendonly.aof.manifest", "appendonly.aof.1.incr.aof", "appendonly.aof.1.base.rdb"])
def test_a_missing_file_is_named_and_nothing_starts_empty(data: Path, name: str) -> None:
    (data / "appendonlydir" / name).rename(data / name)

    said = refused_start(data)
    assert name in said
    assert "herocoordinator repair" in said
    (data / name).rename(data / "appendonlydir" / name)
    assert stored(data) == 20


def test_a_lost_manifest_is_made_again(data: Path) -> None:
    (data / "appendonlydir" / "appendonly.aof.manifest").unlink()
    assert "made a new appendonly.aof.manifest" in repaired(data)
    assert stored(data) == 20


def test_a_missing_directory_is_named_and_nothing_starts_empty(data: Path) -> None:
    (data / "appendonlydir").rename(data / "elsewhere")
    assert "append-only files are missing" in refused_start(data)
    assert not (data / "appendonlydir").exists()
    assert run("repair", "--data-dir", str(data)).returncode == 1
    (data / "elsewhere").rename(data / "appendonlydir")
    assert stored(data) == 20


def test_a_directory_in_use_is_not_repaired(data: Path) -> None:
    with coordinator("--data-dir", str(data)):
        ended = run("repair", "--data-dir", str(data))
    assert ended.returncode == 1
    assert "in use" in ended.stderr


def test_a_transaction_that_was_not_completed_does_not_count(tmp_path: Path) -> None:
    whole = b"*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n"
    path = tmp_path / "appendonly.aof.1.incr.aof"
    for length in range(len(whole)):
        path.write_bytes(whole + whole[:length])
        assert aof.tail_of(path).end == len(whole)
    path.write_bytes(whole + whole)
    assert aof.tail_of(path) == aof.Tail(2 * len(whole), 0, "")
