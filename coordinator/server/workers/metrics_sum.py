"""The Prometheus page of several processes: what they counted, added up; what the system says of each, side by side;
and once what all of them would say the same of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from coordinator.metrics import SHARED, TEXT_FORMAT

__all__ = ["Totals"]

_OF_PROCESS: Final = "process_"  # as the names of what ProcessCollector reports begin
_LABEL: Final = "worker"
_GROWING: Final = ("counter", "histogram")  # types of what never falls

_Series = tuple[str, tuple[tuple[str, str], ...]]  # the name of a sample, and its labels


class _Sums:
    """The samples of one family, added up.

    Attributes:
        values: of each series.
    """

    def __init__(self, family: Metric) -> None:
        self._name, self._text, self._type = family.name, family.documentation, family.type
        self._is_shared = family.name in SHARED
        self.values: dict[_Series, float] = {}

    def add(self, family: Metric, **more: str) -> None:
        """`more`: labels that tell this process's samples from those of others."""
        for sample in family.samples:
            series = sample.name, (*sample.labels.items(), *more.items())
            before = self.values.get(series)
            if before is None:
                self.values[series] = sample.value
            else:
                self.values[series] = max(before, sample.value) if self._is_shared else before + sample.value

    def whole(self) -> Metric:
        family = Metric(self._name, self._text, self._type)
        for (name, labels), value in self.values.items():
            family.add_sample(name, dict(labels), value)
        return family


class Totals:
    """Adds up, and remembers what processes that ended had counted, so that no counter goes backwards."""

    def __init__(self) -> None:
        self._ended: dict[str, _Sums] = {}

    def retire(self, families: Iterable[Metric]) -> None:
        """A process has ended; this was the last known of it."""
        for family in families:
            if family.type in _GROWING and not family.name.startswith(_OF_PROCESS):
                self._ended.setdefault(family.name, _Sums(family)).add(family)

    def render(self, processes: Mapping[str, Iterable[Metric]]) -> tuple[bytes, str]:
        """The page and its content type. `processes`: the families of each that runs, by the label it gets."""
        registry = CollectorRegistry()
        registry.register(_Collected(self._added_up(processes)))
        return generate_latest(registry), TEXT_FORMAT

    def _added_up(self, processes: Mapping[str, Iterable[Metric]]) -> list[Metric]:
        sums: dict[str, _Sums] = {}
        for name, ended in self._ended.items():
            sums[name] = _Sums(ended.whole())
            sums[name].add(ended.whole())
        for label, families in processes.items():
            for family in families:
                more = {_LABEL: label} if family.name.startswith(_OF_PROCESS) else {}
                sums.setdefault(family.name, _Sums(family)).add(family, **more)
        return [each.whole() for each in sums.values()]


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
