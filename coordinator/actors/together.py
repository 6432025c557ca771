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
            try:
                if has_refusal:
                    _raise_refusal(operation, replies)
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
                commands += step
                going.append((at, operation, len(step)))
        if not going:
            return Effective(b"", effects)
        waiting = going
        answers = yield commands


def _raise_refusal(operation: Operation, replies: list[Reply] | None) -> None:
    for reply in replies or ():
        if type(reply) is StorageError:
            operation.close()
            raise reply
