"""Where things are: which database a context lives in and what its keys are called.

`index` keeps context N in database N. `prefix` keeps every context in one database under the hash tag
`{N}:`, so that on a cluster a context lives in one slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Final, Literal

from coordinator.storage.library import IDENTITY

__all__ = [
    "GLOBAL",
    "Command",
    "ContextKey",
    "Isolation",
    "Keyspace",
    "Layout",
    "Transition",
    "context_name",
    "flow_name",
    "index_entry",
    "job_name",
    "message_name",
]

Isolation = Literal["index", "prefix"]

ContextKey = int | None
"""A context's id, or GLOBAL."""

MAX_RESULT: Final = 1024 * 1024

KEYSPACES: Final = 1024  # remembered

GLOBAL: ContextKey = None
"""Where actors and the set of known contexts live; database 0 in the `index` layout."""


# Records as functions of the library name them: by their key without the prefix.


def context_name(id: int) -> str:
    return f"context:{id}"


def flow_name(id: int) -> str:
    return f"flow:{id}"


def job_name(caller_id: int, id: int) -> str:
    return f"job:{caller_id}:{id}"


def message_name(caller_id: int, id: int) -> str:
    return f"message:{caller_id}:{id}"


def index_entry(*ids: int) -> str:
    """A record's entry in the index of its kind: as texts these have the order of the ids. See also records.lua."""
    return ("%010d", "%010d:%010d")[len(ids) - 1] % ids


Command = tuple[str | bytes | int | float, ...] | bytes
"""A command's name and arguments, or one that is packed for the wire already."""


class Transition(tuple[str | bytes | int | float, ...]):
    """The call of a transition of the function library; see library/common.lua."""

    __slots__ = ()

    @classmethod
    def many(cls, transitions: Sequence[Transition], function: str = "hc_many") -> Command:
        """One call of them all, in this order. They are of one context. `function`: see library/runs.lua."""
        first = transitions[0]
        own = 5 + int(first[2])  # where its own arguments begin, after so many keys, the channel and the coordinator
        command: list[str | bytes | int | float] = ["FCALL", function, *first[2:own]]
        for (name, size), some in groupby(transitions, key=lambda transition: (transition[1], len(transition) - own)):
            group = list(some)
            command += (name, f"{size} {len(group)}")
            for transition in group:
                command += transition[own:]
        return tuple(command)

    @staticmethod
    def caller_at(command: tuple[str | bytes | int | float, ...]) -> int:
        """Where it says which coordinator calls: after so many keys, and the channel."""
        return 4 + int(command[2])

    @staticmethod
    def stamped(command: Command, stamp: str) -> Command:
        """The call of a transition, or of several, as one that is applied once: `stamp` says whose it is and which."""
        assert isinstance(command, tuple)
        coordinator = Transition.caller_at(command)
        return (*command[:coordinator], f"{command[coordinator]!s} {stamp}", *command[coordinator + 1 :])


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The key names of one context (or of GLOBAL), and who uses them: `coordinator` is Layout.caller.

    `absent`, on a cluster, is a key that never exists. Each function call names it beside its own, which makes the
    cluster refuse the call (ASK, TRYAGAIN) while it moves the slot key by key: it would find only some of the keys.
    `max_result` is Layout's.
    """

    prefix: str = ""
    context_key: ContextKey = None
    coordinator: str = ""
    absent: str = ""
    max_result: int = MAX_RESULT
    _engine: tuple[str | int, ...] = field(init=False, repr=False)  # what a transition's own arguments follow

    def __post_init__(self) -> None:
        engine = f"{self.prefix}engine"
        keys = (2, engine, self.absent) if self.absent else (1, engine)
        object.__setattr__(self, "_engine", (*keys, self.channel, self.coordinator))

    @property
    def engine(self) -> str:
        """A hash: what the engine keeps of the context as a whole; KEYS 1 of each transition."""
        return f"{self.prefix}engine"

    def actor(self, id: int) -> str:
        return f"{self.prefix}actor:{id}"

    def contexts(self) -> str:
        """A sorted set: the ids of every context that was ever written to, each its own score. Only in GLOBAL."""
        return f"{self.prefix}contexts"

    def coordinators(self) -> str:
        """A sorted set: coordinators, by when they were last heard of. Only in GLOBAL."""
        return f"{self.prefix}coordinators"

    def owned_contexts(self, coordinator: str) -> str:
        """A set: the contexts a coordinator has written to and whose timers it handles. Only in GLOBAL."""
        return f"{self.prefix}engaged:{coordinator}"

    def sizes(self) -> str:
        """A sorted set: `record`, by the bytes of the largest record that was seen here, if that is a large one."""
        return f"{self.prefix}sizes"

    def token(self, id: str) -> str:
        """A hash: what is kept of a token. Only in GLOBAL, as are the next three."""
        return f"{self.prefix}token:{id}"

    def tokens(self, principal: str) -> str:
        """A sorted set: the ids of a principal's tokens, by when they expire (s)."""
        return f"{self.prefix}tokens:{principal}"

    def auth(self) -> str:
        """A hash: the name that signatures have for the coordinators of this store, and the secret they share."""
        return f"{self.prefix}auth"

    def used(self, nonce: str) -> str:
        """There while a nonce that was used would still be good."""
        return f"{self.prefix}used:{nonce}"

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

    def plan(self, run: str) -> str:
        """A list: the jobs of a run that has many, by its name."""
        return f"{self.prefix}plan:{run}"

    def events(self, flow_id: int) -> str:
        """A stream: what happened to a flow."""
        return f"{self.prefix}events:{flow_id}"

    def index_of(self, kind: str) -> str:
        """A sorted set: the ids of all records of this kind, padded to ten digits."""
        return f"{self.prefix}index:{kind}"

    @property
    def channel(self) -> str:
        """Where coordinators tell each other what happened in the context."""
        return f"herocoordinator:{self.context_key}"

    def call(self, function: str, key: str, *arguments: str | bytes | int | float) -> Command:
        """The call of a function of the library on `key`, and on what it finds beside it."""
        if self.absent:
            return ("FCALL", function, 2, key, self.absent, *arguments)
        return ("FCALL", function, 1, key, *arguments)

    def started_by(self, origin: str) -> Keyspace:
        """The same for the operation that starts a run because of this: a trace's `traceparent` or nothing, a comma,
        and a request id or nothing. Neither has a space in it."""
        return replace(self, coordinator=f"{self.coordinator} @{origin}")

    def transition(self, function: str, *arguments: str | bytes | int | float) -> Transition:
        """The call of a transition of the function library."""
        return Transition(("FCALL", function, *self._engine, *arguments))


