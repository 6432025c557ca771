"""The operations: pure generators that yield Redis commands and return JSON, and those that are one exchange.

No I/O here, so each can be driven by hand; the supervisor drives them against the store.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import from_json, to_json

from coordinator import dag
from coordinator.actors.request import Compute, Exchange, Operation, RawJson
from coordinator.errors import NotFound
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
from coordinator.storage import codec, functions
from coordinator.storage.codec import Record
from coordinator.storage.connection import Command, Reply
from coordinator.storage.fields import stored_defaults
from coordinator.storage.functions import EmbeddedJob, Initial, write_arguments
from coordinator.storage.keys import Keyspace, flow_name, index_entry, job_name, message_name

DAG_CHUNK: Final = 500  # jobs loaded a step, so that others get on in between
DAG_INLINE: Final = 300  # jobs up to which the graph is computed on the event loop, about 1 ms


NEW_FLOW: Final = Initial(FlowCreate, status=b"Dispatched")
NEW_JOB: Final = Initial(JobCreate, status=b"Dispatched")
_NEW_MESSAGE: Final = Initial(MessageCreate, status=b"Dispatched")
_NEW_ACTOR: Final = Initial(ActorCreate)
_NEW_CONTEXT: Final = Initial(ContextCreate)
_NEW_RUNNER: Final = Initial(RunnerCreate)


def create_actor(keys: Keyspace, params: ActorCreateParams) -> Exchange:
    return _upsert(keys, codec.ACTOR, f"actor:{params.actor.id}", params.actor, _NEW_ACTOR, params.actor.id)


def load_actor(keys: Keyspace, params: ActorLoadParams) -> Exchange:
    return _load(codec.ACTOR, keys.actor(params.id), params, params.id)


def create_context(keys: Keyspace, params: ContextCreateParams) -> Exchange:
    context = params.context
    return _upsert(keys, codec.CONTEXT, f"context:{context.id}", context, _NEW_CONTEXT, context.id)


def load_context(keys: Keyspace, params: ContextLoadParams) -> Exchange:
    return _load(codec.CONTEXT, keys.context(params.id), params, params.id)


def create_runner(keys: Keyspace, params: RunnerCreateParams) -> Exchange:
    return _upsert(keys, codec.RUNNER, f"runner:{params.runner.id}", params.runner, _NEW_RUNNER, params.runner.id)


def load_runner(keys: Keyspace, params: RunnerLoadParams) -> Exchange:
    return _load(codec.RUNNER, keys.runner(params.id), params, params.id)


def create_flow(keys: Keyspace, params: FlowCreateParams) -> Exchange:
    flow = params.flow
    return _upsert(keys, codec.FLOW, flow_name(flow.id), flow, NEW_FLOW, flow.id)


def load_flow(keys: Keyspace, params: FlowLoadParams) -> Exchange:
    return _load(codec.FLOW, keys.flow(params.id), params, params.id)


def create_job(keys: Keyspace, params: JobCreateParams) -> Exchange:
    job = params.job
    return _upsert(keys, codec.JOB, job_name(job.caller_id, job.id), job, NEW_JOB, job.caller_id, job.id)


def load_job(keys: Keyspace, params: JobLoadParams) -> Exchange:
    key = keys.job(params.caller_id, params.id)
    return _load(codec.JOB, key, params, params.id, params.caller_id, params.context_id)


def create_message(keys: Keyspace, params: MessageCreateParams) -> Operation:
    message = params.message
    given = given_members(message)
    del given["job"]
    write = write_arguments(codec.MESSAGE, given, index_entry(message.caller_id, message.id), _NEW_MESSAGE)
    jobs = [_embedded(job) for job in message.job]
    (reply,) = yield [functions.message_upsert(keys, message_name(message.caller_id, message.id), jobs, write)]
    fields = functions.read_message_upsert(reply)
    if b"x_started" in fields:
        ids = MessageLoadParams(context_id=params.context_id, caller_id=message.caller_id, id=message.id)
        return (yield from load_message(keys, ids))
    return codec.MESSAGE.to_json(fields, caller_id=message.caller_id, id=message.id)


def load_message(keys: Keyspace, params: MessageLoadParams) -> Generator[list[Command], Any, RawJson]:
    """The message with its jobs and logs as they are by now."""
    ids = {"context_id": params.context_id, "caller_id": params.caller_id, "id": params.id}
    fields, lines = yield [
        ("HGETALL", keys.message(params.caller_id, params.id)),
        ("LRANGE", keys.logs(params.caller_id, params.id), 0, -1),
    ]
    if not fields:
        raise NotFound("message", **ids)
    fields = dict(fields)
    if b"x_started" in fields:
        names = fields[b"x_jobs"].decode().split()
        records = yield [("HGETALL", keys.prefix + name) for name in names]
        embedded = [codec.JOB.to_json(record, job=0) for record in records if record]
        fields[b"job"] = b"[" + b",".join(embedded) + b"]"
    if lines:
        own = fields[b"logs"][1:-1]
        logged = to_json([line.decode() for line in lines])[1:-1]
        fields[b"logs"] = b"[" + (own + b"," if own else b"") + logged + b"]"
    return codec.MESSAGE.to_json(fields, **ids)


def flow_dag(keys: Keyspace, params: FlowLoadParams) -> Operation:
    """The DAG of a flow's jobs, which are looked up under the flow's caller_id."""
    ((caller, listed),) = yield [("HMGET", keys.flow(params.id), "caller_id", "jobs")]
    if caller is None or listed is None:
        raise NotFound("flow", context_id=params.context_id, id=params.id)
    caller_id = int(caller)
    jobs: list[int] = sorted(set(from_json(listed)))
    summaries: dict[int, list[bytes]] = {}
    for start in range(0, len(jobs), DAG_CHUNK):
        chunk = jobs[start : start + DAG_CHUNK]
        replies = yield [codec.JOB_SUMMARY.load_command(keys.job(caller_id, id)) for id in chunk]
        for id, summary in zip(chunk, replies, strict=True):
            if None in summary:
                raise NotFound("job", context_id=params.context_id, caller_id=caller_id, id=id)
            summaries[id] = summary
    head = b'{"flow_id":%d,"caller_id":%d,"context_id":%d,' % (params.id, caller_id, params.context_id)
    if len(jobs) <= DAG_INLINE:
        return head + _dag_json(summaries)
    rest = yield Compute(lambda: _dag_json(summaries))
    members: RawJson = rest
    return head + members


def _dag_json(summaries: Mapping[int, Sequence[bytes]]) -> RawJson:
    """The members of a FlowDag from `nodes` on, with the closing brace, from each job's summary fields."""
    depends_at = codec.JOB_SUMMARY.field_names.index(b"depends")
    graph = dag.build({id: from_json(summary[depends_at]) for id, summary in summaries.items()})
    nodes = b",".join(b'"%d":%b' % (id, _node(id, summary)) for id, summary in summaries.items())
    return b'"nodes":{%b},"edges":%b,"reverse_edges":%b,"roots":%b,"leaves":%b,"levels":%b}' % (
        nodes,
        to_json(graph.edges),
        to_json(graph.reverse_edges),
        to_json(graph.roots),
        to_json(graph.leaves),
        to_json(graph.levels),
    )


