"""What a shell offers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import BashComplete

from coordinator.cli import main
from tests.support.commands import herocoordinator


def offered(*words: str) -> list[str]:
    """To who has typed these words and asks how the last goes on."""
    shell = BashComplete(main, {}, "herocoordinator", "_HEROCOORDINATOR_COMPLETE")
    return [item.value for item in shell.get_completions([*words[:-1]], words[-1])]


def offered_by_the_program(*words: str) -> list[str]:
    """The same, as a shell asks for it."""
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
    assert {"serve", "restore", "doctor"} <= {*offered_by_the_program("")} == {*offered("")}
    assert offered("serve", "--drai") == ["--drain"]
    assert offered("serve", "--log-level", "w") == ["warning"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_what_the_shell_needs(shell: str) -> None:
    done = herocoordinator("completion", shell)

    assert done.returncode == 0
    assert f"_HEROCOORDINATOR_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.slow
def test_bash_completes_with_what_the_command_prints() -> None:
    script = 'eval "$(python -m coordinator completion bash)"; complete -p herocoordinator'
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=True
    )
    assert "-F _herocoordinator_completion" in done.stdout
