"""Flows: created with their jobs, started, retried, cancelled and run again; see library/flows.lua."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from coordinator.models import JobCreate
from coordinator.storage import codec
from coordinator.storage.codec import JOB_EMPTY, TOLD_BY_KEY, fields_of
from coordinator.storage.fields import FLOW_GIVEN, JOB_GIVEN, NOT_GIVEN, stored_defaults
from coordinator.storage.functions.results import Effects, Fields, Refused, Word, read_word
from coordinator.storage.keys import Keyspace, Transition, flow_name, index_entry, job_name

LARGE: Final = "@"
"""The field x_jobs of a run whose jobs are in a list; see Keyspace.plan."""


def flow_start(keys: Keyspace, id: int, token: str = "") -> Transition:
    """Start a flow that was never started. `token`: of flow_create, if flow_add has brought its jobs."""
    return keys.transition("hc_flow_start", flow_name(id), *([token] if token else []))


def flow_retry(keys: Keyspace, id: int) -> Transition:
    """Start the unfinished part of a flow in Error again."""
    return keys.transition("hc_flow_retry", flow_name(id))


def flow_cancel(keys: Keyspace, id: int, reason: str) -> Transition:
    """Stop a flow."""
    return keys.transition("hc_flow_cancel", flow_name(id), reason)


class Submitted(NamedTuple):
    """A job of a flow that is submitted: its given members, and the ids of the jobs before and after it in the DAG."""

    given: Mapping[str, Any]
    parents: list[int]
    children: list[int]


def flow_submit(
    keys: Keyspace, flow: Mapping[str, Any], jobs: Mapping[int, Submitted], leaves: Collection[int]
) -> Transition:
    """Create a flow, of which these members are given, and all its jobs, by their ids, and start it."""
    caller_id = flow["caller_id"]
    names = {id: job_name(caller_id, id) for id in jobs}
    of_flow = codec.FLOW.values(flow, FLOW_GIVEN, NOT_GIVEN)
    while of_flow[-1] == NOT_GIVEN:  # each argument costs the store as much as a small command
        of_flow.pop()
    arguments: list[str | int | bytes] = [
        flow_name(flow["id"]),
        index_entry(flow["id"]),
        " ".join(names.values()),
        " ".join(names[id] for id in leaves),
        f"{len(jobs)} {len(of_flow)}",
        *of_flow,
    ]
    for id, job in jobs.items():
        members = job.given.items()
        given = {
            name: value
            for name, value in members
            if name not in TOLD_BY_KEY and (name not in _UNSAID or _UNSAID[name] != value)
        }
        values = codec.JOB.encode(given)
        if job.children:
            given["x_next"] = None
            values.append(" ".join([names[child] for child in job.children]))
        if job.parents:
            given["x_parents"] = None
            values.append(" ".join(map(str, job.parents)))
        arguments += (names[id], index_entry(caller_id, id), " ".join(given), *values)
    return keys.transition("hc_flow_submit", *arguments)


_UNSAID: Final = {name: empty for name, empty in JOB_EMPTY.items() if name not in stored_defaults(JobCreate)}
"""Members of a job that hc_flow_submit is not told if they are this: they must be given, so not to be told of one can
mean nothing else."""


def flow_check(keys: Keyspace, flow: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> Transition:
    """Whether a flow and these jobs of it, of which these members are given, may be created. Read as `flow_create`."""
    given = codec.FLOW.values(flow, FLOW_GIVEN, NOT_GIVEN)
    return keys.transition("hc_flow_check", flow_name(flow["id"]), *given, *jobs_to_check(jobs))


def jobs_to_check(jobs: Sequence[Mapping[str, Any]]) -> list[str | int | bytes]:
    """Jobs as hc_flow_check and hc_message_check take them."""
    arguments: list[str | int | bytes] = []
    for job in jobs:
        arguments.append(job_name(job["caller_id"], job["id"]))
        arguments += codec.JOB.values(job, JOB_GIVEN, NOT_GIVEN)
    return arguments


def flow_create(keys: Keyspace, flow: Mapping[str, Any], token: str) -> Transition:
    """Begin to create a flow, of which these members are given; flow_add brings its jobs. `token` names these calls."""
    given = codec.FLOW.values(flow, FLOW_GIVEN, NOT_GIVEN)
    return keys.transition("hc_flow_create", flow_name(flow["id"]), index_entry(flow["id"]), token, *given)


def flow_add(keys: Keyspace, name: str, token: str, jobs: Sequence[Mapping[str, Any]]) -> Transition:
    """Create jobs, of which these members are given, for the flow of this name that is being created, or the message
    that is being sent."""
    arguments: list[str | int | bytes] = [name, token, len(jobs)]
    for job in jobs:
        arguments += (job_name(job["caller_id"], job["id"]), index_entry(job["caller_id"], job["id"]))
        arguments += codec.JOB.values(job, JOB_GIVEN, NOT_GIVEN)
    return keys.transition("hc_flow_add", *arguments)


def read_flow_add(reply: Any) -> tuple[Refused | None, Effects]:
    """None: they are created. Refused: BUSY with the job and its run, or NONE: the flow was given up."""
    result, effects = reply
    word, details = read_word("hc_flow_add", result, Word.OK, Word.BUSY, Word.NONE)
    return None if word is Word.OK else Refused(word, details), effects


def read_flow(reply: Any) -> tuple[Fields | Refused, Effects]:
    """The flow's record after hc_flow_start, hc_flow_retry or hc_flow_cancel, or Refused: NONE, STATE with its status,
    MISSING or CHANGED with the job, BUSY with the job and its run, MORE if it has to be called again."""
    result, effects = reply
    expected = (Word.OK, Word.NONE, Word.STATE, Word.MISSING, Word.CHANGED, Word.BUSY, Word.MORE)
    word, details = read_word("a function of flows", result, *expected)
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def read_flow_submit(reply: Any) -> tuple[Fields | bytes | Refused, Effects]:
    """When the flow was created (s) if all of it is new and runs, else its record. Refused: BUSY, STATE and MORE as in
    `read_flow`, DIFFERS with the record whose content is another, the member and the record's status."""
    result, effects = reply
    expected = (Word.NEW, Word.OK, Word.BUSY, Word.STATE, Word.MORE, Word.DIFFERS)
    word, details = read_word("hc_flow_submit", result, *expected)
    if word is Word.NEW:
        return details[0], effects
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def read_flow_create(reply: Any) -> tuple[Fields | Refused | None, Effects]:
    """What hc_flow_check or hc_flow_create returned. None: go on. Else the flow's record, if it was started before, or
    Refused: STATE, BUSY and MORE as in `read_flow`, DIFFERS as in `read_flow_submit`."""
    result, effects = reply
    expected = (Word.NEW, Word.OK, Word.STATE, Word.BUSY, Word.MORE, Word.DIFFERS)
    word, details = read_word("hc_flow_create", result, *expected)
    if word is Word.NEW:
        return None, effects
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


RUNS_AGAIN: Final = "*"
"""In place of a job's name: all jobs of the flow."""


def flow_mark(keys: Keyspace, id: int, token: str, marks: Mapping[str, str | bytes]) -> Transition:
    """Remember what of a flow is to run again, and with what: names of jobs, or RUNS_AGAIN, and names of records with a
    member, each with what is to be stored. `token` names this."""
    return keys.transition("hc_flow_mark", flow_name(id), token, *(item for mark in marks.items() for item in mark))


def read_flow_mark(reply: Any) -> tuple[Refused | None, Effects]:
    """Refused: NONE, STATE and MORE as in `read_flow`."""
    result, effects = reply
    word, details = read_word("hc_flow_mark", result, Word.OK, Word.NONE, Word.STATE, Word.MORE)
    return None if word is Word.OK else Refused(word, details), effects


def flow_rerun(keys: Keyspace, id: int, token: str) -> Transition:
    """Start a flow that has ended again, with what `flow_mark` was told under this token. Read as `read_flow`."""
    return keys.transition("hc_flow_rerun", flow_name(id), token)
