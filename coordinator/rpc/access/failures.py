"""Addresses from which logins fail: who calls from there without a login is read at a limited rate, however many
connections it opens. Who has logged in is not counted, nor kept waiting."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio

from coordinator.errors import Overloaded
from coordinator.measures import COUNTS, HELD

__all__ = ["Failures"]

FREE: Final = 10  # failures in a row that have no consequence
FORGIVEN_AFTER: Final = 1.0  # seconds, each
KEPT_FOR: Final = 60.0  # seconds for which failures count at most
EVERY: Final = 0.02  # seconds between two messages that are read of those at such an address
WAITING: Final = 100  # of them at once
ADDRESSES: Final = 4096  # remembered; those that have failed longest ago are forgotten


class _Failed:
    """Attributes:
    forgiven_at: when (trio.current_time) all of its failures are.
    next_at: when the next message from there is read.
    waiting: messages, for that.
    """

    __slots__ = ("forgiven_at", "next_at", "waiting")

    def __init__(self) -> None:
        self.forgiven_at = 0.0
        self.next_at = 0.0
        self.waiting = 0


class Failures:
    """Counts failed logins in one process, by address. An address is written as `limits.whose` writes it."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, _Failed] = OrderedDict()

    def add(self, address: str, count: int) -> None:
        """So many calls from there were refused for want of a login. '': nobody knows from where."""
        if not address:
            return
        failed = self._failed.get(address)
        if failed is None:
            if len(self._failed) >= ADDRESSES:
                self._failed.popitem(last=False)
            failed = self._failed[address] = _Failed()
        self._failed.move_to_end(address)
        now = trio.current_time()
        failed.forgiven_at = min(max(now, failed.forgiven_at) + count * FORGIVEN_AFTER, now + KEPT_FOR)
        kept = failed.forgiven_at - now - FREE * FORGIVEN_AFTER
        if kept > 0:
            HELD.add("logins", address, kept)

    async def turn(self, address: str) -> None:
        """Wait until a message of somebody there who has not logged in may be read. A checkpoint only if it has to.

        Raises Overloaded: too many wait for that.
        """
        failed = self._failed.get(address)
        if failed is None:
            return
        now = trio.current_time()
        if failed.forgiven_at - now <= FREE * FORGIVEN_AFTER:
            return
        at = max(now, failed.next_at)
        if failed.waiting >= WAITING:
            detail = "too many logins have failed at this address; try again in a moment"
            COUNTS.limit_refusals["logins"] += 1
            raise Overloaded(detail, WAITING, "logins", retry_after=round(at - now + EVERY, 3))
        failed.next_at = at + EVERY
        failed.waiting += 1
        try:
            await trio.sleep_until(at)
        finally:
            failed.waiting -= 1
