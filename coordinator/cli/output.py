"""How commands print: whatever a line has in it, the terminal shows it and does not act upon it."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import shutil
import sys
from typing import Any, Final

import click

from coordinator.printable import escaped_in_json, visible, visible_json
from coordinator.redaction import redact

__all__ = [
    "escape_what_cannot_be_written",
    "open_streams",
    "output_fault",
    "plural",
    "say",
    "say_in_place",
    "say_json",
    "say_raw",
]

_ESCAPING: Final = "herocoordinator.escaping"


def escape_what_cannot_be_written() -> None:
    """From now on a character that the terminal's encoding does not have, such as an arrow in ISO-8859-1, is written as
    JSON escapes it, so that JSON stays JSON; Python would end the command."""
    codecs.register_error(_ESCAPING, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors=_ESCAPING)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(escaped_in_json, error.object[error.start : error.end])), error.end


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


def open_streams() -> None:
    """Who is started with standard streams closed (`2>&-`, some supervisors) has /dev/null in their place: the next
    file or socket that is opened would get their number, and what writes to them would write into that."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - for as long as we live
            if stream.fileno() == number:
                os.set_inheritable(number, True)
            setattr(sys, name, stream)


def output_fault(error: BaseException) -> str | None:
    """What to say if it means that what is printed has nowhere to go. (A pipe whose reader has gone is no fault:
    nothing is said of it.)"""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return f"the output cannot be written: {os.strerror(error.errno)}"
    return None
