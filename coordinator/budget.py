"""What one client may make us hold of replies, in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

import trio

__all__ = ["AHEAD_BYTES", "SLOWEST_BODY", "Budget", "Reservation"]

AHEAD_BYTES: Final = 1024 * 1024
"""Read of a client whose calls have to wait, to see whether it leaves; no more than that is held for it."""

SLOWEST_BODY: Final = 16 * 1024
"""Bytes a second that a body or message must come with, once the request time-out is used up."""


class Budget:
    """Counts the bytes of replies that a client has not accepted yet, and those expected of its calls on their way.

    While it is spent, no more of the client's calls go to the store. Whoever holds bytes for the client takes them from
    the budget and gives them back: `Intake` what it expects of a call, until that is answered; the connection what it
    has not yet passed to the kernel; a subscription, by a reservation, what it may read next.

    Args:
        limit: bytes.
        host: tells where the client is; '' if nobody knows.

    Attributes:
        used: bytes taken and not given back. A single reply may take it past the limit.
        places: those the client has of what there is a limited number of; see engine/places.py.
    """

    __slots__ = ("_address", "_has_room", "_reserved", "host", "limit", "places", "used")

    def __init__(self, limit: int, host: Callable[[], str] = lambda: "") -> None:
        self.limit = limit
        self.host = host
        self.places = 0
        self.used = 0
        self._address: str | None = None
        self._has_room: trio.Event | None = None  # while somebody waits for room
        self._reserved: deque[Reservation] = deque()  # not granted yet

    @property
    def is_spent(self) -> bool:
        return self.used >= self.limit

    @property
    def address(self) -> str:
        """What `host` tells, asked once."""
        if self._address is None:
            self._address = self.host()
        return self._address

    def take(self, size: int) -> None:
        """So many bytes more are held, or expected. Never blocks."""
        self.used += size

    def give_back(self, size: int) -> None:
        """So many bytes are held, or expected, no longer. Never blocks."""
        self.used -= size
        while self._reserved and self.used < self.limit:
            self._reserved.popleft().grant()
        if self._has_room is not None and self.used < self.limit:
            self._has_room.set()
            self._has_room = None

    def reserve(self, size: int, granted: Callable[[], None]) -> Reservation:
        """So many bytes, at once if there is room; else `granted` is called once there is, in the order of asking."""
        reservation = Reservation(self, size, granted)
        if self._reserved or self.is_spent:
            self._reserved.append(reservation)
        else:
            self.used += size
            reservation.is_granted = True
        return reservation

    async def room(self) -> None:
        """Wait until it is not spent. A checkpoint only while it is."""
        while self.is_spent:
            if self._has_room is None:
                self._has_room = trio.Event()
            await self._has_room.wait()


class Reservation:
    """Bytes of a budget, for what is done in its `with` block.

    Attributes:
        is_granted: they are taken.
    """

    __slots__ = ("_budget", "_granted", "_is_over", "_size", "is_granted")

    def __init__(self, budget: Budget, size: int, granted: Callable[[], None]) -> None:
        self._budget = budget
        self._size = size
        self._granted = granted
        self._is_over = False
        self.is_granted = False

    def grant(self) -> None:
        """Called by the budget: there is room."""
        if not self._is_over:
            self._budget.used += self._size
            self.is_granted = True
            self._granted()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        if self.is_granted:
            self._budget.give_back(self._size)
