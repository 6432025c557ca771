"""A context's mailbox: the bounded queue in front of its supervisor, and what the supervisor is working on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import trio

from coordinator.actors.request import ORDINARY_BYTES, Request
from coordinator.actors.writer import Doubts
from coordinator.storage.keys import ContextKey

__all__ = ["UNKNOWN_BYTES", "Mailbox"]

UNKNOWN_BYTES: Final = 1024 * 1024
"""Expected of a record before the store was asked how large those of its context are."""


class Mailbox:
    """Outlives its supervisor, so that a crash, a lost slot or a retirement loses no request.

    Attributes:
        pending: every request posted and not yet answered, oldest first.
        running: those popped from the queue, in the order their next step will be sent.
        was_used: it has become empty since the directory's sweeper last looked.
        idle_since: when it did so, as far as the sweeper knows, on trio's clock.
        largest: bytes of the largest record seen in the context, by us or, as the store says, by others.
        has_asked: whether the store has said that.
        expected: bytes a record of the context may have, as far as we know.
        ahead: what is to be sent before all that waits, oldest first.
        fault: why the store cannot be reached at the moment, for the answers of requests that time out.
        doubts: what was sent on connections that were given up.
        queued: how many can be popped at once, as far as we know: those of posters that waited come a moment later.
        newest: the request at the end of the queue, while nothing was popped since: what is added to it is as if it had
            been posted now.
        on_post: called when the next request is queued, once; a supervisor sets it while it is parked.
        on_wake: called when it is to look around, while it is parked.
    """

    def __init__(self, context: ContextKey, length: int) -> None:
        self.context = context
        self.pending: dict[Request, None] = {}
        self.running: list[Request] = []
        self.ahead: list[Request] = []
        self.was_used = False
        self.idle_since = trio.current_time()
        self.largest = ORDINARY_BYTES
        self.has_asked = False
        self.expected = UNKNOWN_BYTES
        self.fault: str | None = None
        self.doubts = Doubts()
        self.newest: Request | None = None
        self.on_post: Callable[[], None] | None = None
        self.on_wake: Callable[[], None] | None = None
        self._posters = 0  # tasks waiting for room
        self._send, self._receive = trio.open_memory_channel[Request | None](length)
        self.queued = 0

    @property
    def is_quiet(self) -> bool:
        """Nothing is pending and nobody waits for room: without a supervisor, nothing would be missed."""
        return not self.pending and not self._posters

    def saw(self, size: int) -> None:
        """A record of so many bytes was written or read."""
        self.largest = max(self.largest, size)
        self.expected = max(self.expected, size)

    def was_told(self, largest: int) -> None:
        """The store says that there are records of so many bytes in the context, and no larger ones."""
        self.has_asked = True
        self.expected = self.largest = max(self.largest, largest)

    async def pop(self) -> Request | None:
        """Wait for the next request, or to be woken."""
        request = await self._receive.receive()
        self.queued -= 1
        self.newest = None
        return request

    def pop_nowait(self) -> Request | None:
        """The same without waiting. Raises trio.WouldBlock if there is none; to look at `queued` first costs less."""
        request = self._receive.receive_nowait()
        self.queued -= 1
        self.newest = None
        return request

    def post_nowait(self, request: Request) -> None:
        """Queue a request. Raises trio.WouldBlock when the mailbox is full."""
        self._send.send_nowait(request)
        self.queued += 1
        self.newest = request
        request.mailbox = self
        self.pending[request] = None
        told = self.on_post
        if told is not None:
            self.on_post = None
            told()

    def post_ahead(self, request: Request) -> None:
        """Have a request sent before all that waits. Only for a few of the coordinator's own: there is no limit."""
        request.mailbox = self
        self.pending[request] = None
        self.ahead.append(request)
        self.wake()

    async def post(self, request: Request) -> None:
        """Queue a request, waiting while the mailbox is full. Cancelled, it was not queued.

        Past the request's deadline it is not queued either; it is then answered like any other that is pending.
        """
        request.mailbox = self
        self.pending[request] = None
        self._posters += 1
        try:
            with trio.move_on_at(request.deadline):
                await self._send.send(request)
                self.queued += 1
                self.newest = None  # it is not known what came behind it meanwhile
            self._tell()
        except BaseException:
            self.pending.pop(request, None)
            request.mailbox = None
            raise
        finally:
            self._posters -= 1

    def detach(self, request: Request) -> None:
        """Let go of a request that was popped; whoever has it posts it again."""
        del self.pending[request]
        request.mailbox = None

    async def post_again(self, request: Request) -> None:
        """Queue a request that was popped before and is still pending."""
        await self._send.send(request)
        self.queued += 1
        self.newest = None
        self._tell()

    def _tell(self) -> None:
        """Tell a parked supervisor of what was queued."""
        told, self.on_post = self.on_post, None
        if told is not None:
            told()

    def wake(self) -> None:
        """Make a supervisor parked on the empty queue look around; at worst it looks twice."""
        if self.on_wake is not None:
            self.on_wake()
            return
        with contextlib.suppress(trio.WouldBlock):  # full, so it is not parked
            self._send.send_nowait(None)
            self.queued += 1
