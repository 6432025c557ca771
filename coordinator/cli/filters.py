"""Options by which commands say which flows or jobs they mean, and in which order they list them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, Final

import click
from pydantic import BaseModel, ValidationError

from coordinator.cli.options import UINT32
from coordinator.models.contract import FLOW_STATUSES, JOB_STATUSES
from coordinator.models.filters import FlowFilter, JobFilter

__all__ = ["LISTED", "filtered", "limited", "ordered"]

LISTED: Final = 20  # records, unless more are asked for
_AGE: Final = re.compile(r"(\d+)([smhdw])")
_FLAGS: Final = {
    "name_prefix": "--name",
    "tag": "--tag",
    "caller_id": "--caller",
    "runner_id": "--runner",
    "created_from": "--since",
    "created_to": "--until",
    "ended_from": "--ended-since",
    "ended_to": "--ended-until",
}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class _Time(click.ParamType):  # type: ignore[type-arg] # of some versions of click it is generic
    """A time as Unix seconds. Without a zone it is local time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        age = _AGE.fullmatch(value)
        if age:
            return int(time.time()) - int(age[1]) * _SECONDS[age[2]]
        try:
            return int(datetime.fromisoformat(value).timestamp())
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no time: give 2026-11-27, 2026-11-27T08:30, or 90m, 36h, 7d ago", param, ctx)


TIME: Final = _Time()


def filtered(*, of_jobs: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a filter, and hand it `asked`: the members of the filter that were given."""
    kind, statuses = ("jobs", JOB_STATUSES) if of_jobs else ("flows", FLOW_STATUSES)
    options = [
        click.option(
            "--status", type=click.Choice(statuses), multiple=True, help=f"Only {kind} of this status; or of several."
        ),
        click.option("--name", "name_prefix", metavar="PREFIX", help="Only those whose name begins with this."),
        click.option("--tag", help="Only those that have this tag."),
        click.option("--caller", "caller_id", type=UINT32, help="Only those of this caller."),
        click.option(
            "--since", "created_from", type=TIME, help="Only those created since then: a time, or 2h, 7d ago."
        ),
        click.option("--until", "created_to", type=TIME, help="Only those created before."),
        click.option("--ended-since", "ended_from", type=TIME, help="Only those that have ended since then."),
        click.option("--ended-until", "ended_to", type=TIME, help="Only those that have ended before."),
    ]
    if of_jobs:
        options.append(click.option("--runner", "runner_id", type=UINT32, help="Only those this runner had last."))
    members = [member for member in _FLAGS if of_jobs or member != "runner_id"]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_filter(*args: Any, status: tuple[str, ...], **given: Any) -> None:
            asked = {member: value for member in members if (value := given.pop(member)) is not None}
            if status:
                asked["statuses"] = list(dict.fromkeys(status))
            _check(JobFilter if of_jobs else FlowFilter, asked)
            command(*args, asked=asked, **given)

        decorated = with_filter
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _check(model: type[BaseModel], asked: dict[str, Any]) -> None:
    """End with 2 if the coordinator would not take these, and name the options."""
    try:
        model.model_validate(asked)
    except ValidationError as error:
        fault = error.errors()[0]
        flag = _FLAGS.get(str(fault["loc"][0]), "the filter")
        raise click.UsageError(f"{flag}: {fault['msg'].removeprefix('Value error, ')}") from None


def ordered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --sort and --reverse, and hand it `order`: members of a list's params. The newest come first."""

    @click.option(
        "--sort",
        type=click.Choice(["created", "ended", "id"]),
        default="created",
        show_default=True,
        help="The newest, or the largest id, first; what has not ended last.",
    )
    @click.option("--reverse", is_flag=True, help="The oldest, or the smallest id, first.")
    @wraps(command)
    def with_order(*args: Any, sort: str, reverse: bool, **given: Any) -> None:
        command(*args, order={"sort": sort, "descending": not reverse}, **given)

    return with_order


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --limit and --all, and hand it `limit`; None: all."""

    @click.option("--limit", type=click.IntRange(1), default=LISTED, show_default=True, help="At most so many.")
    @click.option("--all", "everything", is_flag=True, help="All there are.")
    @wraps(command)
    def with_limit(*args: Any, limit: int, everything: bool, **given: Any) -> None:
        command(*args, limit=None if everything else limit, **given)

    return with_limit
