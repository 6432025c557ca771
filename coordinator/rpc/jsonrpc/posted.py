"""Calls as the requests that mailboxes hold: how they are answered, counted, and refused while they wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter

import trio

from coordinator.actors.pipeline import Together
from coordinator.actors.request import ORDINARY_BYTES, Answerable, Operation, Outcome, Request
from coordinator.budget import Budget
from coordinator.errors import CoordinatorError, NotLoggedIn, StorageError
from coordinator.measures import CALLS, OK, OTHER
from coordinator.rpc.access.audit.followed import Followed
from coordinator.rpc.jsonrpc.replies import Place
from coordinator.rpc.methods.method import Method
from coordinator.storage.keys import Command, Keyspace
from coordinator.supervision import report

__all__ = ["Call", "Commands", "measure"]


class Call(Request):
    """A call on its way.

    Attributes:
        method: its name.
        place: its own.
        weight: bytes its reply is expected to have; they are taken from `budget` until it is answered.
        is_record: whether that is a record.
        answered: set once it is answered, if somebody waits for that.
    """

    __slots__ = ("answered", "budget", "is_record", "method", "place", "weight")

    def __init__(
        self, method: Method, operation: Operation, place: Place, budget: Budget, expected: int, *, deadline: float
    ) -> None:
        super().__init__(operation, deadline=deadline, writes=method.writes)
        self.method = method.name
        self.place = place
        self.budget = budget
        self.is_record = method.is_record
        self.answered: trio.Event | None = None
        self.weight = weight = method.expected(expected)
        self.load = max(1, weight // ORDINARY_BYTES)
        budget.take(weight)

    def reply(self, outcome: Outcome) -> None:
        self.budget.give_back(self.weight)
        if self.is_record and type(outcome) is bytes and self.mailbox is not None:
            self.mailbox.saw(len(outcome))
        if self.answered is not None:
            self.answered.set()
        measure(self.method, outcome, self.begun)
        reply_to, at, id = self.place
        reply_to(at, id, outcome)

    def refuse(self, refused: Mapping[int, CoordinatorError]) -> None:
        """It may not be carried out any more. What was begun is not gone on with."""
        for error in refused.values():
            self.end(_in_doubt(error) if self.is_in_doubt else error)

    def abandon(self) -> None:
        reply_to, _, id = self.place
        if type(reply_to) is Followed and not self.done:
            reply_to.abandoned(id)
        super().abandon()


class Commands(Request):
    """Calls to one context that are one command each, on their way together. They are of one client until it is posted;
    then those of others may be added until it is popped.

    Attributes:
        answerables: theirs.
        asked: their commands; as `commands`, which are None once the replies have come.
        places: theirs.
        last: the method of the one added last.
        methods: where in their order calls of another method than before begin, and which.
        on_posted: called once they are in the mailbox.
        expected: bytes that the reply to one of them may have, if it is a record.
        weight: bytes all their replies are expected to have; they are taken from their clients' budgets until these
            are there.
    """

    __slots__ = (
        "_outcomes",
        "_taken",
        "answerables",
        "asked",
        "expected",
        "keys",
        "last",
        "methods",
        "on_posted",
        "places",
        "weight",
    )

    def __init__(self, keys: Keyspace, expected: int, *, deadline: float, writes: bool) -> None:
        self.asked: list[Command]
        self.last: Method | None = None
        self.methods: list[tuple[int, str]] = []
        self.keys = keys
        self.expected = expected
        self.weight = 0
        self._taken: list[tuple[Budget, int]] = []
        self.answerables: list[Answerable] = []
        self._outcomes: list[Outcome] = []
        self.places: list[Place] = []
        self.on_posted: Sequence[Callable[[], None]] = ()
        operation = Together(self.answerables, keys.context_key, self._outcomes)
        super().__init__(operation, deadline=deadline, writes=writes)
        self.commands = self.asked = []

    def added(self, budget: Budget, weight: int) -> None:
        """Calls of a client with this budget, whose replies are expected to have `weight` bytes, were added: all of the
        client whose calls it is for, or one of another."""
        self.weight += weight
        self.calls = len(self.answerables)
        self.load = self.weight // ORDINARY_BYTES or 1
        budget.take(weight)
        self._taken.append((budget, weight))

    def reply(self, outcome: Outcome) -> None:
        for budget, weight in self._taken:
            budget.give_back(weight)
        seconds, are_alike = perf_counter() - self.begun, len(self.methods) == 1
        is_failed = isinstance(outcome, CoordinatorError)
        outcomes: Sequence[Outcome] = [outcome] * len(self.places) if is_failed else self._outcomes
        for (reply_to, at, id), own in zip(self.places, outcomes, strict=False):
            if type(own) is not bytes:
                are_alike = False
            elif len(own) > self.expected and self.mailbox is not None:
                self.mailbox.saw(len(own))
            try:
                reply_to(at, id, own)
            except Exception as error:  # which must not keep the others' replies back
                report("handing out a reply", error)
        if are_alike:
            CALLS[self.methods[0][1], OK].observe(seconds, len(self.places))
        else:
            self._measure_each(outcomes, seconds)
        self._outcomes.clear()

    def _measure_each(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Count them when they are of several methods, or did not all go well."""
        end = len(self.places)
        for begin, name in reversed(self.methods):
            for own in outcomes[begin:end]:
                CALLS[name, _code(own)].observe(seconds)
            end = begin

    def refuse(self, refused: Mapping[int, CoordinatorError]) -> None:
        """Some of them may not be carried out any more. Those that were sent already are not sent again."""
        if self.done:
            return
        for at, error in refused.items():
            reply_to, place, id = self.places[at]
            reply_to(place, id, _in_doubt(error) if self.is_in_doubt else error)
            self.places[at] = _answered, place, id
        withheld = {**(self.withheld or {}), **refused}
        is_sent = self.commands is None or self.unanswered or self.known is not None
        if not is_sent or len(withheld) == len(self.places):
            self._withdraw(withheld)
        else:
            self.withheld = withheld

    def _withdraw(self, refused: Collection[int]) -> None:
        """These were answered."""
        assert self.admitted is not None
        for at in sorted(refused, reverse=True):
            del self.places[at]
            del self.answerables[at]
            del self.asked[at]
            del self.admitted[at]
        self.methods = [(begin - sum(at < begin for at in refused), name) for begin, name in self.methods]
        self.calls = len(self.places)
        if not self.places:
            self.end(NotLoggedIn("nobody is left to be answered"))


def _answered(at: int, id: bytes | None, outcome: Outcome) -> None:
    """Where the outcome goes of a call that was answered already."""


def _in_doubt(refused: CoordinatorError) -> StorageError:
    """What is answered when the store may have applied what may not be done any more."""
    detail = f"it is not sent again, for its caller may not do it any more ({refused.message})"
    return StorageError(detail, may_have_been_applied=True)


def measure(method: str, outcome: Outcome, begun: float) -> None:
    """Count a call that did not travel together with others."""
    CALLS[method, _code(outcome)].observe(perf_counter() - begun)


def _code(outcome: Outcome) -> str:
    return OK if type(outcome) is bytes else str(getattr(outcome, "code", OTHER))
