"""The operations on what people decide about what runs: a job is cancelled, something is paused, a runner drained, a
flow run again."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NoReturn

from pydantic_core import from_json, to_json

from coordinator.actors.request import Answerable, Compute, First, Operation, Part, WithEffects
from coordinator.errors import Conflict, InvalidParams, NotFound
from coordinator.models.base import MAX_ITEMS
from coordinator.models.contract import FlowLoadParams, RunnerLoadParams
from coordinator.models.control import ContextPauseParams, FlowOverrides, FlowRerunParams, JobCancelParams
from coordinator.models.flows import FlowParams
from coordinator.operations.flows import ATTEMPTS_TO_PLAN, flow_outcome
from coordinator.operations.pace import Pace
from coordinator.operations.records import DAG_AT_FIRST, DAG_BYTES, DAG_CHUNK, DAG_INLINE, flow_dag, spoken
from coordinator.operations.slices import in_slices
from coordinator.storage import codec
from coordinator.storage.connection import Reply
from coordinator.storage.functions import control, flows
from coordinator.storage.functions.results import Effects, Fields, Refused, Word
from coordinator.storage.keys import Keyspace, flow_name, job_name

__all__ = [
    "cancel_job",
    "drain_runner",
    "pause_context",
    "pause_flow",
    "rerun_flow",
    "resume_context",
    "resume_flow",
    "undrain_runner",
]

MARKED: Final = 500  # jobs of a flow that runs again, told in one call
MARKED_BYTES: Final = 256 * 1024  # of what they run with, unless a single one has more
OVERRIDDEN: Final = 50  # jobs looked at in one step for what is to be written over


def cancel_job(keys: Keyspace, params: JobCancelParams) -> Operation:
    reason = f"cancelled: {params.reason}" if params.reason else "cancelled"
    command = control.job_cancel(keys, job_name(params.caller_id, params.id), reason)
    outcome, effects = yield from in_slices(command, control.read_job_cancel, is_first=True)
    ids = {"context_id": params.context_id, "caller_id": params.caller_id, "id": params.id}
    match outcome:
        case Refused(Word.STATE, [bytes(status), bytes(run)]):
            _raise_not_cancelled(f"job {params.caller_id}/{params.id}", status.decode(), run)
        case Refused():
            raise NotFound("job", **ids)
    return WithEffects(codec.JOB.to_json(outcome, **ids), effects)


def _raise_not_cancelled(job: str, status: str, run: bytes) -> NoReturn:
    """Say why a job that neither waits nor runs for anything is not cancelled."""
    if status == "Finished":
        raise Conflict(f"{job} is Finished: there is nothing to cancel", status=status)
    if not run:
        raise Conflict(f"{job} is {status}, and nothing that was started runs it", status=status)
    detail = f"{job} is {status}, and {spoken(run)}, for which it was run, is not running"
    raise Conflict(detail, status=status, run=spoken(run))


def pause_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _set_flow(keys, params, pauses=True))


def resume_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _set_flow(keys, params, pauses=False))


def _set_flow(keys: Keyspace, params: FlowParams, *, pauses: bool) -> Operation:
    command = control.flow_pause(keys, params.id, pauses=pauses)
    outcome, effects = yield from in_slices(command, flows.read_flow, is_first=True)
    return flow_outcome(params.context_id, params.id, outcome, effects)


def pause_context(keys: Keyspace, params: ContextPauseParams) -> Answerable:
    return control.context_pause(keys, params.context_id, params.script_type, pauses=True), _context_set, params


def resume_context(keys: Keyspace, params: ContextPauseParams) -> Answerable:
    return control.context_pause(keys, params.context_id, params.script_type, pauses=False), _context_set, params


def _context_set(reply: Reply, params: ContextPauseParams) -> WithEffects:
    paused, effects = control.read_context_pause(reply)
    if paused is None:
        raise NotFound("context", id=params.context_id)
    answer = {"context_id": params.context_id, "paused": paused.is_whole, "script_types": paused.script_types}
    return WithEffects(to_json(answer), effects)


def drain_runner(keys: Keyspace, params: RunnerLoadParams) -> Answerable:
    return control.runner_drain(keys, params.id, drains=True), _runner_set, params


def undrain_runner(keys: Keyspace, params: RunnerLoadParams) -> Answerable:
    return control.runner_drain(keys, params.id, drains=False), _runner_set, params


def _runner_set(reply: Reply, params: RunnerLoadParams) -> WithEffects:
    runner, effects = control.read_runner_drain(reply)
    if runner is None:
        raise NotFound("runner", context_id=params.context_id, id=params.id)
    return WithEffects(codec.RUNNER.to_json(runner, id=params.id), effects)


# -- run again

Marks = dict[str, str | bytes]
"""See flows.flow_mark."""


def rerun_flow(keys: Keyspace, params: FlowRerunParams) -> Operation:
    """Run a flow that has ended again, or a job of it and those behind that."""
    outcome: Fields | Refused = Refused(Word.CHANGED)
    effects: Effects = ()
    for _ in range(ATTEMPTS_TO_PLAN):
        token = uuid.uuid4().hex
        marks = yield from _marks(keys, params)
        for part in _parts(marks):
            command = flows.flow_mark(keys, params.id, token, part)
            refused, effects = yield from in_slices(command, flows.read_flow_mark)
            if refused is not None:
                return flow_outcome(params.context_id, params.id, refused, effects)
        outcome, effects = yield from in_slices(flows.flow_rerun(keys, params.id, token), flows.read_flow)
        if not (isinstance(outcome, Refused) and outcome.word in (Word.CHANGED, Word.MISSING)):
            break
        # For the error that says what is wrong. If there is none, the jobs have been changed since.
        yield from flow_dag(keys, FlowLoadParams(context_id=params.context_id, id=params.id))
    return flow_outcome(params.context_id, params.id, outcome, effects)


def _parts(marks: Marks) -> Iterator[Marks]:
    """As much of them as is told in one call."""
    part: Marks = {}
    size = 0
    for name, value in marks.items():
        if part and (len(part) >= MARKED or size + len(value) > MARKED_BYTES):
            yield part
            part, size = {}, 0
        part[name] = value
        size += len(value)
    yield part


def _marks(keys: Keyspace, params: FlowRerunParams) -> Part[Marks]:
    """What runs again, and with what. Raises NotFound, InvalidParams."""
    ((caller, listed, env_vars),) = yield First([("HMGET", keys.flow(params.id), "caller_id", "jobs", "env_vars")])
    if caller is None or listed is None:
        raise NotFound("flow", context_id=params.context_id, id=params.id)
    caller_id, jobs = int(caller), sorted(set(from_json(listed)))
    again: Collection[int] | None = None
    if params.from_job is None:
        marks: Marks = {flows.RUNS_AGAIN: ""}
    elif params.from_job in jobs:
        depends = yield from _depends(keys, params.context_id, caller_id, jobs)
        if sum(map(len, depends.values())) <= DAG_INLINE * 8:  # bytes, about, of so many edges
            again = _behind(params.from_job, depends)
        else:
            first = params.from_job
            again = yield Compute(lambda: _behind(first, depends))
        marks = {job_name(caller_id, id): "" for id in again}
    else:
        raise InvalidParams.at("from_job", msg=f"is no job of flow {params.id}", type="no_such_job")
    if params.overrides is not None:
        if params.overrides.env_vars is not None:
            merged = _merged(env_vars, params.overrides.env_vars, "overrides", "env_vars")
            marks[f"{flow_name(params.id)} env_vars"] = merged
        marks.update((yield from _job_overrides(keys, caller_id, jobs, again, params.overrides)))
    return marks


def _depends(keys: Keyspace, context_id: int, caller_id: int, jobs: Sequence[int]) -> Part[dict[int, bytes]]:
    """What each job depends on, as JSON."""
    depends: dict[int, bytes] = {}
    start = 0
    pace = Pace(DAG_CHUNK, DAG_BYTES, DAG_AT_FIRST)
    while start < len(jobs):
        chunk = jobs[start : start + pace.count]
        start += len(chunk)
        replies = yield [("HMGET", keys.job(caller_id, id), "script_type", "depends") for id in chunk]
        size = 0
        for id, (script_type, listed) in zip(chunk, replies, strict=True):
            if script_type is None:
                raise NotFound("job", context_id=context_id, caller_id=caller_id, id=id)
            depends[id] = listed or b"[]"
            size += len(depends[id])
        pace.read(len(chunk), size)
    return depends


def _behind(first: int, depends: Mapping[int, bytes]) -> set[int]:
    """The job, and all that depend on it, or on another one that does."""
    children: dict[int, list[int]] = {}
    for id, listed in depends.items():
        for parent in from_json(listed):
            children.setdefault(parent, []).append(id)
    found, waiting = {first}, [first]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def _job_overrides(
    keys: Keyspace, caller_id: int, jobs: Sequence[int], again: Collection[int] | None, overrides: FlowOverrides
) -> Part[Marks]:
    """What jobs are to have. `again`: those that run again though they have finished; None: all."""
    marks: Marks = {}
    listed, seen = set(jobs), set[int]()
    for start in range(0, len(overrides.jobs), OVERRIDDEN):
        chunk = overrides.jobs[start : start + OVERRIDDEN]
        replies = yield [("HMGET", keys.job(caller_id, job.id), "status", "env_vars") for job in chunk]
        for at, (job, (status, env_vars)) in enumerate(zip(chunk, replies, strict=True), start):
            place = ("overrides", "jobs", at)
            if job.id not in listed:
                raise InvalidParams.at(*place, "id", msg="is no job of the flow", type="no_such_job")
            if job.id in seen:
                raise InvalidParams.at(*place, "id", msg="is there twice", type="twice")
            if again is not None and job.id not in again and status == b"Finished":
                raise InvalidParams.at(*place, "id", msg="keeps its result: it does not run again", type="does_not_run")
            seen.add(job.id)
            name = job_name(caller_id, job.id)
            if job.script is not None:
                marks[f"{name} script"] = job.script
            if job.env_vars is not None:
                marks[f"{name} env_vars"] = _merged(env_vars, job.env_vars, *place, "env_vars")
    return marks


def _merged(stored: bytes | None, given: Mapping[str, str], *place: str | int) -> bytes:
    """A map as it is to be stored."""
    merged = {**from_json(stored or b"{}"), **given}
    if len(merged) > MAX_ITEMS:
        msg = f"has {len(merged)} items with those that stay; at most {MAX_ITEMS}"
        raise InvalidParams.at(*place, msg=msg, type="too_long")
    return to_json(merged)
