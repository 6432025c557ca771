"""The operations: pure generators that yield Redis commands and return JSON, and those that are one command.

No I/O here, so each can be driven by hand; the supervisor drives them against the store.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from pydantic_core import from_json, to_json

from coordinator import dag
from coordinator.actors.request import Answerable, Compute, First, Operation, RawJson, WithEffects
from coordinator.errors import Conflict, InvalidParams, NotFound, ReplyTooLarge
from coordinator.models import (
    ActorCreate,
    ActorCreateParams,
    ActorLoadParams,
    ContextCreate,
    ContextCreateParams,
    ContextLoadParams,
    FlowCreate,
    FlowCreateParams,
    FlowLoadParams,
    Job,
    JobCreate,
    JobCreateParams,
    JobLoadParams,
    MessageCreate,
    MessageCreateParams,
    MessageLoadParams,
    Model,
    RunnerCreate,
    RunnerCreateParams,
    RunnerLoadParams,
)
from coordinator.operations.pace import Pace, records_of
from coordinator.storage import codec
from coordinator.storage.codec import Record, fields_of
from coordinator.storage.connection import Command, Reply
from coordinator.storage.fields import stored_defaults
from coordinator.storage.functions import flows, messages, records
from coordinator.storage.functions.records import Initial
from coordinator.storage.functions.results import Refused, effects_of
from coordinator.storage.keys import Keyspace, flow_name, index_entry, job_name, message_name

MESSAGE_BYTES: Final = 4 * 1024 * 1024  # of a message's jobs after which their results are left out
LOG_BYTES: Final = 4 * 1024 * 1024  # of a message's log after which older lines are left out
LINES_AT_ONCE: Final = 1_000
LINES_AT_FIRST: Final = 10
LINES_BYTES: Final = 512 * 1024
DAG_CHUNK: Final = 500  # jobs at the most loaded a step, so that others get on in between
DAG_AT_FIRST: Final = 32  # jobs of the first step, when nobody knows how large they are
DAG_BYTES: Final = 1024 * 1024  # of jobs a step
DAG_INLINE: Final = 500  # jobs and edges up to which a graph is computed on the event loop, about 1 ms
DAG_EDGES: Final = 500_000  # of a graph that is computed at all
EMBEDDED_INLINE: Final = 300  # jobs of a message up to which they are encoded on the event loop, about 1 ms
EMBEDDED_BYTES: Final = 32 * 1024  # of those stored before, up to which they are read there
RENDERED_AT_ONCE: Final = 5_000  # edges; the interpreter does nothing else meanwhile

NEW_FLOW: Final = Initial(FlowCreate, status=b"Dispatched", paused=None)
NEW_JOB: Final = Initial(JobCreate, status=b"Dispatched")
_NEW_MESSAGE: Final = Initial(MessageCreate, status=b"Dispatched")
_NEW_ACTOR: Final = Initial(ActorCreate)
_NEW_CONTEXT: Final = Initial(ContextCreate, paused=None, paused_script_types=None)
_NEW_RUNNER: Final = Initial(RunnerCreate, draining=None)


def create_actor(keys: Keyspace, params: ActorCreateParams) -> Answerable:
    return _upsert(keys, codec.ACTOR, f"actor:{params.actor.id}", params.actor, _NEW_ACTOR, params.actor.id)


def load_actor(keys: Keyspace, params: ActorLoadParams) -> Answerable:
    return _load(codec.ACTOR, keys.actor(params.id), params, params.id)


def create_context(keys: Keyspace, params: ContextCreateParams) -> Answerable:
    context = params.context
    return _upsert(keys, codec.CONTEXT, f"context:{context.id}", context, _NEW_CONTEXT, context.id)


def load_context(keys: Keyspace, params: ContextLoadParams) -> Answerable:
    return _load(codec.CONTEXT, keys.context(params.id), params, params.id)


def create_runner(keys: Keyspace, params: RunnerCreateParams) -> Answerable:
    return _upsert(keys, codec.RUNNER, f"runner:{params.runner.id}", params.runner, _NEW_RUNNER, params.runner.id)


def load_runner(keys: Keyspace, params: RunnerLoadParams) -> Answerable:
    return _load(codec.RUNNER, keys.runner(params.id), params, params.id)


def create_flow(keys: Keyspace, params: FlowCreateParams) -> Answerable:
    flow = params.flow
    if flow.result:
        result_json(keys, flow.result, "flow")
    if params.abandon_after is None:
        return _upsert(keys, codec.FLOW, flow_name(flow.id), flow, NEW_FLOW, flow.id)
    given = given_members(flow)
    write = records.write_arguments(codec.FLOW, given, index_entry(flow.id), NEW_FLOW)
    command = records.flow_draft(keys, flow_name(flow.id), params.abandon_after, write)
    return command, _drafted, (codec.FLOW, given, NEW_FLOW.members)


def _drafted(reply: Reply, asked: Any) -> WithEffects:
    return WithEffects(_upserted(reply, asked), effects_of(reply))


def load_flow(keys: Keyspace, params: FlowLoadParams) -> Answerable:
    return _load(codec.FLOW, keys.flow(params.id), params, params.id)


def create_job(keys: Keyspace, params: JobCreateParams) -> Answerable:
    job = params.job
    if job.result:
        result_json(keys, job.result, "job")
    return _upsert(keys, codec.JOB, job_name(job.caller_id, job.id), job, NEW_JOB, job.caller_id, job.id)


def load_job(keys: Keyspace, params: JobLoadParams) -> Answerable:
    key = keys.job(params.caller_id, params.id)
    return _load(codec.JOB, key, params, params.id, params.caller_id, params.context_id)


def create_message(keys: Keyspace, params: MessageCreateParams) -> Operation:
    message = params.message
    jobs: set[str] = set()
    for at, job in enumerate(message.job):
        if (name := job_name(job.caller_id, job.id)) in jobs:  # only one of the two could be run
            raise InvalidParams.at("message", "job", at, "id", msg="must be of no other job here", type="job_twice")
        jobs.add(name)
        if job.result:
            result_json(keys, job.result, "message", "job", at)
    given = given_members(message)
    del given["job"]
    write = records.write_arguments(codec.MESSAGE, given, index_entry(message.caller_id, message.id), _NEW_MESSAGE)
    name = message_name(message.caller_id, message.id)
    stored = b""  # most are new
    while True:  # until the call's deadline, if other writers always come first
        if len(message.job) <= EMBEDDED_INLINE and len(stored) <= EMBEDDED_BYTES:
            pieces = _embedded(message.job, stored)
        else:
            pieces = yield Compute(partial(_embedded, message.job, stored))
        # If it is there, this is not its last step.
        (reply,) = yield First([messages.message_upsert(keys, name, stored, pieces, write)])
        fields = messages.read_message_upsert(reply)
        if not isinstance(fields, bytes):
            break
        stored = fields
    if b"x_started" in fields:
        ids = MessageLoadParams(context_id=params.context_id, caller_id=message.caller_id, id=message.id)
        return (yield from load_message(keys, ids))
    return codec.MESSAGE.to_json(fields, caller_id=message.caller_id, id=message.id)


def load_message(keys: Keyspace, params: MessageLoadParams) -> Generator[list[Command], Any, RawJson]:
    """The message with its jobs and logs as they are by now."""
    ids = {"context_id": params.context_id, "caller_id": params.caller_id, "id": params.id}
    (fields,) = yield [("HGETALL", keys.message(params.caller_id, params.id))]
    if not fields:
        raise NotFound("message", **ids)
    fields = dict(fields)
    if b"x_started" in fields:
        names = fields[b"x_jobs"].decode().split()
        if names == [flows.LARGE]:
            (listed,) = yield [("LRANGE", keys.plan(message_name(params.caller_id, params.id)), 0, -1)]
            names = [name.decode() for name in listed]
        embedded = yield from _embedded_now(keys, names)
        fields[b"job"] = b"[" + b",".join(embedded) + b"]"
        logged = yield from _newest_lines(keys.logs(params.caller_id, params.id))
        if logged:
            own = fields[b"logs"][1:-1]
            fields[b"logs"] = b"[" + (own + b"," if own else b"") + b",".join(logged) + b"]"
    return codec.MESSAGE.to_json(fields, **ids)


def _embedded_now(keys: Keyspace, names: Sequence[str]) -> Generator[list[Command], Any, list[bytes]]:
    """A message's jobs as they are by now, but for the results of those behind the first MESSAGE_BYTES."""
    embedded: list[bytes] = []
    room = MESSAGE_BYTES
    at = 0
    while at < len(names):
        fields = () if room > 0 else _WITHOUT_RESULT
        read = yield from records_of(keys, names[at:], fields)
        at += len(read)
        for name, values in zip(names[at - len(read) :], read, strict=False):
            record = fields_of(values) if not fields else dict(zip(_WITHOUT_RESULT_NAMES, values, strict=True))
            record = {name: value for name, value in record.items() if value is not None}
            if record:
                _, caller_id, id = name.split(":")
                ids = {"context_id": keys.context_key or 0, "caller_id": int(caller_id), "id": int(id)}
                embedded.append(codec.JOB.to_json(record if not fields else {**record, b"result": _REFERENCE}, **ids))
                room -= len(embedded[-1])
    return embedded


