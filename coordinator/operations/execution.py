"""The operations on what runs: each transition is one function of the library in the store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn, TypeVar, get_args

from pydantic_core import from_json, to_json

from coordinator import dag
from coordinator.actors.request import Answerable, Compute, First, Further, Operation, Park, WithEffects
from coordinator.errors import Conflict, CoordinatorError, InvalidParams, NotFound, StaleToken
from coordinator.measures import ATTEMPTS, COUNTS
from coordinator.models.contract import FlowLoadParams, FlowStatus, JobLoadParams, MessageLoadParams, ScriptType
from coordinator.models.execution import (
    ContextEventsParams,
    ContextStatsParams,
    FlowCancelParams,
    FlowEventsParams,
    FlowParams,
    FlowSubmitParams,
    JobFailParams,
    JobFinishParams,
    JobHeartbeatParams,
    JobInputsParams,
    JobLogParams,
    MessageParams,
    PrerequisiteListParams,
    PrerequisiteRevokeParams,
    PrerequisiteSatisfyParams,
    RunnerConnectedParams,
)
from coordinator.operations.listing import PAGE_BYTES
from coordinator.operations.records import NEW_FLOW, NEW_JOB, flow_dag, given_members, load_message, result_json, spoken
from coordinator.operations.slices import in_slices
from coordinator.storage import codec
from coordinator.storage.connection import Command, Reply
from coordinator.storage.fields import JOB_GIVEN
from coordinator.storage.functions import attempts, events, flows, messages, prerequisites, runners, views
from coordinator.storage.functions.flows import Submitted
from coordinator.storage.functions.prerequisites import PrerequisitePlace
from coordinator.storage.functions.records import Arguments, write_arguments
from coordinator.storage.functions.results import Effects, Fields, Refused, Word
from coordinator.storage.keys import Keyspace, Transition, flow_name, index_entry, job_name, message_name

__all__ = [
    "cancel_flow",
    "cannot_follow",
    "cannot_read_events",
    "connected_runners",
    "context_events",
    "context_stats",
    "fail_job",
    "finish_job",
    "flow_events",
    "flow_outcome",
    "flow_status",
    "heartbeat",
    "job_attempts",
    "job_inputs",
    "job_tail",
    "list_prerequisites",
    "log_lines",
    "retry_flow",
    "revoke_prerequisite",
    "satisfy_prerequisite",
    "send_message",
    "start_flow",
    "submit_flow",
]

MAX_PAYLOAD: Final = 64 * 1024  # bytes of what jobs get with a prerequisite
CHUNK: Final = 200  # records loaded a step, so that others get on in between
STATUS_BYTES: Final = 4 * 1024 * 1024  # of the jobs of a flow's status after which failures are shortened
SHORT_FAILURE: Final = 200  # characters
ATTEMPTS_KEPT: Final = 20  # told of a job; OUTCOME.KEPT in sharing.lua
ERROR_CHARACTERS: Final = 1_000  # of why an attempt failed
EVENTS_A_STEP: Final = 200  # at most
ENTRIES_A_STEP: Final = 64  # of a context's events, at most
FEED_KEPT_FOR: Final = 300.0  # seconds after the last call about them in which a context's events are written
EVENT_BYTES: Final = 256 * 1024  # of events read in one step, unless a single one is larger
SUBMIT_INLINE: Final = 300  # jobs and edges up to which a flow is prepared on the event loop, about 2 ms
EMBEDDED_INLINE: Final = 32 * 1024  # bytes of jobs up to which those of a message are
ONE_CALL: Final = 200  # jobs of a flow that is submitted in one call of the store
ONE_CALL_NAMES: Final = 1_000  # names in their depends and prerequisites
JOBS_ADDED: Final = 100  # checked, or created, by one call, of a flow with more
ATTEMPTS_TO_PLAN: Final = 5  # a DAG that changes under us so often is reported as a conflict
_T = TypeVar("_T")
SCRIPT_TYPES: Final[tuple[str, ...]] = get_args(ScriptType.__value__)
_FINISHED: Final = ATTEMPTS["finished",]
_ENDED: Final = b'{"status":"%b","attempt":%b}'
STATUSES: Final = ("Dispatched", "WaitingForPrerequisites", "Started", "Error", "Finished")
FLOW_STATUSES: Final[tuple[str, ...]] = get_args(FlowStatus.__value__)


# -- flows


def start_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _start(keys, params, flows.flow_start))


def retry_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _start(keys, params, flows.flow_retry))


def _start(keys: Keyspace, params: FlowParams, function: Callable[[Keyspace, int], Transition]) -> Operation:
    for _ in range(ATTEMPTS_TO_PLAN):
        outcome, effects = yield from in_slices(function(keys, params.id), flows.read_flow, is_first=True)
        if not (isinstance(outcome, Refused) and outcome.word in (Word.CHANGED, Word.MISSING)):
            break
        # For the error that says what is wrong. If there is none, the jobs have been changed since.
        yield from flow_dag(keys, FlowLoadParams(context_id=params.context_id, id=params.id))
    return flow_outcome(params.context_id, params.id, outcome, effects)


def cancel_flow(keys: Keyspace, params: FlowCancelParams) -> Operation:
    reason = f"cancelled: {params.reason}" if params.reason else "cancelled"
    command = flows.flow_cancel(keys, params.id, reason)
    outcome, effects = yield from in_slices(command, flows.read_flow, is_first=True)
    return flow_outcome(params.context_id, params.id, outcome, effects)


def submit_flow(keys: Keyspace, params: FlowSubmitParams) -> Operation:
    flow = params.flow
    edges = sum(len(job.depends) for job in params.jobs)
    if len(params.jobs) + edges <= SUBMIT_INLINE:
        command = _submission(keys, params)
    else:
        command = yield Compute(lambda: _submission(keys, params))
    if command is None:
        return (yield from _submit_in_slices(keys, params))
    outcome, effects = yield from in_slices(command, flows.read_flow_submit)
    if isinstance(outcome, bytes):
        kept = {**NEW_FLOW.members, "status": b"Started"}
        return WithEffects(codec.FLOW.written(given_members(flow), outcome, outcome, kept), effects)
    return flow_outcome(params.context_id, flow.id, outcome, effects)


def _submission(keys: Keyspace, params: FlowSubmitParams) -> Transition | None:
    """The command that submits a flow; None if that is too much for one.

    Raises InvalidParams, or what flow.dag raises for its jobs.
    """
    flow, jobs = params.flow, {job.id: job for job in params.jobs}
    if flow.result:
        result_json(keys, flow.result, "flow")
    for at, job in enumerate(params.jobs):
        if job.result:
            result_json(keys, job.result, "jobs", at)
    if jobs.keys() != set(flow.jobs) or len(jobs) != len(params.jobs):
        raise _mismatch("must be the jobs that flow.jobs lists, each once")
    if any(job.caller_id != flow.caller_id for job in params.jobs):
        raise _mismatch("must have the flow's caller_id")
    graph = dag.build({id: job.depends for id, job in jobs.items()})
    if len(jobs) > ONE_CALL or sum(len(job.depends) + len(job.prerequisites) for job in params.jobs) > ONE_CALL_NAMES:
        return None
    submitted = {id: Submitted(given_members(job), [], []) for id, job in jobs.items()}
    for parent, child in graph.edges:
        submitted[parent].children.append(child)
        submitted[child].parents.append(parent)
    return flows.flow_submit(keys, given_members(flow), submitted, graph.leaves)


def _submit_in_slices(keys: Keyspace, params: FlowSubmitParams) -> Operation:
    """Submit a flow with many jobs, which is created and started in slices.

    Nothing of it runs before all is there. If we do not come to the end, a timer of the store gives it up, or starts it
    if all was there.
    """
    flow, name, token = given_members(params.flow), flow_name(params.flow.id), uuid.uuid4().hex
    outcome: Fields | Refused | None = None
    effects: Effects = ()
    for start in range(0, len(params.jobs) + JOBS_ADDED, JOBS_ADDED):
        checked = [given_members(job) for job in params.jobs[start : start + JOBS_ADDED]]
        command = flows.flow_check(keys, flow, checked) if checked else flows.flow_create(keys, flow, token)
        refused, effects = yield from in_slices(command, flows.read_flow_create, is_first=start == 0)
        if refused is not None:
            return flow_outcome(params.context_id, params.flow.id, refused, effects)
    for start in range(0, len(params.jobs), JOBS_ADDED):
        jobs = [given_members(job) for job in params.jobs[start : start + JOBS_ADDED]]
        (reply,) = yield Further([flows.flow_add(keys, name, token, jobs)], effects)
        outcome, effects = flows.read_flow_add(reply)
        if outcome is not None:
            break
    else:
        command = flows.flow_start(keys, params.flow.id, token)
        outcome, effects = yield from in_slices(command, flows.read_flow)
    match outcome:
        case None | Refused(Word.NONE):
            raise Conflict(f"flow {params.flow.id} was given up: its jobs came too slowly", flow=params.flow.id)
    return flow_outcome(params.context_id, params.flow.id, outcome, effects)


def _mismatch(msg: str) -> InvalidParams:
    return InvalidParams([{"loc": ["jobs"], "msg": msg, "type": "jobs_mismatch"}])


def flow_outcome(context_id: int, flow_id: int, outcome: Fields | Refused, effects: Effects) -> WithEffects:
    """The answer of a call about a flow, by what `flows.read_flow` has read. Raises what it was refused with."""
    match outcome:
        case Refused(Word.NONE):
            raise NotFound("flow", context_id=context_id, id=flow_id)
        case Refused(Word.STATE, [bytes(status)]):
            raise Conflict(f"flow {flow_id} is {status.decode()}", status=status.decode())
        case Refused(Word.BUSY, [bytes(job), bytes(run)]):
            _raise_busy(job, run)
        case Refused(Word.DIFFERS, [bytes(record), bytes(member), bytes(status)]):
            _raise_differs(record, member, status)
        case Refused():
            raise Conflict(f"flow {flow_id} or its jobs are being changed", flow=flow_id)
    return WithEffects(codec.FLOW.to_json(outcome, context_id=context_id, id=flow_id), effects)


def _raise_busy(job: bytes, run: bytes) -> NoReturn:
    name, other = spoken(job), spoken(run)
    raise Conflict(f"{name} is being run for {other}", job=int(job.rpartition(b":")[2]), run=other)


def _raise_differs(record: bytes, member: bytes, status: bytes) -> NoReturn:
    name = spoken(record)
    detail = f"{name} is {status.decode()} already, with another {member.decode()}; what is to run now needs another id"
    raise Conflict(detail, record=record.decode(), member=member.decode(), status=status.decode())


_PROGRESS: Final = (
    *("status", "depends", "script_type", "x_attempt", "x_queued", "x_ended", "x_retry", "x_lost"),
    *("x_failure", "name"),
)
_PROGRESS_LABELS: Final = (b"runner_id", b"queued_at", b"started_at", b"ended_at", b"retry_at", b"lost")


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
    size = 0
    missing: list[int] = []
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        replies = yield [("HMGET", keys.job(caller_id, id), *_PROGRESS) for id in chunk]
        for id, reply in zip(chunk, replies, strict=True):
            if reply[0] is None:
                missing.append(id)
                continue
            counts[reply[0].decode()] += 1
            jobs.append(_progress(id, reply, SHORT_FAILURE if size > STATUS_BYTES else None))
            size += len(jobs[-1])
    parts = [
        b'{"flow":' + codec.FLOW.to_json(fields, context_id=params.context_id, id=params.id),
        b'"counts":' + to_json(counts),
        b'"jobs":[' + b",".join(jobs) + b"]",
    ]
    if missing:
        parts.append(b'"missing":' + to_json(missing))
    for label, name in ((b"started_at", b"x_started"), (b"ended_at", b"x_ended")):
        if name in fields:
            parts.append(b'"%b":%b' % (label, fields[name]))
    parts.append(b'"last_event":"%b"}' % (newest[0][0] if newest else b"0-0"))
    return b",".join(parts)


def _progress(id: int, reply: Sequence[Any], failure_characters: int | None) -> bytes:
    status, depends, script_type, last, queued, ended, retry, lost, failure, name = reply
    number, runner, started = attempts.read_attempt(last)
    parts = [
        b'{"id":%d,"script_type":"%b","depends":%b,"status":"%b","attempt":%b'
        % (id, script_type, depends or b"[]", status, number)
    ]
    values = (runner, queued, started, ended, retry, lost)
    parts += [b'"%b":%b' % (label, value) for label, value in zip(_PROGRESS_LABELS, values, strict=True) if value]
    if name is not None:
        parts.append(b'"name":' + to_json(name.decode()))
    if failure is not None:
        parts.append(b'"failure":' + to_json(failure.decode()[:failure_characters]))
    return b",".join(parts) + b"}"


# -- events


def flow_events(keys: Keyspace, params: FlowEventsParams) -> Operation:
    """A page of a flow's events: at most `limit`, and fewer if they are large."""
    last = params.after
    page: list[bytes] = []
    size = 0
    missed = is_last = False
    while not (is_last or size >= PAGE_BYTES or len(page) >= params.limit):
        count = min(EVENTS_A_STEP, params.limit - len(page))
        (reply,) = yield [events.flow_read(keys, params.id, last, count, EVENT_BYTES)]
        found = events.read_flow_read(reply)
        if isinstance(found, Refused):
            raise cannot_read_events(found.word, params.context_id, params.id)
        missed = missed or found.missed
        step = [b'{"event_id":"%b",%b}' % event for event in found.events]
        page += step
        size += sum(map(len, step))
        is_last = found.is_last
        if step:
            last = found.events[-1][0].decode()
    answer = b'{"events":[%b],"last_event":"%b","missed":%b}'
    return answer % (b",".join(page), last.encode(), b"true" if missed else b"false")


