"""Pages of records as tables."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from coordinator.cli.connection import Place
from coordinator.cli.exit_codes import complain
from coordinator.client import Client
from coordinator.models import MAX_PAGE, Context, Flow, Job

__all__ = ["created", "list_pages"]


Kind = Literal["flows", "jobs"]


def created(record: Flow | Job | Context) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(record.created_at))


async def list_pages(
    client: Client,
    kind: Kind,
    show: Callable[[Any], None],
    place: Place,
    asked: Mapping[str, Any],
    order: Mapping[str, Any],
    limit: int | None,
) -> int:
    """Show the flows or jobs that a filter means, at most so many (None: all), and say so if there are more. Returns
    the exit status.

    Args:
        asked, order: members of the list's params.
    """
    list_page: Callable[..., Awaitable[Any]] = client.flow_list if kind == "flows" else client.job_list

    async def of_all() -> str:
        if asked:  # nobody has counted those
            return ""
        stats = await client.context_stats(context_id=place.context)
        return f" of {sum((stats.flows if kind == 'flows' else stats.jobs).values())}"

    shown = 0
    cursor: str | None = ""
    while cursor is not None:
        room = MAX_PAGE if limit is None else limit - shown
        if room == 0:
            which = "newest" if order == {"sort": "created", "descending": True} else "first"
            complain(f"these are the {which} {shown}{await of_all()} {kind}; --limit N or --all lists more")
            break
        page = await list_page(context_id=place.context, cursor=cursor, limit=min(room, MAX_PAGE), **asked, **order)
        for item in page.items:
            show(item)
        shown += len(page.items)
        cursor = page.cursor
    return 0
