"""A RESP3 connection on a trio stream, over hiredis.

Sends any number of commands in one write and reads their replies. Knows nothing of keys or records. Ours because
redis-py has no trio client and costs several times more a command (measured in DESIGN §3).
"""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import hiredis
import structlog
import trio

from coordinator.logs import Seldom
from coordinator.readiness import Readiness, WatchedSocket
from coordinator.socketio import abort_on_close, receive_next, send_now, send_steadily
from coordinator.storage import library
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import (
    NO_LIBRARY,
    NO_REPLICAS,
    REPLY_LOST,
    TRANSPORT_ERRORS,
    ReplyError,
    StoreMisconfigured,
    StoreUnavailable,
    explain_refusal,
    is_moving,
    is_transient,
    is_write_refusal,
)
from coordinator.storage.functions import registration
from coordinator.storage.keys import Command, ContextKey, Keyspace, Layout
from coordinator.storage.topology import Topology

__all__ = ["Command", "Connection", "Reply", "Store", "explain", "packed"]

log = structlog.get_logger("coordinator.store")

Reply = Any

OUT_OF_MEMORY_FOR: Final = 5.0  # seconds the store is taken to be out of memory after it has said so

_MORE: Final = object()
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment] # the stub says a tuple of one


def packed(commands: Sequence[Command]) -> bytes:
    """Commands as they go over the wire."""
    if len(commands) == 1:
        (only,) = commands
        return only if type(only) is bytes else _pack(only)
    return b"".join([command if type(command) is bytes else _pack(command) for command in commands])


def _text(reply: bytes | str) -> str:
    return reply.strip() if isinstance(reply, str) else reply.decode(errors="replace").strip()