@dataclass(frozen=True)
class Layout:
    """One of the two storage layouts, as one coordinator uses it.

    Attributes:
        database: the one everything is in when isolation is `prefix`.
        coordinator: its name, and the milliseconds it keeps an ended flow's events and ended runs (0: for ever).
        is_spread: contexts are on several servers, GLOBAL on one of them; with `prefix` only.
        lost_retries: how many lost attempts are followed by another, of a job that does not say so.
        max_result: bytes of a result, as JSON.
        counts_bytes: what records take is counted in each context, so that it can be limited.
    """

    isolation: Isolation = "index"
    database: int = 0
    coordinator: str = "coordinator 3600000 0"
    is_spread: bool = False
    lost_retries: int = 3
    max_result: int = MAX_RESULT
    counts_bytes: bool = False

    @property
    def name(self) -> str:
        """The coordinator's name."""
        return self.coordinator.partition(" ")[0]

    @cached_property
    def caller(self) -> str:
        """The coordinator as transitions take it, with `counts_bytes`, `lost_retries` and the library it knows."""
        name, _, keeps = self.coordinator.partition(" ")
        return f"{name} {int(self.counts_bytes)} {keeps} {self.lost_retries} {IDENTITY}"

    def database_of(self, context_key: ContextKey) -> int:
        if self.isolation == "prefix":
            return self.database
        return 0 if context_key is None else context_key

    @cached_property
    def keyspace(self) -> Callable[[ContextKey], Keyspace]:
        """The names of a context's keys. Those used last are remembered: each call of the API asks for them."""
        return lru_cache(KEYSPACES)(self._keyspace)

    def _keyspace(self, context_key: ContextKey) -> Keyspace:
        if self.isolation == "index":
            return Keyspace("", context_key, self.caller, max_result=self.max_result)
        prefix = "{global}:" if context_key is None else f"{{{context_key}}}:"
        absent = f"{prefix}absent" if self.is_spread else ""
        return Keyspace(prefix, context_key, self.caller, absent, max_result=self.max_result)

    def in_global(self, command: Command, context: int) -> list[Command]:
        """A command for GLOBAL as a context's own connection sends it, where that can reach GLOBAL. Its database is
        selected afterwards."""
        if self.isolation == "prefix" or context == 0:
            return [command]
        return [("SELECT", 0), command, ("SELECT", context)]

    def from_global(self, command: Command, context: int) -> list[Command]:
        """A command for a context as GLOBAL's own connection sends it, where that can reach the context: not if
        `is_spread`."""
        if self.isolation == "prefix" or context == 0:
            return [command]
        return [("SELECT", context), command, ("SELECT", 0)]
