"""What travels through a mailbox."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordinator.errors import CoordinatorError
from coordinator.storage.connection import Command

if TYPE_CHECKING:
    from coordinator.actors.mailbox import Mailbox

__all__ = ["Compute", "Operation", "RawJson", "Request"]

RawJson = bytes
"""A JSON value, ready to send."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Yielded by an operation that needs the processor for long: `run` is called in a worker thread."""

    run: Callable[[], Any]


Operation = Generator[list[Command] | Compute, Any, RawJson]
"""Yields commands (or a Compute), is sent their replies (or its result), returns the answer or raises a
CoordinatorError. Idempotent step by step: after a lost connection a step is sent again."""


class Request(ABC):
    """An operation on its way through a mailbox, and where its answer goes.

    Answered exactly once, by whoever comes first: the supervisor, or the directory when the deadline passes.

    Attributes:
        deadline: on trio's clock.
        writes: whether the operation changes the store.
        done: it was answered; whatever else is known about it is dropped.
        unanswered: how often a step of it was put on the wire and got no reply.
        commands: the step to send next, None before the first one and while computing.
        resume_with: what the operation is sent when it is next advanced.
    """

    __slots__ = ("commands", "deadline", "done", "mailbox", "operation", "resume_with", "unanswered", "writes")

    def __init__(self, operation: Operation, *, deadline: float, writes: bool) -> None:
        self.operation = operation
        self.deadline = deadline
        self.writes = writes
        self.done = False
        self.unanswered = 0
        self.commands: list[Command] | None = None
        self.resume_with: Any = None
        self.mailbox: Mailbox | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the store may have applied it without our knowing."""
        return self.writes and self.unanswered > 0

    def finish(self, outcome: RawJson | CoordinatorError) -> None:
        """Answer, unless that was done before. Never blocks and never raises."""
        if self.done:
            return
        self.done = True
        if self.mailbox is not None:
            del self.mailbox.pending[self]
        self.answer(outcome)

    @abstractmethod
    def answer(self, outcome: RawJson | CoordinatorError) -> None:
        """Hand the outcome to whoever asked. Must not block or raise."""
