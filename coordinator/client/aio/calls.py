"""Calls on asyncio: what lines up in the ledger, and waits for its outcome in a future."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any

from coordinator.client.conversation import Conversation, Outcome, outcome_of, result_of
from coordinator.client.ledger import Call, Finish, encode

__all__ = ["Calls"]


class Calls(Conversation):
    """The half of the client whose callers wait."""

    _asyncio: asyncio.AbstractEventLoop
    _alarm: asyncio.TimerHandle | None = None
    """At the earliest deadline."""

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
        reply, but the call may still be carried out.

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
            NoReply: there was no answer in time.
            CallTooLarge, ConnectionLost, CannotConnect, ClientClosed: see there.
        """
        future: asyncio.Future[Outcome] = self._asyncio.create_future()

        def finish(outcome: Outcome) -> None:
            if on_result is not None and type(outcome) is dict and "result" in outcome:
                on_result(outcome["result"])
            if not future.done():
                future.set_result(outcome)

        encoded = None if params is None else encode(params)
        call = self.post(method, encoded, finish, timeout=timeout, resend=resend, alone=alone)
        return await self._result(future, call)

    async def call_many(self, calls: Iterable[tuple[str, Any]], *, timeout: float | None = None) -> list[Any]:
        """Call many at once from one task: the fastest way. Each is `(method, params)`.

        Returns their results in order, in place of one that failed its exception: RpcError or NoReply.

        Raises:
            CallTooLarge: one does not fit a frame; none was sent.
            CannotConnect, ClientClosed: as `call`.
        """
        encoded = [(method, None if params is None else encode(params)) for method, params in calls]
        outcomes: list[Any] = [None] * len(encoded)
        missing = len(encoded)
        done: asyncio.Future[None] = self._asyncio.create_future()
        if not missing:
            await asyncio.sleep(0)
            return []

        def finish_at(at: int) -> Finish:
            def finish(outcome: Outcome) -> None:
                nonlocal missing
                outcomes[at] = outcome
                missing -= 1
                if not missing and not done.done():
                    done.set_result(None)

            return finish

        posted: list[Call] = []
        try:
            for at, (method, params) in enumerate(encoded):
                posted.append(self.post(method, params, finish_at(at), timeout=timeout))
            await done
        except BaseException:
            self._abandon(*posted)
            raise
        return [outcome_of(outcome) for outcome in outcomes]

    async def notify(self, method: str, params: Any = None, *, timeout: float | None = None) -> None:
        """Send a notification: nobody will say whether it had an effect. Returns once it is on its way.

        Raises:
            NoReply: it could not be sent in time.
            CallTooLarge, CannotConnect, ClientClosed: as `call`.
        """
        future: asyncio.Future[Outcome] = self._asyncio.create_future()

        def finish(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        encoded = None if params is None else encode(params)
        await self._result(future, self.post(method, encoded, finish, timeout=timeout, notification=True))

    async def _result(self, future: asyncio.Future[Outcome], call: Call) -> Any:
        try:
            outcome = await future
        except asyncio.CancelledError:
            self._abandon(call)
            raise
        return result_of(outcome)

    def _set_alarm(self, deadline: float) -> None:
        self._earliest = deadline
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None if deadline == math.inf else self._asyncio.call_at(deadline, self._enforce_deadlines)

    def _enforce_deadlines(self) -> None:
        self._set_alarm(self._expire())
