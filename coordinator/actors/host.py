"""What supervisors need of whoever runs them: of the directory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from coordinator.actors.mailbox import Mailbox
from coordinator.actors.request import Compute, Park, Pause, Request
from coordinator.readiness import Readiness
from coordinator.standby import Standby
from coordinator.storage.keys import ContextKey

__all__ = ["Host", "Parked"]


class OnTheWire(Protocol):
    """Attributes:
    on_the_wire: rounds that wait for their replies.
    """

    on_the_wire: int


class Parked(Protocol):
    """A supervisor whose task may be parked while there is something in its mailbox.

    Attributes:
        standby: where the task is parked.
    """

    standby: Standby[None]

    @property
    def rounds(self) -> OnTheWire:
        """What it has sent."""

    def serve_now(self) -> None:
        """Send what has come since the task was parked. Called in its place. Never blocks."""


class Host(Protocol):
    """One for all contexts, so that what it does is not kept once for each.

    Attributes:
        round_timeout: seconds the store may accept nothing of a round, or take to answer it, before the connection
            counts as lost.
        measures: whether the store's time is measured, for who is charged for it.
        readiness: tells of what arrives from the store; None where the system has nothing for that.
        apply_effects: called with a context and the effects of a transition in it.
        waiting: contexts that wait for a slot: if there are none, nobody's slot is wanted elsewhere.
        round_slice: of how many calls of a round the replies are handled before other tasks get on.
    """

    round_timeout: float
    measures: bool
    readiness: Readiness | None
    apply_effects: Callable[[ContextKey, Sequence[bytes]], None]
    waiting: OrderedDict[ContextKey, Mailbox]
    round_slice: int

    def lost_effects(self, context: ContextKey, wrote: bool) -> None:
        """Effects of what was done in a context may be missing; `wrote`: of more than looking at queues and events."""

    def compute(self, request: Request, step: Compute) -> None:
        """Start a worker thread for an operation, and put its request back when it has the result."""

    def pause(self, request: Request, step: Pause) -> None:
        """Put a request back a little later."""

    def park(self, request: Request, step: Park) -> None:
        """Take a request out of its mailbox until what its operation waits for has happened."""

    def is_wanted_elsewhere(self, mailbox: Mailbox, since: float) -> bool:
        """Whether the slot that a mailbox's supervisor has had since then, on trio's clock, should be given up as soon
        as nothing is half done."""

    def serve_soon(self, supervisor: Parked) -> None:
        """Have its `serve_now` called soon, in place of its task, if that is still parked then."""

    async def register(self, context: int, creates: bool) -> bool:
        """Register a context as known where GLOBAL is, when that is not where the context is, or, if nothing is created
        in it, as ours if it is known. Returns whether it is.

        Raises:
            StoreUnavailable: GLOBAL has not answered in time.
            ReplyError: it has refused.
        """
