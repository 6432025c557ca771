"""Whether scripts can be run here at all. A runner without room for a script's files, or without a process to be had,
would fail job after job that other runners could run, or it itself a while later."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

__all__ = ["Fitness"]

log = structlog.get_logger("coordinator.runner")

_FIRST_PAUSE: Final = 0.5  # seconds before we try again whether scripts can be run, twice as long each further time
_LONGEST_PAUSE: Final = 30.0
_HEALED_AFTER: Final = 60.0  # seconds without doubt, after which pauses begin anew


class Fitness:
    """Knows whether one runner, in all its contexts, can run scripts.

    Args:
        try_out: says why no script can be run, None if one can.

    Attributes:
        doubted: set as long as it is not known that scripts can be run; replaced when they can again.
    """

    def __init__(self, try_out: Callable[[], Awaitable[str | None]]) -> None:
        self.doubted = trio.Event()
        self._try_out = try_out
        self._trying = trio.Lock()
        self._failures = 0
        self._fit_since = -math.inf
        self._why = ""

    def doubt(self, why: str) -> None:
        """An attempt could not be run, for a reason that is no fault of its script."""
        if not self.doubted.is_set():
            log.error("scripts cannot be run here; taking no jobs until they can", error=why)
            self._why = why
            self.doubted.set()

    async def until_fit(self) -> None:
        """Wait until scripts can be run. Several may wait; one of them tries it out."""
        async with self._trying:
            if not self.doubted.is_set():
                return
            if trio.current_time() - self._fit_since > _HEALED_AFTER:
                self._failures = 0
            why: str | None = self._why
            while why is not None:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
                await trio.sleep(pause * random.uniform(0.5, 1))
                self._failures = min(self._failures + 1, 10)
                why = await self._try_out()
                if why is not None and why != self._why:
                    log.error("scripts still cannot be run here", error=why)
                    self._why = why
            self._fit_since = trio.current_time()
            self.doubted = trio.Event()
            log.info("scripts can be run here again")
