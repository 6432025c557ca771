"""What travels together: calls of one command as one operation, neighbouring transitions of a round as one function.

What a request costs on its way is paid once for all calls in it. And the store looks at its clock, the timers and who
follows once for all transitions that are joined, and counts the jobs of a flow that finish together off together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any, Final

from coordinator.actors.progress import outcome_of
from coordinator.actors.request import Answerable, Compute, Outcome, RawJson, WithEffects
from coordinator.errors import CoordinatorError
from coordinator.storage.connection import Command, Reply
from coordinator.storage.functions import joined
from coordinator.storage.functions.kinds import GROWING, LONG
from coordinator.storage.keys import ContextKey, Transition

__all__ = ["Together", "join", "part"]

ARGUMENTS: Final = 4096  # of one call; the server does nothing else during it
WORK: Final = {"hc_resume": 10, "hc_flow_submit": 2}
"""As how many arguments each of these counts: one of a resume is an attempt that is looked up, and a job that is
submitted has only a few."""


class Together(Generator[Compute, Any, RawJson | WithEffects]):
    """Calls of one command each as one operation, from the moment on that the replies to those commands are there: it
    is sent them first, and may be sent a CoordinatorError in place of one, as the outcome of its call.

    It is what a generator would be, but for its first step: the request has the commands as soon as the calls are added
    to it, and most operations are over with the second.

    Args:
        answerables: the calls; more may be added until the replies are there.
        outcomes: theirs are appended to it.
    """

    __slots__ = ("_answerables", "_context", "_effects", "_outcomes", "_replied")

    def __init__(self, answerables: Sequence[Answerable], context: ContextKey, outcomes: list[Outcome]) -> None:
        self._answerables = answerables
        self._context = context
        self._outcomes = outcomes
        self._effects: list[bytes] = []
        self._replied: Iterator[tuple[Answerable, Reply]] | None = None  # those without an outcome

    def send(self, sent: Any) -> Compute:
        """Go on with the replies, or with what was computed."""
        outcomes = self._outcomes
        replied = self._replied
        if replied is None:
            replied = self._replied = zip(self._answerables, sent, strict=True)
        else:
            outcomes.append(sent)
        for (_, finish, asked), reply in replied:
            if isinstance(reply, CoordinatorError):
                outcomes.append(reply)
                continue
            try:
                answer = finish(reply, asked)
            except Exception as error:
                outcomes.append(outcome_of(error, "an operation", context=self._context))
                continue
            if type(answer) is not bytes:
                if isinstance(answer, Compute):
                    return Compute(partial(_computed, answer, self._context))
                assert isinstance(answer, WithEffects)
                self._effects += answer.effects
                answer = answer.answer
            outcomes.append(answer)
        raise StopIteration(WithEffects(b"", self._effects) if self._effects else b"")

    def throw(self, *raised: Any) -> Compute:
        """End it."""
        self._replied = iter(())
        return super().throw(*raised)


def _computed(step: Compute, context: ContextKey) -> Outcome:
    """What one of several makes in a thread: what is wrong with it concerns no other."""
    try:
        answer: Outcome = step.run()
    except Exception as error:
        return outcome_of(error, "a computation", context=context)
    return answer


def join(commands: list[Command], *, apart: bool = False) -> tuple[list[Command], list[int]]:
    """Returns what to send, and for each how many of the given commands it stands for.

    What is joined is about as much work as it has arguments; a transition that may be much more work travels by itself.

    Args:
        apart: those that grow what is stored go apart from those that do not, for the store is out of memory.
    """
    sent: list[Command] = []
    counts: list[int] = []
    together: list[Transition] = []
    arguments = at = 0
    caller: str | bytes | int | float = ""  # what those that are together say of who calls

    def flush() -> None:
        nonlocal arguments
        if together:
            sent.append(together[0] if len(together) == 1 else joined.many(together))
            counts.append(len(together))
            together.clear()
            arguments = 0

    for command in commands:
        if type(command) is Transition and command[1] not in LONG:
            work = len(command) * WORK.get(command[1], 1)  # type: ignore[arg-type] # a text, the function's name
            is_unlike = apart and bool(together) and _grows(command) != _grows(together[0])
            if arguments + work > ARGUMENTS or is_unlike or (together and command[at] != caller):
                flush()
            if not together:
                at = Transition.caller_at(command)
                caller = command[at]
            together.append(command)
            arguments += work
        else:
            flush()
            sent.append(command)
            counts.append(1)
    flush()
    return sent, counts


def _grows(transition: Transition) -> bool:
    return transition[1] in GROWING


def part(replies: list[Reply], counts: list[int]) -> tuple[list[Reply], list[bytes]]:
    """The replies to the commands given to `join`, from those to what was sent, and the effects that belong to all of
    those that were joined."""
    parted: list[Reply] = []
    effects: list[bytes] = []
    for reply, count in zip(replies, counts, strict=False):  # there are fewer replies when the connection was lost
        if count == 1:
            parted.append(reply)
        else:
            own, told = joined.read_many(reply, count)
            effects += told
            parted += own
    return parted, effects
