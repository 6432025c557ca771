"""Who has many connections: they are limited, and nobody keeps all others out by holding them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Protocol

import trio

from coordinator.errors import Overloaded
from coordinator.rpc.access.limits import whose

__all__ = ["FEW", "Crowd", "check_room", "is_scarce"]

FEW: Final = 16  # connections of which anybody may have as many wherever there is room
RESERVED: Final = 8  # the last eighth of the places is for those who have no more
SETTING: Final = "max_connections"
LOOK_EVERY: Final = 0.1  # seconds between two looks at all connections, of which there may be thousands
WORTH_A_LOOK: Final = 8  # of a look after which so many have ended the next one may follow at once


class Holder(Protocol):
    """A connection that has a place."""

    @property
    def identity(self) -> Hashable:
        """See Access.identity."""

    @property
    def address(self) -> str:
        """Where the client is."""

    @property
    def idle_since(self) -> float:
        """When it was last answered, on trio's clock."""

    def make_room(self) -> bool:
        """End, if we wait for the client and it is not ending already. Returns whether it does. Never blocks."""


def is_scarce(taken: int, most: int) -> bool:
    """Whether, of `most` places, those that are left are not for those who have many."""
    return taken > most - most // RESERVED


def check_room(identity: Hashable, held: Iterable[Hashable], *, taken: int, most: int) -> None:
    """Whether somebody may have one more of the connections.

    Args:
        held: whose the others are; None: nobody has logged in there.
        taken: how many there are in all, this one included, of `most`.

    Raises:
        Overloaded: the places that remain are for others.
    """
    if not is_scarce(taken, most) or sum(one == identity for one in held) < FEW:
        return
    detail = f"nearly all connections are taken, and {FEW} or more are yours: the others are for those who have fewer"
    raise Overloaded(detail, most, SETTING)


class Crowd:
    """The connections of who has the most.

    Args:
        held: all there are.
        counts_addresses: those on which nobody has logged in are theirs who are at the same address. Else they are
            nobody's.
    """

    def __init__(self, held: Callable[[], Iterable[Holder]], *, counts_addresses: bool) -> None:
        self._held = held
        self._counts_addresses = counts_addresses
        self._whose: Hashable = None
        self._surplus: list[Holder] = []  # of them, those that make room, the first one last
        self._look_again = -math.inf  # when that may be

    def makes_room(self, address: str) -> bool:
        """Whether one of them ends, of more than a few, for a client at this address, which is not where they are. Of
        those the one goes first that had its last answer the longest ago."""
        if self._ends_one(address):
            return True
        if trio.current_time() < self._look_again:
            return False
        self._look_again = trio.current_time() + LOOK_EVERY
        self._look()
        return self._ends_one(address)

    def _ends_one(self, address: str) -> bool:
        while self._surplus and self._whose != whose(address):
            connection = self._surplus.pop()
            if self._owner(connection) == self._whose and connection.make_room():
                self._look_again -= LOOK_EVERY / WORTH_A_LOOK
                return True
        return False

    def _look(self) -> None:
        owned = [(owner, one) for one in self._held() if (owner := self._owner(one)) is not None]
        counted = Counter(owner for owner, _ in owned)
        self._whose, most = max(counted.items(), key=lambda item: item[1], default=(None, 0))
        if most > FEW:
            theirs = [one for owner, one in owned if owner == self._whose]
            theirs.sort(key=lambda one: one.idle_since, reverse=True)
            self._surplus = theirs[FEW - most :]

    def _owner(self, connection: Holder) -> Hashable:
        return connection.identity or (whose(connection.address) if self._counts_addresses else None)
