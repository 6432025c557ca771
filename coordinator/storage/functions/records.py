"""Records: created, updated, read and deleted; see library/records.lua."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from coordinator.models import Model
from coordinator.storage.codec import Record
from coordinator.storage.fields import NOT_GIVEN, NUL, stored_defaults
from coordinator.storage.functions.results import Effects, Refused, Word, read_word
from coordinator.storage.keys import Command, Keyspace, Transition

Arguments = Sequence[str | bytes | int]
"""The members of a record as each function takes them that writes one; `write_arguments` makes them."""


class Initial:
    """What becomes of the members of a record that are not given: a new one has these, one that is there keeps its own.

    Args:
        model: what clients give.
        members: those they cannot give, as they are stored.

    Attributes:
        members: those of both kinds, as they are stored; without spaces. None: a new record does not have that one.
        text: the same as the shapes of the function library have them.
    """

    def __init__(self, model: type[Model], **members: bytes | None) -> None:
        self.members: Mapping[str, bytes | None] = {**members, **stored_defaults(model)}
        self.text = " ".join(f"{name}={(value or b'').decode()}" for name, value in self.members.items()) + "|"


def write_arguments(record: Record, given: Mapping[str, Any], entry: str, initial: Initial) -> list[str | int | bytes]:
    """What the library's `write` takes: the members `given` of a record whose index entry is `entry`."""
    return [entry, initial.text + " ".join(given), *record.encode(given)]


def record_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """Create or update the record of this name. `write`: of `write_arguments`."""
    return keys.transition("hc_record_upsert", name, *write)


class Upserted(NamedTuple):
    """A record was written. `kept`: the values stored before of its initial members; None if it is new."""

    created_at: bytes
    updated_at: bytes
    kept: Sequence[bytes | None] | None


def read_record_upsert(reply: Any) -> Upserted | Refused:
    """Refused: BUSY with a job that is given something else to run, and the run that needs what it did or does."""
    if len(reply[0]) > 1:
        return Refused(*read_word("hc_job_upsert", reply[0], Word.BUSY))
    created_at, *stored = reply[0][0].split(b"\0")
    if not stored:
        return Upserted(created_at, created_at, None)
    kept = [None if value == NOT_GIVEN else value.replace(NUL, b"\0") for value in stored[1:]]
    return Upserted(created_at, stored[0], kept)


def job_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """Create or update a job. One that has ended and is given something else to run is a new one."""
    return keys.transition("hc_job_upsert", name, *write)


def flow_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """Create or update a flow."""
    return keys.transition("hc_flow_upsert", name, *write)


def context_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """Create or update a context."""
    return keys.transition("hc_context_upsert", name, *write)


def flow_draft(keys: Keyspace, name: str, seconds: float, write: Arguments) -> Transition:
    """Create or update the flow of this name, which is deleted unless it is started within so many seconds; 0: it
    stays. Read as `record_upsert`, and `effects_of` the reply."""
    return keys.transition("hc_flow_draft", int(seconds * 1000), name, *write)


def record_delete(keys: Keyspace, name: str, token: str, *, again: bool = False) -> Transition:
    """Delete the record of this name: a flow or message with its jobs, a job, a runner.

    `token` names the call, which is answered the same when it is sent again; `again`: it was answered MORE.
    """
    return keys.transition("hc_record_delete", name, token, int(again))


def read_record_delete(reply: Any) -> tuple[int | Refused, Effects]:
    """How many records were deleted. Refused: BUSY with the record in use, and the run that needs it if it does not run
    itself; MORE if it has to be called again."""
    result, effects = reply
    word, details = read_word("hc_record_delete", result, Word.OK, Word.BUSY, Word.MORE)
    return details[0] if word is Word.OK else Refused(word, details), effects


def read_records(keys: Keyspace, names: Sequence[str], max_bytes: int, fields: Sequence[str] = ()) -> Command:
    """Read records of these names, or only these fields of them, until they have so many bytes."""
    return keys.call("hc_read", f"{keys.prefix}engine", max_bytes, len(fields), *fields, *names)
