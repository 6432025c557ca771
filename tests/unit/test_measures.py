"""What a process measures, how its page shows that, and what the pages of several processes are together."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from coordinator import metrics
from coordinator.measures import Histogram, Histograms
from coordinator.server.workers.metrics_sum import Totals

Shown = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Fixed(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def parsed(page: bytes) -> Shown:
    families = text_string_to_metric_families(page.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def page_of(*families: Metric) -> Shown:
    registry = CollectorRegistry()
    registry.register(Fixed(families))
    return parsed(generate_latest(registry))


def durations(values: dict[str, list[float]]) -> Metric:
    made = Histograms((1.0, 2.0))
    for method, seconds in values.items():
        for value in seconds:
            made[method,].observe(value)
    return metrics._histogram("seconds", "Some.", ("method",), made)


def buckets(shown: Shown, method: str) -> dict[float, float]:
    return {
        float(dict(labels)["le"]): value
        for (name, labels), value in shown.items()
        if name.endswith("_bucket") and dict(labels)["method"] == method
    }


def value(shown: Shown, name: str, **labels: str) -> float | None:
    return shown.get((f"herocoordinator_{name}", tuple(sorted(labels.items()))))


def test_a_value_is_in_the_first_bucket_whose_bound_is_not_below_it() -> None:
    histogram = Histogram((1.0, 2.0))

    for seen in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(seen)
    histogram.observe(2.0, 3)

    assert (histogram.counts, histogram.sum) == ([2, 4, 1], 18.0)


def test_buckets_are_shown_as_sums_of_those_before_and_end_with_all() -> None:
    shown = page_of(durations({"job.load": [0.5, 1.5, 1.5, 7.0]}))

    assert buckets(shown, "job.load") == {1.0: 1, 2.0: 3, inf: 4}
    assert value(shown, "seconds_count", method="job.load") == 4
    assert value(shown, "seconds_sum", method="job.load") == 10.5


def test_of_several_processes_each_series_is_added_up() -> None:
    totals = Totals()

    page, _ = totals.render({"1": [durations({"a": [0.5], "b": [1.5]})], "2": [durations({"b": [5.0]})], "parent": []})

    assert buckets(parsed(page), "a") == {1.0: 1, 2.0: 1, inf: 1}
    assert buckets(parsed(page), "b") == {1.0: 0, 2.0: 1, inf: 2}


def test_what_one_that_ended_has_measured_stays_also_where_no_other_has_measured_it() -> None:
    totals = Totals()
    totals.retire([durations({"a": [0.5], "b": [1.5]}), metrics.gauge("clients", "Some.", (), {(): 4})])

    for _ in range(2):  # to show them counts nothing twice
        page, _ = totals.render({"2": [durations({"b": [5.0]}), metrics.gauge("clients", "Some.", (), {(): 1})]})

    assert buckets(parsed(page), "a") == {1.0: 1, 2.0: 1, inf: 1}
    assert value(parsed(page), "seconds_sum", method="b") == 6.5
    assert value(parsed(page), "clients") == 1


def test_what_all_would_say_the_same_of_is_not_added_up() -> None:
    def told(jobs: float) -> list[Metric]:
        labels = ("context", "script_type")
        return [
            metrics.gauge("queue_jobs", "Some.", labels, {("1", "Python"): jobs}),
            metrics.gauge("build_info", "Some.", ("version",), {("1.0",): 1}),
        ]

    page, _ = Totals().render({"1": told(7), "2": told(6)})

    assert value(parsed(page), "queue_jobs", context="1", script_type="Python") == 7
    assert value(parsed(page), "build_info", version="1.0") == 1
