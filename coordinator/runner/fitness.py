"""Whether scripts can be run here at all. A runner without room for a script's files, or without a process to be had,
would fail job after job that other runners could run, or it itself a while later."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
import trio

from coordinator.models import ScriptType

__all__ = ["Fitness"]

log = structlog.get_logger("coordinator.runner")

_FIRST_PAUSE: Final = 0.5  # seconds before we try again whether scripts can be run, twice as long each further time
_LONGEST_PAUSE: Final = 30.0
_HEALED_AFTER: Final = 60.0  # seconds without doubt, after which pauses begin anew


class Fitness:
    """Knows scripts of which types one runner, in all its contexts, can run.

    Args:
        types: those it has interpreters for, which can all be run as far as is known.
        try_out: says why scripts cannot be run, by their type; nothing if all can.
    """

    def __init__(self, types: Sequence[ScriptType], try_out: Callable[[], Awaitable[Mapping[ScriptType, str]]]) -> None:
        self._all = types
        self._types = list(types)
        self._try_out = try_out
        self._doubted = trio.Event()
        self._is_known = trio.Event()
        self._is_known.set()
        self._unfit: Mapping[ScriptType, str] = {}
        self._failures = 0
        self._fit_since = -math.inf

    def doubt(self, why: str) -> None:
        """An attempt could not be run, for a reason that is no fault of its script."""
        if self._doubted.is_set():
            return
        log.error("scripts cannot be run here; taking no jobs until they can", error=why)
        if trio.current_time() - self._fit_since > _HEALED_AFTER:
            self._failures = 0
        self._is_known = trio.Event()
        self._doubted.set()

    async def until_fit(self) -> tuple[list[ScriptType], trio.Event]:
        """Wait until scripts can be run. Returns of which types, and an event that is set when that has changed, or is
        in doubt."""
        await self._is_known.wait()
        return self._types, self._doubted

    async def keep_trying(self) -> None:
        """Find out again and again, for ever, whether what cannot be run can be."""
        while True:
            with trio.move_on_after(self._pause() if self._unfit else math.inf):
                await self._doubted.wait()
            if self._doubted.is_set():
                await trio.sleep(self._pause())
            await self._find_out()

    def _pause(self) -> float:
        return min(_LONGEST_PAUSE, math.ldexp(_FIRST_PAUSE, self._failures)) * random.uniform(0.5, 1)

    async def _find_out(self) -> None:
        self._failures = min(self._failures + 1, 10)
        unfit = await self._try_out()
        if unfit and unfit != self._unfit:
            log.error("scripts still cannot be run here", errors=dict(unfit))
        self._unfit = unfit
        types = [script_type for script_type in self._all if script_type not in unfit]
        if types and (self._doubted.is_set() or types != self._types):
            log.info("scripts can be run here again", script_types=types)
            self._types, self._fit_since = types, trio.current_time()
            before, self._doubted = self._doubted, trio.Event()
            before.set()
            self._is_known.set()
