"""Backups of an embedded store: taken while it is written to and rewritten, and put back whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from coordinator.storage import aof
from coordinator.storage.backup import CannotBackUp, CannotRestore, back_up, put_back
from coordinator.storage.connection import Connection, Reply
from coordinator.storage.embedded import EmbeddedValkey
from tests.support.commands import herocoordinator
from tests.support.server import coordinator

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def store(directory: Path) -> AsyncIterator[Connection]:
    """A connection to an embedded store on this data directory."""
    async with EmbeddedValkey(directory, "everysec") as running:
        connection = Connection(await running.endpoint.open())
        try:
            yield connection
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()


async def ask(connection: Connection, *command: str | int) -> Reply:
    replies: list[Reply] = []
    await connection.exchange([command], replies)
    return replies[0]


async def number_in(directory: Path) -> int:
    """The last of the writes of `write` that is there; there must be none missing before it."""
    async with store(directory) as connection:
        last, count = int(await ask(connection, "GET", "last") or 0), await ask(connection, "SCARD", "all")
        assert count == last  # each is a transaction of both
        return last


async def write(connection: Connection, number: int) -> None:
    replies: list[Reply] = []
    await connection.exchange(
        [("MULTI",), ("SET", "last", number), ("SADD", "all", number), ("EXEC",)],
        replies,
    )
    assert isinstance(replies[3], list), replies


@pytest.mark.slow
async def test_a_backup_is_the_store_at_one_moment_whatever_happens_meanwhile(tmp_path: Path) -> None:
    acknowledged = 0
    least: list[int] = []
    async with store(tmp_path / "data") as connection, trio.open_nursery() as nursery:

        async def write_on() -> None:
            nonlocal acknowledged
            while True:
                await write(connection, acknowledged + 1)
                acknowledged += 1
                if acknowledged % 50 == 0:
                    await ask(connection, "BGREWRITEAOF")

        nursery.start_soon(write_on)
        for turn in range(8):
            least.append(acknowledged)
            await trio.to_thread.run_sync(back_up, tmp_path / "data", tmp_path / f"backup{turn}", "1.2.3")
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert acknowledged > 100

    found = []
    for turn in range(8):
        assert put_back(tmp_path / f"backup{turn}", tmp_path / f"data{turn}").version == "1.2.3"
        found.append(await number_in(tmp_path / f"data{turn}"))

    assert all(number >= before for number, before in zip(found, least, strict=True)), (found, least)
    assert found == sorted(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with three writes."""
    directory = tmp_path_factory.mktemp("made") / "data"

    async def make() -> None:
        async with store(directory) as connection:
            for number in (1, 2, 3):
                await write(connection, number)

    trio.run(make)
    return directory


@pytest.fixture
def at_rest(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "data")


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def last_file(directory: Path) -> Path:
    return directory / aof.listed_files(directory)[-1]


async def test_what_was_being_written_is_left_out(at_rest: Path, tmp_path: Path) -> None:
    with last_file(aof.directory_of(at_rest)).open("ab") as file:
        file.write(b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$4\r\nlast\r\n$1\r\n9\r\n*3\r\n$4\r\nSA")

    back_up(at_rest, tmp_path / "backup", "1")
    put_back(tmp_path / "backup", tmp_path / "again")

    assert aof.tail_of(last_file(aof.directory_of(tmp_path / "again"))).lost == 0
    assert await number_in(tmp_path / "again") == 3


async def test_it_is_for_its_owner_alone(at_rest: Path, tmp_path: Path) -> None:
    back_up(at_rest, tmp_path / "backup", "1")
    put_back(tmp_path / "backup", tmp_path / "again")

    for directory in (tmp_path / "backup", tmp_path / "again"):
        assert not any(path.stat().st_mode & 0o077 for path in (directory, *directory.rglob("*")))


async def test_a_backup_is_not_made_over_another(at_rest: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()

    with pytest.raises(CannotBackUp, match="is there already"):
        back_up(at_rest, tmp_path / "backup", "1")


async def test_of_nothing_there_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(CannotBackUp, match="nothing to back up"):
        back_up(tmp_path, tmp_path / "backup", "1")

    assert names_in(tmp_path) == []


async def test_a_missing_file_is_named_and_nothing_remains(
    at_rest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.storage.backup.PAUSE", 0.0)
    last_file(aof.directory_of(at_rest)).unlink()

    with pytest.raises(CannotBackUp, match="herocoordinator repair"):
        back_up(at_rest, tmp_path / "backup", "1")

    assert names_in(tmp_path) == [at_rest.name]


@pytest.mark.parametrize("there", ["nothing", "an empty directory", "data"])
@pytest.mark.parametrize("damage", ["a byte", "the end", "a file", "about", "format", "foreign name"])
async def test_what_is_not_what_was_backed_up_is_not_put_back(
    at_rest: Path, tmp_path: Path, damage: str, there: str
) -> None:
    backup, again = tmp_path / "backup", tmp_path / "again"
    back_up(at_rest, backup, "1")
    about, file = backup / "backup.json", last_file(backup)
    told = json.loads(about.read_text())
    match damage:
        case "a byte":
            content = bytearray(file.read_bytes())
            content[-3] ^= 1
            file.write_bytes(content)
        case "the end":
            file.write_bytes(file.read_bytes()[:-1])
        case "a file":
            file.unlink()
        case "about":
            about.write_text("{")
        case "format":
            about.write_text(json.dumps({**told, "format": 2}))
        case "foreign name":
            told["files"][0]["name"] = "../data/lock"
            about.write_text(json.dumps(told))
    if there != "nothing":
        again.mkdir()
    if there == "data":
        (again / "mine").touch()

    with pytest.raises((CannotRestore, FileNotFoundError)):
        put_back(backup, again)

    assert again.exists() == (there != "nothing")
    assert [path.name for path in again.glob("*")] == (["mine"] if there == "data" else [])


async def test_a_directory_with_data_is_left_alone(at_rest: Path, tmp_path: Path) -> None:
    back_up(at_rest, tmp_path / "backup", "1")

    with pytest.raises(CannotRestore, match="is not empty"):
        put_back(tmp_path / "backup", at_rest)

    assert await number_in(at_rest) == 3


@pytest.mark.slow
def test_what_a_coordinator_knew_another_knows_after_backup_and_restore(tmp_path: Path) -> None:
    actor = {"id": 7, "pubkey": "ключ", "address": ["::1"]}

    def call(url: str, method: str, params: object) -> dict[str, object]:
        answer = httpx.post(url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        result: dict[str, object] = answer.json()["result"]
        return result

    with coordinator("--data-dir", str(tmp_path / "data")) as first:
        made = call(first.http, "actor.create", {"actor": actor})
        done = herocoordinator("backup", str(tmp_path / "backup"), "--data-dir", str(tmp_path / "data"))
        assert done.returncode == 0, done.stderr
        call(first.http, "actor.create", {"actor": {**actor, "id": 8}})

    done = herocoordinator("restore", str(tmp_path / "backup"), "--data-dir", str(tmp_path / "again"))

    assert done.returncode == 0, done.stderr
    assert "keys, as they were at" in done.stdout
    with coordinator("--data-dir", str(tmp_path / "again")) as second:
        assert call(second.http, "actor.load", {"id": 7}) == made
        gone = httpx.post(second.http, json={"jsonrpc": "2.0", "id": 1, "method": "actor.load", "params": {"id": 8}})
        assert gone.json()["error"]["code"] == -32001
