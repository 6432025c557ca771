"""`herocoordinator` as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from tempfile import TemporaryFile

from tests.support.forkserver import ForkedProcess, would_be_alike

__all__ = ["herocoordinator", "herocoordinator_started", "read_until"]

RUN_TIMEOUT = 120.0


def herocoordinator(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    more = {"COLUMNS": "200", **(env or {})}
    if would_be_alike(more):
        return _forked(*arguments, env=more)
    return subprocess.run(
        [sys.executable, "-m", "coordinator", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **more},
        timeout=RUN_TIMEOUT,
        check=False,
    )


def _forked(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        process = ForkedProcess(*arguments, env=env, stdout=stdout, stderr=stderr)
        try:
            status = process.wait(RUN_TIMEOUT)
        finally:
            process.kill()
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(process.args, status, stdout.read(), stderr.read())


def herocoordinator_started(*arguments: str) -> subprocess.Popen[str]:
    """Start it, with pipes to read from."""
    return subprocess.Popen(
        [sys.executable, "-m", "coordinator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read its output up to a line that has this text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}")
