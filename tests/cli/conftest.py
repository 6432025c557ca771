"""Contexts with a runner, and commands on them."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import herocoordinator
from tests.support.runner import runner
from tests.support.server import CoordinatorProcess

_CONTEXTS = range(70_000, 70_040)
_unused = itertools.count(_CONTEXTS.start)


class Flows:
    """`herocoordinator flow` in a context that no other test uses.

    Attributes:
        at: the options that lead there.
    """

    def __init__(self, url: str, context: int, directory: Path) -> None:
        self.context = context
        self.directory = directory
        self.at = ("--url", url, "--context", str(context))

    def __call__(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return herocoordinator("flow", command, *self.at, *arguments)

    def file(self, text: str, name: str = "flow.toml") -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def submitted(self, text: str) -> str:
        """The id of a flow that was submitted and is not waited for."""
        done = self("run", "--no-follow", self.file(text))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="session")
def _runner(server: CoordinatorProcess) -> Iterator[None]:
    with runner(server.ws, *_CONTEXTS):
        yield


@pytest.fixture
def flows(server: CoordinatorProcess, _runner: None, tmp_path: Path) -> Flows:
    context = next(_unused)
    assert context in _CONTEXTS
    return Flows(server.ws, context, tmp_path)
