"""A write is applied once, and a connection that was given up writes no more; see library/once.lua."""

from __future__ import annotations

from typing import Any

from coordinator.storage.faults import ReplyError, ReplyNotKept
from coordinator.storage.functions.results import Word
from coordinator.storage.keys import Command, Keyspace


def fence(keys: Keyspace, writer: str, epoch: int, after: int | None) -> Command:
    """Begin or renew an epoch of a writer, so that calls of an earlier one are refused. `after`: with the calls applied
    whose numbers are larger; None: with none."""
    return keys.transition("hc_fence", writer, epoch, "" if after is None else after)


def read_fence(reply: Any) -> dict[int, Any]:
    """The replies to the calls that were applied, by number."""
    return dict(reply)


def release(keys: Keyspace, writer: str, epoch: int) -> Command:
    """End a writer of which nothing is on its way."""
    return keys.transition("hc_release", writer, epoch)


def read_kept(reply: Any) -> Any | None:
    """A reply that was kept, as it was the first time. ReplyNotKept: it was too large. None: call it again."""
    if type(reply) is ReplyError:
        return reply
    word = reply[0][0] if reply[0] else None
    if word == Word.REDO.value:
        return None
    return ReplyNotKept() if word == Word.UNKEPT.value else reply
