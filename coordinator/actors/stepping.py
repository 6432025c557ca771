"""Steps of operations: of one, and of several as one, so that what a request costs on its way is paid once for them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from coordinator.actors.request import Compute, Effective, Operation, Outcome, Park
from coordinator.errors import CoordinatorError, InternalError, StorageError
from coordinator.storage.connection import Command, Reply
from coordinator.storage.keys import Address

__all__ = ["advance", "together"]

log = structlog.get_logger("coordinator.operations")


def advance(
    operation: Operation, sent: object, address: Address
) -> list[Command] | Compute | Park | Effective | Outcome:
    """Send an operation what it waits for. Returns its next step, or what it has ended with; never raises."""
    try:
        return operation.send(sent)
    except StopIteration as finished:
        ended: Outcome | Effective = finished.value
        return ended
    except CoordinatorError as error:
        return error
    except Exception:
        fault = InternalError()
        log.exception("an operation failed", incident=fault.incident, context=address)
        return fault


def together(operations: Sequence[Operation], address: Address, outcomes: list[Outcome]) -> Operation:
    """Take the steps of these operations, which neither compute nor park, at the same time.

    Returns once all have ended; `outcomes`, as long as `operations`, holds theirs then. It may be sent a StorageError
    in place of a reply: that is the outcome of the operation which asked for that.
    """
    effects: list[bytes] = []
    waiting = [(at, operation, 0) for at, operation in enumerate(operations)]
    answers: list[Reply] | None = None
    while True:
        commands: list[Command] = []
        going: list[tuple[int, Operation, int]] = []
        has_refusal = answers is not None and StorageError in map(type, answers)
        end = 0
        for at, operation, count in waiting:
            begin, end = end, end + count
            replies = answers and answers[begin:end]
            if has_refusal and (refusal := _refusal_among(replies)):
                operation.close()
                outcomes[at] = refusal
                continue
            step = advance(operation, replies, address)
            if isinstance(step, list):
                commands += step
                going.append((at, operation, len(step)))
                continue
            if isinstance(step, Effective):
                effects += step.effects
                step = step.answer
            outcomes[at] = step  # type: ignore[assignment] # it neither computes nor parks
        if not going:
            return Effective(b"", effects)
        waiting = going
        answers = yield commands


def _refusal_among(replies: list[Reply] | None) -> StorageError | None:
    return next((reply for reply in replies or () if type(reply) is StorageError), None)
