"""Pages of records for people and tools, and deletion."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Sequence
from typing import Any, Final

from pydantic_core import from_json, to_json

from coordinator.actors.request import Operation, RawJson, WithEffects
from coordinator.errors import Conflict, InvalidParams
from coordinator.models.listing import ContextListParams
from coordinator.operations.pace import records_of
from coordinator.operations.records import spoken
from coordinator.operations.selecting import LOOKED_AT, first_of, is_filtering, look_on, sought
from coordinator.operations.slices import in_slices
from coordinator.storage import codec
from coordinator.storage.codec import Record, fields_of
from coordinator.storage.connection import Command
from coordinator.storage.functions import records, runners
from coordinator.storage.functions.results import Refused
from coordinator.storage.functions.views import Place
from coordinator.storage.keys import Keyspace, flow_name, job_name, message_name

__all__ = [
    "bad_cursor",
    "delete_flow",
    "delete_job",
    "delete_message",
    "delete_runner",
    "is_number",
    "list_contexts",
    "list_runners",
    "page_of",
]

CHUNK: Final = 200  # records at the most loaded a step, so that others get on in between
PAGE_BYTES: Final = 1024 * 1024  # of records after which a page is full
EXAMINED: Final = 5_000  # records looked at for a page that has at least one, when few are what is asked for
SEARCHED_FOR: Final = 10.0  # seconds after which a page ends although nothing was found for it yet


def list_contexts(keys: Keyspace, params: ContextListParams) -> Operation:
    if params.cursor and not is_number(params.cursor):
        raise bad_cursor()
    first = f"({params.cursor}" if params.cursor else "-inf"
    (found,) = yield [("ZRANGE", keys.contexts(), first, "+inf", "BYSCORE", "LIMIT", 0, params.limit + 1)]
    items = found[: params.limit]
    more = b',"cursor":"%b"' % items[-1] if len(found) > len(items) else b""
    return b'{"items":[%b]%b}' % (b",".join(items), more)


class _Page:
    """What a list has found so far.

    Attributes:
        items: records as JSON.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.items: list[bytes] = []
        self._size = 0

    def add(self, item: bytes) -> None:
        self.items.append(item)
        self._size += len(item)

    @property
    def is_full(self) -> bool:
        return len(self.items) >= self.limit or self._size >= PAGE_BYTES

    def answer(self, cursor: str | None) -> RawJson:
        """`cursor`: where the next page begins; None: this is the last one."""
        more = b"" if cursor is None else b',"cursor":"%b"' % cursor.encode()
        return b'{"items":[%b]%b}' % (b",".join(self.items), more)


