"""Who waits before it is looked at: those who want a signature verified, and those who were not let in."""

from __future__ import annotations

from typing import Final

import trio

from coordinator.errors import Overloaded
from coordinator.measures import COUNTS

__all__ = ["Pauses", "Turns"]

LOGINS_WAITING: Final = 200
FAILED_EVERY: Final = 0.005  # seconds between two messages that are read of those who were not let in, of all together
LONGEST_PAUSE: Final = 2.0  # seconds until one of them is read again


class Turns:
    """Who wants a signature looked at waits for a turn, so that a flood of logins costs others little."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = 0.0
        self._waiting = 0

    async def take(self) -> None:
        """Raises Overloaded."""
        if self._waiting >= LOGINS_WAITING:
            COUNTS.limit_refusals["logins"] += 1
            raise Overloaded("too many log in at once; try again in a second", LOGINS_WAITING, "logins")
        now = trio.current_time()
        at = self._next = max(now, self._next) + self._every
        self._waiting += 1
        try:
            await trio.sleep_until(at - self._every)
        finally:
            self._waiting -= 1


class Pauses:
    """Who was refused for want of a login is read again after a pause, the longer the more of them there are: a flood
    of bad tokens costs others little, and nobody waits who has logged in."""

    def __init__(self) -> None:
        self._next = 0.0

    async def take(self) -> None:
        now = trio.current_time()
        at = max(now, self._next)
        self._next = min(at + FAILED_EVERY, now + LONGEST_PAUSE)
        await trio.sleep_until(at)
