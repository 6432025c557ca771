"""What people look at: records found by a filter, and how much there is of what; see library/views.lua."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from coordinator.models.contract import SCRIPT_TYPES
from coordinator.storage.codec import fields_of
from coordinator.storage.functions.kinds import looking
from coordinator.storage.functions.results import Word, read_word
from coordinator.storage.keys import Command, Keyspace


class Place(NamedTuple):
    """Where a record is in a list that is sorted by `value`, and then by the records' entries in their index."""

    value: int
    entry: str

    @property
    def text(self) -> str:
        return f"{self.value} {self.entry}"


class Sought(NamedTuple):
    """Which records of a kind are looked for, and in which order.

    Attributes:
        criteria: names and values, as library/views.lua takes them.
        sort: 'created', 'ended', or '' for the order of their entries in the index.
        within: what the entries in the index begin with.
    """

    kind: str
    criteria: Sequence[tuple[str, str | int]] = ()
    sort: str = ""
    is_descending: bool = False
    within: str = ""


def find(
    keys: Keyspace,
    sought: Sought,
    after: str,
    *,
    look_at: int,
    enough: int,
    behind: Place | None = None,
    before: Place | None = None,
) -> Command:
    """Look at so many records whose entries come after this one ('' for the first), for those that are sought, until
    there are enough. Of sorted ones only those between two places are."""
    first, last = (f"[{sought.within}", f"({sought.within[:-1]};") if sought.within else ("-", "+")
    if sought.is_descending:
        bounds, way = (f"({after}" if after else last, first), "REV"
    else:
        bounds, way = (f"({after}" if after else first, last), ""
    places = [place.text if place else "" for place in (behind, before)]
    flat = [item for criterion in sought.criteria for item in criterion]
    return keys.call("hc_find", keys.engine, sought.kind, *bounds, way, look_at, enough, sought.sort, *places, *flat)


class Found(NamedTuple):
    """Records that were found. `last`: the entry of the last one that was looked at, '' if there are no more."""

    last: str
    places: list[Place]


def read_find(reply: Any, sought: Sought) -> Found:
    last, *found = [item.decode() for item in reply]
    if not sought.sort:
        return Found(last, [Place(0, entry) for entry in found])
    items = iter(found)
    return Found(last, [Place(int(value), entry) for entry, value in zip(items, items, strict=True)])


class Queue(NamedTuple):
    """How many entries the queue of a script type has, and for how many seconds the next job of it has been queued."""

    entries: int
    oldest: float


class Depths(NamedTuple):
    """How much there is in a context."""

    queues: list[Queue]  # in the order of SCRIPT_TYPES
    flows: int
    jobs: int
    messages: int
    flow_states: Mapping[str, int]  # by status
    job_states: Mapping[str, int]  # by status, and by script type


def depths(keys: Keyspace) -> Command:
    """How much there is in a context. It writes nothing, and takes as long whatever the answer is."""
    return keys.call("hc_depths", keys.engine, *(script_type.lower() for script_type in SCRIPT_TYPES))


def read_depths(reply: Any) -> Depths:
    *queues, flows, jobs, messages, moves = reply
    items = iter(queues)
    waiting = [Queue(entries, ms / 1000) for entries, ms in zip(items, items, strict=True)]
    return Depths(waiting, flows, jobs, messages, *_counted(moves))


class Stats(NamedTuple):
    """How much there is in a context, as its moves have it: see COUNT.move in records.lua."""

    flows: Mapping[str, int]  # by status
    jobs: Mapping[str, int]  # by status and by script type, which are other words
    queues: Sequence[Queue]  # in the order of SCRIPT_TYPES
    connected: int
    busy: int


def context_stats(keys: Keyspace) -> Command:
    """How much there is in a context. It takes as long whatever the answer is."""
    return looking(keys.transition("hc_context_stats", *SCRIPT_TYPES))


def read_context_stats(reply: Any) -> Stats | None:
    """None: call it again, for not all attempts that run are known yet."""
    word, (moves, queues, connected, busy) = read_word("hc_context_stats", reply[0], Word.OK, Word.MORE)
    if word is Word.MORE:
        return None
    flows, jobs = _counted(moves)
    items = iter(queues)
    depths = [Queue(entries, ms / 1000) for entries, ms in zip(items, items, strict=True)]
    return Stats(flows, jobs, depths, connected, busy)


def _counted(moves: Any) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """How many flows there are by status, and jobs by status and by script type, after all these moves."""
    flows: Counter[str] = Counter()
    jobs: Counter[str] = Counter()
    for move, times in fields_of(moves).items():
        of_flow, _, states = move.decode().rpartition(" ")
        before, _, after = states.partition(">")
        counts, count = flows if of_flow else jobs, int(times)
        # A job that is created comes from its script type, of which there is one more then, and goes back there.
        is_new, is_gone = before in SCRIPT_TYPES, after in SCRIPT_TYPES
        counts[before] += count if is_new and not is_gone else -count
        counts[after] += -count if is_gone and not is_new else count
    return flows, jobs
