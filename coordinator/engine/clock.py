"""Keeps the clock of timers going in the store as ours does, which nobody can set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog
import trio

from coordinator.actors.request import Operation, RawJson
from coordinator.errors import CoordinatorError
from coordinator.storage.functions import upkeep
from coordinator.storage.keys import GLOBAL, ContextKey, Layout

__all__ = ["Clock"]

log = structlog.get_logger("coordinator.clock")

EVERY: Final = 0.4  # seconds; the store waits for a second before it says that nobody was there (AWAY in common.lua)
WORTH_SAYING: Final = 1000  # ms of difference


class Clock:
    """Says to the store again and again what time it must be at least. `run` it.

    The store's server may be set to another time, or be away. Leases, pauses and time limits go on as if it had not.

    Args:
        call: carries out an operation of ours in a context; Directory.call.
    """

    def __init__(self, layout: Layout, call: Callable[[ContextKey, Operation], Awaitable[RawJson]]) -> None:
        self._keys = layout.keyspace(GLOBAL)
        self._call = call
        self._run = ""
        self._time = 0  # on the clock of timers, at `_told_at` on trio's
        self._told_at = 0.0
        self._offset = 0

    async def run(self) -> None:
        """Never returns."""
        while True:
            with suppress(CoordinatorError):  # the next one says what this one could not
                await self._call(GLOBAL, self._say())
            await trio.sleep(EVERY)

    def _say(self) -> Operation:
        # It is told too late rather than too early on both ways, so no coordinator makes the clock fast.
        at_least = self._time + int((trio.current_time() - self._told_at) * 1000)
        (reply,) = yield [upkeep.clock(self._keys, self._run, at_least if self._run else 0)]
        run, self._time, offset = upkeep.read_clock(reply)
        self._told_at = trio.current_time()
        if abs(offset - self._offset) >= WORTH_SAYING and run == self._run:
            seconds = round((self._offset - offset) / 1000, 1)
            log.warning("the clock of the store was set, or nobody was there: timers go on as before", seconds=seconds)
        self._run, self._offset = run, offset
        return b""
