"""Functions to be called later, all from one task."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import trio

__all__ = ["Timers"]


class Timers:
    """`run` it for as long as functions are to be called."""

    def __init__(self) -> None:
        self._set: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._sooner = trio.Event()  # one was set before that waited for

    async def run(self) -> None:
        """Never returns."""
        while True:
            now = trio.current_time()
            while self._set and self._set[0][0] <= now:
                heapq.heappop(self._set)[2]()
            self._sooner = trio.Event()
            with trio.move_on_at(self._set[0][0] if self._set else math.inf):
                await self._sooner.wait()

    def call_in(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function`, which must not block or raise, in so many seconds."""
        at = trio.current_time() + max(seconds, 0.0)
        heapq.heappush(self._set, (at, next(self._order), function))
        if self._set[0][0] == at:
            self._sooner.set()