def cannot_read_events(word: Word, context_id: int, id: int) -> CoordinatorError:
    """The error of a call whose `after` is an event that there is not yet, or whose flow is not there."""
    if word is Word.NONE:
        return NotFound("flow", context_id=context_id, id=id)
    msg = f"is beyond the last event of flow {id}; flow.status says which that is"
    return InvalidParams([{"loc": ["after"], "msg": msg, "type": "no_such_event"}])


def context_events(keys: Keyspace, params: ContextEventsParams) -> Operation:
    """A page of a context's events: at most `limit`, and fewer if they are large. Without `after` it is empty, and says
    after which event the next one begins."""
    (reply,) = yield [events.context_follow(keys, FEED_KEPT_FOR, params.after)]
    following = events.read_context_follow(reply)
    if isinstance(following, Refused):
        raise cannot_follow(params.context_id)
    last = following.last if params.after is None else params.after
    page: list[bytes] = []
    size = 0
    missed, is_last = following.missed, params.after is None
    while not (is_last or size >= PAGE_BYTES or len(page) >= params.limit):
        (reply,) = yield [events.context_read(keys, last, ENTRIES_A_STEP, EVENT_BYTES)]
        found = events.read_context_read(reply, last)
        if isinstance(found, Refused):
            raise cannot_follow(params.context_id)
        missed = missed or found.missed
        chosen = found.events[: params.limit - len(page)]
        page += [b'{"event_id":"%b",%b}' % event for event in chosen]
        size += sum(len(members) for _, members in chosen)
        is_last = found.is_last
        if chosen:
            last = chosen[-1][0].decode()
    answer = b'{"events":[%b],"last_event":"%b","missed":%b}'
    return answer % (b",".join(page), last.encode(), b"true" if missed else b"false")


