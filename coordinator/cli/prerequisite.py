"""`herocoordinator prerequisite …`: conditions outside, that jobs wait for."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from coordinator.cli.connection import Place, in_context, run_connected
from coordinator.cli.options import UINT32
from coordinator.cli.output import plural, say
from coordinator.client import Client
from coordinator.models import SatisfiedPrerequisite

__all__ = ["prerequisite"]


_name = click.argument("name")
_flow = click.option("--flow", type=UINT32, help="For the jobs of this flow alone.  [default: of the whole context]")


@click.group()
def prerequisite() -> None:
    """Satisfy the external conditions that jobs wait for (their `prerequisites`).

    \b
    herocoordinator prerequisite list
    herocoordinator prerequisite satisfy approved --flow 12 --by Ada --payload order=4711
    herocoordinator prerequisite revoke approved --flow 12

    Exit status: 0 done, 1 an error reply, 2 a wrong command line, 3 no connection.
    """


@prerequisite.command(short_help="Declare a condition met.")
@_name
@_flow
@click.option("--by", help="Who says so.")
@click.option("--payload", multiple=True, metavar="KEY=VALUE", help="What the jobs get with it; may be repeated.")
@in_context
def satisfy(place: Place, name: str, flow: int | None, by: str | None, payload: tuple[str, ...]) -> None:
    """Declare a condition met: jobs that wait for nothing else are released."""
    pairs = dict(item.partition("=")[::2] for item in payload if "=" in item)
    if any("=" not in item for item in payload):
        raise click.UsageError("--payload takes KEY=VALUE")
    given: dict[str, Any] = {"flow_id": flow, "by": by, "payload": pairs or None}
    asked = {"name": name} | {member: value for member, value in given.items() if value is not None}
    run_connected(place, partial(_satisfy, place=place, asked=asked))


async def _satisfy(client: Client, place: Place, asked: dict[str, Any]) -> int:
    satisfied = await client.prerequisite_satisfy(context_id=place.context, **asked)
    jobs = f"{satisfied.released} {plural(satisfied.released, 'job')}"
    say(f"{satisfied.name} is satisfied for {_scope(satisfied.flow_id, place)}; {jobs} had waited for it")
    return 0


def _scope(flow: int | None, place: Place) -> str:
    return f"context {place.context}" if flow is None else f"flow {flow}"


@prerequisite.command(short_help="Declare a condition not met.")
@_name
@_flow
@in_context
def revoke(place: Place, name: str, flow: int | None) -> None:
    """Declare a condition not met: jobs that were not released yet wait for it again."""
    run_connected(place, partial(_revoke, place=place, name=name, flow=flow))


async def _revoke(client: Client, place: Place, name: str, flow: int | None) -> int:
    asked = {} if flow is None else {"flow_id": flow}
    revoked = await client.prerequisite_revoke(context_id=place.context, name=name, **asked)
    state = "is no longer satisfied" if revoked.revoked else "was not satisfied"
    say(f"{name} {state} for {_scope(flow, place)}")
    return 0


@prerequisite.command(name="list", short_help="List what jobs wait for, and what is satisfied.")
@in_context
def list_(place: Place) -> None:
    """List the conditions jobs wait for, with who waits, and those that are satisfied."""
    run_connected(place, partial(_list, place=place))


async def _list(client: Client, place: Place) -> int:
    cursor: str | None = ""
    while cursor is not None:
        page = await client.prerequisite_list(context_id=place.context, cursor=cursor)
        for awaited in page.waiting:
            who = [
                f"{job.job_id} of flow {job.flow_id}" if job.flow_id is not None else str(job.job_id)
                for job in awaited.waiters
            ]
            more = ", …" if awaited.jobs > len(who) else ""
            say(f"waiting    {awaited.name}: job {', '.join(who)}{more}")
        for satisfied in page.satisfied:
            say(f"satisfied  {satisfied.name}: {_said(satisfied, place)}")
        cursor = page.cursor
    return 0


def _said(satisfied: SatisfiedPrerequisite, place: Place) -> str:
    said = [f"for {_scope(satisfied.flow_id, place)}"]
    if satisfied.by is not None:
        said.append(f"by {satisfied.by}")
    if satisfied.payload:
        said.append(" ".join(f"{key}={value}" for key, value in satisfied.payload.items()))
    return ", ".join(said)
