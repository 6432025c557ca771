"""The events of a flow and of a context, followed and read; see library/events.lua and library/following.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from coordinator.storage.functions.results import Refused, Word, read_word
from coordinator.storage.keys import Keyspace, Transition, context_name, flow_name


def flow_read(keys: Keyspace, id: int, after: str, count: int, max_bytes: int) -> Transition:
    """The events of a flow after this one, so many at most, and fewer if they have so many bytes."""
    return keys.transition("hc_flow_read", flow_name(id), after, count, max_bytes)


class ReadEvents(NamedTuple):
    """Events of a flow, each with its id and the other members of a FlowEvent, without braces. `missed`: some that came
    before the first of them are no longer kept. `is_last`: there are no more for now."""

    missed: bool
    is_last: bool
    events: Sequence[tuple[bytes, bytes]]


def read_flow_read(reply: Any) -> ReadEvents | Refused:
    """Refused: NONE, there is no such flow, with the time (ms); CHANGED, there are no events as new as that one."""
    word, details = read_word("hc_flow_read", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    if word is not Word.OK:
        return Refused(word, details)
    missed, is_last, flat = details
    items = iter(flat)
    return ReadEvents(missed == 1, is_last == 1, list(zip(items, items, strict=True)))


def flow_follow(keys: Keyspace, id: int, seconds: float, after: str) -> Transition:
    """A flow's events after this one are announced for so long."""
    return keys.transition("hc_flow_follow", flow_name(id), int(seconds * 1000), after)


def read_flow_follow(reply: Any) -> bool | Refused:
    """Whether events after that one are no longer kept. Refused: NONE, CHANGED as in `read_flow_read`."""
    word, details = read_word("hc_flow_follow", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    return details[0] == 1 if word is Word.OK else Refused(word)


ENTRY_PLACES: Final = 1000
"""An event of a context has the id of its entry in the feed, with the second number times so many and the event's place
in the entry, from 1 on; ENTRY_EVENTS in feed.lua is smaller."""


def _entry_of(event_id: str) -> tuple[str, int]:
    """An event's entry, and its place there."""
    time, _, number = event_id.partition("-")
    return f"{time}-{int(number) // ENTRY_PLACES}", int(number) % ENTRY_PLACES


def _event_id(entry: bytes, place: int) -> bytes:
    time, _, number = entry.partition(b"-")
    return b"%b-%d" % (time, int(number) * ENTRY_PLACES + place)


def context_follow(keys: Keyspace, seconds: float, after: str | None = None, *, was_there: bool = False) -> Transition:
    """The events of a context after this one are written, and announced, for so long; None: those that come.

    `was_there`: so was the record of the context when who asks began.
    """
    entry = "" if after is None else _entry_of(after)[0]
    record, lasts = context_name(keys.context_key or 0), int(seconds * 1000)
    return keys.transition("hc_context_follow", record, int(was_there), lasts, entry)


class Following(NamedTuple):
    """`missed`: events after the one asked for are no longer kept. `last`: the id after that of the last event so far.
    `is_there`: so is the context's record. `is_new`: nobody had followed for a while."""

    missed: bool
    last: str
    is_there: bool
    is_new: bool


def read_context_follow(reply: Any) -> Following | Refused:
    """Refused: NONE, the context was deleted, with the time (ms); CHANGED, there are no events as new as that one."""
    word, details = read_word("hc_context_follow", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    if word is not Word.OK:
        return Refused(word, details)
    missed, last, is_there, is_new = details
    return Following(missed == 1, _event_id(last, ENTRY_PLACES - 1).decode(), is_there == 1, is_new == 1)


def context_read(keys: Keyspace, after: str, count: int, max_bytes: int, *, was_there: bool = False) -> Transition:
    """The events of a context after this one: of so many entries at most, fewer if they have so many bytes."""
    record = context_name(keys.context_key or 0)
    return keys.transition("hc_context_read", record, int(was_there), _entry_of(after)[0], count, max_bytes)


def read_context_read(reply: Any, after: str) -> ReadEvents | Refused:
    """Each event with its id and the members of a ContextEvent without it. Refused: as in `read_context_follow`, and
    CHANGED if nobody has followed for a while."""
    word, details = read_word("hc_context_read", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    if word is not Word.OK:
        return Refused(word, details)
    missed, is_last, flat = details
    first, known = _entry_of(after)
    events: list[tuple[bytes, bytes]] = []
    items = iter(flat)
    for entry, lines in zip(items, items, strict=True):
        skipped = known if entry.decode() == first else 0
        numbered = enumerate(lines.split(b"\n"), 1)
        events += [(_event_id(entry, place), line) for place, line in numbered if place > skipped]
    return ReadEvents(missed == 1, is_last == 1, events)
