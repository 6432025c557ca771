"""How the operation of a call is begun, as far as it goes before the call is in a mailbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from coordinator.actors.progress import advance, outcome_of
from coordinator.actors.request import Compute, Operation, Outcome, RawJson
from coordinator.errors import CoordinatorError
from coordinator.rpc.methods.method import Method
from coordinator.storage.keys import Command, ContextKey

__all__ = ["NOT_BEGUN", "OUTCOME", "begun", "until_first_commands"]

NOT_BEGUN: Final = "a call could not be begun"
OUTCOME: Final = (bytes, CoordinatorError)  # no union: that would be made anew for each call


def begun(method: Method, begin: Callable[..., Operation | RawJson], *given: Any) -> Operation | Outcome:
    """A call's operation, or its outcome if that is known at once."""
    try:
        return begin(*given)
    except Exception as error:
        return outcome_of(error, NOT_BEGUN, method=method.name)


async def until_first_commands(
    operation: Operation, context: ContextKey
) -> tuple[Operation | Outcome, list[Command] | None]:
    """Advance an operation that writes to its first commands. Returns both, or the outcome if it has none.

    What has to be computed for them is computed before the next call is taken, which may need what this one writes.
    """
    step = advance(operation, None, context)
    while isinstance(step, Compute):
        try:
            computed = await trio.to_thread.run_sync(step.run)
        except Exception as error:
            operation.close()
            return outcome_of(error, "a computation", context=context), None
        step = advance(operation, computed, context)
    if isinstance(step, OUTCOME):
        return step, None
    assert isinstance(step, list), "nothing is parked, and has effects, before it has asked the store"
    return operation, step
