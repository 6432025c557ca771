"""What the documents name is there: commands, options, settings, metrics, files."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest

from coordinator.cli import main
from coordinator.rpc.methods import METHODS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *(path for path in (ROOT / "docs").glob("**/*.md") if not path.read_text().startswith("<!-- Made by")),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
        *(ROOT / "specs").glob("*.md"),
    ]
)
OTHERS = {"--constraint", "--help", "--version"}  # of pip, and of each command


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def options() -> dict[str, frozenset[str]]:
    """By command, as `flow run`, its options."""

    def walk(group: click.Group, path: str) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            below = f"{path} {name}".strip()
            found[below] = frozenset(option for parameter in command.params for option in parameter.opts)
            if isinstance(command, click.Group):
                found |= walk(command, below)
        return found

    return walk(main, "")


def command_lines(text: str) -> list[list[str]]:
    """The words behind `herocoordinator` in each line that calls it."""
    found = []
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            match = re.match(r"(?:\$ )?(?:\.venv/bin/|/opt/herocoordinator/bin/)?herocoordinator (.*)", line)
            if match:
                words = shlex.split(match[1].replace("'…'", "x"), comments=True)
                found.append([word for word in words if word != "&"])
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_the_commands_that_it_shows_are_there(path: Path) -> None:
    wrong = []
    for words in command_lines(path.read_text()):
        if words[0].startswith("-"):
            words = ["serve", *words]  # noqa: PLW2901
        command = words[0]
        if " ".join(words[:2]) in options():
            command = " ".join(words[:2])
        known = options().get(command, frozenset())
        wrong += [" ".join(words)] if command not in options() else []
        wrong += [
            f"{command} {word}" for word in words if word.startswith("--") and word.partition("=")[0] not in known
        ]
    assert wrong == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_the_options_and_methods_that_it_names_are_there(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    every = frozenset().union(*options().values()) | OTHERS

    wrong = [option for option in re.findall(r"`(--[a-z][a-z-]+)", text) if option not in every]
    subjects = {name.partition(".")[0] for name in METHODS}
    wrong += [
        name
        for name, subject in re.findall(r"`(([a-z]+)\.[a-z_]+)`", text)
        if subject in subjects
        and name not in {*METHODS, "runner.job", "runner.cancel", "flow.event", "context.event", "auth.ended"}
        and not name.endswith((".py", ".key", ".lua", ".toml", ".json", ".yaml"))
    ]
    assert wrong == []


def test_the_metrics_that_documents_name_are_there() -> None:
    there = (ROOT / "specs" / "metrics.md").read_text()

    named_there = {
        metric for path in DOCUMENTS for metric in re.findall(r"`(herocoordinator_[a-z_]+)`", path.read_text())
    }
    assert {metric for metric in named_there if f"| `{metric}` |" not in there} == set()
