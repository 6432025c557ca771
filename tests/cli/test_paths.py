"""Paths that lead nowhere: a working directory that is gone, and `-`, which is no file's name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import herocoordinator


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "--data-dir", "data"],
        ["doctor", "--data-dir", "data"],
        ["backup", "target", "--data-dir", "data"],
        ["repair", "--data-dir", "data"],
        ["export", "--context", "1", "file", "--data-dir", "data"],
        ["token", "rotate-operator", "--data-dir", "data"],
    ],
    ids=lambda command: command[0],
)
def test_a_working_directory_that_is_gone_is_said(tmp_path: Path, command: list[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    begin = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); from coordinator.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", begin, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        timeout=60,
    )

    assert done.returncode == 2, done.stderr
    assert done.stderr == "herocoordinator: --data-dir: data: the working directory is gone; give the whole path\n"


@pytest.mark.parametrize(
    "command",
    [
        ["key", "new", "-"],
        ["login", "-", "--key", "k", "--as", "actor:1"],
        ["token", "create", "label", "--out", "-"],
        ["backup", "-"],
        ["export", "--context", "1", "-"],
        ["import", "-"],
        *(["bench", option, "-"] for option in ("--json", "--prometheus", "--html")),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_dash_is_not_the_name_of_a_file(command: list[str]) -> None:
    done = herocoordinator(*command)

    assert done.returncode == 2
    assert "'-' is not the name of a file; write ./- if it is" in " ".join(done.stderr.split())
    assert not Path("-").exists()


@pytest.mark.parametrize(("kind", "option"), [("flow", "--name"), ("job", "--name"), ("flow", "--tag")])
def test_a_filter_that_cannot_be_names_its_option(kind: str, option: str) -> None:
    done = herocoordinator(kind, "list", "--context", "1", option, "x" * 5000)

    assert done.returncode == 2
    assert f"Error: {option}: String should have at most" in " ".join(done.stderr.split())
