"""Compares what is in the store with what the model says must be there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from coordinator.storage.functions import views
from coordinator.storage.functions.views import Stats
from tests.execution.driver import CALLER, Context
from tests.execution.model import Job, Model, Run

__all__ = ["check"]

TYPES: Final = ("Python", "Sal")
PAUSED: Final = "5"  # x_active of a run that is


def check(context: Context, model: Model) -> None:
    """Records, counters, timers, queues and sets are just what they must be; nothing else is there."""
    awaiting = model.awaiting()
    replies = _look(context, model, awaiting)
    for job in model.jobs.values():
        _check_job(job, next(replies))
    for run in model.runs.values():
        _check_run(run, next(replies))
    for name, jobs in awaiting.items():
        assert set(next(replies)) == jobs, name
    for script_type in TYPES:
        # Other entries of a queue are hints that lead nowhere; they may have a timer by which they are dropped.
        assert {f"job:{CALLER}:{id}" for id in model.ready([script_type])} <= set(next(replies))
    assert set(next(replies)) - {"stale:engine"} == model.timers().keys()
    assert set(next(replies)) == {name for _, name in awaiting}
    _check_names(model, awaiting, {key.removeprefix(context.keys.prefix) for key in next(replies)})
    _check_counts(next(replies), model)


def _look(context: Context, model: Model, awaiting: Mapping[tuple[str, str], Any]) -> Iterator[Any]:
    """Everything there is to see, in one look."""
    prefix = context.keys.prefix
    replies = context.wire.ask(
        *[("HGETALL", f"{prefix}{job.name}") for job in model.jobs.values()],
        *[("HGETALL", f"{prefix}{run.name}") for run in model.runs.values()],
        *[("SMEMBERS", f"{prefix}awaiting:{run} {name}") for run, name in awaiting],
        *[("LRANGE", f"{prefix}queue:{script_type.lower()}", 0, -1) for script_type in TYPES],
        ("ZRANGE", f"{prefix}timers", 0, -1),
        ("ZRANGE", f"{prefix}awaits", 0, -1),
        ("KEYS", f"{prefix}*"),
        views.context_stats(context.keys),
    )
    stats = views.read_context_stats(replies.pop())
    return iter([*map(_as_text, replies), stats])


def _check_job(job: Job, stored: Mapping[str, str]) -> None:
    assert stored["status"] == job.status, job
    assert json.loads(stored.get("result", "{}")) == job.result, job
    number, *attempt = stored.get("x_attempt", "0").split(" ")
    assert int(number) == job.attempt, job
    assert int(stored.get("x_lost", "0")) == job.lost, job
    assert stored.get("x_run") == (job.owner and job.owner.name), job
    assert ("x_retry" in stored) == (job.pause_ends is not None), job
    if job.live:
        assert attempt[0] == job.live.token, job
    if job.status == "WaitingForPrerequisites" and job.owner and job.owner.is_active:
        assert int(stored["x_wait"]) == len(job.waits), job
        assert job.waits or job.names, job


def _check_run(run: Run, stored: Mapping[str, str]) -> None:
    assert stored["status"] == run.status, run
    active = None if run.is_active is None else PAUSED if run.is_paused else str(int(run.is_active))
    assert stored.get("x_active") == active, run
    assert ("paused" in stored) == run.is_paused, run
    assert stored.get("transport_status") == run.transport, run
    if run.is_flow:
        assert json.loads(stored.get("result", "{}")) == run.result, run
    if run.is_active:
        assert int(stored["x_pending"]) == len(run.unfinished) > 0, run


def _check_counts(stats: Stats | None, model: Model) -> None:
    """What is counted is what there is."""
    assert stats is not None
    jobs = model.jobs.values()
    flows = Counter(run.status for run in model.runs.values() if run.is_flow)
    assert {status: count for status, count in stats.flows.items() if count and status} == flows
    counted = Counter(job.status for job in jobs) + Counter(job.script_type for job in jobs)
    assert {name: count for name, count in stats.jobs.items() if count} == counted
    assert stats.busy == len({job.live.runner for job in jobs if job.live})


def _check_names(model: Model, awaiting: Iterable[tuple[str, str]], names: set[str]) -> None:
    """No record, no events and nobody who waits but those there must be."""
    kinds = ("job:", "flow:", "message:")
    records = {name for name in names if name.startswith(kinds)}
    assert records == {job.name for job in model.jobs.values()} | model.runs.keys()
    events = {name.replace("events:", "flow:") for name in names if name.startswith("events:")}
    assert events == {name for name, run in model.runs.items() if run.is_flow and run.is_active is not None}
    logs = {name.replace("logs:", "message:") for name in names if name.startswith("logs:")}
    assert logs == {name for name, run in model.runs.items() if run.logs}
    assert {name for name in names if name.startswith("waiting:")} == {f"waiting:{name}" for _, name in awaiting}
    assert {name for name in names if name.startswith("awaiting:")} == {
        f"awaiting:{run} {name}" for run, name in awaiting
    }
    for_flows = {f"prerequisites:{run}" for _, run in model.satisfied if run}
    assert {name for name in names if name.startswith("prerequisites:")} == for_flows


def _as_text(reply: Any) -> Any:
    if isinstance(reply, dict):
        return {name.decode(): value.decode() for name, value in reply.items()}
    return [item.decode() for item in reply]
