"""What people look at: how far a flow is, how much there is in a context, and how many runners are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import from_json, to_json

from coordinator.actors.request import Operation
from coordinator.errors import NotFound
from coordinator.models.attempts import RunnerConnectedParams
from coordinator.models.base import BEGINNING
from coordinator.models.contract import FLOW_STATUSES, JOB_STATUSES, SCRIPT_TYPES
from coordinator.models.flows import FlowParams
from coordinator.models.listing import ContextStatsParams
from coordinator.storage import codec
from coordinator.storage.functions import attempts, runners, views
from coordinator.storage.keys import Keyspace

__all__ = ["connected_runners", "context_stats", "flow_status"]

CHUNK: Final = 200  # records loaded a step, so that others get on in between
STATUS_BYTES: Final = 4 * 1024 * 1024  # of the jobs of a flow's status after which failures are shortened
SHORT_FAILURE: Final = 200  # characters
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
    counts = dict.fromkeys(JOB_STATUSES, 0)
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
    parts.append(b'"last_event":"%b"}' % (newest[0][0] if newest else BEGINNING.encode()))
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


def context_stats(keys: Keyspace, params: ContextStatsParams) -> Operation:
    """How much there is in a context."""
    stats = None
    while stats is None:
        (reply,) = yield [views.context_stats(keys)]
        stats = views.read_context_stats(reply)
    return to_json(
        {
            "flows": {status: stats.flows.get(status, 0) for status in FLOW_STATUSES},
            "jobs": {status: stats.jobs.get(status, 0) for status in JOB_STATUSES},
            "script_types": {
                name: {"jobs": stats.jobs.get(name, 0), "queued": queue.entries, "oldest": queue.oldest}
                for name, queue in zip(SCRIPT_TYPES, stats.queues, strict=True)
            },
            "runners": {"connected": stats.connected, "busy": stats.busy},
        }
    )


def connected_runners(keys: Keyspace, params: RunnerConnectedParams) -> Operation:
    (reply,) = yield [runners.runners_count(keys)]
    counts = runners.read_runners_count(reply)
    return to_json({"script_types": dict(zip(SCRIPT_TYPES, counts, strict=True))})
