r"""Halves of surrogate pairs in JSON: `"\ud83d"`, which is what JavaScript makes of an emoji that it cuts in two.

The grammar of JSON allows them, RFC 8259 leaves what they mean to each parser, and ours refuses the whole message. So
that a half spoils nothing but its own call, each is replaced by a placeholder: text that occurs nowhere else. The same
parser, with the same bounds, then reads the message, and a call that holds a placeholder can be told from the others.
"""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

from pydantic_core import to_json

__all__ = ["Halves", "replace_halves"]

MAX_HALVES: Final = 10_000  # in one message; replacing one takes some 2 µs
MAX_NODES: Final = 2000  # of one message that are looked at to name the place of a half

# Escaped backslashes are masked first, so that what is found here does begin an escape. A high half followed by a low
# one is a pair, and every other half is alone.
_ALONE: Final = re.compile(
    rb"\\u([dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2})"
)
_BACKSLASH: Final = rb"\\"
_MASK: Final = b"\0\0"  # no JSON holds a NUL
_NO_MORE: Final = (None, None)


def replace_halves(data: bytes) -> tuple[bytes, Halves] | None:
    """The message with a placeholder for each half of a surrogate pair, and what tells them.

    None if there is no half, or more than MAX_HALVES. Never raises.
    """
    if _MASK[:1] in data:
        return None
    masked = data.replace(_BACKSLASH, _MASK)
    if _ALONE.search(masked) is None:  # in most there is none, and a template costs more than to look
        return None
    mark = secrets.token_urlsafe(9).encode()  # 72 random bits: a message cannot hold it by chance or on purpose
    replaced, count = _ALONE.subn(mark + rb"\1", masked, MAX_HALVES + 1)
    return (replaced.replace(_MASK, _BACKSLASH), Halves(mark)) if 0 < count <= MAX_HALVES else None


class Halves:
    """Tells the placeholders in what was parsed of one message."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._placeholder = re.compile(re.escape(mark) + rb"([0-9a-fA-F]{4})")
        self._nodes = MAX_NODES

    def are_in(self, value: Any) -> bool:
        """Whether there is a half anywhere in a JSON value."""
        return self._mark in to_json(value)

    def restored(self, text: bytes) -> bytes:
        """JSON text with the halves, escaped, where the placeholders are."""
        return self._placeholder.sub(rb"\\u\1", text)

    def place_in(self, value: Any) -> list[str | int]:
        """The keys that lead to the first half in a JSON value; none if that is not among its message's first nodes."""
        mark = self._mark.decode()
        path: list[str | int] = []
        pending = [iter([(0, value)])]  # of each container on the way down, what has not been looked at
        while pending and self._nodes > 0:
            self._nodes -= 1
            key, node = next(pending[-1], _NO_MORE)
            if key is None:
                pending.pop()
                continue
            del path[len(pending) - 1 :]
            path.append(key)
            if isinstance(key, str) and mark in key:
                return [*path[1:-1], self._shown(key)]
            if isinstance(node, str) and mark in node:
                return path[1:]
            if isinstance(node, dict):
                pending.append(iter(node.items()))
            elif isinstance(node, list):
                pending.append(iter(enumerate(node)))
        return []

    def _shown(self, key: str) -> str:
        """A key with the usual sign for what is no character in place of the halves: a reply's text has no halves."""
        return self._placeholder.sub("\ufffd".encode(), key.encode()).decode()
