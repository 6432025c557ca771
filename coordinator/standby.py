"""Where a task waits while what it would do is done in its place, by whoever learns that there is something to do.

To wake a task for each small thing costs more than most of these things do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

__all__ = ["Standby"]

Left = TypeVar("Left")


class Standby(Generic[Left]):
    """For one task. Others do its work with `instead`, until they `leave` something that only a task can do."""

    __slots__ = ("_left", "_waiting")

    def __init__(self) -> None:
        self._waiting: trio.Event | None = None  # while the task is parked
        self._left: list[Left | Exception] = []

    @property
    def is_taken(self) -> bool:
        """Whether the task is parked, and nothing was left to it yet."""
        return self._waiting is not None

    async def wait(self) -> Left:
        """Park until something is left, and return it. Raises what was raised by who worked in the task's place."""
        self._waiting = waiting = trio.Event()
        try:
            await waiting.wait()
        finally:
            self._waiting = None
        left = self._left.pop()
        if isinstance(left, Exception):
            raise left
        return left

    def leave(self, left: Left) -> None:
        """Have the task go on with this. Only while it is parked."""
        self._end(left)

    def instead(self, step: Callable[[], None]) -> None:
        """Take a step in place of the task, if it is parked. Never raises: a crash is the task's."""
        if self._waiting is None:
            return
        try:
            step()
        except Exception as crash:
            if self._waiting is None:
                raise
            self._end(crash)

    def _end(self, left: Left | Exception) -> None:
        assert self._waiting is not None, "nobody is parked here"
        self._left.append(left)
        self._waiting.set()
        self._waiting = None
