"""Says in the store which runners are connected to us, so that whoever waits for one can ask any coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import trio

from coordinator.actors.request import Operation, WithEffects
from coordinator.engine.subscriptions import RunnerSubscription
from coordinator.engine.waiters import Waiters
from coordinator.storage import functions
from coordinator.storage.functions import Connection
from coordinator.storage.keys import ContextKey, Layout

__all__ = ["ConnectedRunners"]

COUNTS_FOR: Final = 30.0  # seconds without being renewed: of a coordinator that died, or since the last job.take
RENEW_EVERY: Final = 10.0
CHUNK: Final = 500  # connections renewed in one step


class ConnectedRunners:
    """Those of one coordinator.

    Args:
        ask: puts an operation of ours into a context's mailbox, and calls its last argument with the outcome.
    """

    def __init__(self, layout: Layout, ask: Callable[[ContextKey, Operation, Callable[[Any], None]], object]) -> None:
        self._layout = layout
        self._ask = ask
        self._renewed_at = -RENEW_EVERY
        self._polled: dict[tuple[ContextKey, Connection], float] = {}  # by job.take → when that was last said

    def came(self, runner: RunnerSubscription) -> None:
        """A runner has subscribed."""
        self._say(runner.keys.address, _connections(runner))

    def left(self, runner: RunnerSubscription) -> None:
        """Its subscription has ended."""
        (keys, gone) = (runner.keys, _connections(runner))

        def operation() -> Operation:
            (reply,) = yield [functions.runners_gone(keys, gone)]
            return WithEffects(b"", functions.read_effects(reply))

        self._ask(keys.address, operation(), lambda outcome: None)

    def polled(self, address: ContextKey, runner_id: int, script_types: Iterable[str]) -> None:
        """A runner asks for jobs by job.take. Most runners do that all the time, so it is not said each time."""
        now = trio.current_time()
        connections = [Connection(script_type, f"{runner_id} take") for script_type in script_types]
        due = [each for each in connections if self._polled.get((address, each), -RENEW_EVERY) <= now - RENEW_EVERY]
        if due:
            self._polled.update(((address, each), now) for each in due)
            self._say(address, due)

    def renew(self, contexts: Mapping[ContextKey, Waiters]) -> None:
        """Say of all that are there that they still are, if that was not done lately."""
        now = trio.current_time()
        if now < self._renewed_at + RENEW_EVERY:
            return
        self._renewed_at = now
        for key in [key for key, at in self._polled.items() if at <= now - RENEW_EVERY]:
            del self._polled[key]
        for address, context in contexts.items():
            here = [each for runner in context.runners.values() for each in _connections(runner)]
            if here:
                self._say(address, here)
            for waiter in context.waiters:
                self.polled(address, waiter.runner_id, waiter.script_types)

    def _say(self, address: ContextKey, connections: Sequence[Connection]) -> None:
        keys = self._layout.keyspace(address)

        def operation() -> Operation:
            for start in range(0, len(connections), CHUNK):
                chunk = connections[start : start + CHUNK]
                yield [functions.runners_connected(keys, COUNTS_FOR, chunk)]
            return b""

        self._ask(address, operation(), lambda outcome: None)


def _connections(runner: RunnerSubscription) -> list[Connection]:
    return [Connection(script_type, f"{runner.runner_id} {runner.id}") for script_type in runner.script_types]
