"""What was measured, and whether the server or the generators could do no more."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

__all__ = ["PERCENTILES", "Measured", "Second", "new_histogram", "record"]

HIGHEST: Final = 600_000_000  # microseconds, of the histogram
DIGITS: Final = 3
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
CPU_LIMIT: Final = 0.9  # of a core, above which a generator is what limits
LATE_LIMIT: Final = 5.0  # milliseconds by which a generator may be late


@dataclass
class Second:
    """What was measured since the tick before."""

    at: float
    calls: int
    errors: int
    behind: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


@dataclass
class Measured:
    """A step as it was measured, by all generators together.

    Attributes:
        rate: asked for; 0 in a closed loop.
        calls: answered with results, `messages` messages.
        refused: messages answered with errors, by code. `faults`: what else went wrong.
        histogram: of microseconds from when a message was due, or in a closed loop sent, to its answer. It has also
            those that were in flight when the time was up, and the `unsent`: due by then, and kept waiting.
        grain: calls that may just not be due yet, or be in flight, where the rate is held.
        cpu_shares: of each generator, of a core.
        fell_behind: more was due than the server took; what was measured is of the time until then.
        unit: what `calls` are: calls, flows that ended, or changes that were published; of these `messages` are the
            arrivals at subscribers, and `undelivered` those that did not come.
        reasons: the first text of each code in `refused`.
        waits: a histogram of microseconds from when a job was ready to its runner having it; None where none run.
        jobs: that runners finished; events: of all kinds, that came to subscribers.
    """

    rate: float
    seconds: float = 0.0
    messages: int = 0
    calls: int = 0
    reply_bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    unsent: int = 0
    grain: int = 1
    fell_behind: bool = False
    late_ms: float = 0.0
    cpu_shares: list[float] = field(default_factory=list)
    histogram: Any = None
    series: list[Second] = field(default_factory=list)
    unit: str = "calls"
    reasons: dict[str, str] = field(default_factory=dict)
    jobs: int = 0
    events: int = 0
    undelivered: int = 0
    waits: Any = None

    @property
    def per_second(self) -> float:
        """Calls."""
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> int:
        return sum(self.refused.values()) + sum(self.faults.values()) + self.unanswered + self.undelivered

    def ms(self, percentile: float) -> float:
        """The latency that so many of 100 messages do not exceed."""
        if self.measured == 0:
            return math.nan
        value: int = self.histogram.get_value_at_percentile(percentile)
        return value / 1000

    def wait_ms(self, percentile: float) -> float:
        """The wait that so many of 100 jobs do not exceed."""
        if self.waits is None or self.waits.get_total_count() == 0:
            return math.nan
        value: int = self.waits.get_value_at_percentile(percentile)
        return value / 1000

    @property
    def measured(self) -> int:
        """How many latencies there are."""
        count: int = self.histogram.get_total_count()
        return count

    @property
    def is_rate_held(self) -> bool:
        """Whether as many calls were answered as were asked for, but for a few that were due in the end."""
        return not self.fell_behind and self.calls >= 0.97 * self.rate * self.seconds - self.grain

    @property
    def is_generator_limit(self) -> bool:
        """Whether it is the generators that could do no more."""
        return max(self.cpu_shares, default=0.0) > CPU_LIMIT or self.late_ms > LATE_LIMIT

    def keeps(self, limit_ms: float) -> bool:
        """Whether the rate asked for was held with a p99 within the limit, and without errors."""
        return self.is_rate_held and self.errors == 0 and self.messages > 0 and self.ms(99) <= limit_ms


def new_histogram() -> Any:
    return HdrHistogram(1, HIGHEST, DIGITS)


def record(histogram: Any, latencies: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    microseconds = np.clip((latencies * 1e6).astype(np.int64), 1, HIGHEST)
    for value, count in zip(*np.unique(microseconds, return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))
