"""Terminals and machines that speak something else than UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, coordinator

LATIN = {"PYTHONIOENCODING": "iso8859-1"}
"""Standard streams as in a terminal of ISO-8859-1."""
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Files are read as ASCII unless it is said what they are."""
NAME = "héro → 日本 😀"


def test_json_stays_json_where_the_terminal_lacks_its_characters(server: CoordinatorProcess) -> None:
    given = json.dumps({"actor": {"id": 71_001, "pubkey": NAME, "address": []}})
    herocoordinator("call", "--url", server.http, "actor.create", given)

    load = [sys.executable, "-m", "coordinator", "call", "--url", server.http, "actor.load", '{"id": 71001}']
    done = subprocess.run(load, capture_output=True, env={**os.environ, **LATIN}, check=False)

    assert done.returncode == 0, done.stderr
    assert "é".encode("latin-1") in done.stdout
    assert json.loads(done.stdout.decode("latin-1"))["pubkey"] == NAME


def test_help_with_arrows_is_printed_where_there_are_none() -> None:
    done = herocoordinator("doctor", "--redis-addr", "127.0.0.1:1", env=LATIN)

    assert "Traceback" not in done.stderr
    assert "\\u2192" in done.stdout


@pytest.mark.parametrize("environment", [LATIN, PLAIN_C])
def test_params_from_standard_input_are_utf_8(server: CoordinatorProcess, environment: dict[str, str]) -> None:
    create = [sys.executable, "-m", "coordinator", "call", "--url", server.http, "actor.create", "-"]
    given = json.dumps({"actor": {"id": 71_002, "pubkey": NAME, "address": []}}, ensure_ascii=False).encode()
    done = subprocess.run(create, input=given, capture_output=True, env={**os.environ, **environment}, check=False)

    assert done.returncode == 0, done.stderr
    loaded = herocoordinator("call", "--url", server.http, "actor.load", '{"id": 71002}')
    assert json.loads(loaded.stdout)["pubkey"] == NAME


def test_params_from_a_standard_input_that_is_closed(server: CoordinatorProcess) -> None:
    call = f"{sys.executable} -m coordinator call --url {server.http} actor.create - <&-"
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "not JSON" in done.stderr


def test_everything_of_ours_is_read_as_utf_8(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path / "data"), env=PLAIN_C):
        assert herocoordinator("doctor", "--data-dir", str(tmp_path / "data"), env=PLAIN_C).returncode == 0
    assert herocoordinator("openrpc", env=PLAIN_C).stdout == herocoordinator("openrpc").stdout
