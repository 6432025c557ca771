"""The operations on what runs: each transition is one function of the library in the store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeVar

from pydantic_core import from_json, to_json

from coordinator import dag
from coordinator.actors.request import Exchange, Operation, RawJson, WithEffects
from coordinator.errors import Conflict, InvalidParams, NotFound, StaleToken
from coordinator.models.contract import FlowLoadParams, MessageLoadParams
from coordinator.models.execution import (
    FlowCancelParams,
    FlowEventsParams,
    FlowParams,
    FlowSubmitParams,
    JobFailParams,
    JobFinishParams,
    JobHeartbeatParams,
    JobLogParams,
    MessageParams,
    PrerequisiteListParams,
    PrerequisiteSatisfyParams,
)
from coordinator.operations.listing import PAGE_BYTES
from coordinator.operations.pace import Pace
from coordinator.operations.records import NEW_FLOW, NEW_JOB, flow_dag, given_members, load_message
from coordinator.storage import codec, functions
from coordinator.storage.connection import Reply
from coordinator.storage.fields import JOB_GIVEN
from coordinator.storage.functions import Effects, Fields, Refused, Submitted, Word, write_arguments
from coordinator.storage.keys import Keyspace, Transition, index_entry, job_name, message_name

__all__ = [
    "cancel_flow",
    "fail_job",
    "finish_job",
    "flow_events",
    "flow_status",
    "heartbeat",
    "list_prerequisites",
    "log_lines",
    "render_event",
    "retry_flow",
    "satisfy_prerequisite",
    "send_message",
    "start_flow",
    "submit_flow",
]

CHUNK: Final = 500  # records loaded a step, so that others get on in between
ATTEMPTS_TO_PLAN: Final = 5  # a DAG that changes under us so often is reported as a conflict
_T = TypeVar("_T")
STATUSES: Final = ("Dispatched", "WaitingForPrerequisites", "Started", "Error", "Finished")


# -- flows


def start_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _start(keys, params, functions.flow_start))


def retry_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _start(keys, params, functions.flow_retry))


def _start(keys: Keyspace, params: FlowParams, function: Callable[[Keyspace, int], Transition]) -> Operation:
    for _ in range(ATTEMPTS_TO_PLAN):
        (reply,) = yield [function(keys, params.id)]
        outcome, effects = functions.read_flow(reply)
        if not (isinstance(outcome, Refused) and outcome.word in (Word.CHANGED, Word.MISSING)):
            break
        # For the error that says what is wrong. If there is none, the jobs have been changed since.
        yield from flow_dag(keys, FlowLoadParams(context_id=params.context_id, id=params.id))
    return _flow_outcome(params.context_id, params.id, outcome, effects)


def cancel_flow(keys: Keyspace, params: FlowCancelParams) -> Operation:
    reason = f"cancelled: {params.reason}" if params.reason else "cancelled"
    (reply,) = yield [functions.flow_cancel(keys, params.id, reason)]
    return _flow_outcome(params.context_id, params.id, *functions.read_flow(reply))


def submit_flow(keys: Keyspace, params: FlowSubmitParams) -> Operation:
    flow, jobs = params.flow, {job.id: job for job in params.jobs}
    if jobs.keys() != set(flow.jobs) or len(jobs) != len(params.jobs):
        raise _mismatch("must be the jobs that flow.jobs lists, each once")
    if any(job.caller_id != flow.caller_id for job in params.jobs):
        raise _mismatch("must have the flow's caller_id")
    graph = dag.build({id: job.depends for id, job in jobs.items()})
    submitted = {id: Submitted(given_members(job), [], []) for id, job in jobs.items()}
    for parent, child in graph.edges:
        submitted[parent].children.append(child)
        submitted[child].parents.append(parent)
    of_flow = given_members(flow)
    (reply,) = yield [functions.flow_submit(keys, of_flow, submitted, graph.leaves)]
    outcome, effects = functions.read_flow_submit(reply)
    if isinstance(outcome, bytes):
        kept = {**NEW_FLOW.members, "status": b"Started"}
        return WithEffects(codec.FLOW.written(of_flow, outcome, outcome, kept), effects)
    return _flow_outcome(params.context_id, flow.id, outcome, effects)


def _mismatch(msg: str) -> InvalidParams:
    return InvalidParams([{"loc": ["jobs"], "msg": msg, "type": "jobs_mismatch"}])


def _flow_outcome(context_id: int, flow_id: int, outcome: Fields | Refused, effects: Effects) -> WithEffects:
    match outcome:
        case Refused(Word.NONE):
            raise NotFound("flow", context_id=context_id, id=flow_id)
        case Refused(Word.STATE, [bytes(status)]):
            raise Conflict(f"flow {flow_id} is {status.decode()}", status=status.decode())
        case Refused(Word.BUSY, [bytes(job), bytes(run)]):
            _raise_busy(job, run)
        case Refused():
            raise Conflict(f"flow {flow_id} or its jobs are being changed", flow=flow_id)
    return WithEffects(codec.FLOW.to_json(outcome, context_id=context_id, id=flow_id), effects)


def _raise_busy(job: bytes, run: bytes) -> NoReturn:
    name, other = _spoken(job), _spoken(run)
    raise Conflict(f"{name} is being run for {other}", job=int(job.rpartition(b":")[2]), run=other)


_PROGRESS: Final = ("status", "depends", "script_type", "x_attempt", "x_queued", "x_ended", "x_retry", "x_failure")
_PROGRESS_LABELS: Final = (b"runner_id", b"queued_at", b"started_at", b"ended_at", b"retry_at")


def flow_status(keys: Keyspace, params: FlowParams) -> Operation:
    """The flow, and how far each of its jobs is."""
    fields, newest = yield [
        ("HGETALL", keys.flow(params.id)),
        ("XREVRANGE", keys.events(params.id), "+", "-", "COUNT", 1),
    ]
    if not fields:
        raise NotFound("flow", context_id=params.context_id, id=params.id)
    caller_id = int(fields[b"caller_id"])
    ids: list[int] = sorted(set(from_json(fields[b"jobs"])))
    counts = dict.fromkeys(STATUSES, 0)
    jobs: list[bytes] = []
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        replies = yield [("HMGET", keys.job(caller_id, id), *_PROGRESS) for id in chunk]
        for id, reply in zip(chunk, replies, strict=True):
            if reply[0] is None:
                raise NotFound("job", context_id=params.context_id, caller_id=caller_id, id=id)
            counts[reply[0].decode()] += 1
            jobs.append(_progress(id, reply))
    parts = [
        b'{"flow":' + codec.FLOW.to_json(fields, context_id=params.context_id, id=params.id),
        b'"counts":' + to_json(counts),
        b'"jobs":[' + b",".join(jobs) + b"]",
    ]
    for label, name in ((b"started_at", b"x_started"), (b"ended_at", b"x_ended")):
        if name in fields:
            parts.append(b'"%b":%b' % (label, fields[name]))
    parts.append(b'"last_event":"%b"}' % (newest[0][0] if newest else b"0-0"))
    return b",".join(parts)


def _progress(id: int, reply: Sequence[Any]) -> bytes:
    status, depends, script_type, last, queued, ended, retry, failure = reply
    number, runner, started = functions.read_attempt(last)
    parts = [
        b'{"id":%d,"script_type":"%b","depends":%b,"status":"%b","attempt":%b'
        % (id, script_type, depends, status, number)
    ]
    values = (runner, queued, started, ended, retry)
    parts += [b'"%b":%b' % (label, value) for label, value in zip(_PROGRESS_LABELS, values, strict=True) if value]
    if failure is not None:
        parts.append(b'"failure":' + to_json(failure.decode()))
    return b",".join(parts) + b"}"


# -- events


def flow_events(keys: Keyspace, params: FlowEventsParams) -> Operation:
    """A page of a flow's events: at most `limit`, and fewer if they are large."""
    last = params.after
    events: list[bytes] = []
    size = 0
    missed = is_last = False
    pace = Pace(params.limit, PAGE_BYTES)
    while not (is_last or size >= PAGE_BYTES or len(events) >= params.limit):
        count = min(pace.count, params.limit - len(events))
        reply, entries = yield [
            functions.flow_missed(keys, params.id, last),
            ("XRANGE", keys.events(params.id), f"({last}", "+", "COUNT", count),
        ]
        has_missed = functions.read_missed(reply)
        if has_missed is None:
            raise NotFound("flow", context_id=params.context_id, id=params.id)
        missed = missed or has_missed
        step = [b"{%b}" % render_event(entry) for entry in entries]
        step_bytes = sum(map(len, step))
        pace.read(len(step), step_bytes)
        events += step
        size += step_bytes
        is_last = len(entries) < count
        if entries:
            last = entries[-1][0].decode()
    page = b'{"events":[%b],"last_event":"%b","missed":%b}'
    return page % (b",".join(events), last.encode(), b"true" if missed else b"false")


