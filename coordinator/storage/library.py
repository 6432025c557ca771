"""The function library on the server: the parts in `library/`, loaded as one.

It is known by its number, which moves when what it keeps in the store or is told does, and by the digest of its
content: so a change of its code reaches a store that has the same number.
"""

from __future__ import annotations

import hashlib
import re
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

_PARTS: Final = (
    "common",
    "records",
    "runs",
    "flows",
    "attempts",
    "messages",
    "upkeep",
    "migrate",
)  # each may use those before it

_content: Final = "\n".join(
    (fields.lua(), *((files(__package__) / "library" / f"{part}.lua").read_text() for part in _PARTS))
)

DIGEST: Final = hashlib.sha256(_content.encode()).hexdigest()[:12]

SOURCE: Final = f"#!lua name=herocoordinator\nlocal DIGEST = '{DIGEST}'\n{_content}"

_version = re.search(r"^local VERSION = '(\d+)'$", SOURCE, re.MULTILINE)
assert _version is not None
VERSION: Final = int(_version[1])

_schema: Final = re.search(r"^local SCHEMA = '(\d+)'$", SOURCE, re.MULTILINE)
assert _schema is not None
SCHEMA: Final = int(_schema[1])
"""The layout of what is stored; see library/migrate.lua."""

IDENTITY: Final = f"{VERSION}:{DIGEST}"
"""As callers of transitions name the library they know."""

VERSION_COMMAND: Final = ("FCALL_RO", "hc_version", 0, "digest")
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
