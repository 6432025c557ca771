"""What the coordinator is to its clients: a dictionary of records."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tests.support.clients import Call
from tests.support.records import Record, create, load

__all__ = ["Key", "Model", "Operation"]

_AT_FIRST: Final[dict[str, Record]] = {
    "flow": {"result": {}, "status": "Dispatched"},
    "job": {"result": {}, "status": "Dispatched"},
    "message": {"logs": [], "status": "Dispatched"},
}
_TIMES: Final = ("created_at", "updated_at")
_NEVER: Final[Record] = {}


class Key(NamedTuple):
    """Which record. Actors are in no context, and only jobs and messages are their caller's."""

    kind: str
    context: int | None
    caller_id: int | None
    id: int


class Operation(NamedTuple):
    """A create of this record, or a load."""

    kind: str
    context: int
    caller_id: int
    id: int
    record: Record | None = None

    @property
    def key(self) -> Key:
        context = None if self.kind == "actor" else self.context
        caller_id = self.caller_id if self.kind in ("job", "message") else None
        return Key(self.kind, context, caller_id, self.context if self.kind == "context" else self.id)

    @property
    def call(self) -> Call:
        if self.record is None:
            return load(self.kind, self.context, self.id, self.caller_id)
        return create(self.kind, self.context, self.record)


class Model:
    """Checks replies against what went before.

    Attributes:
        records: each as it was last answered.
    """

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}

    def loads(self) -> list[Operation]:
        """Loads of everything there is."""
        return [Operation(key.kind, key.context or 0, key.caller_id or 0, key.id) for key in self.records]

    def check(self, operation: Operation, reply: dict[str, Any]) -> None:
        """Make sure that this is the right reply now, and remember what it changed."""
        if operation.record is not None:
            self._check_created(operation.key, operation.record, reply["result"])
        elif operation.key in self.records:
            assert reply["result"] == self.records[operation.key]
        else:
            assert reply["error"]["code"] == -32001
            assert reply["error"]["data"]["kind"] == operation.kind

    def _check_created(self, key: Key, record: Record, result: Record) -> None:
        known = self.records.get(key, _NEVER)
        _check_upsert(key.kind, known, record, result)
        if key.kind == "message":
            self._check_jobs(known.get("job", []), record["job"], result)
        assert result["updated_at"] >= known.get("updated_at", 0)
        self.records[key] = result

    def _check_jobs(self, known: list[Record], sent: list[Record], message: Record) -> None:
        known_jobs = {(job["caller_id"], job["id"]): job for job in known}
        for job, result in zip(sent, message["job"], strict=True):
            _check_upsert("job", known_jobs.get((job["caller_id"], job["id"]), _NEVER), job, result)
            assert result["updated_at"] == message["updated_at"]


def _check_upsert(kind: str, known: Record, sent: Record, result: Record) -> None:
    expected = {**_AT_FIRST.get(kind, {}), **known, **sent}
    ignored = {*_TIMES, *(["job"] if kind == "message" else [])}  # looked at on their own
    assert _without(result, ignored) == _without(expected, ignored)
    assert result["created_at"] == known.get("created_at", result["updated_at"])


def _without(record: Record, names: set[str]) -> Record:
    return {name: value for name, value in record.items() if name not in names}
