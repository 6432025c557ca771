"""Where a task waits while what it would do is done in its place, by whoever learns that there is something to do.

To wake a task for each small thing costs more than most of these things do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

import trio

from coordinator.supervision import report

__all__ = ["Standby"]

Left = TypeVar("Left")


class Standby(Generic[Left]):
    """For one task. Others do its work with `instead`, until they `leave` something that only a task can do.

    Attributes:
        is_taken: the task is parked: nothing was left to it yet, and it was not cancelled.
    """

    __slots__ = ("_is_left", "_left", "_task", "is_taken")

    def __init__(self) -> None:
        self.is_taken = False
        self._task: trio.lowlevel.Task  # when it is parked
        self._is_left = False  # something was left, and the task has not run since
        self._left: Left | Exception | None = None

    async def wait(self) -> Left:
        """Park until something is left, and return it. Raises what was raised by who worked in the task's place."""
        self._task = trio.lowlevel.current_task()
        self.is_taken = True
        await trio.lowlevel.wait_task_rescheduled(self._cancelled)
        left, self._left, self._is_left = self._left, None, False
        if isinstance(left, Exception):
            raise left
        return cast(Left, left)

    def _cancelled(self, _: object) -> trio.lowlevel.Abort:
        # Now, and not when the task runs: what were left to it in between would be lost.
        self.is_taken = False
        return trio.lowlevel.Abort.SUCCEEDED

    def leave(self, left: Left) -> None:
        """Have the task go on with this. Only while it is parked."""
        self._end(left)

    def instead(self, step: Callable[[], None]) -> None:
        """Take a step in place of the task, if it is parked. Never raises: a crash is the task's, instead of what the
        step has left to it, or reported if the task was cancelled meanwhile."""
        if not self.is_taken:
            return
        try:
            step()
        except Exception as crash:
            if self.is_taken:
                self._end(crash)
            elif self._is_left:
                self._left = crash
            else:
                report("work in place of a task", crash)

    def _end(self, left: Left | Exception) -> None:
        assert self.is_taken, "nobody is parked here"
        self.is_taken = False
        self._left, self._is_left = left, True
        trio.lowlevel.reschedule(self._task)
