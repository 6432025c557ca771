"""Reads what the original HeroCoordinator has stored in Redis, and writes a context of it as an export (exported.py).

The original keeps context N in database N, and actors in database 0 or in the contexts' own:

    context:<id>  actor:<id>  runner:<id>  flow:<id>  job:<caller>:<id>  message:<caller>:<id>

Each is a hash with a field a member, or a string with all of them as a JSON object. Numbers, lists and maps are JSON;
texts are as they are, or JSON too. Words of enumerations are in lower case (`waiting_for_prerequisites`), and what a
job depends on is called `dependends`. Nothing is written to its Redis.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import trio
from pydantic import ValidationError

from coordinator import models
from coordinator.storage.codec import ACTOR, CONTEXT, FLOW, JOB, MESSAGE, RUNNER, Record, fields_of, is_free_text
from coordinator.storage.connection import Command, Connection, Reply
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.exported import Body, Header, line_of
from coordinator.storage.faults import TRANSPORT_ERRORS, ReplyError, StoreMisconfigured, StoreUnavailable
from coordinator.storage.keys import index_entry
from coordinator.storage.url import topology_from_url
from coordinator.storage.visit import CannotTransfer

__all__ = ["OURS", "Found", "Original", "reading"]

TIMEOUT: Final = 60.0  # seconds its Redis may take to answer
LISTED: Final = 1000  # keys looked for in one command
READ: Final = 100  # records at once
OURS: Final = "engine"
"""A key that each of our contexts has, and none of the original's."""
INDEXED: Final = 500  # entries of an index in one line
UNCOUNTED: Final = 7  # the layout of a context whose records the store has yet to count by status: it does so itself

_NAMES: Final[Mapping[str, tuple[Record, type[models.Model], tuple[str, ...]]]] = {
    "context": (CONTEXT, models.Context, ("id",)),
    "runner": (RUNNER, models.Runner, ("id",)),
    "job": (JOB, models.Job, ("caller_id", "id")),
    "flow": (FLOW, models.Flow, ("id",)),
    "message": (MESSAGE, models.Message, ("caller_id", "id")),
}
"""What a context has, in the order in which it is read: of a flow it must be known what became of its jobs."""
_WORDS: Final[Mapping[str, Any]] = {
    "script_type": models.ScriptType,
    "message_type": models.ScriptType,
    "message_format_type": models.MessageFormatType,
    "transport_status": models.TransportStatus,
}
_STATUS: Final[Mapping[str, Any]] = {
    "job": models.JobStatus,
    "flow": models.FlowStatus,
    "message": models.MessageStatus,
}
_OTHERWISE: Final[Mapping[str, Mapping[str, Any]]] = {
    "job": {"env_vars": {}, "result": {}, "prerequisites": [], "depends": []},
    "flow": {"env_vars": {}, "result": {}},
    "message": {"job": [], "logs": []},
}
"""What may be missing."""


@dataclass(slots=True)
class Found:
    """What there is of a context, as far as it was read.

    Attributes:
        counts: by kind, and the status it has here.
        changed: what is not carried over as it is, each with the reason.
        left: what is not carried over, each with the reason.
        fault: why nothing of it is, and what was written is no export.
    """

    context: int
    fault: str = ""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class _Unusable(Exception):
    """A record cannot be carried over; the text says why."""