def _broken(error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(f"{REPLY_LOST}: {error or type(error).__name__}")


class Connection:
    """One open connection. One task may send on it while another one receives; two of either may not.

    It waits for replies with trio, or, once it is watched, by a Readiness, which tells it of what has arrived.

    Attributes:
        id: the store's number of it, which another one may have after the store was started again; 0: unknown.
        tag: what nobody else's connection to the store has ever had.
        lacks_layout: its context does not say what layout it has, for nothing was stored in it yet.
    """

    id = 0
    tag = ""
    lacks_layout = False

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._send_now: Callable[[bytes], bytes] = partial(send_now, stream)
        self._is_sending = False
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_MORE)
        self._incoming: WatchedSocket | None = None  # once it is watched
        self._told: Callable[[], None] = lambda: None
        self._may_hold_replies = False  # the reader, for not all that it was fed was asked for

    def watch(self, readiness: Readiness, told: Callable[[], None]) -> None:
        """Have `told` called when something has arrived while nobody collects. It must not block, and must not raise.
        Nothing changes over TLS, where what arrives is not what can be read."""
        if isinstance(self._stream, trio.SocketStream):
            self._incoming, self._told = WatchedSocket(readiness, self._stream, told), told
            self._send_now = self._incoming.write_now

    @property
    def is_watched(self) -> bool:
        """Whether `collect_now` is of use."""
        return self._incoming is not None

    async def exchange(self, commands: list[Command], replies: list[Reply]) -> None:
        """`send` commands and `collect` their replies."""
        await self.send(commands)
        await self.collect(len(commands), replies)

    async def send(self, commands: list[Command]) -> None:
        """Send commands, in one write. Their replies are for `collect` or `receive`, for another task if need be.

        Not a checkpoint unless it has to wait. Cancelled, the connection must be closed: part of a command may be sent.

        Raises:
            StoreUnavailable: the connection broke.
            trio.BusyResourceError: another task is sending.
        """
        await self.send_rest(self.send_now(commands))

    def send_now(self, commands: list[Command]) -> bytes:
        """Send commands as far as that needs no waiting. Returns what remains for `send_rest`. Raises as `send`."""
        if self._is_sending:  # what is written now would come between two parts of the other task's command
            raise trio.BusyResourceError("another task is sending on this connection")
        try:
            return self._send_now(packed(commands))
        except TRANSPORT_ERRORS as error:
            raise _broken(error) from error

    async def send_rest(self, data: bytes, timeout: float = math.inf) -> None:
        """Send what remained of `send_now`, if anything did, however long that takes, unless the store accepts none of
        it for `timeout` seconds. Raises as `send`, and trio.TooSlowError."""
        if not data:
            return
        self._is_sending = True
        try:
            await send_steadily(self._stream, data, timeout)
        except TRANSPORT_ERRORS as error:
            raise _broken(error) from error
        finally:
            self._is_sending = False

    async def collect(self, count: int, replies: list[Reply]) -> None:
        """Append the next `count` replies, in order, to `replies`.

        An error reply is appended as a ReplyError. When this raises or is cancelled, `replies` holds those that
        came in time, and the connection must be closed: what comes next on it would be out of step.

        Raises:
            StoreUnavailable: the connection broke.
        """
        due = len(replies) + count
        try:
            data = b""
            while not self._parse(data, due, replies):
                data = await self._next_bytes()
        except TRANSPORT_ERRORS as error:
            raise _broken(error) from error

    def collect_now(self, count: int, replies: list[Reply]) -> bool:
        """The same as far as that needs no waiting. Returns whether all of them have come. Raises as `collect`."""
        due = len(replies) + count
        assert self._incoming is not None, "it is watched"
        if self._may_hold_replies and self._parse(b"", due, replies):
            return True
        try:
            while True:
                data = self._incoming.read_now()
                if data is None:
                    return False
                if not data:
                    raise StoreUnavailable(REPLY_LOST)
                if self._parse(data, due, replies):
                    return True
        except TRANSPORT_ERRORS as error:
            raise _broken(error) from error

    def _parse(self, data: bytes, due: int, replies: list[Reply]) -> bool:
        """Append the replies in what was read, until there are `due`. Returns whether there are."""
        if data:
            self._reader.feed(data)
        gets = self._reader.gets
        self._may_hold_replies = True
        while len(replies) < due:
            reply = gets()
            if reply is _MORE:
                self._may_hold_replies = False
                return False
            if type(reply) is not hiredis.PushNotification:
                replies.append(reply)
        return True

    async def _next_bytes(self) -> bytes:
        """Wait for the next bytes. A checkpoint. Raises TRANSPORT_ERRORS, StoreUnavailable."""
        data: bytes | None
        if self._incoming is None:
            data = await receive_next(self._stream)
        else:
            if self._incoming.has_arrived:
                await trio.lowlevel.checkpoint()
            while (data := self._incoming.read_now()) is None:
                has_arrived = trio.Event()
                self._incoming.told = has_arrived.set
                try:
                    await has_arrived.wait()
                finally:
                    self._incoming.told = self._told
        if not data:
            raise StoreUnavailable(REPLY_LOST)
        return data

    async def receive(self) -> Reply:
        """The next reply or push message. Cancelled, nothing is lost.

        Raises:
            StoreUnavailable: the connection broke.
        """
        self._may_hold_replies = True
        try:
            while (reply := self._reader.gets()) is _MORE:
                self._reader.feed(await self._next_bytes())
        except TRANSPORT_ERRORS as error:
            raise _broken(error) from error
        return reply

    async def aclose(self) -> None:
        """Close at once. Replies on their way are dropped."""
        if self._incoming is not None:
            self._incoming.forget()
            self._incoming = None
        await trio.aclose_forcefully(self._stream)

    async def close_other(self, id: int, tag: str) -> None:
        """Have the store close another connection, which we have given up, if it still has it. It may not let us: so
        that frees what the store holds for it and no more; its writes are refused anyhow.

        Raises:
            StoreUnavailable: this connection broke.
        """
        replies: list[Reply] = []
        await self.exchange([("CLIENT", "LIST", "ID", id)], replies)
        listed = replies[0]
        # The number may be another connection's by now, so it has to have the tag too.
        if not isinstance(listed, ReplyError) and f" lib-ver={tag} " in f"{_text(listed)} ":
            await self.exchange([("CLIENT", "KILL", "ID", id)], replies)

    async def give_up(self) -> None:
        """Close at once, so that the kernel drops what it has not sent yet instead of going on with it."""
        abort_on_close(self._stream)
        await self.aclose()


