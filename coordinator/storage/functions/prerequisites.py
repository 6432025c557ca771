"""Prerequisites: satisfied, revoked and listed; see library/prerequisites.lua and library/messages.lua."""

from __future__ import annotations

from typing import Any, NamedTuple

from coordinator.storage.functions.results import Effects, Refused, Word, read_word
from coordinator.storage.keys import Keyspace, Transition, flow_name


class Satisfied(NamedTuple):
    """A prerequisite is satisfied: when first (ms), what more is said of it, as members of a SatisfiedPrerequisite in
    JSON, each with a comma before it, and how many jobs had waited for it."""

    at: int
    more: bytes
    released: int


def prerequisite_satisfy(
    keys: Keyspace, name: str, flow_id: int | None, token: str, *, by: bytes | None, payload: bytes | None
) -> Transition:
    """Remember a prerequisite as satisfied, by whom and with what (JSON), and release the jobs that waited for it:
    those of one flow, or all. `token` names the call."""
    said = ((b"by", by), (b"payload", payload))
    more = b"".join(b',"%b":%b' % (label, value) for label, value in said if value is not None)
    return keys.transition("hc_prerequisite_satisfy", name, _flow_or_none(flow_id), more, token)


def _flow_or_none(flow_id: int | None) -> str:
    return "" if flow_id is None else flow_name(flow_id)


def read_prerequisite_satisfy(reply: Any) -> tuple[Satisfied | Refused, Effects]:
    """Refused: NONE, there is no such flow; DIFFERS, it was satisfied with another payload before; MORE if it has to be
    called again."""
    result, effects = reply
    word, details = read_word("hc_prerequisite_satisfy", result, Word.OK, Word.NONE, Word.DIFFERS, Word.MORE)
    if word is not Word.OK:
        return Refused(word), effects
    stored, released = details
    at, comma, more = stored.partition(b",")
    return Satisfied(int(at), comma + more, released), effects


def prerequisite_revoke(keys: Keyspace, name: str, flow_id: int | None) -> Transition:
    """Let a prerequisite be satisfied no longer."""
    return keys.transition("hc_prerequisite_revoke", name, _flow_or_none(flow_id))


def read_prerequisite_revoke(reply: Any) -> bool | None:
    """Whether it was satisfied; None: there is no such flow."""
    word, details = read_word("hc_prerequisite_revoke", reply[0], Word.OK, Word.NONE)
    return details[0] == 1 if word is Word.OK else None


class PrerequisitePlace(NamedTuple):
    """Where a page of prerequisites begins: behind this name of those that jobs wait for, or of those that are
    satisfied (for one flow, if there is a `flow_id`)."""

    is_satisfied: bool
    name: str
    flow_id: str = ""


class PrerequisitePage(NamedTuple):
    """A page, both parts as JSON without brackets; `after`: where the next one begins, None on the last."""

    waiting: bytes
    satisfied: bytes
    after: PrerequisitePlace | None


def prerequisite_list(keys: Keyspace, after: PrerequisitePlace | None, limit: int) -> Transition:
    phase, begin = "w", "-"
    if after is not None:
        phase = "s" if after.is_satisfied else "w"
        begin = f"({after.name}\0{after.flow_id}" if after.is_satisfied else f"({after.name}"
    return keys.transition("hc_prerequisite_list", phase, begin, limit)


def read_prerequisite_list(reply: Any) -> PrerequisitePage:
    _, (waiting, satisfied, phase, entry) = read_word("hc_prerequisite_list", reply[0], Word.OK)
    name = entry.decode()[1:]
    if phase == b"w":
        return PrerequisitePage(waiting, satisfied, PrerequisitePlace(False, name))
    if phase == b"s":
        name, _, flow_id = name.rpartition("\0")
        return PrerequisitePage(waiting, satisfied, PrerequisitePlace(True, name, flow_id))
    return PrerequisitePage(waiting, satisfied, None)