def render_event(entry: tuple[bytes, Sequence[bytes]]) -> bytes:
    """The members of a FlowEvent from a stream entry, without braces."""
    event_id, (_, members) = entry
    return b'"event_id":"%b",%b' % (event_id, members)


# -- attempts


def heartbeat(keys: Keyspace, params: JobHeartbeatParams) -> Exchange:
    return functions.heartbeat(keys, job_name(params.caller_id, params.id), params.token), _renewed, params


def _renewed(reply: Reply, params: JobHeartbeatParams) -> WithEffects:
    reported, effects = _accepted(params, functions.read_report(reply))
    return WithEffects(b'{"lease":%b}' % to_json(int(reported.value) / 1000), effects)


def log_lines(keys: Keyspace, params: JobLogParams) -> Exchange:
    job = job_name(params.caller_id, params.id)
    command = functions.append_log(keys, job, params.token, params.stream, params.lines)
    return command, _logged, params


def _logged(reply: Reply, params: JobLogParams) -> WithEffects:
    is_kept, effects = _accepted(params, functions.read_append_log(reply))
    return WithEffects(b'{"lines":%d}' % (len(params.lines) * is_kept), effects)


def finish_job(keys: Keyspace, params: JobFinishParams) -> Exchange:
    job = job_name(params.caller_id, params.id)
    return functions.finish(keys, job, params.token, to_json(params.result)), _attempt_ended, params


