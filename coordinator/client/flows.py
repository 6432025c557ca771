"""A flow's events as an asynchronous iterator that survives lost connections."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self

from coordinator import models
from coordinator.client.errors import (
    ConnectionLost,
    InternalError,
    InvalidParams,
    NoReply,
    NotFound,
    Overloaded,
    RpcError,
    StorageError,
)
from coordinator.client.link import pause_after
from coordinator.client.loop import Loop
from coordinator.client.subscriptions import Notification, Subscription

__all__ = ["TRANSIENT", "FlowFollower"]

log = logging.getLogger("coordinator.client")

BEGINNING: Final = "0-0"
LATER: Final = 4  # as `pause_after` counts: a second or so
ENDED: Final = ("Finished", "Error")
DELETED: Final = "Deleted"
TRANSIENT: Final = (StorageError, Overloaded, InternalError, NoReply)
"""What subscribing again may fail with and will be tried once more."""


class _Channel(Protocol):
    """The client of either loop, as a follower sees it."""

    loop: Loop

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        resend: bool = True,
        on_result: Callable[[Any], None] | None = None,
    ) -> Any: ...
    async def call_many(self, calls: Sequence[tuple[str, Any]]) -> list[Any]: ...
    async def wait_connected(self) -> None: ...
    def attach(self, subscription: Subscription) -> None: ...
    def detach(self, subscription: Subscription) -> None: ...
    def route(self, subscription: str, handler: Notification) -> None: ...
    def unroute(self, subscription: str) -> bool: ...
    def unsubscribe(self, method: str, subscription: str) -> None: ...


class FlowFollower:
    """`async for event in client.follow_flow(…)`: a flow's events in order, none twice. For one task.

    It ends after the event that says the flow is Finished or in Error, or at once if that was before `after`. A flow
    that was tried again is followed to its last end. It also ends when the flow is deleted, then after an event of the
    status Deleted if that comes through.

    Up to `buffer` events wait here. When they are not fetched as fast as they come, the subscription is given up and
    taken up again where it ended once they are: so a slow reader never holds up calls, nor does memory grow, and it
    may be left without being closed. Only the server's `--event-retention` and the 16 MiB of logs that are
    kept bound how far behind one may be; see `missed`.

    Attributes:
        last: id of the last event given out, the `after` of a later follower.
        missed: true once events were no longer kept when they should have been read.
        deleted: true once the flow is known to be gone.
    """

    def __init__(
        self, channel: _Channel, flow: models.FlowParams, *, after: str | None, forever: bool, buffer: int
    ) -> None:
        self._channel = channel
        self._loop = channel.loop
        self._flow = flow
        self._forever = forever
        self._limit = buffer
        self._buffer: deque[dict[str, Any]] = deque()
        self._subscription: str | None = None
        self._subscribed_before = False
        self._may_be_over = True
        self._changed = self._loop.event()
        self._closed = False
        self.last = after or BEGINNING
        self.missed = False
        self.deleted = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> models.FlowEvent:
        """The next event.

        Raises:
            RpcError: there is no such flow, or it cannot be subscribed to.
            CannotConnect: as `Client.call`.
        """
        await self._loop.checkpoint()
        while not self._closed:
            if self._buffer:
                return self._give(self._buffer.popleft())
            if self._subscription is None:
                await self._subscribe()
                self._may_be_over = True
                continue
            if self._may_be_over and not self._forever:
                await self._look_whether_over()
                continue
            # Nothing is awaited between looking for events and waiting for them, so none comes unnoticed.
            self._changed = self._loop.event()
            await self._changed.wait()
        raise StopAsyncIteration

    def _give(self, params: dict[str, Any]) -> models.FlowEvent:
        event = models.FlowEvent.model_validate(params, strict=False)
        self.missed = self.missed or params.get("missed") is True
        if event.kind == "flow" and event.status == DELETED:
            self._gone()
            return event
        self.last = event.event_id
        if event.kind == "flow":
            self._may_be_over = event.status in ENDED
        return event

    async def _subscribe(self) -> None:
        failures = 0
        while True:
            try:
                await self._channel.call(
                    "flow.subscribe",
                    models.FlowSubscribeParams(
                        context_id=self._flow.context_id, id=self._flow.id, after=self.last, batch=True
                    ),
                    resend=False,
                    on_result=self._subscribed,
                )
                return
            except ConnectionLost:
                await self._channel.wait_connected()
            except NotFound:
                if not self._subscribed_before:
                    raise
                self._gone()
                return
            except InvalidParams:
                if not self._subscribed_before:
                    raise
                # The store has lost what we have read last, or it is another flow of this id.
                self.last, self.missed = BEGINNING, True
            except (RpcError, NoReply) as error:
                if not (self._subscribed_before and isinstance(error, TRANSIENT)):
                    raise
                log.warning("cannot follow flow %d again yet: %s", self._flow.id, error)
                await self._loop.sleep(pause_after(failures))
                failures += 1

    def _subscribed(self, result: Any) -> None:
        subscribed = models.FlowSubscribed.model_validate(result)
        self.missed = self.missed or subscribed.missed
        self._subscribed_before = True
        self._subscription = subscribed.subscription
        self._channel.attach(self)
        self._channel.route(subscribed.subscription, self._notice)

    async def _look_whether_over(self) -> None:
        """Close if the flow has ended and nothing came after the last event given out."""
        after = models.FlowEventsParams(context_id=self._flow.context_id, id=self._flow.id, after=self.last, limit=1)
        flow, events = await self._channel.call_many([("flow.load", self._flow), ("flow.events", after)])
        if isinstance(flow, NotFound) or isinstance(events, NotFound):
            if not self._buffer:
                self._gone()
            return
        for outcome in (flow, events):
            if isinstance(outcome, TRANSIENT):
                await self._loop.sleep(pause_after(LATER))
                return
            if isinstance(outcome, Exception):
                raise outcome
        if flow["status"] not in ENDED:
            self._may_be_over = False  # until it says so itself
        elif not events["events"]:
            self.close()
        elif not self._buffer and self._subscription is not None:
            # They are on their way here.
            self._changed = self._loop.event()
            await self._changed.wait()

    # -- as the channel sees it

    def _notice(self, method: str, params: dict[str, Any]) -> None:
        if len(self._buffer) < self._limit:
            self._buffer.append(params)
        else:
            self._unsubscribe()
        self._changed.set()

    def resume(self) -> None:
        """Nothing: it subscribes again when its reader asks for more."""

    def suspend(self) -> None:
        self._subscription = None
        self._channel.detach(self)
        self._changed.set()

    def end(self, error: Exception) -> None:
        self.suspend()

    # -- ending

    def _gone(self) -> None:
        """The flow was deleted, and with it the subscription."""
        self.deleted = True
        if self._subscription is not None:
            self._channel.detach(self)
            self._channel.unroute(self._subscription)
            self._subscription = None
        self.close()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._channel.detach(self)
            self._channel.unsubscribe("flow.unsubscribe", self._subscription)
            self._subscription = None

    def close(self) -> None:
        """Want no more events."""
        if not self._closed:
            self._closed = True
            self._buffer.clear()
            self._unsubscribe()
            self._changed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
