"""Steps of an operation; calls of one command each as one operation, so that what a request costs is paid once."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.actors.request import Answerable, Compute, Operation, Outcome, Park, WithEffects
from coordinator.errors import CoordinatorError, StorageError
from coordinator.storage.connection import Command
from coordinator.storage.keys import ContextKey
from coordinator.supervision import report

__all__ = ["advance", "outcome_of", "together"]


def advance(
    operation: Operation, sent: object, address: ContextKey
) -> list[Command] | Compute | Park | WithEffects | Outcome:
    """Send an operation what it waits for. Returns its next step, or what it has ended with; never raises."""
    try:
        return operation.send(sent)
    except StopIteration as finished:
        ended: Outcome | WithEffects = finished.value
        return ended
    except Exception as error:
        return outcome_of(error, "an operation", context=address)


def together(answerables: Sequence[Answerable], address: ContextKey, outcomes: list[Outcome]) -> Operation:
    """These as one operation of one step. Their outcomes are appended to `outcomes`.

    It may be sent a StorageError in place of a reply: that is the outcome of the command which asked for it.
    """
    effects: list[bytes] = []
    replies = yield [command for command, _, _ in answerables]
    for (_, finish, asked), reply in zip(answerables, replies, strict=True):
        if type(reply) is StorageError:
            outcomes.append(reply)
            continue
        try:
            answer = finish(reply, asked)
        except Exception as error:
            outcomes.append(outcome_of(error, "an operation", context=address))
        else:
            if isinstance(answer, WithEffects):
                effects += answer.effects
                answer = answer.answer
            outcomes.append(answer)
    return WithEffects(b"", effects)


def outcome_of(error: Exception, what: str, **where: object) -> CoordinatorError:
    """The outcome of a call for which this was raised. A fault of ours is reported as one of `what`."""
    return error if isinstance(error, CoordinatorError) else report(what, error, **where)
