"""The Go client against a real coordinator, by its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from clients.generator import golang
from clients.generator.document import Document
from tests.clients.odd import ODD
from tests.support.server import CoordinatorProcess

CLIENT = Path(__file__).parents[2] / "clients" / "go"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def go(*arguments: str, cwd: Path = CLIENT, **environment: str) -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        warnings.warn("Go is missing: NO test of the Go client runs", stacklevel=1)
        pytest.skip("Go is missing")
    done = subprocess.run(
        [found, *arguments],
        cwd=cwd,
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_tests_pass(server: CoordinatorProcess, context: int) -> None:
    out = go(
        *("test", "-count=1", "-v", "./..."),
        cwd=CLIENT,
        HEROCOORDINATOR_HTTP=server.http,
        HEROCOORDINATOR_WS=server.ws,
        HEROCOORDINATOR_CONTEXT=str(context + 500_000),
    )

    assert out.count("--- PASS") == 12
    assert "SKIP" not in out


def test_it_is_written_as_gofmt_would() -> None:
    assert go("vet", "./...") == ""
    assert unformatted(CLIENT) == ""


def test_odd_schemas_compile(tmp_path: Path) -> None:
    for name in ("go.mod", "json.go", "http.go", "websocket.go"):
        shutil.copy(CLIENT / name, tmp_path)
    (tmp_path / "api.go").write_text(golang.write(Document(ODD)))

    go("vet", "./...", cwd=tmp_path)
    assert unformatted(tmp_path) == ""


def unformatted(directory: Path) -> str:
    found = shutil.which("gofmt") or "/usr/local/go/bin/gofmt"
    return subprocess.run([found, "-d", "."], cwd=directory, capture_output=True, text=True, check=False).stdout
