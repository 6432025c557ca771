"""Contexts that are being deleted: in slices, whoever has asked for it and whether anybody still waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog
from pydantic_core import to_json

from coordinator.actors.directory import CallSoon
from coordinator.actors.request import Operation, Outcome, Parking, Part, RawJson
from coordinator.engine.timers import CallIn
from coordinator.errors import Conflict, CoordinatorError
from coordinator.storage.functions import control, registration
from coordinator.storage.functions.results import Effects
from coordinator.storage.keys import GLOBAL, ContextKey, Keyspace, Layout

__all__ = ["Deletions"]

log = structlog.get_logger("coordinator.deletion")

RETRY_AFTER: Final = 1.0  # seconds after which a deletion that has failed goes on
RUNNERS_AT_ONCE: Final = 200  # whose tokens are deleted in one step


class _Deletion:
    """One that is under way here.

    Attributes:
        waiting: calls that wait for its end.
        outcome: of the last try; None while there is none.
        is_begun: there is something to be deleted, and some of it may be gone.
        only_goes_on: it was begun before; if it is at its end, what is there now is another context.
    """

    def __init__(self, *, only_goes_on: bool) -> None:
        self.only_goes_on = only_goes_on
        self.waiting: list[Parking] = []
        self.outcome: Outcome | None = None
        self.is_begun = False


class Deletions:
    """Those of one coordinator. What was begun is in the store, so that anybody can go on with it.

    Args:
        call_soon: carries out an operation of ours in a context; Directory.call_soon.
        call_in: calls a function later; Timers.call_in.
        apply_effects: acts on what a transition has set going.
    """

    def __init__(
        self,
        layout: Layout,
        call_soon: CallSoon,
        call_in: CallIn,
        apply_effects: Callable[[ContextKey, Effects], None],
    ) -> None:
        self._layout = layout
        self._call_soon = call_soon
        self._call_in = call_in
        self._apply_effects = apply_effects
        self._under_way: dict[int, _Deletion] = {}

    def delete(self, context: int) -> Operation:
        """Delete a context, and answer how many records that were. It goes on if nobody waits for it any more."""
        if context == 0 and self._layout.isolation == "index":
            raise Conflict(
                "context 0 is in the database of what belongs to no context, with the layout `index`: delete its "
                "flows, jobs, messages and runners one by one",
                context=0,
            )
        while True:
            deletion = self._under_way.get(context) or self._begin(context, only_goes_on=False)
            waiting = Parking()
            deletion.waiting.append(waiting)
            try:
                while deletion.outcome is None:
                    yield waiting.park()
            finally:
                deletion.waiting.remove(waiting)
            if isinstance(deletion.outcome, CoordinatorError):
                raise deletion.outcome
            if deletion.is_begun or not deletion.only_goes_on:
                return deletion.outcome

    def go_on(self, context: int) -> None:
        """Go on with the deletion of a context, if one was begun, unless that is being done."""
        if context not in self._under_way:
            self._begin(context, only_goes_on=True)

    def _begin(self, context: int, *, only_goes_on: bool) -> _Deletion:
        deletion = self._under_way[context] = _Deletion(only_goes_on=only_goes_on)
        self._try(context, deletion)
        return deletion

    def _try(self, context: int, deletion: _Deletion) -> None:
        def end(outcome: Outcome) -> None:
            del self._under_way[context]
            deletion.outcome = outcome
            for waiting in [*deletion.waiting]:
                waiting.wake()
            if not isinstance(outcome, CoordinatorError):
                if not deletion.is_begun:
                    return
                log.info("deleted a context", context=context)
            elif deletion.is_begun:
                log.warning("a context could not be deleted; trying again", context=context, error=outcome.data)
                self._call_in(RETRY_AFTER, lambda: self.go_on(context))

        self._call_soon(context, self._passes(context, deletion), end)

    def _passes(self, context: int, deletion: _Deletion) -> Operation:
        keys = self._layout.keyspace(context)
        begin = control.GOES_ON if deletion.only_goes_on else ""
        number, records = yield from self._pass(keys, context, begin, 1, deletion)
        if number:
            yield from self._forget_runners(keys, context)
            yield from self._in_global(self._forget(context))
            _, more = yield from self._pass(keys, context, number, 2, deletion)
            records = max(records, more)
            (is_another,) = yield [("EXISTS", keys.engine)]
            if is_another:  # somebody was quicker with all this, and it was created anew before we forgot it
                yield from self._in_global(self._register(context))
        return to_json({"deleted": records})

    def _pass(
        self, keys: Keyspace, context: int, number: str, passed: int, deletion: _Deletion
    ) -> Part[tuple[str, int]]:
        """One pass through what the context has. Returns the deletion's number, '' if there is nothing to be deleted,
        and how many records are gone."""
        records = 0
        while True:
            (reply,) = yield [control.context_delete(keys, context, number, passed)]
            found, effects = control.read_context_delete(reply)
            self._apply_effects(context, effects)
            if found is None:
                return "", 0
            deletion.is_begun = True
            number, records = found.number, max(records, found.records)
            if not found.has_more:
                return number, records

    def _forget_runners(self, keys: Keyspace, context: int) -> Part[None]:
        """Delete the tokens of the context's runners: a runner that gets the id of one must not be taken for it."""
        after = "-"
        while True:
            limits = ("BYLEX", "LIMIT", 0, RUNNERS_AT_ONCE)
            (entries,) = yield [("ZRANGE", keys.index_of("runner"), after, "+", *limits)]
            if not entries:
                return
            after = f"({entries[-1].decode()}"
            yield from self._in_global(self._forget_tokens(context, [int(entry) for entry in entries]))

    def _forget_tokens(self, context: int, runners: Sequence[int]) -> Operation:
        keys = self._layout.keyspace(GLOBAL)
        owners = [keys.tokens(f"runner:{context}:{id}") for id in runners]
        found = yield [("ZRANGE", owner, 0, -1) for owner in owners]
        for owner, ids in zip(owners, found, strict=True):
            if ids:
                yield [*(("DEL", keys.token(id.decode())) for id in ids), ("DEL", owner)]
        return b""

    def _forget(self, context: int) -> Operation:
        """The context is no longer listed."""
        yield [("ZREM", self._layout.keyspace(GLOBAL).contexts(), context)]
        return b""

    def _register(self, context: int) -> Operation:
        yield [registration.own(self._layout, context)]
        return b""

    def _in_global(self, operation: Operation) -> Part[RawJson]:
        """Carry out an operation in GLOBAL, and wait for its end. Raises what it does."""
        waiting = Parking()
        outcomes: list[Outcome] = []

        def then(outcome: Outcome) -> None:
            outcomes.append(outcome)
            waiting.wake()

        self._call_soon(GLOBAL, operation, then)
        while not outcomes:
            yield waiting.park()
        (outcome,) = outcomes
        if isinstance(outcome, CoordinatorError):
            raise outcome
        return outcome
