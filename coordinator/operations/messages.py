"""Messages: sent, which runs the jobs embedded in them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

from pydantic_core import from_json

from coordinator import dag
from coordinator.actors.request import Compute, First, Further, Operation, Part, WithEffects
from coordinator.errors import Conflict, NotFound
from coordinator.models.contract import MessageLoadParams
from coordinator.models.flows import MessageParams
from coordinator.operations import slices
from coordinator.operations.flows import (
    ATTEMPTS_TO_PLAN,
    raise_busy,
    raise_differs,
)
from coordinator.operations.records import NEW_JOB, load_message
from coordinator.operations.slices import in_slices
from coordinator.storage import codec
from coordinator.storage.fields import JOB_GIVEN
from coordinator.storage.functions import flows, messages, records
from coordinator.storage.functions.records import Arguments
from coordinator.storage.functions.results import Effects, Refused, Word
from coordinator.storage.keys import Keyspace, index_entry, job_name, message_name

__all__ = ["send_message"]

EMBEDDED_INLINE: Final = 32 * 1024  # bytes of jobs up to which those of a message are


def send_message(keys: Keyspace, params: MessageParams) -> Operation:
    """Make the embedded jobs jobs of the context and run them."""
    ids = {"context_id": params.context_id, "caller_id": params.caller_id, "id": params.id}
    message = message_name(params.caller_id, params.id)
    outcome: Refused | None = Refused(Word.CHANGED)
    effects: Effects = ()
    for _ in range(ATTEMPTS_TO_PLAN):
        look = First([("HMGET", keys.message(params.caller_id, params.id), "job", "x_started")])
        ((embedded, started),) = yield look
        if embedded is None:
            raise NotFound("message", **ids)
        if started is not None:
            outcome = None
            break
        jobs: Sequence[Mapping[str, Any]]
        if len(embedded) <= EMBEDDED_INLINE:
            jobs = _jobs_to_send(embedded)
        else:
            jobs = yield Compute(partial(_jobs_to_send, embedded))
        if _is_one_call(jobs):
            writes = {job_name(job["caller_id"], job["id"]): _write_sent(job) for job in jobs}
            command = messages.message_send(keys, message, embedded, uuid.uuid4().hex, writes)
            outcome, effects = yield from in_slices(command, messages.read_message_send, waits=True)
        else:
            outcome, effects = yield from _send_in_slices(keys, message, embedded, jobs)
        if outcome is None or outcome.word is not Word.CHANGED:
            break
    if outcome is not None:
        _raise_unsent(outcome, ids)
    loaded = MessageLoadParams(context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    record = yield from load_message(keys, loaded)
    return WithEffects(record, effects)


def _raise_unsent(refused: Refused, ids: Mapping[str, int]) -> NoReturn:
    match refused:
        case Refused(Word.NONE):
            raise NotFound("message", **ids)
        case Refused(Word.BUSY, [bytes(job), bytes(run)]):
            raise_busy(job, run)
        case Refused(Word.DIFFERS, [bytes(job), bytes(member), bytes(status)]):
            raise_differs(job, member, status)
        case Refused(Word.STATE):
            raise Conflict("the message is being sent", **ids)
    raise Conflict("the message is being changed", **ids)


def _send_in_slices(
    keys: Keyspace, message: str, embedded: bytes, jobs: Sequence[Mapping[str, Any]]
) -> Part[tuple[Refused | None, Effects]]:
    """Send a message with many jobs. Nothing of it runs before all are there; see _submit_in_slices."""
    token = uuid.uuid4().hex
    outcome: Refused | None = None
    effects: Effects = ()
    for start in range(0, len(jobs) + slices.JOBS_ADDED, slices.JOBS_ADDED):
        checked = jobs[start : start + slices.JOBS_ADDED]
        command = (
            messages.message_check(keys, message, checked)
            if checked
            else messages.message_begin(keys, message, embedded, token)
        )
        outcome, effects = yield from in_slices(command, messages.read_message_send, waits=True)
        if outcome is None or outcome.word is not Word.NEW:
            return outcome, effects
    for start in range(0, len(jobs), slices.JOBS_ADDED):
        added = jobs[start : start + slices.JOBS_ADDED]
        (reply,) = yield Further([flows.flow_add(keys, message, token, added)], effects)
        refused, effects = flows.read_flow_add(reply)
        if refused is not None:
            return (Refused(Word.CHANGED) if refused.word is Word.NONE else refused), effects
    return (yield from in_slices(messages.message_start(keys, message, token), messages.read_message_send))


def _is_one_call(jobs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a message with these jobs is sent in one call of the store."""
    names = sum(len(job["depends"]) + len(job["prerequisites"]) for job in jobs)
    return len(jobs) <= slices.ONE_CALL and names <= slices.ONE_CALL_NAMES


def _jobs_to_send(embedded: bytes) -> Sequence[Mapping[str, Any]]:
    """What is given of each of a message's embedded jobs. Raises what flow.dag raises for a flow's."""
    jobs = {(job["caller_id"], job["id"]): job for job in from_json(embedded)}.values()
    _check_embedded(jobs)
    return [{name: job[name] for name in JOB_GIVEN if name in job and (name != "result" or job[name])} for job in jobs]


def _write_sent(given: Mapping[str, Any]) -> Arguments:
    """What `write` takes of an embedded job."""
    return records.write_arguments(codec.JOB, given, index_entry(given["caller_id"], given["id"]), NEW_JOB)


def _check_embedded(jobs: Collection[Mapping[str, Any]]) -> None:
    """Raises what flow.dag raises for a flow's jobs. Jobs of different callers do not depend on each other."""
    for caller_id in {job["caller_id"] for job in jobs}:
        dag.build({job["id"]: job["depends"] for job in jobs if job["caller_id"] == caller_id})
