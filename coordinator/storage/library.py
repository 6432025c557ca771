"""The function library on the server: the parts in `library/`, loaded as one and replaced when ours is newer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from coordinator.storage import fields

__all__ = ["SOURCE", "VERSION", "VERSION_COMMAND", "load_command"]

_PARTS: Final = (  # each may use those before it
    "common",
    "once",
    "reading",
    "records",
    "sharing",
    "runs",
    "steps",
    "flows",
    "attempts",
    "messages",
    "upkeep",
    "drafts",
    "connected",
)

_DECLARED: Final = re.compile(r"^local (function )?(\w+(?:, \w+)*)", re.MULTILINE)  # at the outermost level of a part
_PREAMBLE: Final = "#!lua name=herocoordinator\n"


def _assembled(parts: Sequence[str]) -> str:
    """The parts as one chunk. Each is a block, for a chunk may have 200 local variables at most (LUAI_MAXVARS of Lua 5.1).
    The names that a later part uses are declared in front of the block instead of in it."""
    blocks: list[str] = []
    used_later: set[str] = set()
    for part in reversed(parts):
        declared = [{*names.split(", ")} for _, names in _DECLARED.findall(part)]
        shared = {name for names in declared if names & used_later for name in names}

        def declare(found: re.Match[str], shared: set[str] = shared) -> str:
            function, names = found[1] or "", found[2]
            return function + names if {*names.split(", ")} <= shared else found[0]

        header = f"local {', '.join(sorted(shared))}; do\n" if shared else "do\n"
        blocks.append(f"{header}{_DECLARED.sub(declare, part)}end\n")
        used_later |= {*re.findall(r"\w+", part)}
    return _PREAMBLE + "".join(reversed(blocks))


SOURCE: Final = _assembled(
    [fields.lua(), *((files(__package__) / "library" / f"{part}.lua").read_text() for part in _PARTS)]
)

_version = re.search(r"^local VERSION = '(\d+)'$", SOURCE, re.MULTILINE)
assert _version is not None
VERSION: Final = int(_version[1])

VERSION_COMMAND: Final = ("FCALL_RO", "hc_version", 0)
"""Answers the loaded library's version, or an error if none is loaded."""


def load_command() -> tuple[str, ...]:
    """Loads ours in place of any older one. Atomic on the server; loading the same twice is harmless."""
    return ("FUNCTION", "LOAD", "REPLACE", SOURCE)
