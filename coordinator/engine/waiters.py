"""Who waits in one context: runners for jobs, on a subscription or in job.take, and followers for events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coordinator.actors.request import Parking
from coordinator.engine.following import ContextSubscription, FlowSubscription
from coordinator.engine.places import Place
from coordinator.engine.sessions import Subscription
from coordinator.engine.supplying import RunnerSubscription
from coordinator.models.attempts import JobTakeParams
from coordinator.storage.functions.effects import Cancel, Silent
from coordinator.storage.functions.runners import Subscribed

__all__ = ["ANY_TYPE", "Waiter", "Waiters"]


ANY_TYPE: Final = ""
"""In place of a script type, when it is not known."""

POLLING: Final = "job.take"  # the session of attempts handed out on no connection; attempts.lua has it too


class Waiter(Parking):
    """A call of job.take that waits for a job; the runner as `take` wants it.

    Attributes:
        is_timed: a timer wakes it when its time is over.
        is_over: its context is deleted.
        place: what it has while it waits.
    """

    def __init__(self, params: JobTakeParams, topic: str) -> None:
        super().__init__()
        self.runner_id = params.runner_id
        self.runner_session = POLLING
        self.topic = topic
        self.lease = params.lease
        self.script_types = params.script_types
        self.is_timed = False
        self.is_over = False
        self.place: Place | None = None


class Waiters:
    """Those of one context."""

    def __init__(self) -> None:
        self.runners: dict[str, RunnerSubscription] = {}  # longest since woken first
        self.waiters: dict[Waiter, None] = {}
        self.flows: dict[int, dict[str, FlowSubscription]] = {}
        self.followers: dict[str, ContextSubscription] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.runners or self.waiters or self.flows or self.followers)

    def wake_runner(self, script_type: str, but: int | None = None) -> bool:
        """Wake one runner that found nothing, not the one whose id is `but`; it wakes the next unless it empties the
        queue. If there is none, one that is looking just now looks again: it may have looked before the job was there.
        Returns whether there was one."""
        if self.wake_idle(script_type, but):
            return True
        for runner in self.runners.values():
            if script_type in runner.script_types and runner.runner_id != but and not runner.is_parked:
                runner.wake()
                return True
        for waiter in self.waiters:
            if script_type in waiter.script_types and waiter.runner_id != but:
                waiter.wake()
                return True
        return False

    def wake_runners(self, script_types: Iterable[str]) -> None:
        """There may be jobs of these types for somebody else."""
        for script_type in script_types:
            self.wake_runner(script_type)

    def wake_idle(self, script_type: str, but: int | None = None) -> bool:
        """Wake one runner that found nothing and waits, not the one whose id is `but`. Returns whether there was
        one."""
        for id, runner in self.runners.items():
            if script_type in runner.script_types and runner.runner_id != but and runner.is_idle:
                self.runners[id] = self.runners.pop(id)
                runner.wake()
                return True
        for waiter in self.waiters:
            if script_type in waiter.script_types and waiter.runner_id != but and waiter.is_parked:
                waiter.wake()
                return True
        return False

    def wake_idle_of_each_type(self) -> None:
        """Wake as many of those that found nothing and wait as it takes to ask for jobs of all their types."""
        asked: set[str] = set()
        for id, runner in [*self.runners.items()]:
            if runner.is_idle and not asked.issuperset(runner.script_types):
                asked.update(runner.script_types)
                self.runners[id] = self.runners.pop(id)
                runner.wake()
        for waiter in self.waiters:
            if waiter.is_parked and not asked.issuperset(waiter.script_types):
                asked.update(waiter.script_types)
                waiter.wake()

    def there(self) -> dict[str, set[int]]:
        """Script types → the runners that are there to take jobs of them."""
        there: dict[str, set[int]] = {}
        subscribed = [runner for runner in self.runners.values() if not runner.is_silent]
        waiting: list[RunnerSubscription | Waiter] = [*subscribed, *self.waiters]
        for runner in waiting:
            for script_type in runner.script_types:
                there.setdefault(script_type, set()).add(runner.runner_id)
        return there

    def subscribed(self) -> list[Subscribed]:
        """The runners that have subscribed, each once."""
        by_id: dict[int, Subscribed] = {}
        for runner in self.runners.values():
            before = by_id.get(runner.runner_id)
            since = runner.since if before is None else min(before.since, runner.since)
            capacity = runner.capacity + (0 if before is None else before.capacity)
            by_id[runner.runner_id] = Subscribed(runner.runner_id, since, capacity)
        return [*by_id.values()]

    def wake_followers(self, flow_id: int) -> None:
        """There may be new events of a flow."""
        for subscription in [*self.flows.get(flow_id, {}).values()]:
            subscription.wake()

    def wake_feed(self) -> None:
        """There may be new events of the context."""
        for subscription in [*self.followers.values()]:
            subscription.wake()

    def silence(self, silent: Silent) -> None:
        """A runner let a lease lapse."""
        for runner in [*self.runners.values()]:
            if runner.runner_id == silent.runner_id:
                runner.silence(silent)

    def cancel(self, cancel: Cancel) -> None:
        """Tell a runner to stop an attempt."""
        for runner in [*self.runners.values()]:
            if runner.runner_id == cancel.runner_id:
                runner.cancel(cancel)

    def wake_all(self) -> None:
        """There may be something for anybody."""
        for waiting in [*self.runners.values(), *self.waiters]:
            waiting.wake()
        for flow_id in [*self.flows]:
            self.wake_followers(flow_id)
        self.wake_feed()

    def end_all(self) -> None:
        """The context is deleted: nobody waits there any more."""
        for waiter in [*self.waiters]:
            waiter.is_over = True
            waiter.wake()
        followers = [follower for of_flow in self.flows.values() for follower in of_flow.values()]
        for subscription in [*self.runners.values(), *followers, *self.followers.values()]:
            if not subscription.is_closed:
                subscription.context_deleted()

    def forget(self, subscription: Subscription) -> None:
        """Drop a subscription that has ended."""
        self.runners.pop(subscription.id, None)
        self.followers.pop(subscription.id, None)
        if isinstance(subscription, FlowSubscription):
            followers = self.flows.get(subscription.flow_id, {})
            followers.pop(subscription.id, None)
            if not followers:
                self.flows.pop(subscription.flow_id, None)
