"""Calls as their callers see them: what lines up in the ledger, and waits for its outcome.

A call is no task and has no timer: its caller is rescheduled by whoever learns the outcome, and one task watches the
earliest deadline of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import trio
from outcome import Value

from coordinator.client.conversation import Conversation, Outcome, outcome_of, result_of
from coordinator.client.ledger import Call, Finish, encode

__all__ = ["Calls"]


class Calls(Conversation):
    """The half of the client whose callers wait."""

    _alarm: trio.CancelScope
    """Around the sleep until the earliest deadline."""

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        timeout: float | None = None,
        resend: bool = True,
        alone: bool = False,
        on_result: Callable[[Any], None] | None = None,
    ) -> Any:
        """Call, and return the result as plain Python objects.

        What is called in the same moment by many tasks goes to the server as one batch. Cancelled, it forgets the
        reply, but the call may still be carried out; so `with trio.fail_after(…)` around it works as everywhere.

        Args:
            params: anything pydantic can write as a JSON object or array; of models only the members that were set.
            timeout: seconds, the client's own by default; math.inf for none.
            resend: whether it may be sent again if the connection is lost before the answer, as every method of the
                API may: with false that raises ConnectionLost.
            alone: never in one batch with others, for a call that is slow by intention: replies to a batch come
                together.
            on_result: given the result before any later message from the server is looked at.

        Raises:
            RpcError: it was answered with an error; the subclass says which.
            NoReply: there was no answer in time. It is a trio.TooSlowError.
            CallTooLarge, ConnectionLost, CannotConnect: see there.
            ClientClosed: the client has been closed.
        """
        task = trio.lowlevel.current_task()

        def finish(outcome: Outcome) -> None:
            if on_result is not None and type(outcome) is dict and "result" in outcome:
                on_result(outcome["result"])
            trio.lowlevel.reschedule(task, Value(outcome))

        encoded = None if params is None else encode(params)
        call = self.post(method, encoded, finish, timeout=timeout, resend=resend, alone=alone)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._abandon(call)
            return trio.lowlevel.Abort.SUCCEEDED

        return result_of(await trio.lowlevel.wait_task_rescheduled(abort))

    async def call_many(self, calls: Iterable[tuple[str, Any]], *, timeout: float | None = None) -> list[Any]:
        """Call many at once from one task: the fastest way. Each is `(method, params)`.

        Returns their results in order, in place of one that failed its exception: RpcError or NoReply.

        Raises:
            CallTooLarge: one does not fit a frame; none was sent.
            CannotConnect, ClientClosed: as `call`.
        """
        task = trio.lowlevel.current_task()
        encoded = [(method, None if params is None else encode(params)) for method, params in calls]
        outcomes: list[Any] = [None] * len(encoded)
        missing = len(encoded)
        if not missing:
            await trio.lowlevel.checkpoint()
            return []

        def finish_at(at: int) -> Finish:
            def finish(outcome: Outcome) -> None:
                nonlocal missing
                outcomes[at] = outcome
                missing -= 1
                if not missing:
                    trio.lowlevel.reschedule(task)

            return finish

        posted: list[Call] = []

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._abandon(*posted)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            for at, (method, params) in enumerate(encoded):
                posted.append(self.post(method, params, finish_at(at), timeout=timeout))
        except BaseException:
            self._abandon(*posted)
            raise
        await trio.lowlevel.wait_task_rescheduled(abort)
        return [outcome_of(outcome) for outcome in outcomes]

    async def notify(self, method: str, params: Any = None, *, timeout: float | None = None) -> None:
        """Send a notification: nobody will say whether it had an effect. Returns once it is on its way.

        Raises:
            NoReply: it could not be sent in time.
            CallTooLarge, CannotConnect, ClientClosed: as `call`.
        """
        task = trio.lowlevel.current_task()

        def finish(outcome: Outcome) -> None:
            trio.lowlevel.reschedule(task, Value(outcome))

        encoded = None if params is None else encode(params)
        call = self.post(method, encoded, finish, timeout=timeout, notification=True)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._abandon(call)
            return trio.lowlevel.Abort.SUCCEEDED

        result_of(await trio.lowlevel.wait_task_rescheduled(abort))

    def _set_alarm(self, deadline: float) -> None:
        self._earliest = self._alarm.deadline = deadline

    async def _enforce_deadlines(self) -> None:
        while True:
            self._earliest = self._expire()
            with trio.CancelScope(deadline=self._earliest) as self._alarm:
                await trio.sleep_forever()
