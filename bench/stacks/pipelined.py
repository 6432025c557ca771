"""The least a server on asyncio needs of Valkey: one connection, pipelined, on hiredis, with callbacks.

uvloop sends what is written in a pass of the loop together, so commands and replies travel in groups unasked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from bench.stacks import jobs
from bench.stacks.jobs import CreateCall, LoadCall

__all__ = ["Answered", "Jobs"]

Answered = Callable[[bytes], object]


class Jobs(asyncio.Protocol):
    """Answers messages from a Valkey, in the order they are asked; made by `connected`."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        # What to do with the replies under way, and with how many at once.
        self._under_way: deque[tuple[int, Callable[[list[Any]], object]]] = deque()
        self._found: list[Any] = []
        self._upsert = ""

    @classmethod
    async def connected(cls, path: str) -> Jobs:
        loop = asyncio.get_running_loop()
        _, jobs_ = await loop.create_unix_connection(cls, path)
        loaded: asyncio.Future[list[bytes]] = loop.create_future()
        jobs_._request([("SCRIPT", "LOAD", jobs.UPSERT)], loaded.set_result)
        jobs_._upsert = (await loaded)[0].decode()
        return jobs_

    def ask(self, message: bytes, answered: Answered) -> None:
        """Have a message answered: a call, or a batch of them, which is one pipeline."""
        calls = jobs.parsed(message)
        if calls is None:
            answered(jobs.INVALID)
        elif isinstance(calls, list):
            batch = calls
            self._request(
                [jobs.command(call, self._upsert) for call in batch],
                lambda found: answered(b"[%b]" % b",".join(map(jobs.reply, batch, found))),
            )
        else:
            call: LoadCall | CreateCall = calls
            self._request([jobs.command(call, self._upsert)], lambda found: answered(jobs.reply(call, found[0])))

    def _request(self, commands: list[tuple[Any, ...]], done: Callable[[list[Any]], object]) -> None:
        self._transport.write(b"".join(map(hiredis.pack_command, commands)))
        self._under_way.append((len(commands), done))

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one but not by class

    def data_received(self, data: bytes) -> None:
        reader, found = self._reader, self._found
        reader.feed(data)
        while (one := reader.gets()) is not False:
            if isinstance(one, hiredis.HiredisError):
                raise one
            found.append(one)
            if len(found) == self._under_way[0][0]:
                _, done = self._under_way.popleft()
                done(found)
                self._found = found = []
