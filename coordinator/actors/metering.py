"""How long the store takes over what each caller sends, if that is limited.

The store carries out what is sent in one write one after the other. So it is asked for the time between the commands
of different callers, in the same write: no clock of ours, nor what else it has to do, is in what is measured, but for
writes of more than about 16 KiB, which it reads in parts. A call that stands for transitions of several callers is
divided by their arguments: what may be more work than those tell travels by itself, see `pipeline.join`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from coordinator.actors.request import Request
from coordinator.storage.connection import Command, Reply

__all__ = ["Meter", "metered"]

ASK: Final[Command] = ("TIME",)
PACKED: Final = 4  # as how many arguments a command counts that is packed already

Charge = Callable[[float], None] | None


class Meter(NamedTuple):
    """Where the store is asked for the time.

    Attributes:
        asked: the places of those commands among what is sent.
        shares: for what is between two of them each, who is charged and for which part.
    """

    asked: list[int]
    shares: list[list[tuple[Charge, float]]]

    def read(self, replies: list[Reply]) -> list[Reply]:
        """Charge those whose commands were carried out. Returns the replies without what was asked here."""
        times = [replies[at] for at in self.asked if at < len(replies)]
        for (before, after), shares in zip(pairwise(times), self.shares, strict=False):
            if type(before) is list and type(after) is list:
                took = _microseconds(after) - _microseconds(before)
                for charge, part in shares:
                    if charge is not None and took > 0:  # its clock may be set
                        charge(took * part / 1e6)
        asked = {*self.asked}
        return [reply for at, reply in enumerate(replies) if at not in asked]


def metered(
    joined: list[Command], counts: Sequence[int], commands: Sequence[Command], requests: Sequence[Request]
) -> tuple[list[Command], Meter | None]:
    """What to send, and the meter for its replies; None if nobody is charged for it.

    Args:
        joined: what is to be sent, each of which stands for so many (`counts`) of `commands`.
        requests: whose those are.
    """
    charges: list[Charge] = []
    for request in requests:
        charges += [request.charge] * (len(request.commands or ()) - len(request.known or ()))
    if not any(charges):
        return joined, None
    sent: list[Command] = []
    asked: list[int] = []
    shares: list[list[tuple[Charge, float]]] = []
    end = 0
    for command, count in zip(joined, counts, strict=True):
        begin, end = end, end + count
        of_command = _shares(charges[begin:end], commands[begin:end])
        if not shares or len(of_command) > 1 or of_command != shares[-1]:
            asked.append(len(sent))
            sent.append(ASK)
            shares.append(of_command)
        sent.append(command)
    asked.append(len(sent))
    sent.append(ASK)
    return sent, Meter(asked, shares)


def _shares(charges: Sequence[Charge], commands: Sequence[Command]) -> list[tuple[Charge, float]]:
    """Who is charged for which part of a call that stands for these commands."""
    first = charges[0]
    if all(charge == first for charge in charges):
        return [(first, 1.0)]
    work = [PACKED if type(command) is bytes else len(command) for command in commands]
    whole = sum(work)
    return [(charge, part / whole) for charge, part in zip(charges, work, strict=True)]


def _microseconds(time: Reply) -> int:
    seconds, microseconds = time
    return int(seconds) * 1_000_000 + int(microseconds)