def _node(id: int, summary: Sequence[bytes]) -> bytes:
    return codec.JOB_SUMMARY.spliced((id,), [*summary])


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


def _embedded(job: JobCreate) -> EmbeddedJob:
    members = given_members(job)
    result = to_json(members.pop("result")) if "result" in members else ""
    return EmbeddedJob(job.caller_id, job.id, to_json(members)[1:-1], result)


def _upsert(keys: Keyspace, record: Record, name: str, model: Model, initial: Initial, *ids: int) -> Exchange:
    """Create or update the record of this name."""
    given = given_members(model)
    entry = index_entry(*ids) if record.is_listed else ""
    command = functions.record_upsert(keys, name, write_arguments(record, given, entry, initial))
    return command, _upserted, (record, given, initial.members)


def _upserted(reply: Reply, asked: tuple[Record, Mapping[str, Any], Mapping[str, bytes | None]]) -> RawJson:
    record, given, initial = asked
    created_at, updated_at, kept = functions.read_record_upsert(reply)
    stored = initial if kept is None else dict(zip(initial, kept, strict=True))
    return record.written(given, created_at, updated_at, stored)


def _load(record: Record, key: str, params: Model, *ids: int) -> Exchange:
    """Load the record with these ids, as Record.spliced takes them, which is what `params` say."""
    return record.load_command(key), _loaded, (record, ids, params)


def _loaded(reply: Reply, asked: tuple[Record, Sequence[int], Model]) -> RawJson:
    record, ids, params = asked
    loaded = record.loaded(ids, reply)
    if loaded is None:
        raise NotFound(record.kind, **params.__dict__)
    return loaded
