"""What the store knows of those who log in: actors, runners, tokens, and who is what in a context."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, NamedTuple

import trio
from pydantic_core import from_json

from coordinator.actors.directory import Directory
from coordinator.actors.request import Operation, RawJson
from coordinator.errors import StorageError
from coordinator.rpc.access.fresh import Fresh, Known
from coordinator.rpc.access.keys import PublicKey, read_key
from coordinator.rpc.access.principals import Principal, Scope, is_public_key, read_principal
from coordinator.rpc.access.rights import Role
from coordinator.storage.connection import Command
from coordinator.storage.keys import GLOBAL, ContextKey, Layout

__all__ = ["Actor", "Members", "Registry", "Token"]

REFRESHED_AT_ONCE: Final = 256  # records
NO_SUCH_DATABASE: Final = "cannot select database"


class Members(NamedTuple):
    """Who is what in a context. One that there is not has none."""

    admins: frozenset[int] = frozenset()
    executors: frozenset[int] = frozenset()
    readers: frozenset[int] = frozenset()

    def role_of(self, actor: int) -> Role:
        if actor in self.admins:
            return Role.ADMIN
        if actor in self.executors:
            return Role.EXECUTOR
        return Role.READER if actor in self.readers else Role.STRANGER

    def __contains__(self, actor: object) -> bool:
        return actor in self.admins or actor in self.executors or actor in self.readers


class Actor(NamedTuple):
    """An actor, or a runner.

    Attributes:
        keys: those that can log in now, the newest first.
        pubkey: what is stored; '' if there is no such record.
        is_revoked: it cannot log in any more.
    """

    keys: tuple[PublicKey, ...] = ()
    pubkey: str = ""
    is_revoked: bool = False

    def may_use(self, key: str) -> bool:
        """Whether somebody who has logged in with this key, if it is one, still may."""
        return not self.is_revoked and (not is_public_key(key) or any(known.text == key for known in self.keys))


class Token(NamedTuple):
    """A token that has not expired."""

    digest: str
    principal: Principal
    used_at: int


class Registry:
    """Asks the store, and believes the answers for a moment."""

    def __init__(self, directory: Directory, layout: Layout, timeout: float) -> None:
        self._directory = directory
        self._layout = layout
        self._keyspace = layout.keyspace
        self._timeout = timeout
        self.members: Fresh[int, Members] = Fresh(self._fetch_members)
        self.actors: Fresh[int, Actor] = Fresh(self._fetch_actor)
        self.runners: Fresh[tuple[int, int], Actor] = Fresh(self._fetch_runner)
        self.tokens: Fresh[str, Token | None] = Fresh(self._fetch_token)

    @contextmanager
    def asking_ahead(self, nursery: trio.Nursery) -> Iterator[None]:
        """Have the nursery's tasks ask for what is in use before it is too old, as long as it is open."""
        all = (self.members, self.actors, self.runners, self.tokens)
        for fresh in all:
            fresh.start = nursery.start_soon
        try:
            yield
        finally:
            for fresh in all:
                fresh.start = None

    def keep(self, principal: Principal) -> None:
        """Who has logged in calls again and again: see that it is known whether it may. Never blocks."""
        if principal.kind == "actor":
            self.actors.keep(principal.id)
        elif principal.kind == "runner":
            self.runners.keep((principal.context_id, principal.id))
        for token in principal.tokens:
            self.tokens.keep(token)

    async def read(self, context: ContextKey, *commands: Command) -> list[Any]:
        """The replies to commands that change nothing. Raises StorageError."""
        return await self._carry_out(context, [*commands], writes=False)

    async def write(self, context: ContextKey, *commands: Command) -> list[Any]:
        """The same for commands that may. Raises StorageError."""
        return await self._carry_out(context, [*commands], writes=True)

    async def ask(self, context: ContextKey, operation: Operation) -> RawJson:
        """The answer of an operation that changes nothing. Raises a CoordinatorError."""
        return await self._directory.call(context, operation, writes=False, timeout=self._timeout)

    def is_at_hand(self, principal: Principal) -> bool:
        """Whether to ask about it takes no further connection to the store."""
        return principal.kind != "runner" or self._directory.is_active(principal.context_id)

    def record_known(self, principal: Principal) -> Known[Actor] | None:
        """The record of an actor or a runner, if it is known now."""
        if principal.kind == "actor":
            return self.actors.known(principal.id)
        return self.runners.known((principal.context_id, principal.id))

    async def record_of(self, principal: Principal) -> Known[Actor]:
        """The same, having asked. Raises StorageError."""
        if principal.kind == "actor":
            return await self.actors.get(principal.id)
        return await self.runners.get((principal.context_id, principal.id))

    async def _carry_out(
        self, context: ContextKey, commands: list[Command], *, writes: bool, ahead: bool = False
    ) -> list[Any]:
        replies: list[Any] = []

        def operation() -> Operation:
            replies.extend((yield commands))
            return b""

        await self._directory.call(context, operation(), writes=writes, timeout=self._timeout, ahead=ahead)
        return replies

    async def members_ahead(self, context: int) -> Members:
        """Who is what in a context now, though what waits there may change it. Raises StorageError."""
        return await self._fetch_members(context, ahead=True)

    async def _fetch_members(self, context: int, *, ahead: bool = False) -> Members:
        try:
            (lists,) = await self._carry_out(context, [self._members_command(context)], writes=False, ahead=ahead)
        except StorageError as error:
            if NO_SUCH_DATABASE in str(error.data.get("detail", "")):
                return Members()  # the store has no room for such a context, so there is none
            raise
        return _members_of(lists)

    def _members_command(self, context: int) -> Command:
        return ("HMGET", self._keyspace(context).context(context), "admins", "executors", "readers")

    async def _fetch_actor(self, id: int) -> Actor:
        (reply,) = await self.read(GLOBAL, self._actor_command(id))
        return _actor_of(reply)

    def _actor_command(self, id: int) -> Command:
        return ("HMGET", self._keyspace(GLOBAL).actor(id), "pubkey", "x_old_pubkey", "x_old_until", "x_revoked")

    def _token_command(self, id: str) -> Command:
        names = ("digest", "principal", "expires_at", "parent", "key", "access", "contexts", "used_at")
        return ("HMGET", self._keyspace(GLOBAL).token(id), *names)

    async def refresh(self, actors: Collection[int], tokens: Collection[str]) -> None:
        """Ask about many at once. Raises StorageError."""
        wanted: list[tuple[int | None, str]] = [*((id, "") for id in actors), *((None, id) for id in tokens)]
        for first in range(0, len(wanted), REFRESHED_AT_ONCE):
            part = wanted[first : first + REFRESHED_AT_ONCE]
            asked_at = time.monotonic()
            commands = [self._token_command(token) if id is None else self._actor_command(id) for id, token in part]
            for (id, token), reply in zip(part, await self.read(GLOBAL, *commands), strict=True):
                if id is None:
                    self.tokens.learn(token, _token_of(token, reply), asked_at)
                else:
                    self.actors.learn(id, _actor_of(reply), asked_at)

    async def refresh_members(self, contexts: Collection[int]) -> None:
        """Ask about many contexts at once, but for those that are known. Raises StorageError.

        To ask in each context, where something is followed, would have it served, and those of one client may be more
        than are served at once: then others wait for their turn. Contexts on several servers have to be asked so.
        """
        if self._layout.is_spread:
            return
        wanted = [context for context in contexts if self.members.known(context) is None]
        for first in range(0, len(wanted), REFRESHED_AT_ONCE):
            part = wanted[first : first + REFRESHED_AT_ONCE]
            asked_at = time.monotonic()
            sent = (self._layout.from_global(self._members_command(context), context) for context in part)
            replies = await self.read(GLOBAL, *chain.from_iterable(sent))
            told = [reply for reply in replies if isinstance(reply, list)]  # that a database is selected is no list
            for context, lists in zip(part, told, strict=True):
                self.members.learn(context, _members_of(lists), asked_at)

    async def _fetch_runner(self, ids: tuple[int, int]) -> Actor:
        context, id = ids
        try:
            (pubkey,) = await self.read(context, ("HGET", self._keyspace(context).runner(id), "pubkey"))
        except StorageError as error:
            if NO_SUCH_DATABASE in str(error.data.get("detail", "")):
                return Actor(is_revoked=True)
            raise
        return Actor(is_revoked=True) if pubkey is None else Actor(_keys([pubkey]), pubkey.decode())

    async def _fetch_token(self, id: str) -> Token | None:
        (reply,) = await self.read(GLOBAL, self._token_command(id))
        return _token_of(id, reply)