class Original:
    """A connection to the original's Redis."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Their replies. Raises CannotTransfer: one is an error, or it does not answer."""
        replies: list[Reply] = []
        try:
            with trio.fail_after(TIMEOUT):
                await self._connection.exchange([*commands], replies)
        except trio.TooSlowError:
            raise CannotTransfer(f"the original's Redis did not answer within {TIMEOUT:g} s") from None
        except StoreUnavailable as error:
            raise CannotTransfer(f"the original's Redis: {error}") from None
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise CannotTransfer(f"the original's Redis says: {reply}")
        return replies

    async def databases(self) -> list[int]:
        """Those that have keys."""
        (told,) = await self.ask([("INFO", "keyspace")])
        lines = (told if isinstance(told, str) else told.decode()).splitlines()
        return sorted(int(line[2:].partition(":")[0]) for line in lines if line.startswith("db"))

    async def _names(self, database: int) -> list[str]:
        """The names of all keys, ascending."""
        names: set[str] = set()
        cursor: bytes | int = 0
        await self.ask([("SELECT", database)])
        while True:
            ((cursor, found),) = await self.ask([("SCAN", cursor, "COUNT", LISTED)])
            names |= {name.decode("utf-8", "backslashreplace") for name in found}
            if int(cursor) == 0:
                return sorted(names)

    async def _read(self, database: int, names: Sequence[str]) -> AsyncIterator[tuple[str, dict[str, Any] | _Unusable]]:
        """The records of these names, with their members as they are stored."""
        for first in range(0, len(names), READ):
            some = names[first : first + READ]
            _, *kinds = await self.ask([("SELECT", database), *(("TYPE", name) for name in some)])
            reads = {"hash": "HGETALL", "string": "GET"}
            kinds = [kind if isinstance(kind, str) else kind.decode() for kind in kinds]
            there = [(name, kind) for name, kind in zip(some, kinds, strict=True) if kind in reads]
            replies = iter(await self.ask([(reads[kind], name) for name, kind in there]))
            for name, kind in zip(some, kinds, strict=True):
                if kind not in reads:
                    yield name, _Unusable(f"it is a {kind}, and a record is a hash")
                    continue
                try:
                    yield name, (_of_hash if kind == "hash" else _of_text)(next(replies))
                except _Unusable as fault:
                    yield name, fault

    async def actors(self) -> tuple[dict[int, dict[str, str]], list[str]]:
        """All actors of all databases as they are stored here, and what cannot be carried over. Of several of one id
        the one of the smallest database counts."""
        actors: dict[int, dict[str, str]] = {}
        left: list[str] = []
        for database in await self.databases():
            names = [name for name in await self._names(database) if _ids(name, "actor", 1)]
            async for name, members in self._read(database, names):
                place = f"database {database}, {name}"
                try:
                    actor = _record("actor", ACTOR, models.Actor, {"id": _ids(name, "actor", 1)[0]}, members, None)
                except _Unusable as fault:
                    left.append(f"{place}: {fault}")
                    continue
                before = actors.setdefault(int(actor["id"]), actor)
                if before["pubkey"] != actor["pubkey"]:
                    left.append(f"{place}: another database has this actor with another key, which is kept")
        return actors, left

    async def write(
        self,
        database: int,
        actors: Mapping[int, Mapping[str, str]],
        now: int,
        version: str,
        write: Callable[[bytes], object],
    ) -> Found | None:
        """Write what a database has as the export of a context.

        Args:
            now: Unix time, ms.
            write: is given line by line.

        Returns what that is; None if the database is no context's, and then nothing was written.
        """
        names = await self._names(database)
        if f"context:{database}" not in names:
            return None
        found = Found(database)
        if OURS in names:
            found.fault = "it is one of a coordinator like this one: use `herocoordinator export`"
            return found
        body = Body(write)
        write(Header(database, UNCOUNTED, now, now, version).line())
        for id in sorted(actors):
            body.put(line_of({"actor": id, "hash": actors[id]}))
        body.put(line_of({"key": "engine", "hash": {"schema": str(UNCOUNTED)}}))
        jobs: dict[tuple[int, int], str] = {}
        for kind, of_kind in _by_kind(names, found).items():
            await self._write_kind(kind, of_kind, jobs, found, body)
            if found.fault:
                return found
        body.end()
        return found

    async def _write_kind(
        self, kind: str, names: Sequence[str], jobs: dict[tuple[int, int], str], found: Found, body: Body
    ) -> None:
        """Write the records of a kind, with their index. `jobs`: what became of them, by caller and id."""
        record, model, id_names = _NAMES[kind]
        context = None if kind == "context" else found.context
        entries: list[str] = []
        async for name, members in self._read(found.context, names):
            ids = _ids(name, kind, len(id_names))
            try:
                stored = _record(kind, record, model, dict(zip(id_names, ids, strict=True)), members, context)
            except _Unusable as fault:
                found.left.append(f"{name}: {fault}")
                if kind == "context":
                    found.fault = f"{name}: {fault}"
                    return
                continue
            match kind:
                case "job":
                    _settle_job(name, stored, found)
                    jobs[ids[0], ids[1]] = stored["status"]
                case "flow":
                    _settle_flow(name, stored, jobs, found)
                    body.put(line_of({"key": "unlisted", "hash": {name: "u"}}))
                case "message":
                    _settle_message(name, stored, found)
            found.counts[kind, stored.get("status", "")] += 1
            entries.append(index_entry(*ids))
            body.put(line_of({"key": name, "hash": stored}))
        for some in _parts(entries if record.is_listed else []):
            body.put(line_of({"key": f"index:{kind}", "zset": [[entry, 0] for entry in some]}))


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Original]:
    """A connection to the Redis of the original, closed in the end. Raises ValueError: it is no URL; CannotTransfer."""
    endpoint = topology_from_url(url)
    if not isinstance(endpoint, Endpoint):
        raise ValueError("the original has one server: redis://HOST:PORT")
    try:
        with trio.fail_after(10):
            stream = await endpoint.open()
    except trio.TooSlowError:
        raise CannotTransfer(f"{endpoint} does not answer") from None
    except (StoreMisconfigured, *TRANSPORT_ERRORS) as error:
        raise CannotTransfer(f"cannot connect to {endpoint}: {error}") from None
    connection = Connection(stream)
    try:
        replies: list[Reply] = []
        await connection.exchange([endpoint.hello], replies)
        original = Original(connection)
        if isinstance(replies[0], ReplyError):  # Redis before 6 has no HELLO
            if "unknown command" not in str(replies[0]).lower():
                raise CannotTransfer(f"{endpoint} refuses the connection: {replies[0]}")
            if endpoint.password is not None:
                await original.ask([("AUTH", endpoint.password)])
        await original.ask([("SELECT", endpoint.database)])
        yield original
    finally:
        with trio.CancelScope(shield=True):  # closing at once does not wait for the peer
            await connection.aclose()