class page_of:  # noqa: N801 - used like the functions beside it
    """The operation that lists one kind of record: by ids, ascending, unless the params say otherwise."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __call__(self, keys: Keyspace, params: Any) -> Operation:
        if getattr(params, "sort", "id") != "id":
            return (yield from self._sorted(keys, params))
        if params.cursor and not all(map(is_number, params.cursor.split(":"))):
            raise bad_cursor()
        if getattr(params, "descending", False) or is_filtering(params):
            return (yield from self._found(keys, params))
        return (yield from self._all(keys, params))

    def _all(self, keys: Keyspace, params: Any) -> Operation:
        page, cursor, examined = _Page(params.limit), params.cursor, 0
        while True:
            after = f"({cursor}" if cursor else "-"
            (entries,) = yield [("ZRANGE", keys.index_of(self._record.kind), after, "+", "BYLEX", "LIMIT", 0, CHUNK)]
            is_last = len(entries) < CHUNK
            last = yield from self._read(keys, entries, page)
            if is_last and (not entries or last == entries[-1]):
                return page.answer(None)
            cursor = last.decode()
            examined += len(entries)
            if page.is_full or (page.items and examined >= EXAMINED):
                return page.answer(cursor)

    def _found(self, keys: Keyspace, params: Any) -> Operation:
        """Those that a filter means. Records are looked at until the page is full, or has an item and many were."""
        wanted = sought(self._record.kind, params, descending=getattr(params, "descending", False))
        page, cursor, examined = _Page(params.limit), params.cursor, 0
        ends = time.monotonic() + SEARCHED_FOR
        while True:
            found = yield from look_on(keys, wanted, cursor, page.limit - len(page.items))
            entries = [place.entry.encode() for place in found.places]
            last = yield from self._read(keys, entries, page)
            is_through = not entries or last == entries[-1]
            if is_through and not found.last:
                return page.answer(None)
            cursor = found.last if is_through else last.decode()
            examined += LOOKED_AT
            if page.is_full or (page.items and examined >= EXAMINED) or time.monotonic() >= ends:
                return page.answer(cursor)

    def _sorted(self, keys: Keyspace, params: Any) -> Operation:
        """By when they were created or have ended. All that the filter means are looked at for each page."""
        wanted = sought(self._record.kind, params, sort=params.sort, descending=params.descending)
        behind = _place_of(params.cursor, params.sort) if params.cursor else None
        page = _Page(params.limit)
        while True:
            best = yield from first_of(keys, wanted, behind, page.limit + 1)
            places = {place.entry.encode(): place for place in best[: page.limit]}
            last = yield from self._read(keys, [*places], page)
            if not places or (len(best) == len(places) and last == best[-1].entry.encode()):
                return page.answer(None)
            behind = places[last]
            if page.items:
                return page.answer(f"{params.sort}:{behind.value}:{behind.entry}")

    def _read(self, keys: Keyspace, entries: Sequence[bytes], page: _Page) -> Generator[list[Command], Any, bytes]:
        """Put the records of these entries, as far as they are still there, into the page until it is full. Returns the
        entry of the last one that was read."""
        kind, last = self._record.kind, b""
        while entries and not page.is_full:
            wanted = entries[: page.limit - len(page.items)]
            read = yield from records_of(keys, [_name(kind, entry) for entry in wanted])
            entries = entries[len(read) :]
            for entry, fields in zip(wanted, read, strict=False):
                last = entry
                if fields:  # it may have been deleted since
                    page.add(self._record.to_json(fields_of(fields), **_ids(keys, entry)))
                if page.is_full:
                    break
        return last


_page_of_runners: Final = page_of(codec.RUNNER)


def list_runners(keys: Keyspace, params: Any) -> Operation:
    """A page of runners, with who is there, what each has, and what is wrong with those in trouble."""
    answer = yield from _page_of_runners(keys, params)
    assert isinstance(answer, bytes), "a page has no effects"
    page = from_json(answer)
    ids = [runner["id"] for runner in page["items"]]
    if not ids:
        return answer
    states = None
    while states is None:
        (reply,) = yield [runners.runner_states(keys, ids)]
        states = runners.read_runner_states(reply)
    for runner, state in zip(page["items"], states, strict=True):
        if state.failed:
            runner["failed_in_a_row"] = state.failed
        if state.lost:
            runner["lost_in_a_row"] = state.lost
        if state.held_ms:
            runner["held_back_for"] = state.held_ms / 1000
        if state.is_there:
            runner["connected"] = True
        if state.since is not None:
            runner |= {"connected_since": state.since, "capacity": state.capacity}
        if state.holds:
            runner["attempts"] = state.holds
            runner["jobs"] = [{"caller_id": caller_id, "id": id} for caller_id, id in state.jobs]
    return to_json(page)


def _name(kind: str, entry: bytes) -> str:
    return f"{kind}:" + ":".join(str(int(id)) for id in entry.split(b":"))


def _ids(keys: Keyspace, entry: bytes) -> dict[str, int]:
    """What an entry of an index says of its record."""
    *caller, id = map(int, entry.split(b":"))
    return {"context_id": keys.context_key or 0, **({"caller_id": caller[0]} if caller else {}), "id": id}


def _place_of(cursor: str, sort: str) -> Place:
    """Where a page of a sorted list begins."""
    by, _, rest = cursor.partition(":")
    value, _, entry = rest.partition(":")
    if by != sort or not all(map(is_number, (value, *entry.split(":")))):
        raise bad_cursor()
    return Place(int(value), entry)


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def bad_cursor() -> InvalidParams:
    """What is raised of a cursor that no reply had."""
    return InvalidParams.at("cursor", msg="is not a cursor of a reply", type="bad_cursor")


def delete_flow(keys: Keyspace, params: Any) -> Operation:
    return (yield from _delete(keys, flow_name(params.id), may_be_large=True))


def delete_runner(keys: Keyspace, params: Any) -> Operation:
    return (yield from _delete(keys, f"runner:{params.id}"))


def delete_job(keys: Keyspace, params: Any) -> Operation:
    return (yield from _delete(keys, job_name(params.caller_id, params.id)))


def delete_message(keys: Keyspace, params: Any) -> Operation:
    return (yield from _delete(keys, message_name(params.caller_id, params.id), may_be_large=True))


def _delete(keys: Keyspace, record: str, *, may_be_large: bool = False) -> Operation:
    token = uuid.uuid4().hex
    command, again = (records.record_delete(keys, record, token, again=again) for again in (False, True))
    deleted, effects = yield from in_slices(command, records.read_record_delete, again, is_first=may_be_large)
    match deleted:
        case Refused(_, [bytes(busy)]):
            raise Conflict(f"{spoken(busy)} is running", record=busy.decode())
        case Refused(_, [bytes(needed), bytes(run)]):
            other = spoken(run)
            detail = f"{spoken(needed)} is needed by {other}, which is running"
            raise Conflict(detail, record=needed.decode(), run=other)
    return WithEffects(to_json({"deleted": deleted}), effects)
