"""A RESP3 connection on a trio stream, over hiredis.

Sends any number of commands in one write and reads their replies. Knows nothing of keys or records. Ours because
redis-py has no trio client and costs several times more a command (measured in DESIGN §3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import hiredis
import structlog
import trio

from coordinator.storage import library
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import (
    REPLY_LOST,
    TRANSPORT_ERRORS,
    ReplyError,
    StoreMisconfigured,
    StoreUnavailable,
    is_transient,
)
from coordinator.storage.keys import Address, Command, Layout

__all__ = ["Command", "Connection", "Reply", "Store", "packed"]

log = structlog.get_logger("coordinator.store")

Reply = Any

_RECEIVE_BYTES: Final = 256 * 1024
_MORE: Final = object()
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment] # the stub says a tuple of one


def packed(commands: Iterable[Command]) -> bytes:
    """Commands as they go over the wire."""
    return b"".join([command if type(command) is bytes else _pack(command) for command in commands])


class Connection:
    """One open connection. Not for two tasks at once."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_MORE)

    async def exchange(self, commands: list[Command], replies: list[Reply]) -> None:
        """`send` commands and `collect` their replies."""
        await self.send(commands)
        await self.collect(len(commands), replies)

    async def send(self, commands: list[Command]) -> None:
        """Send commands, in one write. Their replies are for `collect` or `receive`, for another task if need be.

        Raises:
            StoreUnavailable: the connection broke.
        """
        try:
            await self._stream.send_all(packed(commands))
        except TRANSPORT_ERRORS as error:
            raise StoreUnavailable(f"{REPLY_LOST}: {error or type(error).__name__}") from error

    async def collect(self, count: int, replies: list[Reply]) -> None:
        """Append the next `count` replies, in order, to `replies`.

        An error reply is appended as a ReplyError. When this raises or is cancelled, `replies` holds those that
        came in time, and the connection must be closed: what comes next on it would be out of step.

        Raises:
            StoreUnavailable: the connection broke.
        """
        due = len(replies) + count
        reader = self._reader
        try:
            while len(replies) < due:
                reply = reader.gets()
                if reply is _MORE:
                    data = await self._stream.receive_some(_RECEIVE_BYTES)
                    if not data:
                        raise StoreUnavailable(REPLY_LOST)
                    reader.feed(bytes(data))  # no copy: it is bytes already
                elif type(reply) is not hiredis.PushNotification:
                    replies.append(reply)
        except TRANSPORT_ERRORS as error:
            raise StoreUnavailable(f"{REPLY_LOST}: {error or type(error).__name__}") from error

    async def receive(self) -> Reply:
        """The next reply or push message. Cancelled, nothing is lost.

        Raises:
            StoreUnavailable: the connection broke.
        """
        try:
            while (reply := self._reader.gets()) is _MORE:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
                if not data:
                    raise StoreUnavailable(REPLY_LOST)
                self._reader.feed(bytes(data))
        except TRANSPORT_ERRORS as error:
            raise StoreUnavailable(f"{REPLY_LOST}: {error or type(error).__name__}") from error
        return reply

    async def aclose(self) -> None:
        """Close at once. Replies on their way are dropped."""
        await trio.aclose_forcefully(self._stream)


class Store:
    """Opens connections to one server, each ready for one context.

    Args:
        connect_timeout: seconds for connecting, authenticating and selecting the database.
    """

    def __init__(self, endpoint: Endpoint, layout: Layout, *, connect_timeout: float = 5.0) -> None:
        self.endpoint = endpoint
        self.layout = layout
        self._connect_timeout = connect_timeout
        self._is_reachable = True

    async def open(self, address: Address) -> Connection:
        """Connect, authenticate, select the context's database and see that our function library is there.

        Raises:
            StoreUnavailable: no server, or not yet.
            StoreMisconfigured: a server that will not serve this context however often we ask.
        """
        try:
            connection = await self._open(address)
        except StoreUnavailable as error:
            if self._is_reachable:  # said once, not by every context
                self._is_reachable = False
                log.warning("the store cannot be reached; requests wait for it until their deadline", reason=str(error))
            raise
        if not self._is_reachable:
            self._is_reachable = True
            log.warning("the store is back")
        return connection

    async def _open(self, address: Address) -> Connection:
        try:
            with trio.fail_after(self._connect_timeout):
                connection = Connection(await self.endpoint.open())
                try:
                    await self._greet(connection, address)
                except BaseException:
                    await connection.aclose()
                    raise
        except trio.TooSlowError:
            raise StoreUnavailable(
                f"the store at {self.endpoint} did not answer within {self._connect_timeout:g} s"
            ) from None
        except TRANSPORT_ERRORS as error:
            raise StoreUnavailable(f"cannot reach the store at {self.endpoint}: {_reason(error)}") from error
        return connection

    async def _greet(self, connection: Connection, address: Address) -> None:
        hello: list[str] = ["HELLO", "3"]
        if self.endpoint.password is not None:
            hello += ["AUTH", self.endpoint.username or "default", self.endpoint.password]
        hello += ["SETNAME", "herocoordinator"]
        database = self.layout.database_of(address)
        replies: list[Reply] = []
        await connection.exchange([tuple(hello), ("SELECT", database), library.VERSION_COMMAND], replies)
        greeting, selected, version = replies
        if isinstance(greeting, ReplyError):
            raise self._fault(greeting, "the store refused the connection")
        if isinstance(selected, ReplyError):
            hint = f"cannot select database {database}"
            if "out of range" in str(selected) or "invalid DB index" in str(selected):
                hint += (
                    f": context {address} needs it, and the server's setting `databases` is smaller; raise that, or "
                    "run the coordinator with --isolation prefix"
                )
            raise self._fault(selected, hint)
        if isinstance(version, ReplyError) and is_transient(version) and "Function not found" not in str(version):
            raise StoreUnavailable(str(version))
        if isinstance(version, ReplyError) or version < library.VERSION:
            await self._load_library(connection)

    async def _load_library(self, connection: Connection) -> None:
        replies: list[Reply] = []
        await connection.exchange([library.load_command()], replies)
        if isinstance(replies[0], ReplyError):
            raise self._fault(replies[0], "cannot load our function library (it needs Valkey, or Redis 7 or newer)")

    def _fault(self, reply: ReplyError, what: str) -> StoreUnavailable | StoreMisconfigured:
        kind = StoreUnavailable if is_transient(reply) else StoreMisconfigured
        return kind(f"{what} ({self.endpoint} says: {reply})")


def _reason(error: BaseException) -> str:
    """The first leaf's text: connecting to a name with several addresses fails with a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup | OSError) and not isinstance(error, FileNotFoundError):
        return _reason(cause)
    return str(error) or type(error).__name__
