"""Writes a context as JSON Lines, see exported.py. It is held still meanwhile: so they are those of one moment."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import trio

from coordinator.storage import library
from coordinator.storage.connection import Command, Store
from coordinator.storage.exported import FLEETING, KINDS, OF_ENGINE, Body, Header, line_of
from coordinator.storage.keys import GLOBAL
from coordinator.storage.visit import (
    LOOKED_AT,
    TIMEOUT,
    TOGETHER,
    CannotTransfer,
    Hold,
    Visit,
    bytes_of,
    is_there,
    text_of,
    visiting,
)

__all__ = ["export_context"]

ITEMS: Final = 500  # of something long, in one line
ENTRIES: Final = 50  # of a stream, in one line: a log may have 64 KiB
LARGE: Final = 256 * 1024  # bytes of a key that is read by itself


async def export_context(
    store: Store,
    context: int,
    version: str,
    exported_at: int,
    write: Callable[[bytes], object],
    on_progress: Callable[[int, int], None],
) -> int:
    """Write a context's lines.

    Args:
        write: is given line by line.
        on_progress: is told how many keys of how many were written.

    Returns how many keys the context has. Raises CannotTransfer: what was written so far is of no use.
    """
    async with visiting(store, context) as visit, visiting(store, GLOBAL) as everywhere:
        if not await is_there(visit, context):
            raise CannotTransfer(f"there is nothing in context {context}")
        hold = await Hold.begin(visit, "export")
        try:
            names = {name async for some in visit.names() for name in some if _is_kept(name)}
            write(Header(context, library.SCHEMA, hold.now, exported_at, version).line())
            body, done = Body(write), 0
            async with aclosing(_lines(visit, everywhere, sorted(names))) as produced:
                async for line, count in produced:
                    body.put(line)
                    if count > done:
                        done = count
                        on_progress(done, len(names))
                    await hold.keep()
            await hold.keep(at_once=True)  # it was held, all the time
            body.end()
        finally:
            with trio.move_on_after(TIMEOUT) as scope:
                scope.shield = True
                await hold.let_go()
        return len(names)


def _is_kept(name: str) -> bool:
    return not name.startswith(FLEETING) and name not in ("feed", "engine", "absent")


async def _lines(visit: Visit, everywhere: Visit, names: Sequence[str]) -> AsyncGenerator[tuple[bytes, int], None]:
    """Every line between the first and the last, with how many keys were written with it."""
    for actor in await _actors(visit):
        (fields,) = await everywhere.ask([("HGETALL", everywhere.keys.actor(actor))])
        if fields:
            yield line_of({"actor": actor, "hash": _hash(fields)}), 0
    (engine,) = await visit.ask([("HGETALL", visit.keys.engine)])
    kept = {name: value for name, value in _hash(engine).items() if name not in OF_ENGINE}
    yield line_of({"key": "engine", "hash": {**kept, "schema": str(library.SCHEMA)}}), 0
    for first in range(0, len(names), LOOKED_AT):
        some = names[first : first + LOOKED_AT]
        group: list[_Key] = []
        room = TOGETHER
        for key in await _looked_at(visit, some):
            if not key.is_small:
                for line in await _small(visit, group):
                    yield line, first
                group, room = [], TOGETHER
                async for line in _long(visit, key):
                    yield line, first
            else:
                group.append(key)
                room -= key.size
                if room <= 0:
                    for line in await _small(visit, group):
                        yield line, first
                    group, room = [], TOGETHER
        for line in await _small(visit, group):
            yield line, first + len(some)


async def _actors(visit: Visit) -> list[int]:
    """Those the context's record names."""
    (members,) = await visit.ask(
        [("HMGET", visit.keys.context(visit.keys.context_key or 0), "admins", "readers", "executors")]
    )
    return sorted({int(id) for listed in members if listed is not None for id in json.loads(listed)})


@dataclass(frozen=True, slots=True)
class _Key:
    """Attributes:
    name: without the context's prefix.
    kind: one of KINDS.
    length: how many items it has.
    size: bytes, about.
    expires_at: Unix time, ms; None: never.
    """

    name: str
    kind: str
    length: int
    size: int
    expires_at: int | None

    @property
    def is_small(self) -> bool:
        return self.length <= ITEMS and (self.size <= LARGE or self.kind in ("hash", "string"))

    def line(self, value: Any, *, is_last: bool = True, **more: Any) -> bytes:
        expires = {"expires_at": self.expires_at} if is_last and self.expires_at is not None else {}
        return line_of({"key": self.name, self.kind: value, **more, **expires})


_RECORDS: Final = ("context:", "runner:", "flow:", "job:", "message:")
_COUNTED: Final = "x_bytes"  # a field of records
_COUNTING: Final = "count:engine"  # a timer
_LENGTH: Final = {
    "hash": "HLEN",
    "list": "LLEN",
    "set": "SCARD",
    "zset": "ZCARD",
    "stream": "XLEN",
    "string": "STRLEN",
}