def _word(value: Any, choices: Any) -> Any:
    """The word of an enumeration that is meant, however it is written; the value itself if none is."""
    meant = str(value).strip('"').replace("_", "").replace("-", "").lower()
    return next((choice for choice in get_args(choices.__value__) if choice.lower() == meant), value)


def _ids(name: str, kind: str, count: int) -> tuple[int, ...]:
    """The ids in a key's name; none if it is not such a name."""
    first, *rest = name.split(":")
    if first != kind or len(rest) != count or not all(part.isascii() and part.isdigit() for part in rest):
        return ()
    ids = tuple(map(int, rest))
    return ids if all(id < 2**32 for id in ids) and name == ":".join((kind, *map(str, ids))) else ()


def _by_kind(names: Sequence[str], found: Found) -> dict[str, list[str]]:
    """The names of records by their kind, in the order in which those are read."""
    of_kind: dict[str, list[str]] = {kind: [] for kind in _NAMES}
    for name in names:
        kind = name.partition(":")[0]
        if name == f"context:{found.context}":
            of_kind[kind].append(name)
        elif _ids(name, "context", 1):
            found.left.append(f"{name}: it is in database {found.context}, and each context has its own")
        elif kind in _NAMES and _ids(name, kind, len(_NAMES[kind][2])):
            of_kind[kind].append(name)
        elif kind == "queue":
            found.changed.append(f"{name}: jobs are queued anew when their flow is started")
        elif not _ids(name, "actor", 1):
            found.left.append(f"{name}: no record has this name")
    return of_kind


def _parts(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(items), INDEXED):
        yield items[first : first + INDEXED]


def _of_hash(reply: Any) -> dict[str, Any]:
    try:
        return {name.decode(): value.decode() for name, value in fields_of(reply).items()}
    except UnicodeDecodeError:
        raise _Unusable("it has a text that is no UTF-8") from None


def _of_text(reply: bytes) -> dict[str, Any]:
    try:
        value = json.loads(reply)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _Unusable("it is a text, and that is no JSON object")
    return value


def _record(
    kind: str,
    record: Record,
    model: type[models.Model],
    ids: Mapping[str, int],
    members: dict[str, Any] | _Unusable,
    context: int | None,
) -> dict[str, str]:
    """A record as it is stored here. Raises _Unusable."""
    if isinstance(members, _Unusable):
        raise members
    given = {**ids} if context is None else {**ids, "context_id": context}
    value = _members(kind, model, members)
    for name, id in given.items():
        if value.setdefault(name, id) != id:
            raise _Unusable(f"its {name} is {value[name]}, and by its key {id}")
    valid = _valid(model, value)
    names = [name for name in model.model_fields if name in valid]
    encoded = record.encode({name: valid[name] for name in names})
    return {
        name: item.decode() if isinstance(item, bytes) else str(item) for name, item in zip(names, encoded, strict=True)
    }


