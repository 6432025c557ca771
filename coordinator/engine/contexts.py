"""Those who wait, in each context in which anybody does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from coordinator.engine.pubsub import PubSub
from coordinator.engine.supplying import RunnerSubscription
from coordinator.engine.waiters import ANY_TYPE, Waiters
from coordinator.storage.keys import ContextKey

__all__ = ["Contexts"]

_NOBODY: Final = Waiters()


class Contexts:
    """Their Pub/Sub messages come as long as somebody waits there.

    Attributes:
        by_key: those who wait, by context; nothing of one in which nobody does.
    """

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self.by_key: dict[ContextKey, Waiters] = {}

    @property
    def subscriptions(self) -> int:
        """Subscriptions open."""
        return sum(
            len(context.runners) + sum(map(len, context.flows.values())) + len(context.followers)
            for context in self.by_key.values()
        )

    def runners(self) -> Iterator[RunnerSubscription]:
        """The runners that are connected to us, once for each context they take jobs of."""
        return (runner for context in self.by_key.values() for runner in context.runners.values())

    def of(self, context_key: ContextKey) -> Waiters:
        """Those who wait in a context, to be woken or told; nobody is added to them."""
        return self.by_key.get(context_key, _NOBODY)

    def expect_job(self, context_key: ContextKey, script_type: str) -> None:
        """A call that is in the context's mailbox may queue a job of this type, or ANY_TYPE. Whoever is next to be
        woken when it has asks right behind it, in the same round: so the job need not wait for another one. Never
        blocks."""
        context = self.by_key.get(context_key)
        if context is not None and script_type == ANY_TYPE:
            context.wake_idle_of_each_type()
        elif context is not None:
            context.wake_idle(script_type)

    def listened_to(self, context_key: ContextKey) -> Waiters:
        """Those of a context, for somebody to be added; its Pub/Sub messages will come, and once they do everybody in
        it looks once more."""
        self._pubsub.listen(context_key)
        return self.by_key.setdefault(context_key, Waiters())

    def drop_if_unused(self, context_key: ContextKey) -> None:
        """Somebody waits there no longer."""
        if context_key in self.by_key and self.by_key[context_key].is_empty:
            self._pubsub.ignore(context_key)
            del self.by_key[context_key]