async def _looked_at(visit: Visit, names: Sequence[str]) -> list[_Key]:
    """The keys of these names that are there. Records are known to be small hashes, as almost all keys are."""
    places = {name: bytes_of(f"{visit.keys.prefix}{name}") for name in names}
    others = [name for name in names if not name.startswith(_RECORDS)]
    replies = await visit.ask([("TYPE", places[name]) for name in others])
    kinds = dict(zip(others, map(text_of, replies), strict=True))
    strange = next((f"{name} ({kind})" for name, kind in kinds.items() if kind not in (*KINDS, "none")), None)
    if strange is not None:
        raise CannotTransfer(f"the context has a key that is not ours: {strange}")
    there = [name for name in names if kinds.get(name) != "none"]
    commands: list[Command] = []
    for name in there:
        commands += [("MEMORY", "USAGE", places[name], "SAMPLES", 100), ("PEXPIRETIME", places[name])]
        if name in kinds:
            commands.append((_LENGTH[kinds[name]], places[name]))
    told = iter(await visit.ask(commands))
    keys = []
    for name in there:
        size, expires_at = next(told) or 0, next(told)
        length = next(told) if name in kinds else 0
        keys.append(_Key(name, kinds.get(name, "hash"), length, size, expires_at if expires_at >= 0 else None))
    return keys


async def _small(visit: Visit, keys: Sequence[_Key]) -> list[bytes]:
    """The lines of keys that are read whole."""
    commands: list[Command] = []
    for key in keys:
        place = bytes_of(f"{visit.keys.prefix}{key.name}")
        reads: dict[str, list[Command]] = {
            "hash": [("HGETALL", place)],
            "list": [("LRANGE", place, 0, -1)],
            "set": [("SMEMBERS", place)],
            "zset": [("ZRANGE", place, 0, -1, "WITHSCORES")],
            "stream": [("XRANGE", place, "-", "+"), ("XINFO", "STREAM", place)],
            "string": [("GET", place)],
        }
        commands += reads[key.kind]
    replies = iter(await visit.ask(commands))
    lines = []
    for key in keys:
        reply = next(replies)
        if key.kind == "stream":
            lines.append(key.line(_entries(reply), state=_stream_state(next(replies))))
        else:
            lines.append(key.line(_own(key.name, _READ[key.kind](reply))))
    return lines


async def _long(visit: Visit, key: _Key) -> AsyncIterator[bytes]:
    """The lines of a key that is read in parts."""
    place = bytes_of(f"{visit.keys.prefix}{key.name}")
    if key.kind == "stream":
        after = "-"
        while True:
            (entries,) = await visit.ask([("XRANGE", place, after, "+", "COUNT", ENTRIES)])
            if not entries:
                break
            yield key.line(_entries(entries), is_last=False)
            after = f"({text_of(entries[-1][0])}"
        (state,) = await visit.ask([("XINFO", "STREAM", place)])
        yield key.line([], state=_stream_state(state))
    elif key.kind in ("list", "zset"):
        command, more = ("LRANGE", ()) if key.kind == "list" else ("ZRANGE", ("WITHSCORES",))
        for first in range(0, key.length, ITEMS):
            last = first + ITEMS - 1
            (items,) = await visit.ask([(command, place, first, last, *more)])
            yield key.line(_own(key.name, _READ[key.kind](items)), is_last=last + 1 >= key.length)
    else:
        names = sorted([name async for name in _members(visit, key, place)])
        for first in range(0, len(names), ITEMS):
            some, is_last = names[first : first + ITEMS], first + ITEMS >= len(names)
            if key.kind == "set":
                yield key.line([text_of(name) for name in some], is_last=is_last)
            else:
                (values,) = await visit.ask([("HMGET", place, *some)])
                yield key.line(_hash(dict(zip(some, values, strict=True))), is_last=is_last)


async def _members(visit: Visit, key: _Key, place: bytes) -> AsyncIterator[bytes]:
    """A set's members, or a hash's fields; each once."""
    command, step = ("SSCAN", 1) if key.kind == "set" else ("HSCAN", 2)
    cursor: bytes | int = 0
    seen: set[bytes] = set()
    while True:
        ((cursor, found),) = await visit.ask([(command, place, cursor, "COUNT", ITEMS)])
        for name in found[::step]:
            if name not in seen:
                seen.add(name)
                yield name
        if int(cursor) == 0:
            return


def _own(name: str, value: Any) -> Any:
    """What a key holds, without what the store has counted of it."""
    if name.startswith(_RECORDS):
        value.pop(_COUNTED, None)
    elif name == "timers":
        return [pair for pair in value if pair[0] != _COUNTING]
    return value


def _hash(fields: Any) -> dict[str, str]:
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
    return {text_of(name): text_of(value) for name, value in sorted(pairs)}


def _scored(items: Any) -> list[list[Any]]:
    pairs = items if not items or isinstance(items[0], list | tuple) else zip(items[::2], items[1::2], strict=True)
    return [[text_of(member), _whole(float(score))] for member, score in pairs]


def _whole(score: float) -> int | float:
    return int(score) if score.is_integer() and abs(score) < 2**53 else score


def _entries(entries: Any) -> list[list[Any]]:
    return [[text_of(id), *map(text_of, fields)] for id, fields in entries]


def _stream_state(info: Any) -> dict[str, Any]:
    told = info if isinstance(info, dict) else dict(zip(info[::2], info[1::2], strict=True))
    return {
        "last": text_of(told[b"last-generated-id"]),
        "added": told[b"entries-added"],
        "deleted": text_of(told[b"max-deleted-entry-id"]),
    }


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "hash": _hash,
    "list": lambda items: [text_of(item) for item in items],
    "set": lambda items: [text_of(item) for item in sorted(items)],
    "zset": _scored,
    "string": text_of,
}
