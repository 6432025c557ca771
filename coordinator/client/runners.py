"""A runner's assignments as an asynchronous iterator that survives lost connections."""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, Self

from pydantic_core import to_json

from coordinator import models
from coordinator.client.errors import TRANSIENT, ClientError, ConnectionLost, NoReply, StaleToken, rpc_error
from coordinator.client.ledger import Finish
from coordinator.client.link import pause_after
from coordinator.client.loop import Loop
from coordinator.client.subscriptions import Notification, Subscription

__all__ = ["RunnerSubscription", "attempt_named", "subscribed_runner"]

log = logging.getLogger("coordinator.client")

UNSUBSCRIBE_TIMEOUT: Final = 5.0
LOST: Final = "the attempt was lost while its runner was not connected"


class _Channel(Protocol):
    """The client of either loop, as a subscription sees it."""

    loop: Loop
    timeout: float
    connections: int

    @property
    def connected(self) -> bool: ...
    async def call(
        self, method: str, params: Any = None, *, timeout: float | None = None, resend: bool = True
    ) -> Any: ...
    def post(
        self, method: str, params: bytes | None, finish: Finish, *, first: bool = False, resend: bool = True
    ) -> object: ...
    def start_soon(self, function: Callable[..., Awaitable[object]], *args: Any) -> None: ...
    def drop(self, why: str) -> None: ...
    def attach(self, subscription: Subscription) -> None: ...
    def detach(self, subscription: Subscription) -> None: ...
    def route(self, subscription: str, handler: Notification) -> None: ...
    def unroute(self, subscription: str) -> bool: ...
    def unsubscribe(self, method: str, subscription: str) -> None: ...


