"""How commands print: whatever a line has in it, the terminal shows it and does not act upon it."""

from __future__ import annotations

import json
import shutil
from typing import Any

import click

from coordinator.printable import visible, visible_json
from coordinator.redaction import redact

__all__ = ["plural", "say", "say_in_place", "say_json", "say_raw"]


def plural(count: int, noun: str) -> str:
    """The noun for so many."""
    return noun if count == 1 else f"{noun}s"


def say(line: str = "", *, err: bool = False) -> None:
    """Print a line, on standard error if so wanted. It stays one, also with a line's end in it."""
    click.echo(visible(redact(line)), err=err)


def say_in_place(line: str) -> None:
    """Show a line on a terminal in the place of the one that this has shown before; an empty one clears it."""
    width = shutil.get_terminal_size().columns - 1
    click.echo("\r" + visible(redact(line))[:width].ljust(width) + ("" if line else "\r"), nl=False)


def say_raw(line: str) -> None:
    """Print a line just as it is, for somebody who asks for that."""
    click.echo(line, color=True)  # without it click leaves colours out where there is no terminal


def say_json(value: Any) -> None:
    """Print a value as JSON that people can read and programs too."""
    click.echo(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))
