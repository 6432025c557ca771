"""Flows to submit, and what is left of them in the store."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from tests.support.api import Api

__all__ = ["Dag", "chain", "database", "fields_of_job", "random_dag", "remains", "submission", "submit", "wide"]

Dag = Mapping[int, Sequence[int]]
"""A job's id → those it depends on."""


def fields_of_job(context: int, id: int, depends: Sequence[int] = (), **more: Any) -> dict[str, Any]:
    """A job of caller 7."""
    return {
        "id": id,
        "caller_id": 7,
        "context_id": context,
        "script": f"print({id})",
        "script_type": "Python",
        "timeout": 0,
        "retries": 0,
        "env_vars": {},
        "prerequisites": [],
        "depends": list(depends),
        **more,
    }


def submission(
    context: int, dag: Dag, flow: int = 1, env_vars: Mapping[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """Params of flow.submit; `fields` are those of every job."""
    return {
        "context_id": context,
        "flow": {
            "id": flow,
            "caller_id": 7,
            "context_id": context,
            "jobs": list(dag),
            "env_vars": dict(env_vars or {}),
        },
        "jobs": [fields_of_job(context, id, depends, **fields) for id, depends in dag.items()],
    }


async def submit(api: Api, context: int, dag: Dag, flow: int = 1, **more: Any) -> dict[str, Any]:
    """Submit a flow; its record."""
    record: dict[str, Any] = await api.call("flow.submit", **submission(context, dag, flow, **more))
    return record


def wide(count: int, first: int = 1) -> dict[int, list[int]]:
    """Jobs that depend on nothing."""
    return {id: [] for id in range(first, first + count)}


def chain(count: int, first: int = 1) -> dict[int, list[int]]:
    """Jobs that depend on the one before."""
    return {id: [id - 1] if id > first else [] for id in range(first, first + count)}


def random_dag(rng: random.Random, count: int, first: int = 1) -> dict[int, list[int]]:
    """Jobs that depend on up to three of those before."""
    return {
        id: sorted(rng.sample(range(first, id), rng.randint(0, min(3, id - first))))
        for id in range(first, first + count)
    }


def database(directory: Path, context: int) -> redis.Redis:
    """A context's database in the embedded Valkey of this data directory."""
    return redis.Redis(unix_socket_path=str(directory / "valkey.sock"), db=context, decode_responses=True)


def remains(store: redis.Redis) -> dict[str, Any]:
    """What a context's database holds of things under way: timers, queues, and jobs that run or may."""
    timers: Any = store.zrange("timers", 0, -1)
    queued: list[Any] = []
    for name in ("osis", "sal", "v", "python"):
        entries: Any = store.lrange(f"queue:{name}", 0, -1)
        # An entry is a hint: that of a job which does not wait to be taken is dropped when it is met.
        queued += [job for job in entries if store.hmget(job, "status", "x_queued")[0] == "Dispatched"]
    running = [key for key in store.scan_iter("job:*") if store.hget(key, "status") == "Started"]
    return {name: found for name, found in (("timers", timers), ("queued", queued), ("running", running)) if found}
