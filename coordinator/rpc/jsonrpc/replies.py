"""Where the replies to a client's messages go, and how those to a batch are kept until all are there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from coordinator.actors.request import Outcome, Request
from coordinator.budget import Budget
from coordinator.engine.sessions import Opening
from coordinator.errors import CoordinatorError, Overloaded, ReplyTooLarge
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.decode import Item

__all__ = ["Batch", "Charge", "Place", "ReplyTo", "Response", "Sink"]

LARGE_BATCH: Final = 128 * 1024  # bytes of a response that is not copied to be in one piece

ReplyTo = Callable[[int, bytes | None, Outcome], None]
"""Takes the outcome of the call at a place of its message, with that call's id."""

Charge = Callable[[float], None] | None
"""Is given the seconds that the store takes over a request; see Request."""

Place = tuple[ReplyTo, int, bytes | None]
"""Where a call's reply goes, its place in the message, and its id."""


Response = bytes | list[bytes]
"""To a message; in pieces if it is large."""


class Sink(ABC):
    """Where the replies to a client's messages go."""

    @abstractmethod
    def reply(self, response: Response | None, calls: int = 1) -> None:
        """Send the response to a message of `calls` calls, or None if it gets none. Must not block or raise."""

    def refuse(self, response: bytes, refused: Overloaded) -> None:
        """Send the response to a message of which nothing is done, for its caller is over its limits. As `reply`."""
        self.reply(response)

    @abstractmethod
    def waits_for(self, call: Request) -> None:
        """Learn of a call that may take long, which is to be abandoned if the client leaves."""

    def reply_to(self, at: int, id: bytes | None, outcome: Outcome) -> None:
        """Take the outcome of a message that is a call."""
        self.reply(_rendered(id, outcome))

    def reply_to_opening(self, opening: Opening) -> ReplyTo:
        """As `reply_to`, for a call that may open a subscription."""

        def reply_to(at: int, id: bytes | None, outcome: Outcome) -> None:
            self.reply_to(at, id, outcome)
            opening.replied()

        return reply_to


class Batch:
    """Collects the replies to a batch in its order, and replies with the array once all are in.

    Replies beyond `max_bytes` in all are replaced by errors, so that a small request cannot fill our memory. Those kept
    are taken from the client's budget only when all calls are on their way: before, they would keep the rest back.

    Attributes:
        is_full: a reply was replaced.
    """

    def __init__(self, length: int, sink: Sink, max_bytes: int, budget: Budget) -> None:
        self._responses: list[bytes | None] = [None] * length
        self._missing = length
        self._sink = sink
        self._limit = max_bytes
        self._room = max_bytes
        self._openings: list[Opening] = []
        self._budget = budget
        self._is_on_its_way = False
        self.is_full = False

    def spares(self, item: Item) -> bool:
        """Whether a call need not be carried out once the batch is full: it would only read what is then left out."""
        id, method, _ = item
        return id is not None and method is not None and method.only_reads

    def too_large(self) -> CoordinatorError:
        """The outcome in place of one for which there is no room."""
        self.is_full = True
        return ReplyTooLarge(self._limit)

    def is_on_its_way(self) -> None:
        """The last of its calls was taken."""
        if self._missing:
            self._is_on_its_way = True
            self._budget.take(self._limit - self._room)

    def reply_to(self, at: int, id: bytes | None, outcome: Outcome) -> None:
        response = _rendered(id, outcome)
        if response is not None:
            if len(response) > self._room and id is not None:
                response = protocol.render_error(id, self.too_large())
            size = len(response)
            self._room -= size
            if self._is_on_its_way:
                self._budget.used += size
        self._responses[at] = response
        self._missing -= 1
        if self._missing == 0:
            present = [response for response in self._responses if response is not None]
            length = len(self._responses)
            self._responses.clear()
            kept = self._limit - self._room
            if self._is_on_its_way:
                self._budget.give_back(kept)
            render = protocol.render_large_batch if kept > LARGE_BATCH else protocol.render_batch
            self._sink.reply(render(present) if present else None, length)
            for opening in self._openings:
                opening.replied()

    def reply_to_opening(self, opening: Opening) -> ReplyTo:
        """As `reply_to`, for a call that may open a subscription."""
        self._openings.append(opening)
        return self.reply_to


def _rendered(id: bytes | None, outcome: Outcome) -> bytes | None:
    """The reply to a call; None if it is a notification."""
    if id is None:
        return None
    if type(outcome) is bytes:
        return protocol.RESULT % (id, outcome)
    assert isinstance(outcome, CoordinatorError)
    return protocol.render_error(id, outcome)
