"""The Rust client against a real coordinator, by its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from clients.generator import rust
from clients.generator.document import Document
from tests.clients.odd import ODD
from tests.support.server import CoordinatorProcess

CLIENT = Path(__file__).parents[2] / "clients" / "rust"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both tests compile to, so that serde is compiled once."""
    return tmp_path_factory.mktemp("target")


def cargo(*arguments: str, cwd: Path = CLIENT, **environment: str) -> str:
    found = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo/bin"))
    if found is None:
        warnings.warn("Rust is missing: NO test of the Rust client runs", stacklevel=1)
        pytest.skip("Rust is missing")
    done = subprocess.run(
        [found, *arguments],
        cwd=cwd,
        env={**os.environ, "RUSTFLAGS": "-D warnings", **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of_the_crate(directory: Path) -> Path:
    """So that no Cargo.lock appears beside the sources."""
    return Path(shutil.copytree(CLIENT, directory / "crate", ignore=shutil.ignore_patterns("target", "Cargo.lock")))


def test_its_tests_pass(server: CoordinatorProcess, context: int, tmp_path: Path, target: Path) -> None:
    where = {"HEROCOORDINATOR_HTTP": server.http, "HEROCOORDINATOR_WS": server.ws, "CARGO_TARGET_DIR": str(target)}
    where["HEROCOORDINATOR_CONTEXT"] = str(context + 600_000)
    out = cargo("test", "--quiet", "--", "--nocapture", cwd=copy_of_the_crate(tmp_path), **where)

    assert out.count("LIVE") == 4


def test_odd_schemas_compile(tmp_path: Path, target: Path) -> None:
    crate = copy_of_the_crate(tmp_path)
    (crate / "src" / "api.rs").write_text(rust.write(Document(ODD)))
    shutil.rmtree(crate / "tests")

    cargo("check", "--quiet", cwd=crate, CARGO_TARGET_DIR=str(target))


def test_it_is_written_as_rustfmt_would() -> None:
    if shutil.which("rustfmt") is None:
        pytest.skip("rustfmt is missing")
    command = ["rustfmt", "--edition", "2021", "--check", "src/lib.rs", "tests/live.rs", "tests/faults.rs"]
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
