"""Each example runs as examples/README.md says. diamond.toml is run by tests/cli/test_demo.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import herocoordinator
from tests.support.runner import runner
from tests.support.server import CoordinatorProcess, coordinator

EXAMPLES = Path(__file__).parents[1] / "examples"
HELPERS = {"over_http.py", "fan_out_part.py"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("examples")), "--workers", "1") as server:
        herocoordinator(
            "call", "--url", server.http, "context.create", '[{"id": 1, "admins": [7], "readers": [], "executors": []}]'
        )
        with runner(server.ws, 1):
            yield server


def run(server: CoordinatorProcess, *arguments: str) -> str:
    where = {"HEROCOORDINATOR_URL": server.ws, "HEROCOORDINATOR_HTTP_URL": server.http}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **where, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(server: CoordinatorProcess, name: str, *arguments: str) -> str:
    return run(server, str(EXAMPLES / name), *arguments)


def flow_run(server: CoordinatorProcess, *arguments: str) -> str:
    return run(server, "-m", "coordinator", "flow", "run", *arguments)


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("results.toml", ["write | written by write of results", "read  | hello Ada", "lines = 2"]),
        ("retries.toml", ["exit status 1: the server is busy", "attempts = 2"]),
        ("fan_out.yaml", ["total = 3160"]),
    ],
)
def test_flow_files_run(served: CoordinatorProcess, file: str, shown: list[str]) -> None:
    output = flow_run(served, str(EXAMPLES / file))

    assert [text for text in shown if text not in output] == [], output


def test_the_approval_waits_and_goes_on_and_is_followed_over_http(served: CoordinatorProcess) -> None:
    id = flow_run(served, "--no-follow", str(EXAMPLES / "approval.toml")).split()[-1]

    approved = run(
        served,
        *("-m", "coordinator", "prerequisite", "satisfy", "approved"),
        *("--flow", id, "--by", "Ada", "--payload", "order=4711"),
    )

    assert "1 job had waited for it" in approved
    followed = program(served, "follow_over_http.py", id)
    assert "| approved by Ada" in followed
    assert followed.splitlines()[-1] == "flow Finished"


def test_programs_run(served: CoordinatorProcess) -> None:
    assert program(served, "python_client.py").splitlines()[-1] == "Finished"
    assert program(served, "large_flow.py").splitlines() == ["5000 jobs in 50 levels of 100", "5001 records deleted"]
    assert program(served, "message.py") == "Processed the letter is written\n"


def test_the_runner_over_http_does_jobs(served: CoordinatorProcess, tmp_path: Path) -> None:
    file = tmp_path / "sums.toml"
    file.write_text('[[jobs]]\nname = "sum"\ntype = "V"\nscript = "20 + 22"\n')
    id = flow_run(served, "--no-follow", str(file)).split()[-1]

    program(served, "runner_over_http.py", "1")

    assert "sum = 42" in run(served, "-m", "coordinator", "flow", "show", id)


def test_the_list_names_each_example() -> None:
    listed = {*re.findall(r"^\| \[`([\w.]+)`\]", (EXAMPLES / "README.md").read_text(), re.M)}

    assert listed == {path.name for path in EXAMPLES.iterdir()} - HELPERS - {"README.md", "__pycache__"}
