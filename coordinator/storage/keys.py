"""Where things are: which database a context lives in and what its keys are called.

`index` keeps context N in database N. `prefix` keeps every context in one database under the hash tag
`{N}:`, so that on a cluster a context lives in one slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

__all__ = ["GLOBAL", "Address", "Command", "Isolation", "Keyspace", "Layout", "Transition"]

Isolation = Literal["index", "prefix"]

Address = int | None
"""A context's id, or GLOBAL."""

GLOBAL: Address = None
"""Where actors and the set of known contexts live; database 0 in the `index` layout."""


Command = tuple[str | bytes | int | float, ...] | bytes
"""A command's name and arguments, or one that is packed for the wire already."""


class Transition(tuple[str | bytes | int | float, ...]):
    """The call of a transition of the function library; see library/common.lua."""

    __slots__ = ()

    @classmethod
    def many(cls, transitions: Sequence[Transition]) -> Command:
        """One call of them all, in this order. They are of one context."""
        first = transitions[0]
        command: list[str | bytes | int | float] = ["FCALL", "hc_many", *first[2:_OWN_ARGUMENTS]]
        for transition in transitions:
            command += (transition[1], len(transition) - _OWN_ARGUMENTS)
            command += transition[_OWN_ARGUMENTS:]
        return tuple(command)


_OWN_ARGUMENTS: Final = 6  # where a transition's begin, after the engine, the channel and the coordinator


class Keyspace(NamedTuple):
    """The key names of one context (or of GLOBAL), and who uses them: `coordinator` as transitions take it."""

    prefix: str = ""
    address: Address = None
    coordinator: str = ""

    def actor(self, id: int) -> str:
        return f"{self.prefix}actor:{id}"

    def contexts(self) -> str:
        """A sorted set: the ids of every context that was ever written to, each its own score. Only in GLOBAL."""
        return f"{self.prefix}contexts"

    def coordinators(self) -> str:
        """A sorted set: coordinators, by when they were last heard of. Only in GLOBAL."""
        return f"{self.prefix}coordinators"

    def engaged(self, coordinator: str) -> str:
        """A set: the contexts a coordinator has written to and whose timers it sees to. Only in GLOBAL."""
        return f"{self.prefix}engaged:{coordinator}"

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

    def logs(self, caller_id: int, id: int) -> str:
        """A list: the lines runners logged for a message."""
        return f"{self.prefix}logs:{caller_id}:{id}"

    def events(self, flow_id: int) -> str:
        """A stream: what happened to a flow."""
        return f"{self.prefix}events:{flow_id}"

    def index_of(self, kind: str) -> str:
        """A sorted set: the ids of all records of this kind, padded to ten digits."""
        return f"{self.prefix}index:{kind}"

    def prerequisites(self) -> str:
        """A hash: names of satisfied prerequisites → when (ms)."""
        return f"{self.prefix}prerequisites"

    def awaited(self) -> str:
        """A set: names of prerequisites that jobs wait for."""
        return f"{self.prefix}awaited"

    def waiting(self, name: str) -> str:
        """A set: the jobs that wait for a prerequisite."""
        return f"{self.prefix}waiting:{name}"

    @property
    def channel(self) -> str:
        """Where coordinators tell each other what happened in the context."""
        return f"herocoordinator:{self.address}"

    def transition(self, function: str, *arguments: str | bytes | int | float) -> Transition:
        """The call of a transition of the function library."""
        return Transition(("FCALL", function, 1, f"{self.prefix}engine", self.channel, self.coordinator, *arguments))


@dataclass(frozen=True, slots=True)
class Layout:
    """One of the two storage layouts, as one coordinator uses it.

    Attributes:
        database: the one everything is in when isolation is `prefix`.
        coordinator: its name, and the milliseconds it keeps an ended flow's events and ended runs (0: for ever).
    """

    isolation: Isolation = "index"
    database: int = 0
    coordinator: str = "coordinator 3600000 0"

    @property
    def name(self) -> str:
        """The coordinator's name."""
        return self.coordinator.partition(" ")[0]

    def database_of(self, address: Address) -> int:
        if self.isolation == "prefix":
            return self.database
        return 0 if address is None else address

    def keyspace(self, address: Address) -> Keyspace:
        if self.isolation == "index":
            return Keyspace("", address, self.coordinator)
        return Keyspace("{global}:" if address is None else f"{{{address}}}:", address, self.coordinator)

    def remember(self, context: int) -> list[Command]:
        """Commands that note `context` as known and seen to by us. They leave its connection as it was."""
        keys = self.keyspace(GLOBAL)
        note: list[Command] = [
            ("ZADD", keys.contexts(), context, context),
            ("SADD", keys.engaged(self.name), context),
        ]
        if self.isolation == "prefix" or context == 0:
            return note
        return [("SELECT", 0), *note, ("SELECT", context)]
