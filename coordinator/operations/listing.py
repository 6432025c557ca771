"""Pages of records for people and tools, and deletion."""

from __future__ import annotations

import uuid
from typing import Any, Final

from pydantic_core import from_json, to_json

from coordinator.actors.request import Operation, RawJson, WithEffects
from coordinator.errors import Conflict, InvalidParams
from coordinator.models.execution import ContextListParams
from coordinator.operations.pace import records_of
from coordinator.operations.records import spoken
from coordinator.operations.slices import in_slices
from coordinator.storage import codec, functions
from coordinator.storage.codec import Record, fields_of
from coordinator.storage.functions import Refused
from coordinator.storage.keys import Keyspace, flow_name, job_name, message_name

__all__ = ["delete_flow", "delete_job", "delete_message", "delete_runner", "list_contexts", "list_runners", "page_of"]

CHUNK: Final = 200  # records at the most loaded a step, so that others get on in between
PAGE_BYTES: Final = 1024 * 1024  # of records after which a page is full
EXAMINED: Final = 5_000  # records looked at for one page, when few have the status asked for


def list_contexts(keys: Keyspace, params: ContextListParams) -> Operation:
    if params.cursor and not _is_number(params.cursor):
        raise _bad_cursor()
    first = f"({params.cursor}" if params.cursor else "-inf"
    (found,) = yield [("ZRANGE", keys.contexts(), first, "+inf", "BYSCORE", "LIMIT", 0, params.limit + 1)]
    items = found[: params.limit]
    more = b',"cursor":"%b"' % items[-1] if len(found) > len(items) else b""
    return b'{"items":[%b]%b}' % (b",".join(items), more)


class page_of:  # noqa: N801 - used like the functions beside it
    """The operation that lists one kind of record, ascending by its ids."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __call__(self, keys: Keyspace, params: Any) -> Operation:
        kind = self._record.kind
        status = getattr(params, "status", None)
        wanted = None if status is None else status.encode()
        cursor: str = params.cursor
        if cursor and not all(map(_is_number, cursor.split(":"))):
            raise _bad_cursor()
        items: list[bytes] = []
        size = examined = 0
        is_last = is_full = False
        while not (is_last or is_full or examined >= EXAMINED):
            after = f"({cursor}" if cursor else "-"
            (entries,) = yield [("ZRANGE", keys.index_of(kind), after, "+", "BYLEX", "LIMIT", 0, CHUNK)]
            is_last = len(entries) < CHUNK
            if not entries:
                break
            examined += len(entries)
            candidates = entries
            if wanted is not None:
                found = yield [("HGET", keys.prefix + _name(kind, entry), "status") for entry in entries]
                candidates = [entry for entry, status in zip(entries, found, strict=True) if status == wanted]
            while candidates and not is_full:
                wanted_now = candidates[: params.limit - len(items)]
                names = [_name(kind, entry) for entry in wanted_now]
                records = yield from records_of(keys, names)
                candidates = candidates[len(records) :]
                for entry, fields in zip(wanted_now, records, strict=False):
                    cursor = entry.decode()
                    if fields:  # it may have been deleted since
                        items.append(self._record.to_json(fields_of(fields), **_ids(keys, entry)))
                        size += len(items[-1])
                    is_full = len(items) >= params.limit or size >= PAGE_BYTES
                    if is_full:
                        break
            if is_full:
                is_last = is_last and cursor.encode() == entries[-1]
            else:
                cursor = entries[-1].decode()
        more = b"" if is_last else b',"cursor":"%b"' % cursor.encode()
        answer: RawJson = b'{"items":[%b]%b}' % (b",".join(items), more)
        return answer


_page_of_runners: Final = page_of(codec.RUNNER)


def list_runners(keys: Keyspace, params: Any) -> Operation:
    """A page of runners, with what is wrong with those in trouble."""
    answer = yield from _page_of_runners(keys, params)
    assert isinstance(answer, bytes), "a page has no effects"
    page = from_json(answer)
    ids = [runner["id"] for runner in page["items"]]
    if not ids:
        return answer
    (reply,) = yield [functions.runner_troubles(keys, ids)]
    standings = functions.read_runner_troubles(reply)
    if not any(map(any, standings)):
        return answer
    for runner, standing in zip(page["items"], standings, strict=True):
        if standing.failed:
            runner["failed_in_a_row"] = standing.failed
        if standing.lost:
            runner["lost_in_a_row"] = standing.lost
        if standing.held_ms:
            runner["held_back_for"] = standing.held_ms / 1000
    return to_json(page)


def _name(kind: str, entry: bytes) -> str:
    return f"{kind}:" + ":".join(str(int(id)) for id in entry.split(b":"))


def _ids(keys: Keyspace, entry: bytes) -> dict[str, int]:
    """What an entry of an index says of its record."""
    *caller, id = map(int, entry.split(b":"))
    return {"context_id": keys.context_key or 0, **({"caller_id": caller[0]} if caller else {}), "id": id}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _bad_cursor() -> InvalidParams:
    return InvalidParams([{"loc": ["cursor"], "msg": "is not a cursor of a reply", "type": "bad_cursor"}])


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
    command, again = (
        functions.record_delete(keys, record, token),
        functions.record_delete(keys, record, token, again=True),
    )
    deleted, effects = yield from in_slices(command, functions.read_record_delete, again, is_first=may_be_large)
    match deleted:
        case Refused(_, [bytes(busy)]):
            raise Conflict(f"{busy.decode()} is running", record=busy.decode())
        case Refused(_, [bytes(needed), bytes(run)]):
            other = spoken(run)
            detail = f"{needed.decode()} is needed by {other}, which is running"
            raise Conflict(detail, record=needed.decode(), run=other)
    return WithEffects(to_json({"deleted": deleted}), effects)
