"""A runner's subscription, which keeps it supplied with jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from coordinator.actors.request import Operation
from coordinator.engine.assignments import TAKE_BYTES, take
from coordinator.engine.sessions import Holder, Session
from coordinator.storage.functions import attempts
from coordinator.storage.functions.effects import Cancel, Silent
from coordinator.storage.functions.results import Effects, read_effects
from coordinator.storage.keys import Keyspace

__all__ = ["RunnerSubscription"]

TAKE_AT_LEAST: Final = 16  # jobs; half of a larger capacity, so that a runner has one half while the other is under way


class RunnerSubscription(Holder):
    """Keeps a runner supplied with at most `capacity` unfinished attempts.

    Attributes:
        since: when it has subscribed (ms).
        is_hungry: parked because the queues were empty.
    """

    kind = "runner"

    def __init__(
        self,
        session: Session,
        keys: Keyspace,
        *,
        runner_id: int,
        topic: str,
        runner_session: str,
        script_types: Iterable[str],
        capacity: int,
        since: int,
        lease: float,
        in_batches: bool,
        took: Callable[[RunnerSubscription, Effects, bool], None],
    ) -> None:
        super().__init__(session, keys, lease=lease, in_batches=in_batches)
        self.runner_id = runner_id
        self.topic = topic
        self.runner_session = runner_session
        self.script_types = list(dict.fromkeys(script_types))
        self.capacity = capacity
        self.since = since
        self.is_hungry = False
        self._took = took
        self._takes = 0
        self._early: list[bytes] = []  # cancels from before it has begun, of what it held already

    def begin(self) -> None:
        super().begin()
        early, self._early = self._early, []
        if early and not self.is_closed:
            self.notify(early)

    def serve(self) -> Operation:
        while not self.is_closed:
            self.look()
            free = self.capacity - len(self.held)
            count = min(free, max(TAKE_AT_LEAST, self.capacity // 2))
            if self.is_silent:
                self._took(self, (), False)  # it may have been woken for a job
                while self.is_silent and not self.is_closed:
                    yield self.park()
                    self.look()
                continue
            if free <= 0 or self.session.is_congested:
                yield self.park()
                continue
            with self.session.budget.reserve(TAKE_BYTES, self.wake) as reservation:
                while not (reservation.is_granted or self.is_closed):
                    yield self.park()
                if self.is_closed:
                    break
                is_all, assignments, effects = yield from take(
                    self.keys, self, count=count, holder=self.id, number=str(self._takes)
                )
                if assignments and self.is_closed:
                    (reply,) = yield [attempts.untake(self.keys, self.id, str(self._takes))]
                    self._took(self, [*effects, *read_effects(reply)], True)
                    break
                self._takes += 1
                until = trio.current_time() + self.lease
                self.held.update((token, until) for token, _ in assignments)
                if assignments:
                    head = b'{"jsonrpc":"2.0","method":"runner.job","params":{"subscription":"%b",' % self.id.encode()
                    notifications = [b"%b%b}" % (head, members) for _, members in assignments]
                    self.session.notify(notifications, in_batches=self.in_batches, is_last=True)
            # Beginning with another type each time, none of them can starve the others.
            self.script_types.append(self.script_types.pop(0))
            is_empty = is_all and len(assignments) < count
            del assignments  # nobody needs them while we are parked
            self._took(self, effects, is_empty)
            if is_empty and not self.is_closed:
                self.is_hungry = True
                yield self.park()
                self.is_hungry = False
        return b""

    @property
    def is_idle(self) -> bool:
        """It found nothing and waits, and would have room for a job."""
        return self.is_hungry and self.is_parked and not self.session.is_congested

    def silence(self, silent: Silent) -> None:
        """If it was this one that let a lease lapse, hand it nothing until something is heard of it."""
        if silent.token in self.held and not self.is_silent and not self.is_closed:
            self.is_silent, self.is_hungry = True, False
            self.session.silent.append(self)
            self.wake()

    def cancel(self, cancel: Cancel) -> None:
        """Tell the runner to stop an attempt, if it has it."""
        if self.held.pop(cancel.token, None) is None:
            return
        _, caller_id, job_id, token, reason = cancel
        notification = (
            b'{"jsonrpc":"2.0","method":"runner.cancel","params":{"subscription":"%b","context_id":%d,'
            b'"caller_id":%d,"id":%d,"token":"%b","reason":%b}}'
            % (self.id.encode(), self.keys.context_key or 0, caller_id, job_id, token.encode(), reason)
        )
        if self.has_begun:
            self.notify([notification])
        else:
            self._early.append(notification)
        self.wake()
