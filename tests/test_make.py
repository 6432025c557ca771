"""`make` on machines that lack something: it says so in one line and leaves nothing half made."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WAIT = 60.0

Fake = Callable[[str], str]

VENV = """
case "$*" in
    "-m venv .venv")
        mkdir -p .venv/bin
        printf '#!/bin/sh\\necho "python $*" >> calls\\nexec {python} "$@"\\n' > .venv/bin/python
        printf '#!/bin/sh\\necho "herocoordinator $*"\\n' > .venv/bin/herocoordinator
        chmod +x .venv/bin/*
        {then}
        touch .venv/bin/activate
        exit ;;
esac
exec {python} "$@"
"""
"""A Python that makes a .venv of two scripts. Its pip is that of these tests, which installs nothing."""


ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
"""Without what make tells the makes it starts: `make test` runs these."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with what `make serve` reads."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Makes a Python of a shell script."""

    def make(script: str) -> str:
        path = tmp_path / "fake-python"
        path.write_text("#!/bin/sh\n" + script.replace("{python}", sys.executable))
        path.chmod(0o755)
        return str(path)

    return make


def make(
    project: Path, python: str, *arguments: str, pip: str = "--help", **more: str
) -> subprocess.CompletedProcess[str]:
    """`make` with this Python, and with a pip that does this instead of installing."""
    return subprocess.run(
        ["make", *arguments, *([f"PIP=.venv/bin/python -m pip {pip} --quiet"] if pip else [])],
        cwd=project,
        env={**ENVIRONMENT, "PYTHON": python, **more},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


def own_lines(stderr: str) -> list[str]:
    """What was said but for make's own last line, which names the rule."""
    return [line for line in stderr.splitlines() if not line.startswith("make: ***")]


@pytest.mark.parametrize("version", [(3, 10, 12), (3, 6, 0), (2, 7, 18)])
def test_a_python_that_is_too_old_is_named_with_its_version(
    project: Path, fake: Fake, version: tuple[int, ...]
) -> None:
    old = fake(
        f"""exec {{python}} -c "import sys; code = sys.argv[2]; sys.version_info = {version}; exec(code)" "$@"\n"""
    )

    done = make(project, old, "serve")

    shown = ".".join(map(str, version))
    assert own_lines(done.stderr) == [
        f"HeroCoordinator needs Python 3.11 or newer, and {old} is Python {shown}; name another: make PYTHON=python3.12"
    ]
    assert done.returncode
    assert not (project / ".venv").exists()


def test_a_python_that_is_missing_is_named(project: Path) -> None:
    done = make(project, "python-of-nowhere", "serve")

    assert len(own_lines(done.stderr)) == 1
    assert "there is no python-of-nowhere that runs" in done.stderr
    assert not (project / ".venv").exists()


def test_a_python_without_venv_says_what_to_install(project: Path, fake: Fake) -> None:
    without = fake("""case "$2" in *ensurepip*) exit 1;; esac\nexec {python} "$@"\n""")

    done = make(project, without, "serve")

    assert len(own_lines(done.stderr)) == 1
    assert "apt install python3-venv" in done.stderr
    assert not (project / ".venv").exists()


def test_a_venv_that_could_not_be_made_is_removed(project: Path, fake: Fake) -> None:
    done = make(project, fake(VENV.replace("{then}", "exit 1")), "serve")

    assert "could not create .venv" in done.stderr
    assert done.returncode
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_venv_whose_making_is_interrupted_is_removed(project: Path, fake: Fake, number: int) -> None:
    python = fake(VENV.replace("{then}", "exec sleep 60"))
    process = subprocess.Popen(
        ["make", "serve"],
        cwd=project,
        env={**ENVIRONMENT, "PYTHON": python},
        process_group=0,
        stdout=subprocess.DEVNULL,
    )
    until((project / ".venv/bin/herocoordinator").exists)

    def is_ended() -> bool:
        os.killpg(process.pid, number)  # as a terminal does; a shell that is about to start a program forgets one
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        return process.returncode is not None

    until(is_ended)
    assert process.returncode
    until(lambda: not (project / ".venv").exists())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("missing", ["activate", "python"])
def test_a_venv_that_is_broken_is_made_again(project: Path, fake: Fake, missing: str) -> None:
    python = fake(VENV.replace("{then}", ""))
    assert make(project, python, "serve").returncode == 0
    (project / ".venv/bin" / missing).unlink()
    if missing == "activate":
        (project / ".venv/python.stamp").unlink()  # as after a kill -9 before it was complete

    again = make(project, python, "serve")

    assert again.returncode == 0, again.stderr
    assert "creating .venv" in again.stdout


def test_the_first_serve_shows_its_three_steps_and_the_next_one_just_serves(project: Path, fake: Fake) -> None:
    python = fake(VENV.replace("{then}", ""))

    first = make(project, python, "serve", ARGS="--workers 1")
    second = make(project, python, "serve")

    version = ".".join(map(str, sys.version_info[:3]))
    creating, installing, *_pip, serving = first.stdout.splitlines()
    assert creating == f"creating .venv with Python {version}"
    assert installing.startswith("installing HeroCoordinator into .venv")
    assert serving == "herocoordinator serve --workers 1"
    assert second.stdout == "herocoordinator serve\n"
    assert second.stderr == ""


def test_an_installation_that_fails_is_gone_on_with_the_next_time(project: Path, fake: Fake) -> None:
    python = fake(VENV.replace("{then}", ""))

    failed = make(project, python, "serve", pip="no-such-command")
    assert failed.returncode
    assert "run make again" in failed.stderr
    assert "herocoordinator serve" not in failed.stdout

    again = make(project, python, "serve")
    assert again.returncode == 0, again.stderr
    assert "creating" not in again.stdout
    assert "installing" in again.stdout


def test_a_venv_of_somebody_else_that_works_is_kept(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=project, check=True, timeout=WAIT)
    (packages,) = (project / ".venv/lib").glob("python*/site-packages")
    (packages / "pip.py").touch()
    (project / ".venv/mine").touch()

    make(project, "python-of-nowhere", ".venv/python.stamp")

    assert (project / ".venv/mine").exists()
    assert (project / ".venv/python.stamp").exists()
