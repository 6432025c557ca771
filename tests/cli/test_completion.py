"""What a shell offers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def offered(*words: str) -> list[str]:
    """To who has typed these words and asks how the last goes on."""
    asked = {"COMP_WORDS": " ".join(("herocoordinator", *words)), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-c", "from coordinator.cli import main; main(prog_name='herocoordinator')"],
        env={**os.environ, **asked, "_HEROCOORDINATOR_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_commands_options_and_choices_are_offered() -> None:
    assert {"serve", "restore", "doctor"} <= {*offered("")}
    assert offered("serve", "--drai") == ["--drain"]
    assert offered("serve", "--log-level", "w") == ["warning"]
