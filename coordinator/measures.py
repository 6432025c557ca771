"""What this process measures while it works: plain lists of numbers, of which `metrics` makes a page when it is asked.

To count a value costs a search in a short list and two additions, and nothing is counted for each call that can be
counted once for all calls of a request, or all requests of a round.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence
from time import monotonic
from typing import Final

__all__ = [
    "ATTEMPTS",
    "BATCHES",
    "CALLS",
    "COUNTS",
    "HELD",
    "LIMITS",
    "MAILBOX_WAIT",
    "OK",
    "OTHER",
    "ROUNDS",
    "ROUND_TRIPS",
    "START_WAITS",
    "Counts",
    "Held",
    "Histogram",
    "Histograms",
    "count_round",
    "refused",
]

OK: Final = "ok"
OTHER: Final = "other"
"""A method there is not, and whatever else is not worth a label of its own."""

_SHORT: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
_LONG: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_CALLS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Histogram:
    """How many values there were, by their size.

    Attributes:
        bounds: the largest value of each bucket but the last, which has none.
        counts: of each bucket.
        sum: of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or several that are the same."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class Histograms(dict[tuple[str, ...], Histogram]):
    """Histograms by the values of their labels, each made when it is first asked for. A label has few values."""

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, labels: tuple[str, ...]) -> Histogram:
        made = self[labels] = Histogram(self._bounds)
        return made


class Counts:
    """What is rare, or happens to many at a time.

    Attributes:
        attempts_lost, attempts_timed_out: attempts that ended so.
        attempts_retried: attempts that failed, timed out or were lost, and that another one follows.
        events_missed: times a follower was told that events it wanted are no longer kept.
        log_lines_dropped: lines of messages' jobs that were not kept, for their messages have enough.
        limit_refusals: messages and calls that a limit has refused, by its name, one of LIMITS.
        runs_ended: flows and messages that ended, by kind and status.
    """

    __slots__ = (
        "attempts_lost",
        "attempts_retried",
        "attempts_timed_out",
        "events_missed",
        "limit_refusals",
        "log_lines_dropped",
        "runs_ended",
    )

    def __init__(self) -> None:
        self.attempts_lost = 0
        self.attempts_retried = 0
        self.attempts_timed_out = 0
        self.events_missed = 0
        self.limit_refusals: Counter[str] = Counter()
        self.log_lines_dropped = 0
        self.runs_ended: Counter[tuple[str, str]] = Counter()


class Held:
    """Whom the limits hold: who was refused, until it may try again.

    No more than HELD_COUNTED are remembered of each limit, so that a flood from many addresses costs neither memory nor
    the time to look through them.
    """

    def __init__(self) -> None:
        self._until: dict[str, dict[Hashable, float]] = {limit: {} for limit in LIMITS}

    def add(self, limit: str, whom: Hashable, seconds: float) -> None:
        """It is held for so long from now on."""
        held = self._until[limit]
        if whom in held or len(held) < HELD_COUNTED:
            held[whom] = monotonic() + seconds
        elif held[oldest := next(iter(held))] <= monotonic():
            del held[oldest]
            held[whom] = monotonic() + seconds

    def count(self, limit: str) -> int:
        """How many are, now."""
        held, now = self._until[limit], monotonic()
        for whom in [whom for whom, until in held.items() if until <= now]:
            del held[whom]
        return len(held)


LIMITS: Final = (
    *("caller_bytes", "caller_calls", "caller_store_time"),
    *("context_bytes", "context_flows", "context_jobs"),
    *("logins", "max_subscriptions"),
)
"""The names of what refuses calls for there are too many: settings, and `logins`, which is none."""

HELD_COUNTED: Final = 4096
HELD_FOR: Final = 60.0  # seconds for which somebody counts as held whom nobody can say when to try again

HELD: Final = Held()


def refused(limit: str, whom: Hashable, seconds: float = HELD_FOR) -> None:
    """A limit has refused a message or call of somebody, who may try again in so many seconds."""
    COUNTS.limit_refusals[limit] += 1
    HELD.add(limit, whom, seconds)


def count_round(commands: int, waited: float | None, took: float) -> None:
    """A round was answered.

    Args:
        waited: seconds from when a message was read to when the round, with the first of its calls, was sent; None for
            calls of our own, or that were sent before.
        took: seconds from then to when its last reply was read.
    """
    for histogram, value in (ROUNDS, commands), (MAILBOX_WAIT, waited), (ROUND_TRIPS, took):
        if value is not None:
            histogram.counts[bisect_left(histogram.bounds, value)] += 1
            histogram.sum += value


COUNTS: Final = Counts()
CALLS: Final = Histograms(_SHORT)
"""Seconds from when a message was read to the outcome of a call in it; by method and outcome."""
BATCHES: Final = Histogram(_CALLS)
"""Calls of a batch."""
MAILBOX_WAIT: Final = Histogram(_SHORT)
"""Seconds from when a message was read to when its first calls were sent to the store; of the first in each round."""
ROUNDS: Final = Histogram(_CALLS)
"""Commands of a round."""
ROUND_TRIPS: Final = Histogram(_SHORT)
"""Seconds from when a round was sent to when its last reply was read."""
START_WAITS: Final = Histograms(_LONG)
"""Seconds a job was queued before a runner got it; by script type."""
ATTEMPTS: Final = Histograms(_LONG)
"""Seconds from the beginning of an attempt to its runner's report; by what that says."""
