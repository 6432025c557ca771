"""The one way in which commands print: whatever a line has in it, the terminal shows it and does not act upon it."""

from __future__ import annotations

import json
from typing import Any

import click

from coordinator.printable import visible, visible_json

__all__ = ["say", "say_json"]


def say(line: str = "", *, err: bool = False) -> None:
    """Print a line, on standard error if so wanted. It stays one, also with a line's end in it."""
    click.echo(visible(line), err=err)


def say_json(value: Any) -> None:
    """Print a value as JSON that people can read and programs too."""
    click.echo(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))
