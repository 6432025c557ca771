"""Compares what is in the store with what the model says must be there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.execution.driver import CALLER, Context
from tests.execution.model import Job, Model, Run

__all__ = ["check"]

Hash = dict[str, str]


def check(context: Context, model: Model) -> None:
    """Records, counters, timers, queues and sets are just what they must be; nothing else is there."""
    keys = _text(context.wire.ask(("KEYS", f"{context.keys.prefix}*"))[0])
    names = {key.removeprefix(context.keys.prefix) for key in keys}
    jobs, runs = [*model.jobs.values()], [*model.runs.values()]
    hashes = [
        _hash(reply) for reply in _ask(context, "HGETALL", [*(job.name for job in jobs), *(run.name for run in runs)])
    ]
    for job, stored in zip(jobs, hashes, strict=False):
        _check_job(job, stored)
    for run, stored in zip(runs, hashes[len(jobs) :], strict=True):
        _check_run(run, stored)
    _check_names(model, names)
    _check_timers(context, model)
    _check_waiting(context, model, names)
    _check_queues(context, model)


def _check_job(job: Job, stored: Hash) -> None:
    assert stored["status"] == job.status, job
    assert json.loads(stored["result"]) == job.result, job
    assert int(stored.get("x_attempt", "0")) == job.attempt, job
    assert stored.get("x_run") == (job.owner and job.owner.name), job
    assert ("x_retry" in stored) == (job.pause_ends is not None), job
    if job.live:
        assert stored["x_token"] == job.live.token, job
    if job.status == "WaitingForPrerequisites" and job.owner and job.owner.is_active:
        assert int(stored["x_wait"]) == len(job.waits) > 0, job


def _check_run(run: Run, stored: Hash) -> None:
    assert stored["status"] == run.status, run
    assert stored.get("x_active") == (None if run.is_active is None else str(int(run.is_active))), run
    assert stored.get("transport_status") == run.transport, run
    if run.is_flow:
        assert json.loads(stored["result"]) == run.result, run
    if run.is_active:
        assert int(stored["x_pending"]) == len(run.unfinished) > 0, run


def _check_names(model: Model, names: set[str]) -> None:
    """No record and no events but those there must be."""
    kinds = ("job:", "flow:", "message:")
    records = {name for name in names if name.startswith(kinds)}
    assert records == {job.name for job in model.jobs.values()} | model.runs.keys()
    events = {name.replace("events:", "flow:") for name in names if name.startswith("events:")}
    assert events == {name for name, run in model.runs.items() if run.is_flow and run.is_active is not None}
    logs = {name.replace("logs:", "message:") for name in names if name.startswith("logs:")}
    assert logs <= model.runs.keys()


def _check_timers(context: Context, model: Model) -> None:
    (timers,) = context.wire.ask(("ZRANGE", f"{context.keys.prefix}timers", 0, -1))
    assert set(_text(timers)) == model.timers().keys()


def _check_waiting(context: Context, model: Model, names: set[str]) -> None:
    waiting = model.waiting()
    assert {name.removeprefix("waiting:") for name in names if name.startswith("waiting:")} == waiting.keys()
    (awaited,) = context.wire.ask(("SMEMBERS", context.keys.awaited()))
    assert set(_text(awaited)) == waiting.keys()
    for (name, jobs), members in zip(
        waiting.items(), _ask(context, "SMEMBERS", [f"waiting:{name}" for name in waiting]), strict=True
    ):
        assert set(_text(members)) == jobs, name


def _check_queues(context: Context, model: Model) -> None:
    """What may be handed out is in its queue. Other entries are hints that lead nowhere."""
    for script_type in ("Python", "Sal"):
        queue = f"{context.keys.prefix}queue:{script_type.lower()}"
        (entries,) = context.wire.ask(("LRANGE", queue, 0, -1))
        assert {f"job:{CALLER}:{id}" for id in model.ready([script_type])} <= set(_text(entries))


def _ask(context: Context, command: str, names: Iterable[str]) -> list[Any]:
    commands = [(command, f"{context.keys.prefix}{name}") for name in names]
    return context.wire.ask(*commands) if commands else []


def _text(reply: Iterable[bytes]) -> list[str]:
    return [item.decode() for item in reply]


def _hash(reply: dict[bytes, bytes]) -> Hash:
    return {name.decode(): value.decode() for name, value in reply.items()}
