"""Messages: created, updated, and sent, which runs the jobs embedded in them; see library/messages.lua."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.storage.codec import fields_of
from coordinator.storage.functions.flows import jobs_to_check
from coordinator.storage.functions.records import Arguments
from coordinator.storage.functions.results import Effects, Fields, Refused, Word, read_word
from coordinator.storage.keys import Keyspace, Transition


def message_upsert(keys: Keyspace, name: str, stored: bytes, pieces: Sequence[bytes], write: Arguments) -> Transition:
    """Create or update the message of this name.

    Args:
        stored: its field `job` as it was read; nothing if it is not there.
        pieces: what that becomes, with the time (s) between them.
    """
    return keys.transition("hc_message_upsert", name, stored, len(pieces), *pieces, *write)


def read_message_upsert(reply: Any) -> Fields | bytes:
    """The whole record; or, if what was read is not stored any more, its field `job`."""
    result = reply[0]
    if result[0] == Word.CHANGED.value:
        return result[1]  # type: ignore[no-any-return] # what the parser gives is untyped
    return fields_of(result[0])


def message_send(
    keys: Keyspace, name: str, embedded: bytes, transport_id: str, jobs: Mapping[str, Arguments]
) -> Transition:
    """Make jobs of those in the message of this name, whose field `job` was read as `embedded`, and run them.

    `jobs` are of `write_arguments`, by their names.
    """
    arguments: list[str | bytes | int] = [name, embedded, transport_id, len(jobs)]
    for job, write in jobs.items():
        arguments += (job, len(write), *write)
    return keys.transition("hc_message_send", *arguments)


def message_check(keys: Keyspace, name: str, jobs: Sequence[Mapping[str, Any]]) -> Transition:
    """Whether the message of this name, which has many jobs, may be sent with these ones of them."""
    return keys.transition("hc_message_check", name, *jobs_to_check(jobs))


def message_begin(keys: Keyspace, name: str, embedded: bytes, token: str) -> Transition:
    """Begin to send the message of this name, whose field `job` was read as `embedded`; flow_add brings its jobs.
    `token` names these calls."""
    return keys.transition("hc_message_begin", name, embedded, token)


def message_start(keys: Keyspace, name: str, token: str) -> Transition:
    """Send the message of this name, all of whose jobs were brought."""
    return keys.transition("hc_message_start", name, token)


def read_message_send(reply: Any) -> tuple[Refused | None, Effects]:
    """None: it is sent. Refused: NEW, to be gone on with; NONE, CHANGED, MISSING with the job, BUSY with the job and
    its run, DIFFERS as in `read_flow_submit`, STATE and MORE as in `read_flow`."""
    result, effects = reply
    expected = (Word.NEW, Word.OK, Word.NONE, Word.CHANGED, Word.BUSY, Word.MISSING, Word.DIFFERS)
    word, details = read_word("a function of messages", result, *expected, Word.STATE, Word.MORE)
    return None if word is Word.OK else Refused(word, details), effects
