"""What a function returns: a word that says how the call went, what follows it, and effects."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

Effects = Sequence[bytes]
"""As the store has them; `effects.read_effect` reads one."""

Fields = Mapping[bytes, bytes]
"""A record, as it is stored."""


class Word(enum.Enum):
    """How a function's result begins: how the call went. The table WORD in common.lua lists the same."""

    OK = b"ok"
    NEW = b"new"  # the record was not there before
    NONE = b"none"  # there is no such record
    STALE = b"stale"  # the attempt has ended
    OVER = b"over"  # it was ended here, and its last output is taken
    MISSING = b"missing"  # a job of the flow is not there
    CHANGED = b"changed"  # what the caller has read is another by now
    BUSY = b"busy"  # another run needs the record
    DIFFERS = b"differs"  # the record is there with other content
    STATE = b"state"  # the record's status does not allow it
    MORE = b"more"  # there may be more jobs in the queues; there is more to do, which the next call goes on with
    ALL = b"all"  # there are no more
    AGAIN = b"again"  # the same take was asked for before
    FAULT = b"fault"  # this transition of several has failed
    REDO = b"redo"  # what a repeatable transition has returned is not kept: it is to be called again
    UNKEPT = b"unkept"  # what the transition has returned was too large to be kept
    FOREIGN = b"foreign"  # the caller may not do this to that record


class UnknownReply(Exception):
    """The library has returned something nobody here knows."""


class Refused(NamedTuple):
    """The function has changed nothing: why, and what it says of it, such as the record in the way."""

    word: Word
    details: Sequence[Any] = ()


WORDS: Final = {word.value: word for word in Word}


def read_word(function: str, result: Sequence[Any], *expected: Word) -> tuple[Word, Sequence[Any]]:
    """A result's word, which must be one of these, and what follows it."""
    word = WORDS.get(result[0])
    if word not in expected:
        raise UnknownReply(f"{function} returned {result[0]!r}")
    return word, result[1:]


def effects_of(reply: Any) -> Effects:
    """The effects of a transition whose result another function reads."""
    effects: Effects = reply[1]
    return effects


def read_effects(reply: Any) -> Effects:
    """The effects of a transition whose result does not matter: hc_untake."""
    result, effects = reply
    read_word("a transition", result, Word.OK)
    return effects  # type: ignore[no-any-return] # what the parser gives is untyped