def _members(kind: str, model: type[models.Model], members: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a record, as our model has them."""
    value = dict(members)
    for old in ("dependends", "dependents"):
        if old in value and "depends" not in value:
            value["depends"] = value.pop(old)
    words = {**_WORDS, **({"status": _STATUS[kind]} if kind in _STATUS else {})}
    has_json_texts = _has_json_texts(value, words)
    read: dict[str, Any] = {}
    for name, member in model.model_fields.items():
        if name not in value:
            continue
        if name in words:
            read[name] = _word(value[name], words[name])
        elif is_free_text(member.annotation):
            read[name] = _decoded(value[name]) if has_json_texts else value[name]
        else:
            read[name] = _decoded(value[name])
    for name, otherwise in _OTHERWISE.get(kind, {}).items():
        if read.get(name) is None:
            read[name] = otherwise
    for name, other in (("created_at", "updated_at"), ("updated_at", "created_at")):
        if name not in read and other in read:
            read[name] = read[other]
    if kind == "message" and isinstance(read["job"], list):
        jobs = [_members("job", models.Job, job) if isinstance(job, dict) else job for job in read["job"]]
        read["job"] = [_not_begun(job) if isinstance(job, dict) else job for job in jobs]
    return {name: item for name, item in read.items() if item is not None}


def _has_json_texts(members: Mapping[str, Any], words: Mapping[str, Any]) -> bool:
    """Whether texts are stored as JSON: then those are that cannot have quotes otherwise. Only they tell, since a
    script may well begin with one."""
    telling = [members[name] for name in (*words, "address", "pubkey") if isinstance(members.get(name), str)]
    quoted = [text for text in telling if text.startswith('"') and text.endswith('"') and len(text) > 1]
    return bool(quoted)


def _decoded(value: Any) -> Any:
    """What a stored text says as JSON; the text itself if it is none."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return {"True": True, "False": False}.get(value, value)


def _not_begun(job: dict[str, Any]) -> dict[str, Any]:
    if job.get("status") in ("Started", "WaitingForPrerequisites"):
        job["status"] = "Dispatched"
    return job


def _valid(model: type[models.Model], value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return model.model_validate(value, strict=False).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise _Unusable(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def _settle_job(name: str, job: dict[str, str], found: Found) -> None:
    """A job that had not ended is one that has not begun: what began it is not here."""
    if job["status"] == "Started":
        found.changed.append(f"{name}: it was running, and runs anew when its flow is started")
    if job["status"] in ("Started", "WaitingForPrerequisites"):
        job["status"] = "Dispatched"


def _settle_flow(name: str, flow: dict[str, str], jobs: Mapping[tuple[int, int], str], found: Found) -> None:
    """A flow that had not ended waits for a start, in which its finished jobs do not run again; or for a retry."""
    caller, listed = int(flow["caller_id"]), json.loads(flow["jobs"])
    missing = [id for id in listed if (caller, id) not in jobs]
    if missing:
        some = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        found.changed.append(f"{name}: it lists jobs that are not carried over ({some}), so it cannot be started")
    if flow["status"] != "Started":
        return
    failed = next((id for id in listed if jobs.get((caller, id)) == "Error"), None)
    if failed is not None:
        flow["status"] = "Error"
        flow["result"] = json.dumps({"error": f"job {failed} had failed when it was brought here", "job": str(failed)})
        found.changed.append(
            f"{name}: it was Started and job {failed} had failed, so it is in Error; flow.retry goes on"
        )
    else:
        flow["status"] = "Dispatched"
        found.changed.append(f"{name}: it was Started; flow.start goes on with it, without its finished jobs")


def _settle_message(name: str, message: dict[str, str], found: Found) -> None:
    """A message that was under way is one that was not sent."""
    if message["status"] in ("Dispatched", "Acknowledged"):
        found.changed.append(f"{name}: it was {message['status']}; message.send sends it")
        message["status"] = "Dispatched"
        message.pop("transport_status", None)
        message.pop("transport_id", None)
