"""Where things are: which database a context lives in and what its keys are called.

`index` keeps context N in database N. `prefix` keeps every context in one database under the hash tag
`{N}:`, so that on a cluster a context lives in one slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GLOBAL", "Address", "Isolation", "Keyspace", "Layout"]

Isolation = Literal["index", "prefix"]

Address = int | None
"""A context's id, or GLOBAL."""

GLOBAL: Address = None
"""Where actors and the set of known contexts live; database 0 in the `index` layout."""


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The key names of one context (or of GLOBAL)."""

    prefix: str = ""

    def actor(self, id: int) -> str:
        return f"{self.prefix}actor:{id}"

    def contexts(self) -> str:
        """A set: the ids of every context that was ever written to. Only in GLOBAL."""
        return f"{self.prefix}contexts"

    def context(self, id: int) -> str:
        return f"{self.prefix}context:{id}"

    def runner(self, id: int) -> str:
        return f"{self.prefix}runner:{id}"

    def flow(self, id: int) -> str:
        return f"{self.prefix}flow:{id}"

    def job(self, caller_id: int, id: int) -> str:
        return f"{self.prefix}job:{caller_id}:{id}"

    def message(self, caller_id: int, id: int) -> str:
        return f"{self.prefix}message:{caller_id}:{id}"


_PLAIN = Keyspace()
_GLOBAL_PREFIXED = Keyspace("{global}:")


@dataclass(frozen=True, slots=True)
class Layout:
    """One of the two storage layouts. `database` is the one everything is in when isolation is `prefix`."""

    isolation: Isolation = "index"
    database: int = 0

    def database_of(self, address: Address) -> int:
        if self.isolation == "prefix":
            return self.database
        return 0 if address is None else address

    def keyspace(self, address: Address) -> Keyspace:
        if self.isolation == "index":
            return _PLAIN
        return _GLOBAL_PREFIXED if address is None else Keyspace(f"{{{address}}}:")

    def remember(self, context: int) -> list[tuple[str | bytes | int | float, ...]]:
        """Commands that note `context` as known, run on its own connection and leaving that as it was."""
        add: tuple[str | bytes | int | float, ...] = ("SADD", self.keyspace(GLOBAL).contexts(), context)
        if self.isolation == "prefix" or context == 0:
            return [add]
        return [("SELECT", 0), add, ("SELECT", context)]
