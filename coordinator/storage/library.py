"""The function library on the server: the parts in `library/`, loaded as one.

It is known by its number, which moves when what it keeps in the store or is told does, and by the digest of its
content: so a change of its code reaches a store that has the same number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple

from coordinator.storage import fields

__all__ = [
    "DIGEST",
    "IDENTITY",
    "OURS",
    "SCHEMA",
    "SOURCE",
    "VERSION",
    "VERSION_COMMAND",
    "Identity",
    "load_command",
    "read_version",
]

_PARTS: Final = (  # each may use those before it
    "common",
    "once",
    "reading",
    "records",
    "sharing",
    "prerequisites",
    "feed",
    "events",
    "runs",
    "steps",
    "flows",
    "following",
    "attempts",
    "messages",
    "upkeep",
    "drafts",
    "control",
    "access",
    "views",
    "migrate",
    "transfer",
)

_DECLARED: Final = re.compile(r"^local (function )?(\w+(?:, \w+)*)", re.MULTILINE)  # at the outermost level of a part

_NO_NAMES: Final = re.compile(r"'[^'\n]*'|--[^\n]*|(?<!\.)\.\w+")  # texts, comments, members of tables


def _assembled(parts: Sequence[str]) -> str:
    """The parts as one chunk. Each is a block, for a chunk may have 200 local variables at most (LUAI_MAXVARS of Lua
    5.1). The names that a later part uses are declared in front of the block instead of in it."""
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
        used_later |= {*re.findall(r"\w+", _NO_NAMES.sub("", part))}
    return "".join(reversed(blocks))


def _read(part: str) -> str:
    return (files(__package__) / "library" / f"{part}.lua").read_text(encoding="utf-8")


_content: Final = f"{_read('given')}(function()\n{_assembled([fields.lua(), *map(_read, _PARTS)])}end)()\n"

DIGEST: Final = hashlib.sha256(_content.encode()).hexdigest()[:12]

SOURCE: Final = f"#!lua name=herocoordinator\nlocal DIGEST = '{DIGEST}'\n{_content}"

_version = re.search(r"^(?:local )?VERSION = '(\d+)'$", SOURCE, re.MULTILINE)
assert _version is not None
VERSION: Final = int(_version[1])

_schema: Final = re.search(r"^local SCHEMA = '(\d+)'$", SOURCE, re.MULTILINE)
assert _schema is not None
SCHEMA: Final = int(_schema[1])
"""The layout of what is stored; see library/migrate.lua."""

IDENTITY: Final = f"{VERSION}:{DIGEST}"
"""As callers of transitions name the library they know."""

VERSION_COMMAND: Final = ("FCALL", "hc_version", 0, "digest")
"""Answers what `read_version` reads, or an error if no library is loaded."""


class Identity(NamedTuple):
    """A library's number and digest; older ones have no digest."""

    version: int
    digest: str

    def __str__(self) -> str:
        return f"{self.version} ({self.digest})" if self.digest else str(self.version)


OURS: Final = Identity(VERSION, DIGEST)


def read_version(reply: Any) -> Identity:
    """What a library has answered to VERSION_COMMAND."""
    if isinstance(reply, int):
        return Identity(reply, "")
    version, digest = reply
    return Identity(version, digest.decode())


def load_command() -> tuple[str, ...]:
    """Loads ours in place of any other one. Atomic on the server; loading the same twice is harmless."""
    return ("FUNCTION", "LOAD", "REPLACE", SOURCE)