def _members_of(lists: Any) -> Members:
    return Members(*(frozenset(from_json(ids)) if ids else frozenset() for ids in lists))


def _actor_of(reply: Any) -> Actor:
    pubkey, old, old_until, revoked = reply
    if pubkey is None:
        return Actor(is_revoked=True)
    texts = [pubkey]
    if old is not None and old_until is not None and time.time() < int(old_until):
        texts.append(old)
    return Actor(_keys(texts), pubkey.decode(), revoked is not None)


def _token_of(id: str, reply: Any) -> Token | None:
    digest, principal, expires_at, parent, key, access, contexts, used_at = reply
    if digest is None or principal is None or expires_at is None:
        return None
    named = read_principal(principal.decode())
    if named is None:
        return None
    whole = Principal(
        named.kind,
        named.id,
        named.context_id,
        key=(key or b"").decode(),
        token=id,
        parent=(parent or b"").decode(),
        expires_at=int(expires_at),
        scope=Scope(frozenset(from_json(contexts)) if contexts else None, access == b"read"),
    )
    return Token(digest.decode(), whole, int(used_at or 0))


def _keys(texts: list[bytes]) -> tuple[PublicKey, ...]:
    found = (read_key(text.decode()) for text in texts)
    return tuple(key for key in found if key is not None)
