"""How the parts of a line are written: in ASCII, of bounded length, as a terminal may show them, and without tokens."""

from __future__ import annotations

import re
from json import dumps
from typing import Final

from coordinator.actors.request import Outcome
from coordinator.errors import StorageError

__all__ = ["masked", "naming", "shown_id", "shown_method", "shown_outcome"]

MAX_ID: Final = 64  # characters of a call's id
_TOKEN: Final = re.compile(r"hc_[\w-]+")


def masked(text: str) -> str:
    """The text without the tokens that it holds."""
    return _TOKEN.sub("hc_***", text)


def naming(method: str) -> str:
    """The part of a line that names a method, or what stands in place of one."""
    return f'","method":"{method}","context":'


def shown_method(name: str | None) -> str:
    """That part for a name that a client has made up."""
    return f'","method":{"null" if name is None else _shown(name)},"context":'


def shown_outcome(outcome: Outcome) -> str:
    return '"ok"' if type(outcome) is bytes else str(getattr(outcome, "code", StorageError.code))


def shown_id(id: bytes | None) -> str:
    """A call's id, as a text."""
    if id is None:
        return "null"
    if id.isdigit() and len(id) <= MAX_ID:
        return f'"{id.decode()}"'
    return _shown(id[: 16 * MAX_ID].decode(errors="ignore").removeprefix('"').removesuffix('"'))


def _shown(text: str) -> str:
    return dumps(masked(text[: 16 * MAX_ID])[:MAX_ID])
