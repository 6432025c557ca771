"""Which records a filter means: looked for in slices, so that nobody else waits."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final

from pydantic_core import to_json

from coordinator.models.contract import FLOW_STATUSES, JOB_STATUSES
from coordinator.storage.connection import Command
from coordinator.storage.functions import views
from coordinator.storage.functions.views import Found, Place, Sought
from coordinator.storage.keys import Keyspace

__all__ = ["LOOKED_AT", "first_of", "is_filtering", "look_on", "sought"]

LOOKED_AT: Final = 200  # records in one call of the store: about 2 ms
_CRITERIA: Final[Mapping[str, str]] = {
    "name_prefix": "name",
    "created_from": "created_from",
    "created_to": "created_to",
    "ended_from": "ended_from",
    "ended_to": "ended_to",
    "runner_id": "runner",
}
"""Members of a filter that the store takes as they are."""

_COUNTED: Final[Mapping[str, tuple[str, ...]]] = {"flow": FLOW_STATUSES, "job": JOB_STATUSES}
"""The records of which the store counts how many have which status."""

_MEMBERS: Final = frozenset({*_CRITERIA, "status", "statuses", "tag", "caller_id"})
"""All members of filters. Some have no more than a status."""


def is_filtering(filter: Any) -> bool:
    """Whether a filter means less than all."""
    return any(getattr(filter, member, None) is not None for member in _MEMBERS)


def sought(kind: str, filter: Any, *, sort: str = "", descending: bool = False) -> Sought:
    """What to look for: records of a kind that a filter means, such as a FlowFilter. `sort`: 'created', 'ended', or ''
    for by id."""
    given = {member: value for member in _MEMBERS if (value := getattr(filter, member, None)) is not None}
    criteria: list[tuple[str, str | int]] = [
        (name, given[member]) for member, name in _CRITERIA.items() if member in given
    ]
    if "status" in given:
        criteria.append(("status", f" {given['status']} "))
    if "statuses" in given:
        criteria.append(("status", f" {' '.join(given['statuses'])} "))
    if "tag" in given:
        criteria.append(("tag", to_json(given["tag"]).decode()))
    within = ""
    if "caller_id" in given and kind == "job":
        within = f"{given['caller_id']:010d}:"  # their index has them by caller
    elif "caller_id" in given:
        criteria.append(("caller", given["caller_id"]))
    return Sought(kind, criteria, sort, descending, within)


def look_on(keys: Keyspace, sought: Sought, after: str, enough: int) -> Generator[list[Command], Any, Found]:
    """Look at a slice of the records behind this entry ('' for the first), for about `enough` that are sought."""
    command = views.find(keys, sought, after, look_at=LOOKED_AT, enough=enough)
    return (yield from _look(keys, sought, command, is_first=not after))


def _look(keys: Keyspace, sought: Sought, command: Command, *, is_first: bool) -> Generator[list[Command], Any, Found]:
    """Look at a slice. If it is the first one, and none of that status is there, it is the last one too, however many
    records there are."""
    statuses = [words.split() for name, words in sought.criteria if name == "status" and isinstance(words, str)]
    if not is_first or not statuses or sought.kind not in _COUNTED:
        (reply,) = yield [command]
        return views.read_find(reply, sought)
    reply, counted = yield [command, views.depths(keys)]
    found, depths = views.read_find(reply, sought), views.read_depths(counted)
    all, by_status = (depths.flows, depths.flow_states) if sought.kind == "flow" else (depths.jobs, depths.job_states)
    is_whole = sum(by_status.get(status, 0) for status in _COUNTED[sought.kind]) == all  # else it is not relied on
    # Other writers may come between the two commands, so only that there is none says something of what was not seen.
    is_none = not any(by_status.get(status, 0) for status in statuses[0])
    return found._replace(last="") if is_whole and is_none else found


def first_of(
    keys: Keyspace, sought: Sought, behind: Place | None, count: int
) -> Generator[list[Command], Any, list[Place]]:
    """The first `count` records, in the order that is sought, behind that place. All that there are is looked at."""
    best: list[Place] = []
    after: str | None = ""
    while after is not None:
        before = best[-1] if len(best) == count else None
        command = views.find(keys, sought, after, look_at=LOOKED_AT, enough=2 * LOOKED_AT, behind=behind, before=before)
        found = yield from _look(keys, sought, command, is_first=not after)
        best = sorted([*best, *found.places], reverse=sought.is_descending)[:count]
        after = found.last or None
    return best
