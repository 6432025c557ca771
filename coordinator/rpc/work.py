"""Work that seldom has to wait, begun where nothing can be awaited, and gone on with by a task if it has to.

It is a generator that yields what it waits for. Most often it yields nothing: then it needs no task, and none has to be
woken for it. A coroutine would do as well but for one thing: what it awaits is begun at once, for the task that happens
to run then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Generic, TypeVar

__all__ = ["Rest", "Work", "begin", "carry_out"]

Result = TypeVar("Result")

Work = Generator[Awaitable[Any], Any, Result]
"""Yields what it waits for, and is sent what comes of that."""


class Rest(Generic[Result]):
    """What is left of work that has to wait. It is carried out once, or closed."""

    __slots__ = ("_wait", "_work")

    def __init__(self, work: Work[Result], wait: Awaitable[Any]) -> None:
        self._work = work
        self._wait = wait

    async def carry_out(self) -> Result:
        """Wait, and go on, to the end. Cancelled, the work is told so where it waits."""
        work, wait = self._work, self._wait
        while True:
            try:
                try:
                    outcome = await wait
                except BaseException as error:
                    wait = work.throw(error)
                else:
                    wait = work.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result

    def close(self) -> None:
        """Drop it: nothing more is done."""
        if isinstance(self._wait, Coroutine):
            self._wait.close()
        self._work.close()


def begin(work: Work[Result]) -> Result | Rest[Result]:
    """Do what needs no waiting. Returns the result, or what is left."""
    try:
        return Rest(work, next(work))
    except StopIteration as end:
        result: Result = end.value
        return result


async def carry_out(work: Work[Result]) -> Result:
    """Do all of it. A checkpoint only if there is something to wait for."""
    begun = begin(work)
    return await begun.carry_out() if isinstance(begun, Rest) else begun
