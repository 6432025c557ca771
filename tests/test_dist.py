"""The sdist and the wheel that `make dist` builds: what is in them, and that either runs in an empty environment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from coordinator import __version__
from tests.support.server import free_port

ROOT = Path(__file__).parents[1]
OURS = ".".join(map(str, sys.version_info[:2]))
VERSIONS = ("3.11", "3.12", "3.13", "3.14")

IMPORTS = "import coordinator.client, coordinator.client.aio, coordinator.models; print('ok')"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def clean_environment() -> dict[str, str]:
    """Ours, without what would let a Python find this checkout, and what make tells the makes that it starts."""
    names = ("PYTHONPATH", "VIRTUAL_ENV", "MAKELEVEL", "MAKEFLAGS", "MFLAGS")
    return {name: value for name, value in os.environ.items() if name not in names}


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def python_of(version: str) -> str | None:
    """A Python of this version on this machine, one that can make environments."""
    named = f"python{version}"
    candidates = [*map(str, sorted((Path.home() / ".pyenv/versions").glob(f"{version}*/bin/{named}"))), named]
    for candidate in [sys.executable, *candidates] if version == OURS else candidates:
        try:
            subprocess.run([candidate, "-c", "import ensurepip, venv"], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    return None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel. The make target is the released one; it finds this Python in place of its own."""
    directory = tmp_path_factory.mktemp("dist") / "dist"
    run("make", "-o", ".venv/dev.stamp", "dist", f"BIN={Path(sys.executable).parent}", f"DIST={directory}", cwd=ROOT)
    (sdist,), (wheel,) = directory.glob("*.tar.gz"), directory.glob("*.whl")
    return sdist, wheel


def test_the_wheel_tells_what_it_is(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        (metadata,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        told = message_from_bytes(wheel.read(metadata))
        licence = wheel.read(metadata.replace("METADATA", "licenses/LICENSE"))

    assert (told["Name"], told["Version"], told["License-Expression"]) == ("herocoordinator", __version__, "Apache-2.0")
    assert told["Requires-Python"] == f">={VERSIONS[0]}"
    named = {match[1] for item in told.get_all("Classifier", []) if (match := re.search(r":: (3\.\d+)$", item))}
    assert named == {*VERSIONS}
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in licence


def test_the_sdist_has_all_that_the_wheel_is_built_from(built: tuple[Path, Path], tmp_path: Path) -> None:
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()

    run(
        sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path / "again", cwd=unpacked
    )

    (again,) = (tmp_path / "again").glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()
    assert {"LICENSE", "CHANGELOG.md", "README.md", "Makefile", "constraints.txt"} <= {
        path.name for path in unpacked.iterdir()
    }
    assert (unpacked / "tests/test_dist.py").exists()
    assert not (unpacked / ".git").exists()


@pytest.fixture(params=VERSIONS)
def installed(request: pytest.FixtureRequest, built: tuple[Path, Path], tmp_path: Path) -> Path:
    """The directory of the commands in an environment that has nothing but one of the two, the sdist with our own
    version of Python."""
    python = python_of(request.param)
    if python is None:
        pytest.skip(f"there is no Python {request.param} here")
    run(python, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    package = built[0] if request.param == OURS else built[1]
    options = ("--quiet", "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt")
    run(tmp_path / "venv/bin/python", "-m", "pip", "install", *options, package, cwd=tmp_path)
    return tmp_path / "venv/bin"


def test_what_is_installed_serves(installed: Path, tmp_path: Path) -> None:
    command = installed / "herocoordinator"
    assert run(command, "--version", cwd=tmp_path) == f"herocoordinator, version {__version__}\n"

    http, ws = free_port(), free_port()
    ports = ("--api-http-port", str(http), "--api-ws-port", str(ws))
    with subprocess.Popen(
        [command, "serve", *ports, "--workers", "2", "--data-dir", tmp_path / "data", "--log-format", "json"],
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            log = iter(server.stderr)
            assert any(json.loads(line)["event"] == "serving" for line in log)

            made = run(
                *(command, "call", "--url", f"ws://127.0.0.1:{ws}", "actor.create"),
                json.dumps({"actor": {"id": 7, "pubkey": "key", "address": ["::1"]}}),
                cwd=tmp_path,
            )

            assert json.loads(made)["pubkey"] == "key"
            asked = urllib.request.Request(f"http://127.0.0.1:{http}/", headers={"Accept": "text/html"})
            with urllib.request.urlopen(asked, timeout=30) as page:
                assert b"assets/app-" in page.read(), "the dashboard is in the package"
            server.send_signal(signal.SIGTERM)
            assert any(json.loads(line)["event"] == "stopped" for line in log)
            assert server.wait(60) == 0
        finally:
            server.kill()

    # A flow with a runner, and what users import.
    assert run(command, "demo", ROOT / "examples/diamond.toml", cwd=tmp_path)
    assert "ok" in run(installed / "python", "-c", IMPORTS, cwd=tmp_path)
