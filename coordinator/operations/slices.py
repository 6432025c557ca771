"""Transitions that have much to do: each call does a slice of it, so that nobody else waits long for the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from coordinator.actors.request import First, Further, Part, Pause
from coordinator.storage.connection import Command, Reply
from coordinator.storage.functions.results import Effects, Refused, Word

__all__ = ["in_slices"]

ONE_CALL: Final = 200  # jobs of a flow, or message, for which one call of the store is enough
ONE_CALL_NAMES: Final = 1_000  # names in their depends and prerequisites
LOOK_AGAIN: Final = 0.1  # seconds before a call looks again whether what it waits for has come to its end
BEING_SUBMITTED: Final = Refused(Word.STATE, [b"being submitted"])
JOBS_ADDED: Final = 100  # checked, or created, by one call, of a flow or message with more

_T = TypeVar("_T")


def in_slices(
    command: Command,
    read: Callable[[Reply], tuple[_T, Effects]],
    again: Command | None = None,
    *,
    is_first: bool = False,
    waits: bool = False,
) -> Part[tuple[_T, Effects]]:
    """Call a transition until it does not answer MORE. Returns what it answers then.

    Should nobody go on with it, a timer of the store does.

    Args:
        again: the command after the first call, if it is another one.
        is_first: see First.
        waits: another call may be submitting the same. It is called again when that has come to its end: who sends a
            call again after a lost connection is answered what the first one did.
    """
    step: list[Command] = First([command]) if is_first else [command]
    while True:
        (reply,) = yield step
        outcome, effects = read(reply)
        if waits and outcome == BEING_SUBMITTED:
            yield Pause(LOOK_AGAIN)
        elif not (isinstance(outcome, Refused) and outcome.word is Word.MORE):
            return outcome, effects
        step = Further([again or command], effects)
