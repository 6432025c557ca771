"""Waiting for what only looking can tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

__all__ = ["until", "until_sync"]

_LOOK_EVERY: Final = 0.01


async def until(condition: Callable[[], object], *, within: float = 30.0) -> None:
    """Wait until the condition holds. Raises trio.TooSlowError if it does not for so long."""
    with trio.fail_after(within):
        while True:
            if condition():
                return
            await trio.sleep(_LOOK_EVERY)


def until_sync(condition: Callable[[], object], *, within: float = 30.0) -> None:
    """The same in a test without a loop. Raises TimeoutError."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_LOOK_EVERY)