def cannot_follow(context_id: int) -> CoordinatorError:
    """The error of a call whose `after` is an event that there is not yet."""
    msg = f"is beyond the last event of context {context_id}; without it, the answer says which that is"
    return InvalidParams([{"loc": ["after"], "msg": msg, "type": "no_such_event"}])


def job_tail(keys: Keyspace, params: JobLoadParams) -> Operation:
    """The newest log lines of a job."""
    key = keys.job(params.caller_id, params.id)
    is_there, reports = yield [("EXISTS", key), ("LRANGE", f"{keys.prefix}tail:{key[len(keys.prefix) :]}", 0, -1)]
    if not is_there:
        raise NotFound("job", context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    return b'{"reports":[%b]}' % b",".join(reports)


def job_attempts(keys: Keyspace, params: JobLoadParams) -> Operation:
    """How the newest attempts at a job went."""
    key, name = keys.job(params.caller_id, params.id), job_name(params.caller_id, params.id)
    fields, kept = yield [
        ("HMGET", key, "status", "x_attempt", "x_ended", "x_failure"),
        ("LRANGE", f"{keys.prefix}attempts:{name}", 0, -1),
    ]
    status, field, ended, failure = fields
    if status is None:
        raise NotFound("job", context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    number, runner, started = attempts.read_attempt(field)
    if runner is not None and started is not None:
        begun = b'{"attempt":%b,"runner_id":%b,"started_at":%b,' % (number, runner, started)
        if not any(
            attempt.startswith(begun) for attempt in kept
        ):  # it has not ended, or well, or before these were kept
            kept = [*kept[1 - ATTEMPTS_KEPT :], begun + _outcome(status, ended, failure)]
    return b'{"attempts":[%b]}' % b",".join(kept)


def _outcome(status: bytes, ended: bytes | None, failure: bytes | None) -> bytes:
    """Adds what the job itself knows of its last attempt."""
    if status == b"Started":
        return b'"outcome":"running"}'
    at = b"" if ended is None else b'"ended_at":%b,' % ended
    if status == b"Finished":
        return at + b'"outcome":"finished"}'
    if failure is None:
        return at + b'"outcome":"failed"}'
    text = failure.decode()
    outcome = next((outcome for begin, outcome in _OUTCOMES if text.startswith(begin)), "failed")
    return at + b'"outcome":"%b","error":%b}' % (outcome.encode(), to_json(text[:ERROR_CHARACTERS]))


_OUTCOMES: Final = (("lost", "lost"), ("timed out after", "timed_out"), ("cancelled", "cancelled"))
"""How the failure of a job begins, by what has become of its attempt."""


# -- attempts


def heartbeat(keys: Keyspace, params: JobHeartbeatParams) -> Answerable:
    return attempts.heartbeat(keys, job_name(params.caller_id, params.id), params.token), _renewed, params


def _renewed(reply: Reply, params: JobHeartbeatParams) -> WithEffects:
    reported, effects = _accepted(params, attempts.read_report(reply))
    return WithEffects(b'{"lease":%b}' % to_json(int(reported.value) / 1000), effects)


def log_lines(keys: Keyspace, params: JobLogParams) -> Answerable:
    job = job_name(params.caller_id, params.id)
    command = attempts.append_log(keys, job, params.token, params.stream, params.lines)
    return command, _logged, params


def _logged(reply: Reply, params: JobLogParams) -> WithEffects:
    logged, effects = _accepted(params, attempts.read_append_log(reply))
    over = b',"over":true' if logged.is_over else b""
    if not logged.is_kept:
        COUNTS.log_lines_dropped += len(params.lines)
    return WithEffects(b'{"lines":%d%b}' % (len(params.lines) * logged.is_kept, over), effects)


def job_inputs(keys: Keyspace, params: JobInputsParams) -> Operation:
    """A page of the results of the jobs that an attempt's job depends on."""
    after = "" if params.after is None else str(params.after)
    (reply,) = yield [attempts.inputs(keys, job_name(params.caller_id, params.id), params.token, after)]
    page = attempts.read_inputs(reply)
    if isinstance(page, Refused) and page.word is Word.MISSING:
        msg = "is no job that this one depends on"
        raise InvalidParams([{"loc": ["after"], "msg": msg, "type": "bad_cursor"}])
    (results, last), _ = _accepted(params, (page, ()))
    more = b',"after":%b' % last if last else b""
    return b'{"inputs":%b%b}' % (results, more)


def finish_job(keys: Keyspace, params: JobFinishParams) -> Answerable:
    job = job_name(params.caller_id, params.id)
    return attempts.finish(keys, job, params.token, result_json(keys, params.result)), _finished, params


def fail_job(keys: Keyspace, params: JobFailParams) -> Answerable:
    job = job_name(params.caller_id, params.id)
    result = result_json(keys, params.result) if "result" in params.model_fields_set else None
    command = attempts.fail(keys, job, params.token, params.error, result, may_retry=params.retry, is_lost=params.lost)
    return command, _failed, params


def _finished(reply: Reply, params: JobFinishParams) -> WithEffects:
    reported, effects = _accepted(params, attempts.read_report(reply))
    if reported.ran is not None:
        _FINISHED.observe(reported.ran)
    return WithEffects(_ENDED % (reported.value, reported.attempt), effects)


def _failed(reply: Reply, params: JobFailParams) -> WithEffects:
    reported, effects = _accepted(params, attempts.read_report(reply))
    if reported.ran is not None:
        ATTEMPTS["lost" if params.lost else "failed",].observe(reported.ran)
        COUNTS.attempts_lost += params.lost
        COUNTS.attempts_retried += reported.value == b"Dispatched"
    return WithEffects(_ENDED % (reported.value, reported.attempt), effects)


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
            outcome, effects = yield from in_slices(command, messages.read_message_send)
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
            _raise_busy(job, run)
        case Refused(Word.DIFFERS, [bytes(job), bytes(member), bytes(status)]):
            _raise_differs(job, member, status)
        case Refused(Word.STATE):
            raise Conflict("the message is being sent", **ids)
    raise Conflict("the message is being changed", **ids)


def _send_in_slices(
    keys: Keyspace, message: str, embedded: bytes, jobs: Sequence[Mapping[str, Any]]
) -> Generator[list[Command] | Compute | Park, Any, tuple[Refused | None, Effects]]:
    """Send a message with many jobs. Nothing of it runs before all are there; see _submit_in_slices."""
    token = uuid.uuid4().hex
    outcome: Refused | None = None
    effects: Effects = ()
    for start in range(0, len(jobs) + JOBS_ADDED, JOBS_ADDED):
        checked = jobs[start : start + JOBS_ADDED]
        command = (
            messages.message_check(keys, message, checked)
            if checked
            else messages.message_begin(keys, message, embedded, token)
        )
        outcome, effects = yield from in_slices(command, messages.read_message_send)
        if outcome is None or outcome.word is not Word.NEW:
            return outcome, effects
    for start in range(0, len(jobs), JOBS_ADDED):
        added = jobs[start : start + JOBS_ADDED]
        (reply,) = yield Further([flows.flow_add(keys, message, token, added)], effects)
        refused, effects = flows.read_flow_add(reply)
        if refused is not None:
            return (Refused(Word.CHANGED) if refused.word is Word.NONE else refused), effects
    return (yield from in_slices(messages.message_start(keys, message, token), messages.read_message_send))


def _is_one_call(jobs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a message with these jobs is sent in one call of the store."""
    names = sum(len(job["depends"]) + len(job["prerequisites"]) for job in jobs)
    return len(jobs) <= ONE_CALL and names <= ONE_CALL_NAMES


def _jobs_to_send(embedded: bytes) -> Sequence[Mapping[str, Any]]:
    """What is given of each of a message's embedded jobs. Raises what flow.dag raises for a flow's."""
    jobs = {(job["caller_id"], job["id"]): job for job in from_json(embedded)}.values()
    _check_embedded(jobs)
    return [{name: job[name] for name in JOB_GIVEN if name in job and (name != "result" or job[name])} for job in jobs]


def _write_sent(given: Mapping[str, Any]) -> Arguments:
    """What `write` takes of an embedded job."""
    return write_arguments(codec.JOB, given, index_entry(given["caller_id"], given["id"]), NEW_JOB)


def _check_embedded(jobs: Collection[Mapping[str, Any]]) -> None:
    """Raises what flow.dag raises for a flow's jobs. Jobs of different callers do not depend on each other."""
    for caller_id in {job["caller_id"] for job in jobs}:
        dag.build({job["id"]: job["depends"] for job in jobs if job["caller_id"] == caller_id})


def satisfy_prerequisite(keys: Keyspace, params: PrerequisiteSatisfyParams) -> Operation:
    payload = None if params.payload is None else to_json(params.payload)
    if payload is not None and len(payload) > MAX_PAYLOAD:
        msg = f"has {len(payload)} bytes as JSON; at most {MAX_PAYLOAD} are allowed: pass on where the rest is instead"
        raise InvalidParams([{"loc": ["payload"], "msg": msg, "type": "payload_too_large"}])
    by = None if params.by is None else to_json(params.by)
    token = uuid.uuid4().hex
    command = prerequisites.prerequisite_satisfy(keys, params.name, params.flow_id, token, by=by, payload=payload)
    outcome, effects = yield from in_slices(command, prerequisites.read_prerequisite_satisfy)
    match outcome:
        case Refused(Word.NONE):
            raise NotFound("flow", context_id=params.context_id, id=params.flow_id or 0)
        case Refused():
            detail = f"prerequisite {params.name[:100]!r} is satisfied with another payload; revoke it first"
            raise Conflict(detail, name=params.name, member="payload")
    head = b'{"name":%b,%b,"satisfied_at":%d' % (to_json(params.name), _scope_of(params.flow_id), outcome.at)
    return WithEffects(head + b'%b,"released":%d}' % (outcome.more, outcome.released), effects)


def _scope_of(flow_id: int | None) -> bytes:
    return b'"scope":"context"' if flow_id is None else b'"scope":"flow","flow_id":%d' % flow_id


def revoke_prerequisite(keys: Keyspace, params: PrerequisiteRevokeParams) -> Operation:
    (reply,) = yield [prerequisites.prerequisite_revoke(keys, params.name, params.flow_id)]
    was_satisfied = prerequisites.read_prerequisite_revoke(reply)
    if was_satisfied is None:
        raise NotFound("flow", context_id=params.context_id, id=params.flow_id or 0)
    answer = b'{"name":%b,%b,"revoked":%b}'
    answer %= (to_json(params.name), _scope_of(params.flow_id), to_json(was_satisfied))
    return answer


def list_prerequisites(keys: Keyspace, params: PrerequisiteListParams) -> Operation:
    """A page: those that jobs wait for come first."""
    after = None
    if params.cursor:
        kind, _, rest = params.cursor.partition(":")
        flow_id, colon, name = rest.partition(":") if kind == "s" else ("", ":", rest)
        if kind not in ("s", "w") or not colon or not (flow_id == "" or (flow_id.isascii() and flow_id.isdigit())):
            raise InvalidParams([{"loc": ["cursor"], "msg": "is not a cursor of a reply", "type": "bad_cursor"}])
        after = PrerequisitePlace(kind == "s", name, flow_id)
    (reply,) = yield [prerequisites.prerequisite_list(keys, after, params.limit)]
    page = prerequisites.read_prerequisite_list(reply)
    more = b""
    if page.after is not None:
        name, flow_id = page.after.name, page.after.flow_id
        more = b',"cursor":' + to_json(f"s:{flow_id}:{name}" if page.after.is_satisfied else f"w:{name}")
    return b'{"satisfied":[%b],"waiting":[%b]%b}' % (page.satisfied, page.waiting, more)


def context_stats(keys: Keyspace, params: ContextStatsParams) -> Operation:
    """How much there is in a context."""
    stats = None
    while stats is None:
        (reply,) = yield [views.context_stats(keys, SCRIPT_TYPES)]
        stats = views.read_context_stats(reply, SCRIPT_TYPES)
    return to_json(
        {
            "flows": {status: stats.flows.get(status, 0) for status in FLOW_STATUSES},
            "jobs": {status: stats.jobs.get(status, 0) for status in STATUSES},
            "script_types": {
                name: {"jobs": stats.jobs.get(name, 0), "queued": queue.entries, "oldest": queue.oldest}
                for name, queue in zip(SCRIPT_TYPES, stats.queues, strict=True)
            },
            "runners": {"connected": stats.connected, "busy": stats.busy},
        }
    )


def connected_runners(keys: Keyspace, params: RunnerConnectedParams) -> Operation:
    (reply,) = yield [runners.runners_count(keys, params.context_id, SCRIPT_TYPES)]
    counts = runners.read_runners_count(reply)
    return to_json({"script_types": dict(zip(SCRIPT_TYPES, counts, strict=True))})
