"""Ctrl-C, and the end of the input, where a command is not yet at work."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from coordinator.cli import main
from tests.support.commands import herocoordinator

DELETE = ("context", "delete", "99", "--url", "ws://127.0.0.1:1")
QUESTION = "Delete context 99 with all that is in it? [y/N]: "


def test_ctrl_c_while_a_command_is_imported_is_no_failure_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)

    ended = CliRunner().invoke(main, ["flow", "list"])

    assert (ended.exit_code, ended.output) == (130, "herocoordinator: interrupted\n")


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
