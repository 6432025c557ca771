"""Names like one that does not exist, for clients that have mistyped it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from typing import Final

__all__ = ["Suggestions"]

LOOKED_AT: Final = 64  # characters of a name
SUGGESTED: Final = 3
REMEMBERED: Final = 256


class Suggestions:
    """Looking for one takes as long as some thirty calls (0.4 ms), so that nobody can fill the coordinator's time with
    nonsense nothing is suggested beyond `a_second` new names a second.
    """

    def __init__(self, names: Iterable[str], *, a_second: int = 50) -> None:
        self._names = list(names)
        self._a_second = a_second
        self._left = 0
        self._refilled_at = float("-inf")
        self._found: dict[str, list[str]] = {}

    def like(self, name: str) -> list[str]:
        """Those most like `name`, best first; none if none is."""
        name = name[:LOOKED_AT]
        found = self._found.get(name)
        if found is None:
            if not self._may_look():
                return []
            found = difflib.get_close_matches(name, self._names, n=SUGGESTED)
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[name] = found
        return found

    def _may_look(self) -> bool:
        now = time.monotonic()
        if now - self._refilled_at >= 1.0:
            self._refilled_at = now
            self._left = self._a_second
        self._left -= 1
        return self._left >= 0
