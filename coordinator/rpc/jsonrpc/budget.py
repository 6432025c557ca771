"""What one client may make us hold of replies, in bytes."""

from __future__ import annotations

import trio

__all__ = ["Budget"]


class Budget:
    """Counts the bytes of replies that a client has not accepted yet, and those expected of its calls on their way.

    While it is spent, no more of the client's calls go to the store. Whoever holds bytes for the client takes them from
    the budget and gives them back: `Intake` what it expects of a call, until that is answered; the connection what it
    has not yet passed to the kernel.

    Args:
        limit: bytes.

    Attributes:
        used: bytes taken and not given back. A single reply may take it past the limit.
    """

    __slots__ = ("_has_room", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._has_room: trio.Event | None = None  # while somebody waits for room

    @property
    def is_spent(self) -> bool:
        return self.used >= self.limit

    def take(self, size: int) -> None:
        """So many bytes more are held, or expected. Never blocks."""
        self.used += size

    def give_back(self, size: int) -> None:
        """So many bytes are held, or expected, no longer. Never blocks."""
        self.used -= size
        if self._has_room is not None and self.used < self.limit:
            self._has_room.set()
            self._has_room = None

    async def room(self) -> None:
        """Wait until it is not spent. A checkpoint only while it is. One task waits at a time: the client's reader."""
        while self.used >= self.limit:
            self._has_room = self._has_room or trio.Event()
            await self._has_room.wait()
