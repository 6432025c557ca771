"""How much is read in one step, when nobody knows how large it is before."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

from coordinator.storage.connection import Command
from coordinator.storage.functions import records
from coordinator.storage.keys import Keyspace

__all__ = ["Pace", "records_of"]

AT_FIRST: Final = 3  # items, when nothing is known of their size
RECORDS_AT_ONCE: Final = 50  # read by one command, during which the store does nothing else
RECORD_BYTES: Final = 512 * 1024  # of them, unless a single one is larger


def records_of(
    keys: Keyspace, names: Sequence[str], fields: Sequence[str] = ()
) -> Generator[list[Command], Any, Sequence[Any]]:
    """Read the first few of the records of these names, as many as are read in one step: at least one of them.

    Returns the values of these fields of each, or all its names and values, none of one that is not there.
    """
    (reply,) = yield [records.read_records(keys, names[:RECORDS_AT_ONCE], RECORD_BYTES, fields)]
    found: Sequence[Any] = reply
    return found


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
