"""The Prometheus page: read from the parts' own counters when asked for, so that counting costs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

__all__ = ["Metrics"]

Read = Callable[[], float]


class Metrics(Collector):
    """Args: name → (help, how to read it). A name ending in `_total` is a counter, any other a gauge."""

    def __init__(self, values: Mapping[str, tuple[str, Read]]) -> None:
        self._values = values
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterable[Metric]:
        for name, (text, read) in self._values.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(f"herocoordinator_{name}", text, value=read())

    def families(self) -> list[Metric]:
        """What is counted, and what the system says of this process."""
        return [*self._registry.collect()]

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
