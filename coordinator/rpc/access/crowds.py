"""Who has logged in many times: connections are limited, and nobody keeps all others out by holding them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Final

from coordinator.errors import Overloaded

__all__ = ["FEW", "check_room", "crowd"]

FEW: Final = 16  # connections of which anybody may have as many wherever there is room
RESERVED: Final = 8  # the last eighth of the places is for those who have no more
SETTING: Final = "max_connections"


def check_room(identity: Hashable, held: Iterable[Hashable], *, taken: int, most: int) -> None:
    """Whether somebody may have one more of the connections.

    Args:
        held: whose the others are; None: nobody has logged in there.
        taken: how many there are in all, this one included, of `most`.

    Raises:
        Overloaded: the places that remain are for others.
    """
    if taken <= most - most // RESERVED or sum(one == identity for one in held) < FEW:
        return
    detail = f"nearly all connections are taken, and {FEW} or more are yours: the others are for those who have fewer"
    raise Overloaded(detail, most, SETTING)


def crowd(held: Iterable[Hashable]) -> tuple[Hashable, int]:
    """Who has the most connections, and how many more than FEW. (None, 0): nobody has more."""
    counted = Counter(held)
    counted.pop(None, None)
    (identity, most) = max(counted.items(), key=lambda item: item[1], default=(None, 0))
    return (identity, most - FEW) if most > FEW else (None, 0)
