"""What lasts is looked at again, however many contexts it is in and however little time there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

import trio

from coordinator.engine.following import FlowSubscription
from coordinator.engine.sessions import Subscription
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.rights import Role

CONTEXTS: Final = 10
A_LOOK: Final = 1.0  # seconds, for one context
AT_ONCE: Final = 3.5  # seconds, for all


class Slow(Access):
    """A client of a store that takes its time.

    Attributes:
        left: the contexts in which it is nobody any more.
    """

    left: frozenset[int] = frozenset()

    async def role_in(self, context: int) -> Role:
        await trio.sleep(A_LOOK)
        return Role.STRANGER if context in self.left else Role.READER


class Following:
    """A connection with a subscription in each context."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        for context in range(CONTEXTS):
            subscription = object.__new__(FlowSubscription)
            subscription.sees_logs = False
            subscription.keys = SimpleNamespace(context_key=context)  # type: ignore[assignment]
            self.subscriptions[f"in {context}"] = subscription
        self.ended: list[int] = []

    def check_room(self, principal: Principal) -> None:
        pass

    def log_out(self, reason: str) -> None:
        raise AssertionError(reason)

    def end_subscription(self, subscription: Subscription, reason: str) -> None:
        context = subscription.keys.context_key
        assert context is not None
        self.ended.append(context)
        del self.subscriptions[f"in {context}"]


def client(following: Following) -> Slow:
    gate: Any = SimpleNamespace(rules=SimpleNamespace(readers_see_logs=True))
    access = Slow(gate, conversation=following)
    access.become(Principal("actor", 1))
    return access


async def look(access: Access, times: int) -> None:
    for _ in range(times):
        with trio.move_on_after(AT_ONCE):
            await access.end_subscriptions()


async def test_one_at_the_end_is_ended_though_all_before_are_looked_at_again(
    autojump: None,
) -> None:
    following = Following()
    access = client(following)
    access.left = frozenset({CONTEXTS - 1})

    await look(access, 4)

    assert following.ended == [CONTEXTS - 1]
