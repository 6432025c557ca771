"""Requests made by hand for a Directory, and stores that fail it: one that crashes it, one in memory that can stall."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import trio
import trio.testing

from coordinator.actors.directory import Directory
from coordinator.actors.request import Operation, RawJson, Request
from coordinator.errors import CoordinatorError
from coordinator.readiness import Readiness
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import StoreUnavailable
from coordinator.storage.keys import ContextKey, Layout

__all__ = ["Asked", "CrashingStore", "MemoryStore", "command", "running"]


class Asked(Request):
    """A request whose outcome a test waits for."""

    __slots__ = ("answered", "answers", "outcome")

    def __init__(self, operation: Operation, *, timeout: float = 30.0, writes: bool = False) -> None:
        super().__init__(operation, deadline=trio.current_time() + timeout, writes=writes)
        self.answered = trio.Event()
        self.answers = 0
        self.outcome: RawJson | CoordinatorError | None = None

    def reply(self, outcome: RawJson | CoordinatorError) -> None:
        self.outcome = outcome
        self.answers += 1
        self.answered.set()

    async def wait(self) -> RawJson | CoordinatorError | None:
        await self.answered.wait()
        return self.outcome


def command(*words: str | int) -> Operation:
    """One command, whose reply is the result."""
    (reply,) = yield [words]
    return reply if isinstance(reply, bytes) else b"%d" % reply


@asynccontextmanager
async def running(store: Store, **options: Any) -> AsyncIterator[Directory]:
    """A directory at work, ended in the end."""
    directory = Directory(store, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(directory.run)
        yield directory
        nursery.cancel_scope.cancel()


class CrashingStore(Store):
    """Reaches a real server, but fails in ways nothing was written for.

    Attributes:
        bad_openings: how many of the next `open` raise.
        bad_exchanges: how many of the next exchanges raise.
        may_crash: what a bad opening waits for before it does.
    """

    def __init__(self, url: str) -> None:
        super().__init__(Endpoint.from_url(url), Layout())
        self.bad_openings = 0
        self.bad_exchanges = 0
        self.may_crash = trio.Event()

    async def open(self, address: ContextKey) -> Connection:
        if self.bad_openings:
            self.bad_openings -= 1
            await self.may_crash.wait()
            raise RuntimeError("opening crashed")
        return _CrashingConnection(self, await super().open(address))


class _CrashingConnection(Connection):
    def __init__(self, store: CrashingStore, inner: Connection) -> None:
        self._store = store
        self._inner = inner

    def send_now(self, commands: list[Command]) -> bytes:
        return self._inner.send_now(commands)

    async def send_rest(self, data: bytes, timeout: float = math.inf) -> None:
        await self._inner.send_rest(data, timeout)

    def watch(self, readiness: Readiness, told: Callable[[], None]) -> None:
        self._inner.watch(readiness, told)

    @property
    def is_watched(self) -> bool:
        return self._inner.is_watched

    async def collect(self, count: int, replies: list[Reply]) -> None:
        self._crash()
        await self._inner.collect(count, replies)

    def collect_now(self, count: int, replies: list[Reply]) -> bool:
        self._crash()
        return self._inner.collect_now(count, replies)

    def _crash(self) -> None:
        if self._store.bad_exchanges:
            self._store.bad_exchanges -= 1
            raise RuntimeError("an exchange crashed")

    async def aclose(self) -> None:
        await self._inner.aclose()


class MemoryStore(Store):
    """Connections lead to a task of `nursery` that speaks RESP, answers every command with PONG and knows no sizes.

    Attributes:
        asked: the names of all commands that came.
        answers: what the next commands are answered with before that.
        answering: replaced by an unset event, it makes every connection stall.
        unreachable: while true, opening fails.
        attempts, opened, open_now: how often opening was tried, how often it succeeded, how many are open.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(Endpoint(), Layout())
        self._nursery = nursery
        self.asked: list[str] = []
        self.answers: list[bytes] = []
        self.answering = trio.Event()
        self.answering.set()
        self.unreachable = False
        self.attempts = 0
        self.opened = 0
        self.open_now = 0

    async def open(self, address: ContextKey) -> Connection:
        await trio.lowlevel.checkpoint()
        self.attempts += 1
        if self.unreachable:
            raise StoreUnavailable("unreachable for a test")
        ours, theirs = trio.testing.memory_stream_pair()
        self.opened += 1
        self._nursery.start_soon(self._respond, theirs)
        return Connection(ours)

    async def _respond(self, stream: trio.abc.Stream) -> None:
        self.open_now += 1
        reader = hiredis.Reader(notEnoughData=None)
        try:
            async for data in stream:
                reader.feed(bytes(data))
                while (asked := reader.gets()) is not None:
                    self.asked.append(asked[0].decode())
                    await self.answering.wait()
                    if asked[0] == b"ZSCORE":  # the supervisor's own, about the sizes of records
                        await stream.send_all(b"_\r\n")
                    else:
                        await stream.send_all(self.answers.pop(0) if self.answers else b"$4\r\nPONG\r\n")
        except trio.BrokenResourceError:
            pass
        finally:
            self.open_now -= 1
