"""Ctrl-C while a command is starting, and when it has ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = """
import atexit, os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background has it ignored


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


class Importing:
    def __init__(self, module):
        self.module = module

    def find_spec(self, name, path, target=None):
        if name == self.module:
            self.module = ""
            interrupt()


{when}
from coordinator.__main__ import main

main()
"""


def run(when: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN.replace("{when}", when), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("module", ["click", "coordinator.logs", "coordinator.cli.flow", "coordinator.client"])
def test_an_import_is_interrupted_without_a_traceback(module: str) -> None:
    done = run(f"sys.meta_path.insert(0, Importing({module!r}))", "flow", "list")

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "herocoordinator: interrupted\n")


def test_a_command_that_has_ended_is_interrupted_without_a_traceback() -> None:
    done = run("atexit.register(interrupt)", "version")

    assert done.stdout.startswith("herocoordinator, version ")
    assert done.stderr == ""
