"""Brings a context, which exporting.py has written, into a store, whatever the layouts of both.

All keys are brought under names of their own, which nobody reads; once all are there they become the context's, the
lists and the context's record last. The context is held still from the beginning to the end. What an import has left
that was ended in between, the next one deletes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from coordinator.storage import library
from coordinator.storage.connection import Command, Store
from coordinator.storage.exported import STAGED, Header, numbered, parsed
from coordinator.storage.faults import ReplyError
from coordinator.storage.functions import registration
from coordinator.storage.keys import GLOBAL
from coordinator.storage.visit import (
    LISTS,
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

__all__ = ["Imported", "abandon_import", "import_context"]


@dataclass(frozen=True, slots=True)
class Imported:
    """Attributes:
    keys: of the context.
    actors: that were not there before.
    """

    keys: int
    actors: int


async def import_context(
    store: Store,
    path: Path,
    header: Header,
    *,
    replace: bool,
    keep_actors: bool,
    on_progress: Callable[[int], None],
) -> Imported:
    """Bring what `verify` has read into the store.

    Args:
        replace: a context of that id that is there is deleted first, once all of the file is in the store.
        keep_actors: an actor that is there with another key stays.
        on_progress: is told how many lines were brought.

    Raises: CannotTransfer, OSError: the store is as it was, unless the text says otherwise.
    """
    context = header.context
    if header.schema > library.SCHEMA:
        raise CannotTransfer(
            f"{path} has layout {header.schema}, of a newer coordinator; this one knows {library.SCHEMA}: use that one"
        )
    async with visiting(store, context) as visit, visiting(store, GLOBAL) as everywhere:
        hold = await Hold.begin(visit, "import")
        try:
            await _clean(visit, everywhere, hold)
            if not replace and await is_there(visit, context):
                raise CannotTransfer(f"there is a context {context} already; --replace deletes it, once all is brought")
            actors = await _new_actors(everywhere, path, keep=keep_actors)
            await _stage(visit, path, hold, on_progress)
            await hold.become("commit")
            keys = await _commit(store, visit, everywhere, hold, header, actors)
            return Imported(keys, len(actors))
        except BaseException as error:
            if hold.what == "commit":
                if isinstance(error, CannotTransfer):
                    raise CannotTransfer(f"{error}. Context {context} is not whole: run it again") from None
                raise
            with trio.move_on_after(TIMEOUT) as scope:
                scope.shield = True
                await _delete(visit, STAGED)
                await hold.let_go()
            raise


async def abandon_import(store: Store, context: int) -> bool:
    """Delete what an import that was not finished has left. Returns whether there was one."""
    async with visiting(store, context) as visit, visiting(store, GLOBAL) as everywhere:
        hold = await Hold.begin(visit, "import")
        await _clean(visit, everywhere, hold)
        await hold.let_go()
        return bool(hold.unfinished)


async def _clean(visit: Visit, everywhere: Visit, hold: Hold) -> None:
    """Delete what an import has left that was not finished."""
    if hold.unfinished:
        await _delete(visit, STAGED, hold=hold)
    if hold.unfinished == "commit":  # what was there before, if anything was, is not whole
        await _delete(visit, "", hold=hold)
        keys = visit.keys
        (fields,) = await visit.ask([("HKEYS", keys.engine)])
        await visit.ask([("HDEL", keys.engine, name) for name in fields if name != b"skew"])
        await everywhere.ask([("ZREM", everywhere.keys.contexts(), keys.context_key or 0)])
        await hold.become("import")


async def _delete(visit: Visit, prefix: str, *, but: str = "", hold: Hold | None = None) -> None:
    """Delete the context's keys whose names begin so, but not those that begin with `but`; never the engine's."""
    remain = True
    while remain:
        remain = False
        async for names in visit.names(prefix):
            doomed = [name for name in names if name != "engine" and not (but and name.startswith(but))]
            for first in range(0, len(doomed), LOOKED_AT):
                remain = True
                some = doomed[first : first + LOOKED_AT]
                if hold is not None:
                    await hold.keep()
                await visit.ask([("UNLINK", *(bytes_of(f"{visit.keys.prefix}{name}") for name in some))])


async def _new_actors(everywhere: Visit, path: Path, *, keep: bool) -> list[tuple[int, dict[str, str]]]:
    """The actors of the file that are not there. Raises CannotTransfer for one that is there with another key."""
    actors: list[tuple[int, dict[str, str]]] = []
    for number, raw in numbered(path):
        if number == 1:
            continue
        line = parsed(path, number, raw)
        if "actor" not in line:
            break
        id, fields = line["actor"], line["hash"]
        (exists, stored) = await everywhere.ask(
            [("EXISTS", everywhere.keys.actor(id)), ("HGET", everywhere.keys.actor(id), "pubkey")]
        )
        if not exists:
            actors.append((id, fields))
        elif not keep and text_of(stored or b"") != fields.get("pubkey", ""):
            raise CannotTransfer(
                f"actor {id} is there with another key, and would have what actor {id} of the export has: import with "
                "--keep-actors if that is right"
            )
    return actors


async def _stage(visit: Visit, path: Path, hold: Hold, on_progress: Callable[[int], None]) -> None:
    """Bring the keys of a file under names that nobody reads."""
    commands: list[Command] = []
    size = 0
    for number, raw in numbered(path):
        if number == 1:
            continue
        line = parsed(path, number, raw)
        if "sha256" in line:
            break
        if "key" not in line:
            continue
        commands += _written(bytes_of(f"{visit.keys.prefix}{STAGED}{line['key']}"), line)
        size += len(raw)
        if size >= TOGETHER or len(commands) >= LOOKED_AT:
            await visit.ask(commands)
            commands, size = [], 0
            await hold.keep()
            on_progress(number)
    await visit.ask(commands)


def _written(place: bytes, line: Mapping[str, Any]) -> list[Command]:
    """The commands that add a line to a key."""
    commands: list[Command] = []
    match line:
        case {"hash": dict(fields)} if fields:
            commands.append(("HSET", place, *_flat(fields.items())))
        case {"list": list(items)} if items:
            commands.append(("RPUSH", place, *map(bytes_of, items)))
        case {"set": list(items)} if items:
            commands.append(("SADD", place, *map(bytes_of, items)))
        case {"zset": list(items)} if items:
            scored: list[str | bytes] = []
            for member, score in items:
                scored += [repr(score), bytes_of(member)]
            commands.append(("ZADD", place, *scored))
        case {"string": str(text)}:
            commands.append(("SET", place, bytes_of(text)))
        case {"stream": list(entries)}:
            commands += [("XADD", place, entry[0], *map(bytes_of, entry[1:])) for entry in entries]
            match line.get("state"):
                case {"last": str(last), "added": int(added), "deleted": str(deleted)} if last != "0-0":
                    # It is made if it has no entries; one that is smaller than all of them is refused.
                    commands += [
                        ("XGROUP", "CREATE", place, "made", "$", "MKSTREAM"),
                        ("XGROUP", "DESTROY", place, "made"),
                    ]
                    commands.append(("XSETID", place, last, "ENTRIESADDED", added, "MAXDELETEDID", deleted))
    if type(line.get("expires_at")) is int:
        commands.append(("PEXPIREAT", place, line["expires_at"]))
    return commands


def _flat(pairs: Iterable[tuple[str, str]]) -> list[bytes]:
    return [bytes_of(text) for pair in pairs for text in pair]


async def _commit(
    store: Store,
    visit: Visit,
    everywhere: Visit,
    hold: Hold,
    header: Header,
    actors: Sequence[tuple[int, Mapping[str, str]]],
) -> int:
    """What was brought becomes the context. Returns how many keys it has."""
    keys, prefix = visit.keys, visit.keys.prefix
    await _delete(visit, "", but=STAGED, hold=hold)
    last = [*LISTS, f"context:{header.context}"]
    count, is_done = 0, False
    while not is_done:
        is_done = True
        async for found in visit.names(STAGED):
            staged = [name.removeprefix(STAGED) for name in found]
            names = [name for name in dict.fromkeys(staged) if name not in last and name != "engine"]
            is_done = is_done and not names
            moves = [("RENAME", bytes_of(f"{prefix}{STAGED}{name}"), bytes_of(f"{prefix}{name}")) for name in names]
            for first in range(0, len(moves), LOOKED_AT):
                await hold.keep()
                # A key may have expired just now.
                replies = await visit.ask(moves[first : first + LOOKED_AT], but="no such key")
                count += sum(not isinstance(reply, ReplyError) for reply in replies)
    for id, fields in actors:
        await everywhere.ask([("HSET", everywhere.keys.actor(id), *_flat(fields.items()))])
    # Whoever serves the store takes its timers over, as from a coordinator that is gone.
    register = registration.own(store.layout, header.context)
    await everywhere.ask([register, ("ZADD", everywhere.keys.coordinators(), 0, store.layout.name)])
    await hold.settle(last)
    is_migrated = False
    while not is_migrated:
        (reply,) = await visit.ask([registration.migrate(keys)])
        is_migrated = registration.read_migrate(reply)
    (existing,) = await visit.ask([("EXISTS", *(f"{prefix}{name}" for name in last))])
    await hold.let_go(header.now)
    return count + int(existing)
