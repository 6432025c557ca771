"""Responses on their way to a client over HTTP/1."""

from __future__ import annotations

from collections import deque
from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import Final

import trio

from coordinator.budget import Budget
from coordinator.rpc.http.decisions import Answer
from coordinator.rpc.http.heads import Head, response_head
from coordinator.rpc.jsonrpc.replies import Response
from coordinator.socketio import send_now, send_steadily

__all__ = ["Outgoing"]

JOINED_BYTES: Final = 128 * 1024  # a larger reply is not copied to stand behind its head


class Outgoing:
    """What is sent on a connection.

    Args:
        budget: the client's, for which counts what it has not accepted yet.
        write_timeout: seconds for the client to accept something of what it is sent.

    Attributes:
        unsent: what remains of a response, for `flush` to send.
        is_over: the client was told that a response was the last one.
    """

    __slots__ = ("_budget", "_stream", "_write_timeout", "is_over", "unsent")

    def __init__(self, stream: trio.abc.Stream, budget: Budget, write_timeout: float) -> None:
        self._stream = stream
        self._budget = budget
        self._write_timeout = write_timeout
        self.unsent: deque[bytes] = deque()
        self.is_over = False

    def reply(self, head: Head, reply: Response | None, instead: Answer | None, *, closes: bool, more: bytes) -> None:
        """Begin to send the response to a call, with these lines more. Never blocks."""
        date = _date_line(int(time()))
        if closes:
            self.is_over = True
            if not head.closes:
                date += b"connection: close\r\n"
        if more:
            date += more
        if instead is not None:
            whole = b"" if reply is None else b"".join(reply) if isinstance(reply, list) else reply
            lines = response_head(instead, head.connection)
            self._begin(b"%bcontent-length: %d\r\n%b\r\n" % (lines, len(whole), date), whole)
            return
        if reply is None:
            self._begin(b"%b%b\r\n" % (head.silent, date))
        elif isinstance(reply, list):
            length = sum(map(len, reply))
            self._begin(b"%bcontent-length: %d\r\n%b\r\n" % (head.replied, length, date), *reply)
        elif len(reply) <= JOINED_BYTES:
            self._begin(b"%bcontent-length: %d\r\n%b\r\n%b" % (head.replied, len(reply), date, reply))
        else:
            self._begin(b"%bcontent-length: %d\r\n%b\r\n" % (head.replied, len(reply), date), reply)

    async def respond(self, head: Head, answer: Answer, *, closes: bool) -> None:
        """Send what answers no call."""
        self.is_over = closes = closes or head.closes
        lines = response_head(answer, b"connection: close\r\n" if closes else head.connection)
        length = b"" if answer.status in (204, 304) else b"content-length: %d\r\n" % len(answer.body)
        body = b"" if head.omits_body else answer.body
        await self.send(b"%b%b%b\r\n" % (lines, length, _date_line(int(time()))), body)

    async def send(self, *parts: bytes) -> None:
        """Send these to the last byte."""
        self._begin(*parts)
        if self.unsent:
            await self.flush()

    async def flush(self) -> None:
        """Send what remains."""
        while self.unsent:
            part = self.unsent.popleft()
            await send_steadily(self._stream, part, self._write_timeout, self._budget.give_back)

    def _begin(self, first: bytes, *rest: bytes) -> None:
        """Send what the kernel takes at once. What remains is for `flush`, and counts for the budget until then."""
        if len(rest) == 1 and len(rest[0]) <= JOINED_BYTES:
            first, rest = first + rest[0], ()
        unsent = first
        try:  # noqa: SIM105 - which costs more than the rest of this
            unsent = send_now(self._stream, first)
        except OSError:  # whoever sends what remains gets it as well
            pass
        if unsent or rest:
            self.unsent.extend((unsent, *rest))
            self._budget.take(len(unsent) + sum(map(len, rest)))


@lru_cache(1)
def _date_line(second: int) -> bytes:
    return f"date: {formatdate(second, usegmt=True)}\r\n".encode()
