"""How much is read in one step, when nobody knows how large it is before."""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

AT_FIRST: Final = 3  # items, when nothing is known of their size


class Pace:
    """Chooses how many items the next step reads, so that they have about `step_bytes`.

    At first it is a few; then, by the size of those just read, up to twice as many each time.

    Args:
        most: items of a step.
        at_first: items of the first one.

    Attributes:
        count: items of the next step, at least one.
    """

    def __init__(self, most: int, step_bytes: int, at_first: int = AT_FIRST) -> None:
        self._most = most
        self._step_bytes = step_bytes
        self.count = min(at_first, most)

    def read(self, items: int, size: int) -> None:
        """So many items were read, of so many bytes in all."""
        if items:
            self.count = max(1, min(self._most, 2 * self.count, self._step_bytes * items // max(size, 1)))
