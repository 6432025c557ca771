"""`herocoordinator job …`: looking at jobs, and cancelling one."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import click

from coordinator.cli.connection import Place, in_context, run_connected
from coordinator.cli.filters import filtered, limited, ordered
from coordinator.cli.flow_state import duration
from coordinator.cli.following import DEFAULT_CALLER
from coordinator.cli.listed import created, list_pages
from coordinator.cli.options import UINT32
from coordinator.cli.output import say
from coordinator.client import Client
from coordinator.models import Job, JobAttempt

__all__ = ["job"]


@click.group()
def job() -> None:
    """Look at jobs, and cancel one.

    \b
    herocoordinator job list --status Error --runner 3
    herocoordinator job attempts 12 --caller 7
    herocoordinator job cancel 12 --caller 7 --reason "too dear"

    Exit status: 0 done, 1 an error reply, 2 a wrong command line, 3 no connection.
    """


@job.command(name="list")
@filtered(of_jobs=True)
@ordered
@limited
@in_context
def list_(place: Place, asked: dict[str, Any], order: dict[str, Any], limit: int | None) -> None:
    """List the newest jobs of a context, the newest first.

    \b
    herocoordinator job list --status Started --status Dispatched
    herocoordinator job list --tag report --ended-since 2h --sort ended
    """
    run_connected(place, partial(_list, place=place, asked=asked, order=order, limit=limit))


async def _list(client: Client, place: Place, asked: dict[str, Any], order: dict[str, Any], limit: int | None) -> int:
    say(f"{'CALLER':>10}  {'ID':>10}  {'STATUS':23}  {'TYPE':6}  {'CREATED':25}  NAME")

    def show(item: Job) -> None:
        row = f"{item.caller_id:>10}  {item.id:>10}  {item.status:23}  {item.script_type:6}  {created(item):25}"
        say(f"{row}  {item.name or ''}".rstrip())

    return await list_pages(client, "jobs", show, place, asked, order, limit)


@job.command(short_help="Say how the attempts at a job went.")
@click.argument("id", type=UINT32)
@click.option("--caller", type=UINT32, default=DEFAULT_CALLER, show_default=True, help="Whose job it is.")
@in_context
def attempts(place: Place, id: int, caller: int) -> None:
    """Say how the newest attempts at the job with this ID went: by which runner, for how long, and why they failed."""
    run_connected(place, partial(_attempts, place=place, id=id, caller=caller))


async def _attempts(client: Client, place: Place, id: int, caller: int) -> int:
    answer = await client.job_attempts(context_id=place.context, caller_id=caller, id=id)
    if not answer.attempts:
        say("no runner has had it yet")
    for attempt in answer.attempts:
        say(_line(attempt))
    return 0


def _line(attempt: JobAttempt) -> str:
    begun = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(attempt.started_at / 1000))
    took = ""
    if attempt.ended_at is not None:
        took = f" after {duration(max(0, attempt.ended_at - attempt.started_at) / 1000)}"
    error = "" if attempt.error is None else f": {attempt.error}"
    outcome = attempt.outcome.replace("_", " ")
    return f"attempt {attempt.attempt}  runner {attempt.runner_id}  {begun}  {outcome}{took}{error}"


@job.command(short_help="End a job that waits or runs.")
@click.argument("id", type=UINT32)
@click.option("--caller", type=UINT32, default=DEFAULT_CALLER, show_default=True, help="Whose job it is.")
@click.option("--reason", default="", help="Recorded with the job and told to its runner.")
@in_context
def cancel(place: Place, id: int, caller: int, reason: str) -> None:
    """End the job with this ID, which waits or runs: it and its flow are in Error."""
    run_connected(place, partial(_cancel, place=place, id=id, caller=caller, reason=reason))


async def _cancel(client: Client, place: Place, id: int, caller: int, reason: str) -> int:
    cancelled = await client.job_cancel(context_id=place.context, caller_id=caller, id=id, reason=reason)
    say(f"job {caller}/{id} {cancelled.status}")
    return 0
