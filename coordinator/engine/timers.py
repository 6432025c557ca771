"""Functions to be called later, all from one task."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from coordinator.supervision import report

__all__ = ["CallIn", "Timers"]

CallIn = Callable[[float, Callable[[], None]], None]
"""Timers.call_in."""

RETRY_AFTER: Final = 1.0  # seconds after which a function that raised is called again, then twice as long
RETRY_WITHIN: Final = 60.0


class _Timer(NamedTuple):
    at: float
    order: int
    function: Callable[[], None]
    failures: int


class Timers:
    """`run` it for as long as functions are to be called."""

    def __init__(self) -> None:
        self._set: list[_Timer] = []
        self._order = itertools.count()
        self._sooner = trio.Event()  # one was set before that waited for

    async def run(self) -> None:
        """Never returns."""
        while True:
            now = trio.current_time()
            while self._set and self._set[0].at <= now:
                self._call(heapq.heappop(self._set))
            self._sooner = trio.Event()
            with trio.move_on_at(self._set[0].at if self._set else math.inf):
                await self._sooner.wait()

    def call_in(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function`, which must not block, in so many seconds.

        Should it raise, it is called again later: somebody waits for what it does.
        """
        self._add(seconds, function, 0)

    def _add(self, seconds: float, function: Callable[[], None], failures: int) -> None:
        at = trio.current_time() + max(seconds, 0.0)
        heapq.heappush(self._set, _Timer(at, next(self._order), function, failures))
        if self._set[0].at == at:
            self._sooner.set()

    def _call(self, timer: _Timer) -> None:
        try:
            timer.function()
        except Exception as error:
            report("a function called by a timer", error)
            pause = min(RETRY_WITHIN, RETRY_AFTER * 2.0 ** min(timer.failures, 10))
            self._add(pause, timer.function, timer.failures + 1)
