"""Says in the store which runners are connected to us, so that whoever waits for one can ask any coordinator.

That is kept in GLOBAL for all contexts, by connection, and is for people. Which runners may be handed jobs each context
knows for itself, see `renewals`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import trio

from coordinator.actors.directory import CallSoon
from coordinator.actors.request import Operation, WithEffects
from coordinator.engine.supplying import RunnerSubscription
from coordinator.engine.waiters import Waiters
from coordinator.storage.functions import runners
from coordinator.storage.functions.results import read_effects
from coordinator.storage.functions.runners import RunnerConnection
from coordinator.storage.keys import GLOBAL, ContextKey, Layout

__all__ = ["ConnectedRunners"]

COUNTS_FOR: Final = 30.0  # seconds without being renewed: of a coordinator that died, or since the last job.take
RENEW_EVERY: Final = 10.0
CHUNK: Final = 500  # connections renewed in one step


class ConnectedRunners:
    """Those of one coordinator.

    Args:
        call_soon: carries out an operation of ours in a context; Directory.call_soon.
    """

    def __init__(self, layout: Layout, call_soon: CallSoon) -> None:
        self._keys = layout.keyspace(GLOBAL)
        self._call_soon = call_soon
        self._renewed_at = -RENEW_EVERY
        self._polled: dict[RunnerConnection, float] = {}  # by job.take → when that was last said

    def came(self, runner: RunnerSubscription) -> None:
        """A runner has subscribed."""
        self._say(_connections(runner))

    def left(self, runner: RunnerSubscription) -> None:
        """Its subscription has ended."""

        def operation() -> Operation:
            (reply,) = yield [runners.runners_gone(self._keys, _connections(runner))]
            return WithEffects(b"", read_effects(reply))

        self._call_soon(GLOBAL, operation(), lambda outcome: None)

    def polled(self, context_key: ContextKey, runner_id: int, script_types: Iterable[str]) -> None:
        """A runner asks for jobs by job.take. Most runners do that all the time, so it is not said each time."""
        now = trio.current_time()
        due = []
        for script_type in script_types:
            connection = RunnerConnection(context_key or 0, script_type, f"{runner_id} take")
            if self._polled.get(connection, -RENEW_EVERY) <= now - RENEW_EVERY:
                self._polled[connection] = now
                due.append(connection)
        if due:
            self._say(due)

    def renew(self, contexts: Mapping[ContextKey, Waiters]) -> None:
        """Say of all that are there that they still are, if that was not done lately."""
        now = trio.current_time()
        if now < self._renewed_at + RENEW_EVERY:
            return
        self._renewed_at = now
        for connection in [connection for connection, at in self._polled.items() if at <= now - RENEW_EVERY]:
            del self._polled[connection]
        here: list[RunnerConnection] = []
        for context_key, context in contexts.items():
            for runner in context.runners.values():
                here += _connections(runner)
            for waiter in context.waiters:
                self.polled(context_key, waiter.runner_id, waiter.script_types)
        if here:
            self._say(here)

    def _say(self, connections: Sequence[RunnerConnection]) -> None:
        def operation() -> Operation:
            for start in range(0, len(connections), CHUNK):
                yield [runners.runners_connected(self._keys, COUNTS_FOR, connections[start : start + CHUNK])]
            return b""

        self._call_soon(GLOBAL, operation(), lambda outcome: None)


def _connections(runner: RunnerSubscription) -> list[RunnerConnection]:
    context = runner.keys.context_key or 0
    return [
        RunnerConnection(context, script_type, f"{runner.runner_id} {runner.id}") for script_type in runner.script_types
    ]
