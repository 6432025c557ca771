"""The function library on the server: the parts in `library/`, loaded as one and replaced when ours is newer."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

from coordinator.storage import fields

__all__ = ["SOURCE", "VERSION", "VERSION_COMMAND", "load_command"]

_PARTS: Final = (
    "common",
    "records",
    "sharing",
    "prerequisites",
    "runs",
    "flows",
    "attempts",
    "messages",
    "upkeep",
)  # each may use those before it

SOURCE: Final = "#!lua name=herocoordinator\n" + "\n".join(
    (fields.lua(), *((files(__package__) / "library" / f"{part}.lua").read_text() for part in _PARTS))
)

_version = re.search(r"^local VERSION = '(\d+)'$", SOURCE, re.MULTILINE)
assert _version is not None
VERSION: Final = int(_version[1])

VERSION_COMMAND: Final = ("FCALL_RO", "hc_version", 0)
"""Answers the loaded library's version, or an error if none is loaded."""


def load_command() -> tuple[str, ...]:
    """Loads ours in place of any older one. Atomic on the server; loading the same twice is harmless."""
    return ("FUNCTION", "LOAD", "REPLACE", SOURCE)
