"""What makes the store apply each write once: see library/once.lua.

Every call of transitions has a number, and every connection is a new epoch. After a connection is lost, the next one
begins its epoch first: from then on the store refuses what the lost one may still bring, and says which of our calls it
has applied and what it has replied to them. Only the others are sent again.
"""

from __future__ import annotations

from typing import Final

import trio

from coordinator.actors.request import Request
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.functions import once
from coordinator.storage.keys import ContextKey, Transition

__all__ = ["Doubts", "Place", "Writer", "applied"]

RENEW_EVERY: Final = 6 * 3600.0  # seconds; WRITER_TTL in once.lua is four times that

CONNECTIONS: Final = 8  # given up, of which we remember that the store has to close them

Place = tuple[Request, int]
"""A request, and which of its commands."""


class Doubts:
    """What was sent on connections that were given up. Outlives the supervisor, as the mailbox does.

    Attributes:
        calls: by number, those that the store may have applied, or may yet apply, and whose commands each stands for.
        connections: id and tag of those the store may not have closed yet.
    """

    def __init__(self) -> None:
        self.calls: dict[int, list[Place]] = {}
        self.connections: list[tuple[int, str]] = []

    def add(self, requests: list[Request], counts: list[int], numbers: list[int], received: int) -> None:
        """These were sent as calls of which so many were answered. Before their replies are handed out."""
        if len(numbers) <= received:
            return
        places = [
            (request, at)
            for request in requests
            for at in range(len(request.commands or ()))
            if request.known is None or at not in request.known
        ]
        end = 0
        for call, (count, number) in enumerate(zip(counts, numbers, strict=True)):
            begin, end = end, end + count
            if call >= received and number:
                self.calls[number] = places[begin:end]

    def gave_up(self, connection: Connection) -> None:
        """This connection is closed on our side."""
        if connection.id:
            self.connections.append((connection.id, connection.tag))
            del self.connections[:-CONNECTIONS]

    def __bool__(self) -> bool:
        return bool(self.calls)


class Writer:
    """One context's writer, for as long as it has a supervisor.

    Attributes:
        keys: the context's.
    """

    def __init__(self, store: Store, context: ContextKey) -> None:
        self._store = store
        self.keys = store.layout.keyspace(context)
        self._context = context
        self._epoch = 0
        self._stamp = ""
        self._unanswered = 0
        self._renew_at = 0.0

    @property
    def _name(self) -> str:
        # GLOBAL and context 0 may have the same keys.
        return f"{self._store.name}:{'global' if self._context is None else self._context}"

    def connected(self) -> None:
        """What is sent from now on, is sent on a new connection."""
        self._epoch = self._store.next_number()
        self._stamp = f"{self._name}:{self._epoch}"
        self._unanswered = 0
        self._renew_at = 0.0

    @property
    def is_fenced(self) -> bool:
        """Whether the store knows the epoch, and will for long enough."""
        return trio.current_time() < self._renew_at

    def fence(self, doubts: Doubts | None = None) -> Command:
        """Makes the store know the epoch and refuse earlier ones; asks which of the calls in doubt it has applied."""
        return once.fence(self.keys, self._name, self._epoch, None if not doubts else min(doubts.calls) - 1)

    def fenced(self) -> None:
        """The store has said that it does."""
        self._renew_at = trio.current_time() + RENEW_EVERY

    def forgotten(self) -> None:
        """It was told to forget us."""
        self._renew_at = 0.0

    def release(self) -> Command | None:
        """Makes the store forget us. None: it does not know us."""
        return once.release(self.keys, self._name, self._epoch) if self._renew_at else None

    @staticmethod
    def is_needed(commands: list[Command]) -> bool:
        """Whether some of these change something, once."""
        return Transition in map(type, commands)

    def number(self, joined: list[Command], counts: list[int], commands: list[Command]) -> list[int]:
        """Number the calls of transitions in `joined`, which stand for so many of `commands` each. Returns the numbers,
        0 for a command that is no such call."""
        numbers: list[int] = []
        at = 0
        for call, count in enumerate(counts):
            number = 0
            if type(commands[at]) is Transition:
                number = self._store.next_number()
                self._unanswered += 1
                joined[call] = Transition.stamped(joined[call], f"{self._stamp} {number} {self._unanswered}")
            numbers.append(number)
            at += count
        return numbers

    def answered(self, numbers: list[int]) -> None:
        """The calls with these numbers were answered."""
        self._unanswered -= sum(map(bool, numbers))


def applied(doubts: Doubts, reply: Reply) -> list[tuple[list[Place], Reply]]:
    """The calls in doubt that were applied, with what they were replied to."""
    kept = once.read_fence(reply)
    return [(places, kept[number]) for number, places in doubts.calls.items() if number in kept]