_WITHOUT_RESULT: Final = tuple(name for name in Job.model_fields if name != "result")
_WITHOUT_RESULT_NAMES: Final = [name.encode() for name in _WITHOUT_RESULT]
_REFERENCE: Final = b'{"$ref":"job.load"}'


def _newest_lines(key: str) -> Generator[list[Command], Any, list[bytes]]:
    """The lines of a log as JSON: all of them, or the newest LOG_BYTES and how many come before."""
    (length,) = yield [("LLEN", key)]
    parts: list[bytes] = []
    end, room = length, LOG_BYTES
    pace = Pace(LINES_AT_ONCE, LINES_BYTES, LINES_AT_FIRST)
    while end > 0 and room > 0:
        start = max(0, end - pace.count)
        (lines,) = yield [("LRANGE", key, start, end - 1)]
        if not lines:
            break  # it was deleted meanwhile
        parts.append(to_json([line.decode() for line in lines])[1:-1])
        room -= len(parts[-1])
        pace.read(len(lines), len(parts[-1]))
        end = start
    if end > 0 and parts:
        parts.append(to_json(f"({end} earlier lines are left out)"))
    return parts[::-1]


def flow_dag(keys: Keyspace, params: FlowLoadParams) -> Operation:
    """The DAG of a flow's jobs, which are looked up under the flow's caller_id."""
    ((caller, listed),) = yield [("HMGET", keys.flow(params.id), "caller_id", "jobs")]
    if caller is None or listed is None:
        raise NotFound("flow", context_id=params.context_id, id=params.id)
    caller_id = int(caller)
    jobs: list[int] = sorted(set(from_json(listed)))
    summaries: dict[int, list[bytes]] = {}
    edges = start = 0
    pace = Pace(DAG_CHUNK, DAG_BYTES, DAG_AT_FIRST)
    while start < len(jobs):
        chunk = jobs[start : start + pace.count]
        start += len(chunk)
        replies = yield [codec.JOB_SUMMARY.load_command(keys.job(caller_id, id)) for id in chunk]
        size = 0
        for id, summary in zip(chunk, replies, strict=True):
            if not codec.JOB_SUMMARY.fill(summary) or None in summary:
                raise NotFound("job", context_id=params.context_id, caller_id=caller_id, id=id)
            summaries[id] = summary
            size += sum(map(len, summary))
            edges += _count(summary[_DEPENDS_AT])
        pace.read(len(chunk), size)
        if edges > DAG_EDGES:
            detail = f"the jobs of flow {params.id} have more than {DAG_EDGES} dependencies"
            raise ReplyTooLarge(DAG_EDGES, detail, flow=params.id)
    head = b'{"flow_id":%d,"caller_id":%d,"context_id":%d,' % (params.id, caller_id, params.context_id)
    if len(jobs) + edges <= DAG_INLINE:
        return head + _dag_json(summaries)
    rest = yield Compute(lambda: head + _dag_json(summaries))
    answer: RawJson = rest
    return answer


