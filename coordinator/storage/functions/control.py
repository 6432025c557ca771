"""What people decide about what runs: cancelled, paused, drained, deleted; see library/control.lua."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from coordinator.storage.codec import fields_of
from coordinator.storage.functions.results import Effects, Fields, Refused, Word, read_word
from coordinator.storage.keys import Command, Keyspace, Transition, flow_name


def job_cancel(keys: Keyspace, job: str, reason: str) -> Transition:
    """End a job that waits or runs, and its run, in Error."""
    return keys.transition("hc_job_cancel", job, reason)


def read_job_cancel(reply: Any) -> tuple[Fields | Refused, Effects]:
    """The job's record. Refused: NONE; STATE with its status, or what its run is in, and the run if there is one; MORE
    if it has to be called again."""
    result, effects = reply
    word, details = read_word("hc_job_cancel", result, Word.OK, Word.NONE, Word.STATE, Word.MORE)
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def flow_pause(keys: Keyspace, id: int, *, pauses: bool) -> Transition:
    """Pause a flow, or resume it. Read as `read_flow`."""
    return keys.transition("hc_flow_pause", flow_name(id), "pause" if pauses else "resume")


def context_pause(keys: Keyspace, id: int, script_type: str | None, *, pauses: bool) -> Transition:
    """Pause a context, or the jobs of one type, or resume that."""
    return keys.transition("hc_context_pause", f"context:{id}", "pause" if pauses else "resume", script_type or "")


class Paused(NamedTuple):
    """What of a context is paused: all of it, and these script types by themselves."""

    is_whole: bool
    script_types: list[str]


def read_context_pause(reply: Any) -> tuple[Paused | None, Effects]:
    """None: there is no such context."""
    result, effects = reply
    word, details = read_word("hc_context_pause", result, Word.OK, Word.NONE)
    if word is Word.NONE:
        return None, effects
    is_whole, script_types = details
    return Paused(is_whole == 1, [script_type.decode() for script_type in script_types]), effects


def runner_drain(keys: Keyspace, id: int, *, drains: bool) -> Transition:
    """Give a runner nothing new, or jobs again."""
    return keys.transition("hc_runner_drain", f"runner:{id}", "drain" if drains else "undrain")


def read_runner_drain(reply: Any) -> tuple[Fields | None, Effects]:
    """The runner's record; None: there is no such runner."""
    result, effects = reply
    word, details = read_word("hc_runner_drain", result, Word.OK, Word.NONE)
    return fields_of(details[0]) if word is Word.OK else None, effects


class Deletion(NamedTuple):
    """How far the deletion of a context is: its number, how many records are gone, and whether there is more to do in
    the pass that was asked for."""

    number: str
    records: int
    has_more: bool


GOES_ON: Final = "-"


def context_delete(keys: Keyspace, id: int, number: str, passed: int) -> Command:
    """Delete a part of a context, as a slice of the pass 1 or 2. `number`: '' to begin, or to go on with what somebody
    has begun; GOES_ON to do only that; then that of the reply. It may be sent twice."""
    own = (keys.channel, keys.coordinator, number, passed, f"context:{id}")
    return keys.call("hc_context_delete", keys.engine, *own)


def read_context_delete(reply: Any) -> tuple[Deletion | None, Effects]:
    """None: there is nothing to be deleted."""
    result, effects = reply
    word, details = read_word("hc_context_delete", result, Word.OK, Word.MORE, Word.NONE)
    if word is Word.NONE:
        return None, effects
    number, records = details
    return Deletion(number.decode(), int(records), word is Word.MORE), effects
