"""A synchronous connection to the store: the product's own commands and replies, without its event loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis
from pydantic_core import from_json

from coordinator.actors.request import Compute, Further, Operation, Park, Pause, WithEffects
from coordinator.errors import StorageError
from coordinator.storage import library
from coordinator.storage.connection import Command, packed
from coordinator.storage.faults import ReplyError

__all__ = ["Wire"]

_MORE = object()


class Wire:
    """Packs and parses as `storage.connection` does, so operations get the replies they get in production.

    Attributes:
        effects: those of the last operation run.
    """

    def __init__(self, port: int, database: int, source: str = library.SOURCE) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_MORE)
        self.effects: list[str] = []
        self.ask(("HELLO", "3"), ("SELECT", database), ("FUNCTION", "LOAD", "REPLACE", source))

    def close(self) -> None:
        self._socket.close()

    def ask(self, *commands: Command) -> list[Any]:
        """The replies to a pipeline. Raises StorageError, as a supervisor answers, if one is an error."""
        self._socket.sendall(packed(commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is _MORE:
                self._reader.feed(self._socket.recv(256 * 1024))
            else:
                replies.append(reply)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise StorageError(str(reply))
        return replies

    def stored(self) -> Iterator[tuple[bytes, str, Any]]:
        """Each key, of which kind it is and what is in it. A record that was not updated since, or in the same second,
        is stored without `updated_at`, and shows it here as it reads."""
        ways: dict[str, Command] = {
            "hash": ("HGETALL",),
            "list": ("LRANGE", 0, -1),
            "zset": ("ZRANGE", 0, -1),
            "set": ("SMEMBERS",),
            "stream": ("XRANGE", "-", "+"),
            "string": ("GET",),
        }
        for key in sorted(self.ask(("KEYS", "*"))[0]):
            (word,) = self.ask(("TYPE", key))
            kind = str(word, "ascii") if isinstance(word, bytes) else word
            name, *rest = ways[kind]
            (content,) = self.ask((name, key, *rest))
            if kind == "hash" and b"created_at" in content:
                content.setdefault(b"updated_at", content[b"created_at"])
            yield key, kind, content

    def heard(self) -> Any:
        """The next push message. Waits for it."""
        while (reply := self._reader.gets()) is _MORE:
            self._reader.feed(self._socket.recv(256 * 1024))
        return reply

    def run(self, operation: Operation) -> Any:
        """What an operation answers, parsed."""
        self.effects = []
        given: Any = None
        effects: list[str] = []
        try:
            while True:
                step = operation.send(given)
                if isinstance(step, Further):
                    effects += [effect.decode() for effect in step.effects]
                assert not isinstance(step, Park | Pause), "nothing here waits"
                given = step.run() if isinstance(step, Compute) else self.ask(*step)
        except StopIteration as finished:
            answer = finished.value
        if isinstance(answer, WithEffects):
            self.effects = effects + [effect.decode() for effect in answer.effects]
            answer = answer.answer
        return from_json(answer)

    def transition(self, command: Command) -> Sequence[Any]:
        """The result of one function of the library."""
        ((result, effects),) = self.ask(command)
        self.effects = [effect.decode() for effect in effects]
        return list(result)
