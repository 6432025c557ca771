"""Transitions that are neighbours in a round travel as one function call: the store looks at its clock, the timers and
who follows once for all of them, and counts the jobs of a flow that finish together off together."""

from __future__ import annotations

from typing import Final

from coordinator.storage import functions
from coordinator.storage.connection import Command, Reply
from coordinator.storage.keys import Transition

__all__ = ["join", "part"]

ARGUMENTS: Final = 4096  # of one call; the server does nothing else during it
WORK: Final = {"hc_resume": 10}  # as how many arguments each of these counts, for each is an attempt that is looked up


def join(commands: list[Command], *, apart: bool = False) -> tuple[list[Command], list[int]]:
    """Returns what to send, and for each how many of the given commands it stands for.

    What is joined is about as much work as it has arguments; a transition that may be much more work travels by itself.

    Args:
        apart: those that grow what is stored go apart from those that do not, for the store is out of memory.
    """
    if Transition not in map(type, commands):
        return commands, [1] * len(commands)
    joined: list[Command] = []
    counts: list[int] = []
    together: list[Transition] = []
    arguments = 0

    def flush() -> None:
        nonlocal arguments
        if together:
            joined.append(together[0] if len(together) == 1 else functions.many(together))
            counts.append(len(together))
            together.clear()
            arguments = 0

    for command in commands:
        if type(command) is Transition and command[1] not in functions.LONG:
            work = len(command) * WORK.get(command[1], 1)  # type: ignore[arg-type] # a text, the function's name
            is_unlike = apart and bool(together) and _grows(command) != _grows(together[0])
            if arguments + work > ARGUMENTS or is_unlike:
                flush()
            together.append(command)
            arguments += work
        else:
            flush()
            joined.append(command)
            counts.append(1)
    flush()
    return joined, counts


def _grows(transition: Transition) -> bool:
    return transition[1] in functions.GROWING


def part(replies: list[Reply], counts: list[int]) -> tuple[list[Reply], list[bytes]]:
    """The replies to the commands given to `join`, from those to what was sent, and the effects that belong to all of
    those that were joined."""
    if max(counts, default=1) == 1:
        return replies, []
    parted: list[Reply] = []
    effects: list[bytes] = []
    for reply, count in zip(replies, counts, strict=False):  # there are fewer replies when the connection was lost
        if count == 1:
            parted.append(reply)
        else:
            own, told = functions.read_many(reply, count)
            effects += told
            parted += own
    return parted, effects
