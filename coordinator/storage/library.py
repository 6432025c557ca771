"""The function library on the server: `library.lua`, loaded once and replaced when ours is newer."""

from __future__ import annotations

import re
from importlib.resources import files

__all__ = ["SOURCE", "VERSION", "VERSION_COMMAND", "load_command"]

SOURCE: str = (files(__package__) / "library.lua").read_text()

_version = re.search(r"^local VERSION = (\d+)$", SOURCE, re.MULTILINE)
assert _version is not None
VERSION: int = int(_version[1])

VERSION_COMMAND = ("FCALL_RO", "hc_version", 0)
"""Answers the loaded library's version, or an error if none is loaded."""


def load_command() -> tuple[str, ...]:
    """Loads ours in place of any older one. Atomic on the server; loading the same twice is harmless."""
    return ("FUNCTION", "LOAD", "REPLACE", SOURCE)