class RunnerSubscription:
    """`async for item in work`: what the coordinator tells a runner. Items are of two types:

    - `models.AssignmentNotice`: run this, then `finish` or `fail` it.
    - `models.CancelNotice`: stop that attempt, its outcome is no longer wanted. It is for an assignment given out
      before; one that was not is taken back silently.

    After a lost connection it subscribes again under the same session with the tokens it holds: those of assignments
    that came and were neither finished nor failed nor cancelled. Tokens that were lost come as CancelNotices.

    The coordinator sends at most `capacity` unfinished assignments, so what waits here is bounded by that and by the
    cancels of what was given out; nothing here ever keeps the connection from being read, so `finish` and other calls
    by the task that iterates cannot deadlock.

    Attributes:
        session: names this runner's process to the coordinator.
        lease: seconds without a heartbeat or a log line after which an attempt is lost.
    """

    def __init__(self, channel: _Channel, params: models.RunnerSubscribeParams) -> None:
        self._channel = channel
        self._loop = channel.loop
        self._params = params
        self._subscription: str | None = None
        self._subscribed_before = False
        self._failures = 0
        self._held: dict[str, dict[str, Any]] = {}  # the ids by which an attempt is named, by its token
        self._reporting: set[str] = set()  # tokens whose end is being told
        self._waiting: deque[dict[str, Any]] = deque()  # params of notifications not given out
        self._changed = self._loop.event()  # set and replaced with every change
        self._error: Exception | None = None
        self._ended = False
        self.session = params.session
        self.lease = params.lease

    @property
    def holding(self) -> list[str]:
        """Tokens of the attempts it answers for."""
        return list(self._held)

    # -- receiving

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> models.AssignmentNotice | models.CancelNotice:
        """The next item; the end after `unsubscribe`, when all that came before is given out.

        Raises:
            RpcError: subscribing again was refused.
            CannotConnect, ClientClosed: as `Client.call`.
        """
        await self._loop.checkpoint()
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            await self._changed.wait()
        params = self._waiting.popleft()
        if "job" in params:
            return models.AssignmentNotice.model_validate(params, strict=False)
        return models.CancelNotice.model_validate(params, strict=False)

    # -- answering

    async def finish(
        self, assignment: models.Assignment, result: Mapping[str, str] | None = None
    ) -> models.AttemptOutcome:
        """The attempt succeeded. Raises StaleToken if it counts as lost or was cancelled, RpcError, NoReply."""
        return await self._end("job.finish", assignment, {} if result is None else {"result": dict(result)})

    async def fail(
        self,
        assignment: models.Assignment,
        error: str,
        *,
        result: Mapping[str, str] | None = None,
        retry: bool = True,
        lost: bool = False,
    ) -> models.AttemptOutcome:
        """The attempt failed; without `retry` there will be no other. `lost`: its runner gave it up, which is not the
        job's fault. Raises as `finish`."""
        more: dict[str, Any] = {"error": error, "retry": retry}
        if lost:
            more["lost"] = True
        if result is not None:
            more["result"] = dict(result)
        return await self._end("job.fail", assignment, more)

    async def more_inputs(
        self, assignment: models.Assignment, after: str | None = None
    ) -> AsyncIterator[dict[str, dict[str, str]]]:
        """The results that are not in the assignment, but for which it says in `inputs_from` whose they are; in pages.

        The first behind that of the job `after`, by default behind those in the assignment. Raises as `heartbeat`.
        """
        if after is None and assignment.inputs:
            after = next(reversed(assignment.inputs))
        has_more = bool(assignment.inputs_from)
        while has_more:
            params = attempt_named(assignment) | ({} if after is None else {"after": int(after)})
            page = models.JobInputs.model_validate(await self._channel.call("job.inputs", params))
            yield page.inputs
            has_more = page.after is not None
            after = str(page.after)

    async def heartbeat(self, assignment: models.Assignment) -> None:
        """Keep the lease. Raises StaleToken if the attempt counts as lost or was cancelled, RpcError, NoReply."""
        await self._channel.call("job.heartbeat", attempt_named(assignment))

    async def log(
        self, assignment: models.Assignment, lines: Sequence[str], stream: models.LogStream = "stdout"
    ) -> models.Logged:
        """Add to the flow's log, at most 1000 lines; keeps the lease, too. Raises as `heartbeat`.

        Of an attempt that was cancelled or timed out lines are taken for half a minute, and the answer says that it is
        `over`.
        """
        outcome = await self._channel.call(
            "job.log", {**attempt_named(assignment), "lines": list(lines), "stream": stream}
        )
        return models.Logged.model_validate(outcome)

    def release(self, token: str) -> None:
        """Answer for this attempt no longer, because it was reported otherwise."""
        self._held.pop(token, None)

    async def _end(self, method: str, assignment: models.Assignment, more: dict[str, Any]) -> models.AttemptOutcome:
        token = assignment.token
        params = {**attempt_named(assignment), **more}
        deadline = self._loop.now() + self._channel.timeout
        was_sent = False
        self._reporting.add(token)
        try:
            while True:
                await self._subscribed_again(deadline, was_sent)
                # Sent before the subscription is there, it would not free a place; so it is not the channel that
                # sends it again.
                try:
                    outcome = await self._channel.call(
                        method, params, timeout=deadline - self._loop.now(), resend=False
                    )
                    break
                except ConnectionLost:
                    was_sent = True
        except StaleToken:
            self.release(token)
            raise
        finally:
            self._reporting.discard(token)
        self.release(token)
        return models.AttemptOutcome.model_validate(outcome)

    async def _subscribed_again(self, deadline: float, was_sent: bool) -> None:
        """Wait for the subscription, if there will be one. Raises NoReply."""
        while self._subscription is None and self._error is None and not self._ended:
            if not await self._loop.wait_until(self._changed, deadline):
                raise NoReply("there is no subscription again yet", may_have_been_applied=was_sent)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = self._loop.event()

    # -- subscribing: what the channel calls, and what it leads to

    def resume(self) -> None:
        """Before anything else on a connection, so that places are freed by what is reported after it."""
        params = self._params.model_copy(update={"holding": list(self._held), "batch": True})
        self._channel.post("runner.subscribe", to_json(params), self._answered, first=True, resend=False)

    def suspend(self) -> None:
        self._subscription = None

    def end(self, error: Exception) -> None:
        self._error = error
        self._notify()

    def _answered(self, outcome: dict[str, Any] | Exception) -> None:
        if isinstance(outcome, ConnectionLost):
            return
        if isinstance(outcome, dict) and "result" in outcome:
            self._subscribed(models.RunnerSubscribed.model_validate(outcome["result"], strict=False))
            return
        error = outcome if isinstance(outcome, Exception) else rpc_error(outcome.get("error"))
        if isinstance(error, NoReply):
            self._channel.drop("it did not answer runner.subscribe")  # it may be in force, under an unknown name
        elif self._subscribed_before and isinstance(error, TRANSIENT):
            log.warning("runner %d cannot subscribe again yet: %s", self._params.runner_id, error)
            self._channel.start_soon(self._try_again, self._channel.connections)
        else:
            self._channel.detach(self)
            self.end(error)

    async def _try_again(self, connection: int) -> None:
        await self._loop.sleep(pause_after(self._failures))
        self._failures += 1
        if self._channel.connected and self._channel.connections == connection and not self._ended:
            self.resume()

    def _subscribed(self, subscribed: models.RunnerSubscribed) -> None:
        self._subscription = subscribed.subscription
        self._subscribed_before = True
        self._failures = 0
        self.lease = subscribed.lease
        self._channel.route(subscribed.subscription, self._notice)
        for token in subscribed.lost:
            held = self._held.get(token)
            if held is not None and token not in self._reporting:
                cancel = {**held, "token": token, "reason": LOST, "subscription": subscribed.subscription}
                self._cancelled(cancel)
        self._notify()

    def _notice(self, method: str, params: dict[str, Any]) -> None:
        if method == "runner.job":
            job = params["job"]
            self._held[params["token"]] = {
                "context_id": params["context_id"],
                "caller_id": job["caller_id"],
                "id": job["id"],
            }
            self._waiting.append(params)
        elif method == "runner.cancel":
            self._cancelled(params)
        self._notify()

    def _cancelled(self, cancel: dict[str, Any]) -> None:
        token = cancel["token"]
        if self._held.pop(token, None) is None:
            return  # reported already
        for params in self._waiting:
            if params["token"] == token:
                self._waiting.remove(params)
                return
        self._waiting.append(cancel)

    # -- beginning and ending

    async def until_subscribed(self) -> None:
        """Wait for the first answer. Raises what it was if it was not a subscription."""
        while not self._subscribed_before:
            if self._error is not None:
                raise self._error
            await self._changed.wait()

    async def unsubscribe(self) -> None:
        """Want no more assignments. Those given out are still to be finished, those that wait here still come.

        There are no more cancels either: a heartbeat raises StaleToken instead.
        """
        self._channel.detach(self)
        subscription = self._subscription
        if subscription is not None and not self._ended:
            # It stays routed until the answer: what was sent before that is ours.
            try:
                params = models.SubscriptionParams(subscription=subscription)
                await self._channel.call("runner.unsubscribe", params, timeout=UNSUBSCRIBE_TIMEOUT, resend=False)
                self._channel.unroute(subscription)
            except ClientError as error:
                log.debug("runner.unsubscribe: %s", error)
        self._ended = True
        self._notify()

    def leave(self) -> None:
        """Unsubscribe without waiting for anything. What waits here unseen is the runner's until the lease ends."""
        self._channel.detach(self)
        if self._subscription is not None:
            self._channel.unsubscribe("runner.unsubscribe", self._subscription)
        self._ended = True
        self._notify()


def attempt_named(assignment: models.Assignment) -> dict[str, Any]:
    """The params that name an attempt in a call."""
    return {
        "context_id": assignment.context_id,
        "caller_id": assignment.job.caller_id,
        "id": assignment.job.id,
        "token": assignment.token,
    }


@asynccontextmanager
async def subscribed_runner(
    channel: _Channel, params: models.RunnerSubscribeParams
) -> AsyncIterator[RunnerSubscription]:
    """A subscription, ended in the end."""
    if not params.session:
        params = params.model_copy(update={"session": secrets.token_hex(16)})
    subscription = RunnerSubscription(channel, params)
    channel.attach(subscription)
    try:
        await subscription.until_subscribed()
        yield subscription
    finally:
        subscription.leave()
