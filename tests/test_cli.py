"""The command line as a person uses it: exit status, what is printed, and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.settings import Settings
from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator, free_port

ACTOR = {"actor": {"id": 70, "pubkey": "ключ", "address": ["::1"]}}


def started_anew(
    *arguments: str, env: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """What `herocoordinator` of tests.support may fork, here by a new Python."""
    return subprocess.run(
        [sys.executable, "-m", "coordinator", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        timeout=60,
        check=False,
    )


def test_serve_explains_every_setting_with_its_variable_and_default() -> None:
    shown = " ".join(started_anew("serve", "--help").stdout.split())

    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert f"[env var: HEROCOORDINATOR_{name.upper()}]" in shown
        assert " ".join((field.description or "").split()) in shown
    assert "[default: 9652]" in shown


def test_openrpc_prints_the_document_that_is_checked_in() -> None:
    checked_in = Path(__file__).parents[1] / "specs" / "openrpc.json"

    assert started_anew("openrpc").stdout == checked_in.read_text()


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_call_prints_the_result_and_exits_with_0(server: CoordinatorProcess, transport: str) -> None:
    called = started_anew("call", "--url", getattr(server, transport), "actor.create", json.dumps(ACTOR))

    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["pubkey"] == "ключ"
    assert "ключ" in called.stdout


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_call_explains_an_error_reply_and_exits_with_1(server: CoordinatorProcess, transport: str) -> None:
    called = started_anew("call", "--url", getattr(server, transport), "job.load", '{"context_id": "1"}')

    assert called.returncode == 1
    assert called.stdout == ""
    assert "error -32602: Invalid params" in called.stderr
    assert "context_id: Input should be a valid integer" in called.stderr


def test_call_reads_params_from_standard_input_and_the_url_from_the_environment(server: CoordinatorProcess) -> None:
    called = started_anew(
        "call", "actor.create", "-", env={"HEROCOORDINATOR_URL": server.http}, stdin=json.dumps(ACTOR)
    )

    assert json.loads(called.stdout)["id"] == 70


def test_call_skips_a_byte_order_mark(server: CoordinatorProcess) -> None:
    called = started_anew("call", "--url", server.http, "actor.create", "-", stdin="\ufeff" + json.dumps(ACTOR))

    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["id"] == 70


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_call_without_a_server_says_so_in_one_line_and_exits_with_3(scheme: str) -> None:
    called = started_anew("call", "--url", f"{scheme}://127.0.0.1:{free_port()}", "actor.load")

    assert called.returncode == 3
    assert "no connection to" in called.stderr
    assert "Connection refused" in called.stderr
    assert called.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("actor.load", "{"), ("--url", "ftp://x", "actor.load")])
def test_call_with_a_wrong_command_line_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert herocoordinator("call", *arguments).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "explanation"),
    [
        (("--redis-url", "http://x"), "Redis URL"),
        (("--redis-url", "redis://x/3"), "--isolation prefix"),
        (("--redis-url", "redis://x", "--redis-addr", "x:1"), "not both"),
        (("--api-http-port", "70000"), "--api-http-port"),
        (("--request-timeout", "0"), "--request-timeout"),
        (("--workers", "0"), "--workers"),
        (("--api-http-ip", ""), "--api-http-ip: is empty"),
        (("--api-ws-ip", " "), "--api-ws-ip: is empty"),
        (("--api-ws-ip", "nowhere.invalid"), "--api-ws-ip: 'nowhere.invalid' is neither"),
        (("--data-dir", ""), "--data-dir: is empty"),
        (("--redis-url", ""), "--redis-url: is empty"),
        (("--redis-addr", "localhost"), "no HOST:PORT"),
        (("--public-url", "here"), "--public-url"),
        (("--client-write-timeout", "inf"), "--client-write-timeout"),
        (("--allowed-origins", "https://app.example,app.example"), "--allowed-origins: 'app.example' is no origin"),
        (("--allowed-hosts", "proxy.example:443"), "--allowed-hosts: 'proxy.example:443' is no host"),
    ],
)
def test_a_setting_that_cannot_be_is_explained_in_one_line(arguments: tuple[str, ...], explanation: str) -> None:
    served = herocoordinator("serve", *arguments)

    assert served.returncode == 2
    assert explanation in served.stderr
    assert served.stderr.count("\n") == 1


def test_a_setting_that_cannot_be_is_explained_by_a_process_started_anew_too() -> None:
    served = started_anew("serve", "--api-http-port", "70000")

    assert served.returncode == 2
    assert "--api-http-port" in served.stderr
    assert served.stderr.count("\n") == 1


def test_settings_come_from_the_environment_and_flags_win(tmp_path: Path) -> None:
    port = free_port()
    env = {"HEROCOORDINATOR_DATA_DIR": str(tmp_path), "HEROCOORDINATOR_API_HTTP_PORT": "1"}

    with coordinator("--api-http-port", str(port), env=env) as server:
        assert server.http == f"http://127.0.0.1:{port}"
        assert server.logs[0]["data"] == str(tmp_path)


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    names = ("API_HTTP_IP", "API_WS_IP", "REDIS_URL", "REDIS_ADDR", "PUBLIC_URL", "ALLOWED_ORIGINS")
    empty = {f"HEROCOORDINATOR_{name}": "" for name in names}

    with coordinator("--data-dir", str(tmp_path), env=empty) as server:
        assert server.http.startswith("http://127.0.0.1:")
        assert server.ws.startswith("ws://127.0.0.1:")


def test_an_existing_server_is_used_by_its_address(tmp_path: Path, store: ValkeyProcess) -> None:
    with coordinator("--redis-addr", f"127.0.0.1:{store.port}") as server:
        started_anew("call", "--url", server.http, "actor.create", json.dumps(ACTOR))

    assert store.client().hget("actor:70", "pubkey") == "ключ"
