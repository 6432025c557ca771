"""The Prometheus page: made, when it is asked for, of the parts' own counters and of `measures`, so that counting costs
nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from coordinator import measures
from coordinator.measures import COUNTS, HELD, LIMITS, Histogram

__all__ = ["PREFIX", "SHARED", "TEXT_FORMAT", "Metrics", "gauge", "measured"]

Read = Callable[[], float]

PREFIX: Final = "herocoordinator_"

TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What every scraper reads. Version 1.0.0 differs in names outside ASCII only, of which we have none, and some
(Metricbeat, what is built on older libraries of Prometheus) read no version but this."""

SHARED: Final = frozenset(
    {
        *(PREFIX + name for name in ("build_info", "contexts_known", "contexts_looked_at", "records", "store_up")),
        *(PREFIX + name for name in ("store_memory_bytes", "store_memory_limit_bytes")),
        *(PREFIX + name for name in ("queue_jobs", "queue_oldest_seconds")),
    }
)
"""Families that are the same whichever process of a coordinator says them, so that they are not added up."""


class Metrics(Collector):
    """Args:
    values: name → (help, how to read it). A name ending in `_total` is a counter, any other a gauge.
    more: further families.
    """

    def __init__(
        self, values: Mapping[str, tuple[str, Read]], more: Callable[[], Iterable[Metric]] = lambda: ()
    ) -> None:
        self._values = values
        self._more = more
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterable[Metric]:
        for name, (text, read) in self._values.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(f"{PREFIX}{name}", text, value=read())
        yield from self._more()

    def families(self) -> list[Metric]:
        """What is counted, and what the system says of this process."""
        return [*self._registry.collect()]

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self._registry), TEXT_FORMAT


def gauge(name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    """A family of gauges by the values of their labels."""
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=labels)
    for of, value in values.items():
        family.add_metric(of, value)
    return family


def measured() -> Iterable[Metric]:
    """What `measures` has of this process."""
    yield _histogram(
        "call_duration_seconds",
        "From when a message was read to the outcome of a call in it; of calls that wait for something, with that.",
        ("method", "code"),
        measures.CALLS,
    )
    yield _histogram("batch_calls", "Calls of a batch.", (), {(): measures.BATCHES})
    yield _histogram(
        "mailbox_wait_seconds",
        "From when a message was read to when it was sent to the store; of the one that waited longest, in each round.",
        (),
        {(): measures.MAILBOX_WAIT},
    )
    yield _histogram("round_commands", "Commands of a round.", (), {(): measures.ROUNDS})
    yield _histogram(
        "store_round_trip_seconds",
        "From when a round was sent to the store to when its last reply was read.",
        (),
        {(): measures.ROUND_TRIPS},
    )
    yield _histogram(
        "schedule_to_start_seconds",
        "For how long jobs were queued before a runner got them.",
        ("script_type",),
        measures.START_WAITS,
    )
    yield _histogram(
        "attempt_duration_seconds",
        "From the beginning of an attempt to its runner's report; by what that says.",
        ("outcome",),
        measures.ATTEMPTS,
    )
    ended = CounterMetricFamily(f"{PREFIX}runs_ended", "Flows and messages that ended.", labels=("kind", "status"))
    for of, count in COUNTS.runs_ended.items():
        ended.add_metric(of, count)
    yield ended
    refusals = CounterMetricFamily(
        f"{PREFIX}limit_refusals", "Messages and calls refused because somebody was over a limit.", labels=("limit",)
    )
    for limit in LIMITS:
        refusals.add_metric((limit,), COUNTS.limit_refusals[limit])
    yield refusals
    yield gauge(
        "limits_held",
        "Callers, addresses, runners or contexts that were refused by a limit and are not to try again yet.",
        ("limit",),
        {(limit,): HELD.count(limit) for limit in LIMITS},
    )
    for name, (text, value) in {
        "attempts_lost": ("Attempts lost with their runners.", COUNTS.attempts_lost),
        "attempts_timed_out": ("Attempts ended here at their time-out.", COUNTS.attempts_timed_out),
        "attempts_retried": (
            "Attempts that failed, timed out or were lost, and that another one follows.",
            COUNTS.attempts_retried,
        ),
        "events_missed": (
            "Times a follower was told that events it wanted are no longer kept.",
            COUNTS.events_missed,
        ),
        "log_lines_dropped": (
            "Log lines of messages that were not kept, for these messages have as many as they may.",
            COUNTS.log_lines_dropped,
        ),
    }.items():
        yield CounterMetricFamily(f"{PREFIX}{name}", text, value=value)


def _histogram(name: str, text: str, labels: Sequence[str], histograms: Mapping[tuple[str, ...], Histogram]) -> Metric:
    family = Metric(f"{PREFIX}{name}", text, "histogram")
    for of, histogram in histograms.items():
        shown = dict(zip(labels, of, strict=True))
        total = 0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            total += count
            family.add_sample(f"{family.name}_bucket", {**shown, "le": bound}, total)
        family.add_sample(f"{family.name}_count", shown, total)
        family.add_sample(f"{family.name}_sum", shown, histogram.sum)
    return family
