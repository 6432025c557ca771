"""Calls of job.take: jobs for runners that have no WebSocket, which wait here while there are none."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final

import trio

from coordinator.actors.directory import CallSoon
from coordinator.actors.request import Operation, WithEffects
from coordinator.budget import Budget
from coordinator.engine.assignments import TAKE_BYTES, take
from coordinator.engine.contexts import Contexts
from coordinator.engine.places import Places
from coordinator.engine.timers import CallIn
from coordinator.engine.waiters import Waiter
from coordinator.errors import NotFound
from coordinator.models.attempts import JobTakeParams
from coordinator.storage.functions import attempts
from coordinator.storage.functions.results import Effects, read_effects
from coordinator.storage.keys import ContextKey, Keyspace

__all__ = ["Takes"]

POLLS_WITHIN: Final = 30.0  # seconds that a runner counts as there since its last job.take


class Takes:
    """Carries out the calls that come to one coordinator.

    Args:
        call_soon: carries out an operation of ours in a context; Directory.call_soon.
        call_in: calls a function later; Timers.call_in.
        apply_effects: acts on what a transition has set going.
        limit: of those that wait for jobs.
    """

    def __init__(
        self,
        contexts: Contexts,
        call_soon: CallSoon,
        call_in: CallIn,
        apply_effects: Callable[[ContextKey, Effects], None],
        *,
        limit: int,
    ) -> None:
        self._contexts = contexts
        self._call_soon = call_soon
        self._call_in = call_in
        self._apply_effects = apply_effects
        self._places = Places(limit)
        self._under_way: set[Waiter] = set()
        self._is_stopping = False

    def stop(self) -> None:
        """Answer the calls that wait for a job, hand out no more jobs."""
        self._is_stopping = True
        for waiter in [*self._under_way]:
            waiter.wake()

    def take_job(self, budget: Budget, keys: Keyspace, params: JobTakeParams, address: str = "") -> Operation:
        """Jobs for a runner that has no WebSocket; waits for one if there is none.

        Args:
            address: where the runner is, if that is not where its connection is from.
        """
        (topic,) = yield [("HGET", keys.runner(params.runner_id), "topic")]
        if topic is None:
            raise NotFound("runner", context_id=params.context_id, id=params.runner_id)
        ends = trio.current_time() + params.wait
        waiter = Waiter(params, topic.decode())
        # With the runner in it, for what a take has brought is nobody's who only knows, or chances on, its take_id.
        holder = f"{params.runner_id}:{params.take_id or uuid.uuid4().hex}"
        is_taking = False
        self._under_way.add(waiter)
        try:
            while True:
                waiter.look()
                if waiter.is_over:
                    raise NotFound("context", id=params.context_id)
                with budget.reserve(TAKE_BYTES, waiter.wake) as reservation:
                    if not reservation.is_granted:
                        self._stop_waiting(keys.context_key, waiter)  # a job it is woken for would be lost on it
                    while not reservation.is_granted:
                        if trio.current_time() >= ends or self._is_stopping:
                            return b'{"jobs":[]}'
                        self._wake_at(waiter, ends)
                        yield waiter.park()
                    is_taking = True
                    is_all, assignments, effects = yield from take(
                        keys, waiter, count=params.count, holder=holder, number="1", there_for=POLLS_WITHIN
                    )
                    is_taking = False
                self._apply_effects(keys.context_key, effects)
                if assignments and not (is_all and len(assignments) < params.count):
                    self._contexts.of(keys.context_key).wake_runners(params.script_types)
                if assignments or trio.current_time() >= ends or self._is_stopping:
                    jobs = b",".join(b"{" + members for _, members in assignments)
                    return b'{"jobs":[%b]}' % jobs
                self._wait(keys.context_key, waiter, budget, address)
                self._wake_at(waiter, ends)
                yield waiter.park()
        except GeneratorExit:
            # Nobody waits for the answer any more, so what was taken, or what we were woken for, is somebody else's.
            if is_taking and not self._is_stopping:
                self._call_soon(keys.context_key, _give_back(keys, holder), lambda outcome: None)
            raise
        finally:
            self._under_way.discard(waiter)
            self._stop_waiting(keys.context_key, waiter)

    def _wake_at(self, waiter: Waiter, ends: float) -> None:
        """Wake the call when its time is over; asked again it does nothing. A call answered at once leaves no timer."""
        if not waiter.is_timed:
            waiter.is_timed = True
            self._call_in(ends - trio.current_time(), waiter.wake)

    def _wait(self, context_key: ContextKey, waiter: Waiter, client: Budget, address: str) -> None:
        """The call waits for jobs from now on, if it did not before. Raises Overloaded."""
        if waiter in self._contexts.of(context_key).waiters:
            return
        waiter.place = self._places.take(client, context_key, waiter.runner_id, address)
        self._contexts.listened_to(context_key).waiters[waiter] = None

    def _stop_waiting(self, context_key: ContextKey, waiter: Waiter) -> None:
        """What the call may have been woken for is somebody else's."""
        context = self._contexts.of(context_key)
        if waiter in context.waiters:
            del context.waiters[waiter]
            if waiter.place is not None:
                waiter.place.give_back()
                waiter.place = None
            context.wake_runners(waiter.script_types)
            self._contexts.drop_if_unused(context_key)


def _give_back(keys: Keyspace, holder: str) -> Operation:
    (reply,) = yield [attempts.untake(keys, holder, "1")]
    return WithEffects(b"", read_effects(reply))
