"""Events as an asynchronous iterator that survives lost connections: what flows' and contexts' have in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from coordinator import models
from coordinator.client.errors import (
    TRANSIENT,
    ConnectionLost,
    InvalidParams,
    NoReply,
    NotFound,
    RpcError,
)
from coordinator.client.link import pause_after
from coordinator.client.loop import Loop
from coordinator.client.subscriptions import Notification, Subscription

__all__ = ["DELETED", "Channel", "Follower"]

log = logging.getLogger("coordinator.client")

DELETED: Final = "Deleted"

E = TypeVar("E", models.FlowEvent, models.ContextEvent)


class Channel(Protocol):
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


class Follower(ABC, Generic[E]):
    """`async for event in follower`: events in order, none twice. For one task.

    Up to `buffer` events wait here. When they are not fetched as fast as they come, the subscription is given up and
    taken up again where it ended once they are: so a slow reader never holds up calls, nor does memory grow, and it
    may be left without being closed.

    Args:
        method: subscribes; the one that ends a subscription has its name, with `unsubscribe`.
        of: what is followed, for the log.

    Attributes:
        last: id of the last event given out, the `after` of a later follower; empty before it is known.
        missed: true once events were no longer kept when they should have been read.
        deleted: true once what is followed is known to be gone.
    """

    def __init__(self, channel: Channel, method: str, of: str, *, after: str, buffer: int) -> None:
        self._channel = channel
        self._loop = channel.loop
        self._method = method
        self._of = of
        self._limit = buffer
        self._buffer: deque[dict[str, Any]] = deque()
        self._subscription: str | None = None
        self._subscribed_before = False
        self._changed = self._loop.event()
        self._closed = False
        self.last = after
        self.missed = False
        self.deleted = False

    @abstractmethod
    def _params(self) -> models.Model:
        """What is subscribed with, behind `last`."""

    @abstractmethod
    def _event(self, params: dict[str, Any]) -> E:
        """An event, of what a notification says."""

    @abstractmethod
    def _is_end(self, event: E) -> bool:
        """Whether it says that what is followed was deleted."""

    @abstractmethod
    def _begin_again(self) -> None:
        """What was read last is not known there: set `last`."""

    async def _look(self) -> bool:
        """Called while nothing waits here. Whether something may have changed meanwhile."""
        return False

    def _given(self, event: E) -> None:
        """This event is given out."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        """The next event.

        Raises:
            RpcError: what is to be followed is not there, or cannot be subscribed to.
            CannotConnect: as `Client.call`.
        """
        await self._loop.checkpoint()
        while not self._closed:
            if self._buffer:
                return self._give(self._buffer.popleft())
            if self._subscription is None:
                await self._subscribe()
                continue
            if await self._look():
                continue
            # Nothing is awaited between looking for events and waiting for them, so none comes unnoticed.
            self._changed = self._loop.event()
            await self._changed.wait()
        raise StopAsyncIteration

    def _give(self, params: dict[str, Any]) -> E:
        event = self._event(params)
        self.missed = self.missed or params.get("missed") is True
        if self._is_end(event):
            self._gone()
            return event
        self.last = event.event_id
        self._given(event)
        return event

    async def _subscribe(self) -> None:
        failures = 0
        while True:
            try:
                await self._channel.call(self._method, self._params(), resend=False, on_result=self._subscribed)
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
                self.missed = True
                self._begin_again()
            except (RpcError, NoReply) as error:
                if not (self._subscribed_before and isinstance(error, TRANSIENT)):
                    raise
                log.warning("cannot follow %s again yet: %s", self._of, error)
                await self._loop.sleep(pause_after(failures))
                failures += 1

    def _subscribed(self, result: Any) -> None:
        self.missed = self.missed or result["missed"]
        self.last = self.last or result["last_event"]
        self._subscribed_before = True
        self._subscription = result["subscription"]
        self._channel.attach(self)
        self._channel.route(self._subscription, self._notice)

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
        """What is followed was deleted, and with it the subscription."""
        self.deleted = True
        if self._subscription is not None:
            self._channel.detach(self)
            self._channel.unroute(self._subscription)
            self._subscription = None
        self.close()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._channel.detach(self)
            self._channel.unsubscribe(self._method.replace(".subscribe", ".unsubscribe"), self._subscription)
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
