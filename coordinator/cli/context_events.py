"""What happens to the flows of a context, a line an event."""

from __future__ import annotations

import time

from coordinator.cli.connection import DEFAULT_CONTEXT, Place
from coordinator.cli.exit_codes import complain
from coordinator.cli.output import say
from coordinator.client import Client
from coordinator.models import ContextEvent

__all__ = ["follow_context"]


async def follow_context(client: Client, place: Place, after: str | None) -> int:
    """Print events until the context is deleted. Returns the exit status."""
    has_missed = False
    async with client.follow_context(place.context, after) as events:
        try:
            async for event in events:
                if events.missed and not has_missed:
                    complain("some events are missing here: they are no longer kept, or nobody followed the context")
                has_missed, events.missed = events.missed, False
                say(line_of(event))
        finally:
            if events.last and not events.deleted:
                there = Place(place.url, DEFAULT_CONTEXT, place.ca)  # the command takes the id as an argument
                complain(f"go on with `{there.command('context follow', place.context, '--after', events.last)}`")
    return 0


def line_of(event: ContextEvent) -> str:
    """An event as a line."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at / 1000))
    who = "context" if event.flow_id is None else f"flow {event.flow_id}"
    if event.job_id is not None:
        who += f" job {event.job_id}"
    details = [f"attempt {event.attempt}"] if event.attempt else []
    if event.runner_id is not None and event.status == "Started":
        details.append(f"on runner {event.runner_id}" + (f" ({event.topic})" if event.topic else ""))
    if event.lost:
        details.append("lost")
    told = f" ({', '.join(details)})" if details else ""
    return f"{when}  {who} > {event.status}{told}" + (f": {event.reason}" if event.reason else "")
