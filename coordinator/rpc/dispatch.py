"""From a message's bytes to requests in mailboxes, and from their outcomes to the reply's bytes."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any, Final

import structlog
import trio

from coordinator.actors.directory import Directory
from coordinator.actors.engine import Engine
from coordinator.actors.request import RawJson, Request
from coordinator.actors.subscriptions import Session
from coordinator.errors import CoordinatorError, InternalError, MethodNotFound, ReplyTooLarge
from coordinator.rpc import protocol
from coordinator.rpc.method import Method
from coordinator.rpc.methods import METHODS
from coordinator.rpc.openrpc import document_json
from coordinator.rpc.suggestions import Suggestions
from coordinator.storage.keys import Address, Layout

__all__ = ["TURN", "Dispatcher", "Sink"]

log = structlog.get_logger("coordinator.rpc")

DISCOVER: Final = "rpc.discover"
TURN: Final = 16  # calls of one client put on their way before others get on, if there are other contexts
KEYSPACES: Final = 1024  # remembered


class Sink(ABC):
    """Where a message's reply goes."""

    @abstractmethod
    def deliver(self, response: bytes | None, calls: int = 1) -> None:
        """Take the reply to a message of `calls` calls, or None if it gets none. Must not block or raise."""

    @abstractmethod
    def waits_for(self, call: Request) -> None:
        """Told of a call that may take long; to be abandoned if the client leaves."""


class _Call(Request):
    """A request whose answer is rendered and given to a sink."""

    __slots__ = ("id", "sink")

    id: bytes | None
    sink: Sink

    def answer(self, outcome: RawJson | CoordinatorError) -> None:
        self.sink.deliver(_rendered(self.id, outcome))


class _Batch:
    """Collects the replies to a batch in its order, and delivers the array once all are in.

    Replies beyond `max_bytes` in all are replaced by errors, so that a small request cannot fill our memory.
    """

    def __init__(self, length: int, sink: Sink, max_bytes: int) -> None:
        self._responses: list[bytes | None] = [None] * length
        self._missing = length
        self.sink = sink
        self._limit = max_bytes
        self._room = max_bytes

    def put(self, at: int, id: bytes | None, response: bytes | None) -> None:
        if response is not None:
            if len(response) > self._room and id is not None:
                response = protocol.render_error(id, ReplyTooLarge(self._limit))
            self._room -= len(response)
        self._responses[at] = response
        self._missing -= 1
        if self._missing == 0:
            present = [response for response in self._responses if response is not None]
            self.sink.deliver(protocol.render_batch(present) if present else None, len(self._responses))


class _Slot(Sink):
    """A place in a batch."""

    __slots__ = ("_at", "_batch", "_id")

    def __init__(self, batch: _Batch, at: int, id: bytes | None) -> None:
        self._batch = batch
        self._at = at
        self._id = id

    def deliver(self, response: bytes | None, calls: int = 1) -> None:
        self._batch.put(self._at, self._id, response)

    def waits_for(self, call: Request) -> None:
        self._batch.sink.waits_for(call)


class Dispatcher:
    """Shared by all front-ends.

    Args:
        request_timeout: seconds after which a request is answered with StorageError, whatever the store does.
        max_batch: calls in one batch.
        max_batch_reply: bytes of the reply to one batch.
    """

    def __init__(
        self,
        directory: Directory,
        engine: Engine,
        layout: Layout,
        *,
        request_timeout: float,
        max_batch: int,
        max_batch_reply: int,
    ) -> None:
        self._directory = directory
        self._engine = engine
        self._keyspace = lru_cache(KEYSPACES)(layout.keyspace)
        self._request_timeout = request_timeout
        self._max_batch = max_batch
        self._max_batch_reply = max_batch_reply
        self._suggestions = Suggestions([*METHODS, DISCOVER])
        self.calls = 0

    async def submit(self, data: str | bytes | bytearray, sink: Sink, session: Session | None = None) -> int:
        """Put the calls of one message on their way; its reply goes to `sink`, possibly before this returns.
        Subscriptions are made on `session`.

        Returns how many calls it held. Waits only while a mailbox is full, and no longer than until the calls'
        deadline. It is a checkpoint then, and may be one every `TURN` calls; cancelled, calls not yet posted are
        dropped and `sink` gets nothing.
        """
        message = protocol.parse(data, self._max_batch)
        deadline = trio.current_time() + self._request_timeout
        if type(message) is not list:
            count = 1
            full = self._submit_one(message, sink, session, deadline)  # type: ignore[arg-type]
            if full is not None:
                await full
        else:
            count = len(message)
            batch = _Batch(count, sink, self._max_batch_reply)
            for at, item in enumerate(message):
                full = self._submit_one(item, _Slot(batch, at, item.id), session, deadline)
                if full is not None:
                    await full
                if at % TURN == TURN - 1:
                    await self.take_turns()
        if session is not None:
            session.message_done()
        return count

    async def take_turns(self) -> None:
        """Let others get on. Alone, a client has all the time there is: yielding costs it a quarter of its calls."""
        if self._directory.is_shared:
            await trio.lowlevel.checkpoint()

    def _submit_one(
        self, item: protocol.Call | protocol.Invalid, sink: Sink, session: Session | None, deadline: float
    ) -> Awaitable[None] | None:
        """Put a call on its way. Returns what to wait for while its mailbox is full: most need no coroutine."""
        if type(item) is protocol.Invalid:
            sink.deliver(protocol.render_error(item.id, item.error))
            return None
        assert type(item) is protocol.Call
        self.calls += 1
        method = METHODS.get(item.method)
        outcome: RawJson | CoordinatorError | None = None
        try:
            if method is None:
                outcome = self._built_in(item.method)
            else:
                params = method.reader.read(item.params)
                address = method.address(params)
                if method.operation is not None:
                    operation = method.operation(self._keyspace(address), params)
                else:
                    assert method.live is not None
                    started = method.live(self._engine, session, self._keyspace(address), params)
                    if isinstance(started, bytes):
                        outcome = started
                    else:
                        operation = started
                    if method.patience is not None:
                        deadline += method.patience(params)
        except CoordinatorError as error:
            outcome = error
        except Exception:
            incident = uuid.uuid4().hex[:12]
            log.exception("a call could not be read", incident=incident, method=item.method)
            outcome = InternalError(incident)
        if outcome is not None:
            sink.deliver(_rendered(item.id, outcome))
            return None
        assert method is not None
        call = _Call(operation, deadline=deadline, writes=method.writes)
        call.id = item.id
        call.sink = sink
        try:
            self._directory.post_nowait(address, call)
        except trio.WouldBlock:
            return self._post(address, call, method, session, params)
        _posted(call, method, session, params)
        return None

    async def _post(self, address: Address, call: _Call, method: Method, session: Session | None, params: Any) -> None:
        await self._directory.post(address, call)
        _posted(call, method, session, params)

    def _built_in(self, name: str) -> RawJson:
        if name == DISCOVER:
            return document_json()
        raise MethodNotFound(name, self._suggestions.like(name))


def _rendered(id: bytes | None, outcome: RawJson | CoordinatorError) -> bytes | None:
    """The reply to a call; None if it is a notification."""
    if id is None:
        return None
    if type(outcome) is bytes:
        return protocol.render_result(id, outcome)
    assert isinstance(outcome, CoordinatorError)
    return protocol.render_error(id, outcome)


def _posted(call: _Call, method: Method, session: Session | None, params: Any) -> None:
    if method.patience is not None:
        call.sink.waits_for(call)
    if method.touches is not None and session is not None:
        method.touches(session, params)