_DEPENDS_AT: Final = codec.JOB_SUMMARY.field_names.index(b"depends")


def _count(listed: bytes) -> int:
    """How many items a list of numbers has, as JSON."""
    return 0 if listed == b"[]" else listed.count(b",") + 1


def _dag_json(summaries: Mapping[int, Sequence[bytes]]) -> RawJson:
    """The members of a FlowDag from `nodes` on, with the closing brace, from each job's summary fields."""
    graph = dag.build({id: from_json(summary[_DEPENDS_AT]) for id, summary in summaries.items()})
    nodes = b",".join(b'"%d":%b' % (id, _node(id, summary)) for id, summary in summaries.items())
    return b'"nodes":{%b},"edges":%b,"reverse_edges":%b,"roots":%b,"leaves":%b,"levels":%b}' % (
        nodes,
        _rendered(graph.edges),
        _rendered(graph.reverse_edges),
        to_json(graph.roots),
        to_json(graph.leaves),
        to_json(graph.levels),
    )


def _rendered(edges: list[tuple[int, int]]) -> bytes:
    """As JSON, some at a time, so that the event loop gets on when this is done in a thread."""
    if len(edges) <= RENDERED_AT_ONCE:
        return to_json(edges)
    parts = [to_json(edges[at : at + RENDERED_AT_ONCE])[1:-1] for at in range(0, len(edges), RENDERED_AT_ONCE)]
    return b"[" + b",".join(parts) + b"]"


