"""What --help prints."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from coordinator.cli import main


def commands(group: click.Group, parent: click.Context) -> Iterator[tuple[str, click.Context]]:
    """Each command below, by its path."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent, max_content_width=100)
        yield context.command_path, context
        if isinstance(command, click.Group):
            yield from commands(command, context)


ALL = dict(commands(main, click.Context(main, info_name="herocoordinator")))


@pytest.mark.parametrize("path", ALL)
def test_it_has_nothing_in_it_that_a_terminal_acts_upon(path: str) -> None:
    """As a mark of click's that stands in the wrong place has, which is a backspace."""
    text = ALL[path].command.get_help(ALL[path])

    assert [line for line in text.splitlines() if not line.isprintable()] == []
