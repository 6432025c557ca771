"""A context is held still while it is exported or imported; see library/transfer.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from coordinator.storage.functions.results import Refused, Word, read_word
from coordinator.storage.keys import Command, Keyspace


def hold(keys: Keyspace, what: str, token: str, seconds: float) -> Command:
    """Hold a context still, or go on. `what`: export, import, or commit. `token` names who does."""
    return keys.call("hc_hold", keys.engine, what, token, int(seconds * 1000))


class Held(NamedTuple):
    """`now`: what the context's clock of timers shows, ms. `unfinished`: what an import was about, import or commit,
    that had not been finished; else empty."""

    now: int
    unfinished: str


def read_hold(reply: Any) -> Held | Refused:
    """Refused: BUSY, with what somebody else holds it for."""
    word, details = read_word("hc_hold", reply, Word.OK, Word.BUSY)
    return Held(int(details[0]), details[1].decode()) if word is Word.OK else Refused(word, details)


def let_go(keys: Keyspace, token: str, now: int | None) -> Command:
    """Hold a context no longer. `now`: what its clock of timers is to show; None: it goes on where it stood."""
    return keys.call("hc_let_go", keys.engine, token, "" if now is None else now, keys.channel)


def settle(keys: Keyspace, token: str, names: Sequence[str]) -> Command:
    """The last keys that an import has brought become the context's."""
    return keys.call("hc_settle", keys.engine, token, *names)


def read_settle(reply: Any) -> bool:
    """Whether they have; if not, somebody else holds the context."""
    word, _ = read_word("hc_settle", [reply], Word.OK, Word.STALE)
    return word is Word.OK