def _node(id: int, summary: Sequence[bytes]) -> bytes:
    return codec.JOB_SUMMARY.spliced((id,), [*summary])


def result_json(keys: Keyspace, result: Mapping[str, str], *place: str | int) -> bytes:
    """A result as it is stored. Raises InvalidParams, with its place in the params, if it is too large."""
    stored = to_json(result)
    if len(stored) > keys.max_result:
        msg = f"has {len(stored)} bytes as JSON; the limit is {keys.max_result}, a setting: max_result_bytes"
        raise InvalidParams.at(*place, "result", msg=msg, type="result_too_large")
    return stored


def spoken(record: bytes) -> str:
    """A record as an error names it."""
    kind, _, ids = record.decode().partition(":")
    return f"{kind} {ids.replace(':', '/')}"


def given_members(model: Model) -> dict[str, Any]:
    """The members the client sent; those it left out, or sent as null, are for the store to keep or set."""
    members = model.__dict__.copy()
    given = model.model_fields_set
    if len(given) < len(members):
        for name in members.keys() - given:
            del members[name]
    for name in _NULLABLE.get(type(model), ()):
        if members.get(name, "") is None:
            del members[name]
    return members


_NULLABLE: Final[dict[type[Model], list[str]]] = {
    model: [name for name, default in stored_defaults(model).items() if default is None]
    for model in (ActorCreate, ContextCreate, FlowCreate, JobCreate, MessageCreate, RunnerCreate)
}


def _embedded(jobs: Sequence[JobCreate], stored: bytes) -> list[bytes]:
    """The field `job` of a message, in pieces between which the time goes.

    A job that the message has already, as `stored` says, keeps its created_at, its status and, unless a new one is
    given, its result.
    """
    known = {(job["caller_id"], job["id"]): job for job in (from_json(stored) if stored else ())}
    pieces: list[bytes] = []
    text = b"["
    for job in jobs:
        members = given_members(job)
        before = known.get((job.caller_id, job.id), _NO_JOB)
        members.setdefault("result", before["result"])
        text += to_json(members)[:-1] + b',"created_at":'
        if before is _NO_JOB:
            pieces.append(text)
            text = b""
        else:
            text += b"%d" % before["created_at"]
        pieces.append(text + b',"updated_at":')
        text = b',"status":"%b"},' % before["status"].encode()
    pieces.append(text.removesuffix(b",") + b"]")
    return pieces


_NO_JOB: Final[Mapping[str, Any]] = {"result": {}, "status": "Dispatched"}


_UPSERTS: Final = {
    codec.CONTEXT: records.context_upsert,
    codec.FLOW: records.flow_upsert,
    codec.JOB: records.job_upsert,
}


def _upsert(keys: Keyspace, record: Record, name: str, model: Model, initial: Initial, *ids: int) -> Answerable:
    """Create or update the record of this name."""
    given = given_members(model)
    entry = index_entry(*ids) if record.is_listed else ""
    command = _UPSERTS.get(record, records.record_upsert)(
        keys, name, records.write_arguments(record, given, entry, initial)
    )
    return command, _upserted, (record, given, initial.members)


def _upserted(reply: Reply, asked: tuple[Record, Mapping[str, Any], Mapping[str, bytes | None]]) -> RawJson:
    record, given, initial = asked
    upserted = records.read_record_upsert(reply)
    if isinstance(upserted, Refused):
        name, run = map(spoken, upserted.details)
        detail = f"what {name} was run with is needed by {run}, which is running: give what is to run now another id"
        raise Conflict(detail, record=upserted.details[0].decode(), run=run)
    created_at, updated_at, kept = upserted
    stored = initial if kept is None else dict(zip(initial, kept, strict=True))
    return record.written(given, created_at, updated_at, stored)


def _load(record: Record, key: str, params: Model, *ids: int) -> Answerable:
    """Load the record with these ids, as Record.spliced takes them, which is what `params` say."""
    return record.load_command(key), _loaded, (record, ids, params)


def _loaded(reply: Reply, asked: tuple[Record, Sequence[int], Model]) -> RawJson:
    record, ids, params = asked
    loaded = record.loaded(ids, reply)
    if loaded is None:
        raise NotFound(record.kind, **{name: id for name, id in params.__dict__.items() if id is not None})
    return loaded