def fail_job(keys: Keyspace, params: JobFailParams) -> Exchange:
    job = job_name(params.caller_id, params.id)
    result = to_json(params.result) if "result" in params.model_fields_set else None
    command = functions.fail(keys, job, params.token, params.error, result, may_retry=params.retry)
    return command, _attempt_ended, params


def _attempt_ended(reply: Reply, params: JobFinishParams | JobFailParams) -> WithEffects:
    reported, effects = _accepted(params, functions.read_report(reply))
    return WithEffects(b'{"status":"%b","attempt":%b}' % reported, effects)


def _accepted(params: Any, report: tuple[_T | Refused, Effects]) -> tuple[_T, Effects]:
    """What the library says of a report on an attempt. Raises NotFound or StaleToken if it was refused."""
    outcome, effects = report
    if not isinstance(outcome, Refused):
        return outcome, effects
    if outcome.word is Word.NONE:
        raise NotFound("job", context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    raise StaleToken(params.token)


# -- messages and prerequisites


def send_message(keys: Keyspace, params: MessageParams) -> Operation:
    """Make the embedded jobs jobs of the context and run them."""
    ids = {"context_id": params.context_id, "caller_id": params.caller_id, "id": params.id}
    message = message_name(params.caller_id, params.id)
    outcome: Refused | None = Refused(Word.CHANGED)
    effects: Effects = ()
    for _ in range(ATTEMPTS_TO_PLAN):
        ((embedded, started),) = yield [("HMGET", keys.message(params.caller_id, params.id), "job", "x_started")]
        if embedded is None:
            raise NotFound("message", **ids)
        if started is not None:
            outcome = None
            break
        jobs = {(job["caller_id"], job["id"]): job for job in from_json(embedded)}.values()
        _check_embedded(jobs)
        writes = {job_name(job["caller_id"], job["id"]): _sent(job) for job in jobs}
        (reply,) = yield [functions.message_send(keys, message, embedded, uuid.uuid4().hex, writes)]
        outcome, effects = functions.read_message_send(reply)
        if outcome is None or outcome.word is not Word.CHANGED:
            break
    match outcome:
        case Refused(Word.NONE):
            raise NotFound("message", **ids)
        case Refused(Word.BUSY, [bytes(job), bytes(run)]):
            _raise_busy(job, run)
        case Refused():
            raise Conflict("the message is being changed", **ids)
    loaded = MessageLoadParams(context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    record = yield from load_message(keys, loaded)
    return WithEffects(record, effects)


def _sent(job: Mapping[str, Any]) -> Sequence[str | int | bytes]:
    """What `write` takes of an embedded job."""
    given = {name: job[name] for name in JOB_GIVEN if name in job and (name != "result" or job[name])}
    return write_arguments(codec.JOB, given, index_entry(job["caller_id"], job["id"]), NEW_JOB)


def _check_embedded(jobs: Collection[Mapping[str, Any]]) -> None:
    """Raises what flow.dag raises for a flow's jobs. Jobs of different callers do not depend on each other."""
    for caller_id in {job["caller_id"] for job in jobs}:
        dag.build({job["id"]: job["depends"] for job in jobs if job["caller_id"] == caller_id})


def satisfy_prerequisite(keys: Keyspace, params: PrerequisiteSatisfyParams) -> Operation:
    (reply,) = yield [functions.prerequisite_satisfy(keys, params.name)]
    satisfied, effects = functions.read_prerequisite_satisfy(reply)
    answer = b'{"name":%b,"satisfied_at":%d,"released":%d}' % (to_json(params.name), *satisfied)
    return WithEffects(answer, effects)


def list_prerequisites(keys: Keyspace, params: PrerequisiteListParams) -> Operation:
    satisfied, awaited = yield [("HGETALL", keys.prerequisites()), ("SMEMBERS", keys.awaited())]
    names = sorted(awaited)
    counts: list[int] = []
    if names:
        counts = yield [("SCARD", keys.waiting(name.decode())) for name in names]
    known = [{"name": name.decode(), "satisfied_at": int(at)} for name, at in sorted(satisfied.items())]
    waiting = [{"name": name.decode(), "jobs": count} for name, count in zip(names, counts, strict=True) if count]
    answer: RawJson = to_json({"satisfied": known, "waiting": waiting})
    return answer


def _spoken(record: bytes) -> str:
    kind, _, ids = record.decode().partition(":")
    return f"{kind} {ids.replace(':', '/')}"
