"""The Prometheus page of several processes: what they counted, added up; what the system says of each, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

__all__ = ["Totals"]

_OF_PROCESS: Final = "process_"  # as the names of what ProcessCollector reports begin
_LABEL: Final = "worker"

_Name = tuple[str, str]  # of a family, and of a sample in it


class Totals:
    """Adds up, and remembers what processes that ended had counted, so that no counter goes backwards."""

    def __init__(self) -> None:
        self._ended: dict[_Name, float] = {}

    def retire(self, families: Iterable[Metric]) -> None:
        """A process has ended; this was the last known of it."""
        for family in families:
            if family.type == "counter" and not family.name.startswith(_OF_PROCESS):
                for sample in family.samples:
                    name = family.name, sample.name
                    self._ended[name] = self._ended.get(name, 0.0) + sample.value

    def render(self, processes: Mapping[str, Iterable[Metric]]) -> tuple[bytes, str]:
        """The page and its content type. `processes`: the families of each that runs, by the label it gets."""
        registry = CollectorRegistry()
        registry.register(_Collected(self._added_up(processes)))
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _added_up(self, processes: Mapping[str, Iterable[Metric]]) -> list[Metric]:
        added_up: dict[str, Metric] = {}
        sums: dict[_Name, float] = {}
        for label, families in processes.items():
            for family in families:
                whole = added_up.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    if family.name.startswith(_OF_PROCESS):
                        whole.add_sample(sample.name, {**sample.labels, _LABEL: label}, sample.value)
                    else:
                        name = family.name, sample.name
                        sums[name] = sums.get(name, self._ended.get(name, 0.0)) + sample.value
        for (family_name, sample_name), value in sums.items():
            added_up[family_name].add_sample(sample_name, {}, value)
        return [*added_up.values()]


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
