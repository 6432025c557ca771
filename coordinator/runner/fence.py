"""How long a script may run while nothing is heard of its coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

__all__ = ["Fence"]

_GRACE_SHARE: Final = 1 / 8  # of the lease, at most, for a script to clean up
_RESERVE_SHARE: Final = 1 / 20  # of the lease, at most a second: what was killed may take so long to go
_RESERVE: Final = 1.0
_UNCONFIRMED_SHARE: Final = 0.9  # of the time it may run, before we know of a renewal: it may have begun by then
_STEP_SHARE: Final = 1 / 20  # of the time it may run, at least, by which that is renewed
_EARLY: Final = 0.1  # seconds before the end, at most, in which we decide what will happen


class Fence:
    """Whoever runs an attempt must have stopped when its lease ends, because another runner may begin then. So from the
    last call that renewed the lease, counted from when it was *sent*, a script may run for a little less than that.

    Args:
        lease: seconds.
        grace: seconds a script that must stop has to clean up; less if the lease is short.
        is_outage: whether the coordinator is known to be away, so that nobody is given the attempt for now: then the
            script is paused instead of ended.

    Attributes:
        changed: set, and replaced, when the lease was renewed.
        is_confirmed: it was renewed at least once.
    """

    def __init__(self, lease: float, grace: float, is_outage: Callable[[], bool] = lambda: False) -> None:
        self.lease = lease
        self.grace = min(grace, lease * _GRACE_SHARE)
        self.is_outage = is_outage
        self.changed = trio.Event()
        self._span = lease - min(_RESERVE, lease * _RESERVE_SHARE) - self.grace
        self._ends = trio.current_time() + self._span * _UNCONFIRMED_SHARE
        self.is_confirmed = False

    def renewed(self, sent_at: float) -> None:
        """A call sent then, on trio's clock, has renewed the lease. That may add too little to matter."""
        self.is_confirmed = True
        if sent_at + self._span > self._ends + self._span * _STEP_SHARE:
            self._ends = sent_at + self._span
            self.changed.set()
            self.changed = trio.Event()

    @property
    def remaining(self) -> float:
        """Seconds until the script must begin to stop."""
        return self._ends - trio.current_time()

    @property
    def decides_at(self) -> float:
        """When it is to be decided what will happen if the lease is not renewed."""
        return self._ends - min(_EARLY, self._span / 10)
