"""What travels through a mailbox."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from coordinator.errors import CoordinatorError
from coordinator.storage.connection import Command, Reply
from coordinator.storage.keys import ContextKey
from coordinator.supervision import report

__all__ = [
    "ORDINARY_BYTES",
    "Answerable",
    "Compute",
    "Finish",
    "First",
    "Further",
    "Operation",
    "Outcome",
    "Park",
    "Parking",
    "Part",
    "Pause",
    "Queue",
    "RawJson",
    "Request",
    "WithEffects",
]

ORDINARY_BYTES: Final = 16 * 1024
"""A reply to one call has no more bytes, unless larger ones are expected."""

RawJson = bytes
"""A JSON value, ready to send."""

Outcome = RawJson | CoordinatorError
"""What becomes of a call: its result, or an error."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Yielded by an operation that needs the processor for long: `run` is called in a worker thread."""

    run: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Park:
    """Yielded by an operation that waits for something other than the store. It leaves its mailbox; `on` is given the
    function that resumes it, which may be called any number of times."""

    on: Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Pause:
    """Yielded by an operation that asks the store again a little later. Its request stays in its mailbox, so its
    deadline stands."""

    seconds: float


class Parking:
    """Where one operation waits to be woken. A wake-up that comes before it has parked is not lost."""

    def __init__(self) -> None:
        self._resume: Callable[[], None] | None = None
        self._is_woken = False

    @property
    def is_parked(self) -> bool:
        return self._resume is not None

    def wake(self) -> None:
        """There may be something to do."""
        resume, self._resume = self._resume, None
        if resume is None:
            self._is_woken = True
        else:
            resume()

    def look(self) -> None:
        """Forget earlier wake-ups: what they were about is about to be looked at."""
        self._is_woken = False

    def park(self) -> Park:
        """What the operation yields to wait."""

        def on(resume: Callable[[], None]) -> None:
            self._resume = resume
            if self._is_woken:
                self._is_woken = False
                self.wake()

        return Park(on)


class First(list[Command]):
    """Yielded first by an operation that writes in several steps: the calls that its client has sent after it wait for
    its end, for they may need what it writes."""

    __slots__ = ()


class Further(list[Command]):
    """Yielded by an operation: the commands of a further step, and what the transition before has set going."""

    __slots__ = ("effects",)

    def __init__(self, commands: Sequence[Command], effects: Sequence[bytes]) -> None:
        super().__init__(commands)
        self.effects = effects


class WithEffects(NamedTuple):
    """An answer, and what the transition behind it has set going: see the function library."""

    answer: RawJson
    effects: Sequence[bytes]


_T = TypeVar("_T")

Part = Generator[list[Command] | Compute | Park | Pause, Any, _T]
"""What an operation goes through by `yield from`, with its result."""

Operation = Part[RawJson | WithEffects]
"""Yields commands (or a Compute, a Park or a Pause), is sent their replies (or its result, or None), returns the answer
or raises a CoordinatorError. After a lost connection a step is sent again, but for the transitions in it that were
applied: the store has kept their replies. So anything else in a step has to be idempotent."""


Finish = Callable[[Reply, Any], RawJson | WithEffects | Compute]
"""Makes an answer, or a Compute that makes one without effects; or raises a CoordinatorError."""

Answerable = tuple[Command, Finish, Any]
"""One command, and what makes the answer of its reply and of the third item. Most calls are that, and it costs a fifth
of a generator."""


class Queue(Protocol):
    """A context's mailbox, as far as a request that is in it has to do with it."""

    context: ContextKey
    pending: dict[Request, None]

    def saw(self, size: int) -> None:
        """A record of so many bytes was written or read."""

    def detach(self, request: Request) -> None:
        """Let go of a request that was popped; whoever has it posts it again."""

    async def post_again(self, request: Request) -> None:
        """Queue a request that was popped before and is still pending."""


class Request(ABC):
    """An operation on its way through a mailbox, and where its answer goes.

    Answered exactly once, by whoever comes first: the supervisor, or the directory when the deadline passes.

    Attributes:
        deadline: on trio's clock.
        begun: when the message was read whose calls it is, by perf_counter; 0 of any other.
        calls: for how many it stands.
        admitted: its calls, if callers log in: the access by which each was admitted, its method, as the client may
            call it, and params. What a caller may not do any more is refused. None of them knows the request: in a
            cycle all that it holds would stay until the garbage collector comes by, which took a fifth of the time of
            each call.
        charge: is given the seconds that the store takes over its steps, if those are measured.
        load: as how many ordinary calls it counts in a round, by the bytes expected of its replies.
        writes: whether the operation changes the store.
        creates: whether it may leave something in a context in which nothing was before.
        done: it was answered; whatever else is known about it is dropped.
        unanswered: how often a step of it was put on the wire and got no reply.
        commands: the step to send next, None before the first one and while computing.
        known: replies to some of those, by their places, that came although the rest has to be sent again.
        withheld: what those that may not be carried out any more end with, by their places: if they were sent they are
            not sent again. What the store has replied to them counts all the same.
        resume_with: what the operation is sent when it is next advanced.
        mailbox: the one in which it is pending, if it is.
    """

    __slots__ = (
        "__weakref__",
        "admitted",
        "begun",
        "calls",
        "charge",
        "commands",
        "creates",
        "deadline",
        "done",
        "known",
        "load",
        "mailbox",
        "operation",
        "resume_with",
        "unanswered",
        "withheld",
        "writes",
    )

    def __init__(self, operation: Operation, *, deadline: float, writes: bool) -> None:
        self.operation = operation
        self.begun = 0.0
        self.calls = 1
        self.charge: Callable[[float], None] | None = None
        self.admitted: list[tuple[Any, Any, Any]] | None = None
        self.load = 1
        self.deadline = deadline
        self.writes = self.creates = writes
        self.done = False
        self.unanswered = 0
        self.commands: list[Command] | None = None
        self.known: dict[int, Reply] | None = None
        self.withheld: dict[int, CoordinatorError] | None = None
        self.resume_with: Any = None
        self.mailbox: Queue | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the store may have applied it without our knowing."""
        return self.writes and self.unanswered > 0

    def finish(self, outcome: Outcome) -> None:
        """Reply, unless that was done before. Never blocks and never raises."""
        if self.done:
            return
        self.done = True
        if self.mailbox is not None:
            del self.mailbox.pending[self]
        try:
            self.reply(outcome)
        except Exception as error:  # neither the context nor who else is answered in this round has to do with it
            report("handing out an outcome", error)

    def end(self, error: CoordinatorError) -> None:
        """Answer with an error, and drop the operation where it is, unless that was answered before."""
        if not self.done:
            self.finish(error)
            self.operation.close()

    def abandon(self) -> None:
        """Nobody waits for the answer any more: drop the operation where it is."""
        if not self.done:
            self.done = True
            if self.mailbox is not None:
                del self.mailbox.pending[self]
            self.operation.close()

    @abstractmethod
    def reply(self, outcome: Outcome) -> None:
        """Hand the outcome to whoever asked; an error is that of all its calls. Must not block or raise."""
