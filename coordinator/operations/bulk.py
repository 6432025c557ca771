"""What is done to many flows at once: to each that a filter means, one after the other, so that others get on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import to_json

from coordinator.actors.request import First, Further, Operation, Part, RawJson, WithEffects
from coordinator.errors import Conflict, DagCycleDetected, DagMissingDependency, NotFound
from coordinator.models.control import SHOWN, FlowsCancelParams, FlowsParams
from coordinator.models.flows import FlowCancelParams, FlowParams
from coordinator.operations.flows import cancel_flow, retry_flow
from coordinator.operations.listing import bad_cursor, delete_flow, is_number
from coordinator.operations.selecting import look_on, sought
from coordinator.storage.connection import Command
from coordinator.storage.keys import Keyspace

__all__ = ["cancel_flows", "delete_flows", "retry_flows"]

WORKED_FOR: Final = 5.0  # seconds of one call, but at least for one slice
AT_ONCE: Final = 50  # flows found in one step
COUNTED_AT_ONCE: Final = 1_000  # the same, if nothing is done to them
_REFUSALS: Final = (Conflict, DagCycleDetected, DagMissingDependency)

CANCELLED: Final = ("Dispatched", "Started")
RETRIED: Final = ("Error",)
DELETED: Final = ("Dispatched", "Finished", "Error")
"""The statuses of flows to which it applies."""


def cancel_flows(keys: Keyspace, params: FlowsCancelParams) -> Operation:
    def one(id: int) -> Operation:
        return cancel_flow(keys, FlowCancelParams(context_id=params.context_id, id=id, reason=params.reason))

    return (yield from _each(keys, params, CANCELLED, one))


def retry_flows(keys: Keyspace, params: FlowsParams) -> Operation:
    def one(id: int) -> Operation:
        return retry_flow(keys, FlowParams(context_id=params.context_id, id=id))

    return (yield from _each(keys, params, RETRIED, one))


def delete_flows(keys: Keyspace, params: FlowsParams) -> Operation:
    def one(id: int) -> Operation:
        return delete_flow(keys, FlowParams(context_id=params.context_id, id=id))

    return (yield from _each(keys, params, DELETED, one))


class _Outcome:
    """What was done so far.

    Attributes:
        effects: of what was done last, on which nobody has acted yet.
    """

    def __init__(self) -> None:
        self.matched = self.done = 0
        self.ids: list[int] = []
        self.refused: list[dict[str, Any]] = []
        self.effects: list[bytes] = []

    def answer(self, dry_run: bool, cursor: str) -> WithEffects:
        answer: dict[str, Any] = {"dry_run": dry_run, "matched": self.matched, "done": self.done}
        answer |= {"ids": self.ids, "refused": self.refused}
        if cursor:
            answer["cursor"] = cursor
        return WithEffects(to_json(answer), self.effects)

    def carry_out(self, operation: Operation) -> Part[None]:
        """Do what an operation does; act on the effects of the one before with its first step."""
        sent: Any = None
        try:
            while True:
                try:
                    step = operation.send(sent)
                except StopIteration as finished:
                    answer: RawJson | WithEffects = finished.value
                    if isinstance(answer, WithEffects):
                        self.effects += answer.effects
                    return
                if isinstance(step, list) and self.effects:
                    more = step.effects if isinstance(step, Further) else ()
                    step, self.effects = Further(step, [*self.effects, *more]), []
                sent = yield step
        finally:
            operation.close()


def _each(keys: Keyspace, params: FlowsParams, statuses: tuple[str, ...], one: Callable[[int], Operation]) -> Operation:
    """Do something to each flow that is meant and has one of these statuses."""
    cursor = params.cursor
    if cursor and not is_number(cursor):
        raise bad_cursor()
    outcome = _Outcome()
    given = params.filter
    meant = [
        status
        for status in statuses
        if given.status in (None, status) and (given.statuses is None or status in given.statuses)
    ]
    if not meant:
        return outcome.answer(params.dry_run, "")
    wanted = sought("flow", given.model_copy(update={"status": None, "statuses": meant}))
    ends = time.monotonic() + WORKED_FOR
    while True:
        enough = COUNTED_AT_ONCE if params.dry_run else min(AT_ONCE, params.limit - outcome.matched)
        found = yield from _look(look_on(keys, wanted, cursor, enough), outcome)
        for place in found.places:
            if not params.dry_run and (outcome.matched >= params.limit or time.monotonic() >= ends):
                return outcome.answer(params.dry_run, cursor)
            yield from _do(int(place.entry), params.dry_run, one, outcome)
            cursor = place.entry
        cursor = found.last
        if not cursor or time.monotonic() >= ends or (not params.dry_run and outcome.matched >= params.limit):
            return outcome.answer(params.dry_run, cursor)


def _look(looking: Any, outcome: _Outcome) -> Part[Any]:
    """Look for flows, and act on the effects of what was done last meanwhile."""
    step: list[Command] = First(next(looking))  # what is sent behind it waits for its end
    if outcome.effects:
        step, outcome.effects = Further(step, outcome.effects), []
    try:
        looking.send((yield step))
    except StopIteration as finished:
        return finished.value
    raise AssertionError("a slice is looked at in one step")


def _do(id: int, dry_run: bool, one: Callable[[int], Operation], outcome: _Outcome) -> Part[None]:
    outcome.matched += 1
    if len(outcome.ids) < SHOWN:
        outcome.ids.append(id)
    if dry_run:
        return
    try:
        yield from outcome.carry_out(one(id))
        outcome.done += 1
    except NotFound:  # somebody else has deleted it meanwhile, or a job of it
        if len(outcome.refused) < SHOWN:
            outcome.refused.append({"id": id, "detail": "it, or a job of it, is not there any more"})
    except _REFUSALS as error:
        if len(outcome.refused) < SHOWN:
            outcome.refused.append({"id": id, "detail": str(error.data["detail"])})
