"""A store that does almost nothing in one call: what it does in slices for large flows, it does so for the smallest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from coordinator.actors.request import Operation
from coordinator.operations import slices
from coordinator.storage import library
from coordinator.storage.functions import upkeep
from coordinator.storage.keys import Command, Layout
from tests.execution.driver import TICK_LIMIT, Context
from tests.execution.wire import Wire

__all__ = ["SOURCE", "SettledWire", "small_slices"]

_SMALL: Final = {"ONE_CALL": 2, "ONE_CALL_BYTES": 8, "WORK": 4, "SPILL": 12}


def _with(source: str, constants: dict[str, int]) -> str:
    for name, value in constants.items():
        source, count = re.subn(rf"(?m)^((?:local )?{name} = )\d+", rf"\g<1>{value}", source)
        assert count == 1, name
    return source


SOURCE: Final = _with(library.SOURCE, _SMALL)


@contextmanager
def small_slices() -> Iterator[None]:
    """Flows are submitted, and messages sent, in slices, too."""
    before = slices.ONE_CALL, slices.JOBS_ADDED
    slices.ONE_CALL, slices.JOBS_ADDED = 1, 2  # type: ignore[misc]
    try:
        yield
    finally:
        slices.ONE_CALL, slices.JOBS_ADDED = before  # type: ignore[misc]


class SettledWire(Wire):
    """After each call everything is done that it has set going."""

    def __init__(self, port: int, layout: Layout, address: int) -> None:
        super().__init__(port, layout.database_of(address), SOURCE)
        self._keys = layout.keyspace(address)

    def run(self, operation: Operation) -> Any:
        self.effects = []
        try:
            return super().run(operation)
        finally:
            self._settle()

    def transition(self, command: Command) -> Any:
        result = super().transition(command)
        self._settle()
        return result

    def _settle(self) -> None:
        context = Context(self, Layout(), 0)
        context.keys = self._keys
        while context.under_way() or self._has_due():
            _, effects = self.ask(upkeep.tick(self._keys, TICK_LIMIT))[0]
            self.effects += [effect.decode() for effect in effects]

    def _has_due(self) -> bool:
        (time, skew) = self.ask(("TIME",), ("HGET", f"{self._keys.prefix}engine", "skew"))
        now = int(time[0]) * 1000 + int(time[1]) // 1000 + int(skew or 0)
        (count,) = self.ask(("ZCOUNT", f"{self._keys.prefix}timers", 0, now))
        return int(count) > 0
