"""Several operations as one, so that what a request costs on its way is paid once for them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from coordinator.actors.request import Effective, Operation, Outcome
from coordinator.errors import CoordinatorError, InternalError, StorageError
from coordinator.storage.connection import Command, Reply
from coordinator.storage.keys import Address

__all__ = ["together"]

log = structlog.get_logger("coordinator.operations")


def together(operations: Sequence[Operation], address: Address, outcomes: list[Outcome]) -> Operation:
    """Take the steps of these operations, which neither compute nor park, at the same time.

    Returns once all have ended; `outcomes`, as long as `operations`, holds theirs then. It may be sent a StorageError
    in place of a reply: that is the outcome of the operation which asked for that.
    """
    effects: list[bytes] = []
    going: list[tuple[int, Operation, list[Reply] | None]] = [(at, one, None) for at, one in enumerate(operations)]
    while True:
        commands: list[Command] = []
        sent: list[tuple[int, Operation, int, int]] = []
        for at, operation, replies in going:
            try:
                step: Any = operation.send(replies)
            except StopIteration as finished:
                answer = finished.value
                if type(answer) is Effective:
                    effects += answer.effects
                    answer = answer.answer
                outcomes[at] = answer
            except CoordinatorError as error:
                outcomes[at] = error
            except Exception:
                outcomes[at] = fault = InternalError()
                log.exception("an operation failed", incident=fault.incident, context=address)
            else:
                begin = len(commands)
                commands += step
                sent.append((at, operation, begin, len(commands)))
        if not sent:
            return Effective(b"", effects)
        answers: list[Reply] = yield commands
        going = [(at, operation, answers[begin:end]) for at, operation, begin, end in sent]
        if StorageError in map(type, answers):
            going = [one for one in going if not _was_refused(*one, outcomes)]


def _was_refused(at: int, operation: Operation, replies: list[Reply] | None, outcomes: list[Outcome]) -> bool:
    refusal = next((reply for reply in replies or () if type(reply) is StorageError), None)
    if refusal is None:
        return False
    operation.close()
    outcomes[at] = refusal
    return True
