"""Ctrl-C while a command is starting, asks, or has ended; and the end of the input."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.commands import herocoordinator

DELETE = ("context", "delete", "99", "--url", "ws://127.0.0.1:1")
QUESTION = "Delete context 99 with all that is in it? [y/N]: "
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


def test_signals_that_whoever_starts_us_has_blocked_are_heeded() -> None:
    block = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    block = f"import os, signal, sys; {block}; os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-m", "coordinator", "runner", "--context", "1", "--url", "ws://127.0.0.1:1"]
    process = subprocess.Popen([sys.executable, "-c", block, *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        process.stderr.readline()  # that there is no connection
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stderr.close()


def test_ctrl_c_at_a_question_is_no_failure_of_the_command() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator", *DELETE], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        assert process.stderr.read(len(QUESTION)) == QUESTION
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()

    assert (process.returncode, complaint) == (130, "\nherocoordinator: interrupted\n")


def test_a_question_that_nobody_answers_says_how_to_do_without_it() -> None:
    ended = herocoordinator(*DELETE)

    assert ended.returncode == 1
    assert ended.stderr == (
        f"{QUESTION}\nherocoordinator: nobody has answered, so nothing was deleted; --yes deletes without asking\n"
    )
