"""A context of a store that others use, looked at or written to key by key, and held still meanwhile."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

import trio

from coordinator.storage import library
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import ReplyError, StoreMisconfigured, StoreUnavailable, is_transient
from coordinator.storage.functions import transfer
from coordinator.storage.functions.results import Refused
from coordinator.storage.functions.transfer import Held
from coordinator.storage.keys import ContextKey, Keyspace

__all__ = [
    "LISTS",
    "LOOKED_AT",
    "TIMEOUT",
    "TOGETHER",
    "CannotTransfer",
    "Hold",
    "Visit",
    "VisitedStore",
    "bytes_of",
    "is_there",
    "text_of",
    "visiting",
]

LISTED: Final = 1000  # keys looked for in one command
LOOKED_AT: Final = 500  # keys, or commands, at once
TOGETHER: Final = 512 * 1024  # bytes read, or written, at once
TIMEOUT: Final = 60.0  # seconds the store may take to answer
HELD_FOR: Final = 15.0  # seconds for which a context is held still unless who holds it goes on
HOLD_AGAIN: Final = 3.0  # seconds
LISTS: Final = tuple(f"index:{kind}" for kind in ("runner", "flow", "job", "message"))
"""Keys: what there is in a context."""


class CannotTransfer(Exception):
    """The text says why."""


def text_of(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class VisitedStore(Store):
    """A store that others use: who has another function library than theirs leaves it alone."""

    def _check_library(self, endpoint: Endpoint, found: library.Identity | None) -> None:
        if found is not None:
            raise StoreMisconfigured(
                f"the store at {endpoint} is used by another version of the coordinator ({found}; this one is "
                f"{library.OURS}): use that version's command"
            )


class Visit:
    """A connection to a context, or GLOBAL, and the names of its keys. What was sent on one that broke, or whose
    replies were not waited for, is done or never will be when the next one is used."""

    def __init__(self, store: Store, context_key: ContextKey) -> None:
        self.keys: Keyspace = store.layout.keyspace(context_key)
        self._store = store
        self._connection: Connection | None = None
        self._is_in_step = False  # every reply was read, from the server that has the keys

    async def ask(self, commands: Sequence[Command], *, but: str = "no error") -> list[Reply]:
        """Their replies. Raises CannotTransfer if one is an error that does not say `but`, or the store does not
        answer."""
        replies: list[Reply] = []
        try:
            with trio.fail_after(TIMEOUT):
                connection = await self._opened()
                self._is_in_step = False
                await connection.exchange([*commands], replies)
                self._is_in_step = True
        except trio.TooSlowError:
            raise CannotTransfer(f"the store did not answer within {TIMEOUT:g} s") from None
        except (StoreUnavailable, StoreMisconfigured) as error:
            raise CannotTransfer(str(error)) from None
        for reply in replies:
            if isinstance(reply, ReplyError) and but not in str(reply):
                if is_transient(reply):
                    self._is_in_step = False
                    self._store.lost(self.keys.context_key, str(reply))
                raise CannotTransfer(f"the store says: {reply}")
        return replies

    async def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = await self._store.open(self.keys.context_key)
        elif not self._is_in_step:
            before = self._connection
            await before.give_up()
            self._connection = await self._store.open(self.keys.context_key)
            await self._connection.close_other(before.id, before.tag)
        return self._connection

    async def aclose(self) -> None:
        """Close at once."""
        if self._connection is not None:
            await self._connection.aclose()

    async def names(self, prefix: str = "") -> AsyncIterator[list[str]]:
        """The names that begin so of the context's keys, some at a time, each once or more."""
        own = self.keys.prefix
        matching: tuple[str, ...] = ("MATCH", f"{own}{prefix}*") if own or prefix else ()
        cursor: bytes | int = 0
        while True:
            ((cursor, found),) = await self.ask([("SCAN", cursor, *matching, "COUNT", LISTED)])
            yield [text_of(name).removeprefix(own) for name in found]
            if int(cursor) == 0:
                return


@asynccontextmanager
async def visiting(store: Store, context_key: ContextKey) -> AsyncIterator[Visit]:
    """A visit, ended in the end. Raises CannotTransfer."""
    if context_key == 0 and store.layout.isolation == "index":
        raise CannotTransfer(
            "context 0 has the database of what is all contexts' (--isolation index), which cannot be held still: use "
            "another context"
        )
    visit = Visit(store, context_key)
    try:
        yield visit
    finally:
        with trio.CancelScope(shield=True):  # closing at once does not wait for the peer
            await visit.aclose()


async def is_there(visit: Visit, context: int) -> bool:
    """Whether there is anything in the context."""
    prefix = visit.keys.prefix
    names = [f"context:{context}", "prerequisites", "index:prerequisite", *LISTS]
    (found,) = await visit.ask([("EXISTS", *(f"{prefix}{name}" for name in names))])
    return int(found) > 0


class Hold:
    """Holds a context still.

    Attributes:
        now: what its clock of timers shows, ms.
        unfinished: what an earlier import was about that was not finished.
    """

    def __init__(self, visit: Visit, what: str) -> None:
        self._visit = visit
        self._token = secrets.token_hex(8)
        self._due = 0.0
        self.what = what
        self.now = 0
        self.unfinished = ""

    @classmethod
    async def begin(cls, visit: Visit, what: str) -> Self:
        """Raises CannotTransfer: somebody else holds it."""
        hold = cls(visit, what)
        held = await hold._ask()
        hold.now, hold.unfinished = held.now, held.unfinished
        hold.what = held.unfinished or what  # until that is cleaned up
        return hold

    async def become(self, what: str) -> None:
        """Hold it for that from now on."""
        self.what = what
        await self.keep(at_once=True)

    async def keep(self, *, at_once: bool = False) -> None:
        """Go on, if it is time to say so. Raises CannotTransfer: the context has gone on meanwhile."""
        if (at_once or trio.current_time() >= self._due) and (await self._ask()).now != self.now:
            raise CannotTransfer("the store was away for too long, and the context has gone on meanwhile: try again")

    async def _ask(self) -> Held:
        (reply,) = await self._visit.ask([transfer.hold(self._visit.keys, self.what, self._token, HELD_FOR)])
        held = transfer.read_hold(reply)
        if isinstance(held, Refused):
            others = {b"export": "exporting it", b"delete": "deleting it"}
            doing = others.get(held.details[0], "importing into it, or did until a moment ago")
            raise CannotTransfer(
                f"somebody else is {doing}: try again later, after {HELD_FOR:g} s at least if they were ended"
            )
        self._due = trio.current_time() + HOLD_AGAIN
        return held

    async def settle(self, names: Sequence[str]) -> None:
        """The last keys brought become the context's."""
        (reply,) = await self._visit.ask([transfer.settle(self._visit.keys, self._token, names)])
        if not transfer.read_settle(reply):
            raise CannotTransfer("somebody else has imported into the context meanwhile")

    async def let_go(self, now: int | None = None) -> None:
        """The context goes on, where it stood or from another time on."""
        keys = self._visit.keys
        if now is None:
            (fields,) = await self._visit.ask([("HLEN", keys.engine)])
            if fields == 1:  # it says nothing but that it is held
                await self._visit.ask([("DEL", keys.engine)])
                return
        await self._visit.ask([transfer.let_go(keys, self._token, now)])