class Store:
    """Opens connections, each to the server that has one context and ready for it.

    Args:
        topology: where contexts are; the address of the one server, if there is one.
        connect_timeout: seconds for finding the server, connecting, authenticating and selecting the database.
        is_embedded: it is the Valkey that comes with us.

    Attributes:
        write_fault: why the embedded Valkey takes no writes now, as far as we were told.
        name: what the store knows us by among all who write; nobody else has ever had it.
        refusals: of contexts that it does not serve; any client can ask for those.
    """

    def __init__(
        self, topology: Topology, layout: Layout, *, connect_timeout: float = 5.0, is_embedded: bool = False
    ) -> None:
        self.topology = topology
        self.layout = layout
        self.is_embedded = is_embedded
        self.write_fault: str | None = None
        self.refusals = Seldom()
        self._out_of_memory_until = -math.inf
        self._agreed: set[str] = set()  # servers on which our function library was once
        self._connect_timeout = connect_timeout
        self.name = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._missed: dict[ContextKey, str] = {}  # contexts that could not be reached, and which server was not there

    async def open(self, context_key: ContextKey) -> Connection:
        """Connect, authenticate, select the context's database and see that our function library is there.

        Raises:
            StoreUnavailable: no server, or not yet.
            StoreMisconfigured: a server that will not serve this context however often we ask.
        """
        server: Topology = self.topology
        try:
            with trio.fail_after(self._connect_timeout):
                server = endpoint = await self.topology.where(context_key)
                connection = await self._connect(endpoint, context_key)
        except trio.TooSlowError:
            fault = f"the store at {server} did not answer within {self._connect_timeout:g} s"
            raise self._lost(server, context_key, fault) from None
        except StoreUnavailable as error:
            raise self._lost(server, context_key, str(error)) from error
        except TRANSPORT_ERRORS as error:
            fault = f"cannot reach the store at {server}: {explain(error)}"
            raise self._lost(server, context_key, fault) from error
        if self._missed:
            self._found(endpoint, context_key)
        return connection

    def next_number(self) -> int:
        """A number that is larger than all before it: of an epoch, of a call."""
        return next(self._numbers)

    @property
    def is_out_of_memory(self) -> bool:
        """Whether the store has refused something for want of memory a moment ago."""
        return self._out_of_memory_until > -math.inf and trio.current_time() < self._out_of_memory_until

    def ran_out_of_memory(self) -> None:
        """The store has just refused something for want of memory."""
        self._out_of_memory_until = trio.current_time() + OUT_OF_MEMORY_FOR

    def is_transient(self, error: ReplyError) -> bool:
        """Whether the same command may succeed on a new connection. An embedded Valkey that has just been started
        takes no writes for a moment; while it cannot take any, we have been told why."""
        return is_transient(error) and (self.write_fault is None or not is_write_refusal(error))

    def refusal(self, error: ReplyError) -> str:
        """What a caller is told of an error reply."""
        if self.write_fault is not None and str(error).startswith(NO_REPLICAS):
            return f"the store takes no writes now: {self.write_fault}"
        return explain_refusal(error)

    def lost(self, context_key: ContextKey, reason: str) -> None:
        """A context's connection broke, or gave an error reply that asks for a new one: then that is `reason`."""
        self.topology.invalidate(context_key, reason)

    def _lost(self, server: Topology, context_key: ContextKey, reason: str) -> StoreUnavailable:
        self.topology.invalidate(context_key, reason)
        if str(server) not in self._missed.values():  # said once, not by every context
            log.warning("the store cannot be reached; requests wait for it until their deadline", reason=reason)
        self._missed[context_key] = str(server)
        return StoreUnavailable(reason)

    def _found(self, endpoint: Endpoint, context_key: ContextKey) -> None:
        """The server is there again, or another one in its place."""
        there = {str(self.topology), str(endpoint), self._missed.get(context_key)}
        missed = {context: server for context, server in self._missed.items() if server not in there}
        if len(missed) < len(self._missed):
            self._missed = missed
            log.warning("the store is back")

    async def _connect(self, endpoint: Endpoint, context_key: ContextKey) -> Connection:
        connection = Connection(await endpoint.open())
        try:
            await self._greet(connection, endpoint, context_key)
        except BaseException:
            await connection.aclose()
            raise
        return connection

    async def _greet(self, connection: Connection, endpoint: Endpoint, context_key: ContextKey) -> None:
        database = self.layout.database_of(context_key)
        replies: list[Reply] = []
        keys = self.layout.keyspace(context_key)
        connection.tag = f"{self.name}.{self.next_number()}"
        tag: Command = ("CLIENT", "SETINFO", "LIB-VER", connection.tag)  # Redis 7.0 does not know that
        schema: Command = ("HGET", keys.engine, "schema")
        greet: list[Command] = [endpoint.hello, ("SELECT", database), library.VERSION_COMMAND, schema, tag]
        try:
            await connection.exchange(greet, replies)
        except StoreUnavailable:
            if not replies:  # a store that has too many clients says so before it is asked anything, and closes
                raise
        greeting = replies[0]
        if isinstance(greeting, ReplyError):
            raise _fault(endpoint, greeting, "the store refused the connection")
        if len(replies) < len(greet):
            raise StoreUnavailable(REPLY_LOST)
        _, selected, version, layout, _ = replies
        self.topology.check(endpoint, greeting)
        connection.id = greeting.get(b"id", 0)
        if isinstance(selected, ReplyError):
            hint = f"cannot select database {database}"
            if self.layout.isolation == "index" and (
                "out of range" in str(selected) or "invalid DB index" in str(selected)
            ):
                hint += (
                    f": context {context_key} needs it, and the server's setting `databases` is smaller; raise that, "
                    "or run the coordinator with --isolation prefix"
                )
            raise _fault(endpoint, selected, hint)
        if isinstance(version, ReplyError) and not str(version).startswith(NO_LIBRARY):
            what = "cannot call functions (it needs Valkey, or Redis 7 or newer, and a user who may)"
            raise StoreUnavailable(str(version)) if is_transient(version) else _fault(endpoint, version, what)
        found = None if isinstance(version, ReplyError) else library.read_version(version)
        if found != library.OURS:
            self._check_library(endpoint, found)
            await self._load_library(connection, endpoint)
            if found is not None:
                log.warning(
                    "replaced the function library in the store",
                    before=str(found),
                    now=str(library.OURS),
                    store=str(endpoint),
                )
        self._agreed.add(str(endpoint))
        if context_key is not None and layout != str(library.SCHEMA).encode():
            await self._migrate(connection, endpoint, keys, layout)
            connection.lacks_layout = layout is None

    async def _migrate(self, connection: Connection, endpoint: Endpoint, keys: Keyspace, layout: Reply) -> None:
        """Bring a context to the layout of this version, part by part; who comes next goes on where this ends.

        Raises StoreMisconfigured, or StoreUnavailable: the store refuses it now.
        """
        replies = [layout]
        if layout is None:  # a look is no write: a store that takes none is still read from
            replies.clear()
            await connection.exchange([registration.count_stored(keys)], replies)
            if replies[0] == 0:
                return
        elif not isinstance(layout, ReplyError) and int(layout) > library.SCHEMA:
            raise StoreMisconfigured(
                f"context {keys.context_key} has layout {int(layout)}, of a newer coordinator; this one knows "
                f"{library.SCHEMA}: start the newer one, or give this one another store or data directory"
            )
        parts = 0
        while not isinstance(replies[0], ReplyError):
            replies.clear()
            await connection.exchange([registration.migrate(keys)], replies)
            if registration.read_migrate(replies[0]):
                break
            parts += 1
        refusal = replies[0]
        if isinstance(refusal, ReplyError) and not is_moving(str(refusal)):
            # While the keys are moving, whatever is asked for next is refused too, and a new connection looks again.
            if is_transient(refusal) or is_write_refusal(refusal):
                raise StoreUnavailable(self.refusal(refusal))
            raise _fault(endpoint, refusal, f"cannot use what is stored of context {keys.context_key}")
        if parts:
            log.debug(
                "looked through a context for what older versions have stored", context=keys.context_key, parts=parts
            )

    def _check_library(self, endpoint: Endpoint, found: library.Identity | None) -> None:
        """Raises StoreMisconfigured unless ours may take the place of the library that is there.

        A newer one stays. One of the same number and other content is replaced at the start only: two coordinators that
        did so later would take the store from each other without end.
        """
        if found is None or found.version < library.VERSION:
            return
        if found.version > library.VERSION:
            raise StoreMisconfigured(
                f"{endpoint} has version {found} of our function library, from a newer coordinator; this one knows "
                f"version {library.OURS}: start the newer one, or give this one another store or data directory"
            )
        if str(endpoint) in self._agreed and not self.is_embedded:
            raise StoreMisconfigured(
                f"another coordinator has loaded version {found} of our function library into {endpoint} since this "
                f"one started with version {library.OURS}: only one of the two can use this store; stop the other "
                "one, then restart the one that stays"
            )

    async def _load_library(self, connection: Connection, endpoint: Endpoint) -> None:
        replies: list[Reply] = []
        await connection.exchange([library.load_command()], replies)
        if isinstance(replies[0], ReplyError):
            what = "cannot load our function library (it needs Valkey, or Redis 7 or newer)"
            raise _fault(endpoint, replies[0], what)


def _fault(endpoint: Endpoint, reply: ReplyError, what: str) -> StoreUnavailable | StoreMisconfigured:
    kind = StoreUnavailable if is_transient(reply) else StoreMisconfigured
    return kind(f"{what} ({endpoint} says: {reply})")


def explain(error: BaseException) -> str:
    """The first leaf's text: connecting to a name with several addresses fails with a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup | OSError) and not isinstance(error, FileNotFoundError):
        return explain(cause)
    return str(error) or type(error).__name__
