"""A data directory is its owner's alone: what others could read is closed to them or refused, links lead nowhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import httpx
import pytest

from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

OTHERS = 0o077


def open_to_others(directory: Path) -> list[str]:
    """What in it other users may do anything with. Links have no mode of their own."""
    paths = [directory, *directory.rglob("*")]
    return [str(path) for path in paths if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & OTHERS]


def write(server: CoordinatorProcess) -> None:
    context = {"id": 1, "admins": [], "readers": [], "executors": []}
    call = {"jsonrpc": "2.0", "id": 1, "method": "context.create", "params": {"context": context}}
    assert "result" in httpx.post(server.http, json=call).json()


def refused(directory: Path) -> str:
    done = herocoordinator("serve", "--data-dir", str(directory), "--api-http-port", "0", "--api-ws-port", "0")
    assert done.returncode == 1
    return done.stderr


def test_what_it_makes_is_its_owner_s_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with coordinator("--data-dir", str(tmp_path / "data")) as server:
            write(server)
            runtime = Path(os.readlink(tmp_path / "data" / "valkey.sock")).parent

            assert open_to_others(tmp_path / "data") == []
            assert open_to_others(runtime) == []
    finally:
        os.umask(before)


def test_a_directory_that_others_could_read_is_closed_to_them_and_that_is_logged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with coordinator("--data-dir", str(data)) as server:
        write(server)
    for path in (data, *data.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)

    with coordinator("--data-dir", str(data)) as server:
        assert open_to_others(data) == []
        logged = [entry for entry in server.logs if "other users could get at" in entry["event"]]

    assert [entry["data"] for entry in logged] == [str(data)]
    with coordinator("--data-dir", str(data)) as server:
        assert not [entry for entry in server.logs if "other users" in entry["event"]]


def test_a_directory_with_other_things_is_not_touched(tmp_path: Path) -> None:
    data = tmp_path / "home"
    data.mkdir()
    (data / "letters").mkdir()
    data.chmod(0o755)

    said = refused(data)

    assert "can be read by others, and holds other things, as letters; choose one of its own" in said
    assert stat.S_IMODE(data.stat().st_mode) == 0o755
    assert os.listdir(data) == ["letters"]


def test_a_directory_for_all_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "all"
    data.mkdir()
    data.chmod(0o1777)

    assert "is meant for several users" in refused(data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o1777


@pytest.mark.parametrize("name", ["lock", "valkey.lock", "valkey.log"])
def test_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir(mode=0o700)
    elsewhere.write_text("somebody else's")
    elsewhere.chmod(0o644)
    (data / name).symlink_to(elsewhere)

    assert f"{data / name} is a link, which is not followed" in refused(data)
    assert (elsewhere.read_text(), stat.S_IMODE(elsewhere.stat().st_mode)) == ("somebody else's", 0o644)


def test_repair_follows_no_link_either(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "lock").symlink_to(elsewhere)

    done = herocoordinator("repair", "--data-dir", str(tmp_path))

    assert "is a link" in done.stderr
    assert not elsewhere.exists()


def test_a_link_to_the_directory_is_meant(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "data").symlink_to(tmp_path / "disk")

    with coordinator("--data-dir", str(tmp_path / "data")) as server:
        write(server)

    assert (tmp_path / "disk" / "appendonlydir").is_dir()
