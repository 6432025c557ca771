"""Who waits in one context: runners for jobs, on a subscription or in job.take, and followers of flows for events."""

from __future__ import annotations

import math

from coordinator.actors.request import Parking
from coordinator.engine.places import Place
from coordinator.engine.subscriptions import FlowSubscription, RunnerSubscription, Subscription
from coordinator.models.execution import JobTakeParams
from coordinator.storage.functions import Cancel

__all__ = ["Waiter", "Waiters"]


class Waiter(Parking):
    """A call of job.take that waits for a job; the runner as `take` wants it.

    Attributes:
        is_timed: a timer wakes it when its time is over.
        place: what it has while it waits.
    """

    def __init__(self, params: JobTakeParams, topic: str) -> None:
        super().__init__()
        self.runner_id = params.runner_id
        self.runner_session = ""
        self.topic = topic
        self.lease = params.lease
        self.script_types = params.script_types
        self.is_timed = False
        self.place: Place | None = None


class Waiters:
    """Those of one context.

    Attributes:
        due: when the context's next timer is due, on trio's clock.
        is_ticking: its timers are being looked at.
    """

    def __init__(self) -> None:
        self.runners: dict[str, RunnerSubscription] = {}  # longest since woken first
        self.waiters: dict[Waiter, None] = {}
        self.flows: dict[int, dict[str, FlowSubscription]] = {}
        self.due = math.inf
        self.is_ticking = False

    @property
    def is_empty(self) -> bool:
        return not (self.runners or self.waiters or self.flows)

    def wake_runner(self, script_type: str) -> None:
        """Wake one runner that found nothing; it wakes the next unless it empties the queue. If there is none, one that
        is looking just now looks again: it may have looked before the job was there."""
        looking: Parking | None = None
        for id, runner in self.runners.items():
            if script_type in runner.script_types:
                if runner.is_hungry and runner.is_parked and not runner.session.is_congested:
                    self.runners[id] = self.runners.pop(id)
                    runner.wake()
                    return
                if not runner.is_parked:
                    looking = looking or runner
        for waiter in self.waiters:
            if script_type in waiter.script_types:
                if waiter.is_parked:
                    waiter.wake()
                    return
                looking = looking or waiter
        if looking is not None:
            looking.wake()

    def wake_followers(self, flow_id: int) -> None:
        """There may be new events of a flow."""
        for subscription in [*self.flows.get(flow_id, {}).values()]:
            subscription.wake()

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

    def forget(self, subscription: Subscription) -> None:
        """Drop a subscription that has ended."""
        self.runners.pop(subscription.id, None)
        if isinstance(subscription, FlowSubscription):
            followers = self.flows.get(subscription.flow_id, {})
            followers.pop(subscription.id, None)
            if not followers:
                self.flows.pop(subscription.flow_id, None)
