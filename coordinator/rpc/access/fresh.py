"""What is known of the store, and for how long that may be believed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any, Final, Generic, NamedTuple, TypeVar

import trio

from coordinator.errors import CoordinatorError

__all__ = ["FRESH_FOR", "Fresh", "Known"]

FRESH_FOR: Final = 0.4  # seconds; with a look at each live connection as often, a change takes effect within one
KEPT: Final = 10_000  # answers
ASKED_AGAIN: Final = FRESH_FOR / 2  # seconds before an answer in use is too old, from which on it is asked for again

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Known(NamedTuple, Generic[V]):
    """An answer, and until when (time.monotonic) it may be believed: from when it was asked for."""

    value: V
    until: float


class Fresh(Generic[K, V]):
    """Answers of the store, each asked for by one call at a time: others that need it meanwhile wait with that.

    An answer that is too old is never given, so while the store is away there is none. One that is in use is asked for
    again before, or all connections to a busy context would stand still together while it is asked about.

    Args:
        fetch: asks the store. It may raise a CoordinatorError, which all who wait for this answer get.

    Attributes:
        start: starts a task, as `trio.Nursery.start_soon` does; None: nothing is asked for before it is needed.
    """

    def __init__(self, fetch: Callable[[K], Awaitable[V]]) -> None:
        self._fetch = fetch
        self._known: OrderedDict[K, Known[V]] = OrderedDict()
        self._asking: dict[K, _Asking[V]] = {}
        self.start: Callable[..., Any] | None = None

    def known(self, key: K) -> Known[V] | None:
        """The answer, if there is one that is fresh."""
        known = self._known.get(key)
        return known if known is not None and time.monotonic() < known.until else None

    def keep(self, key: K) -> None:
        """It is in use: see that there is an answer when this one is too old. Never blocks."""
        known = self._known.get(key)
        if known is None or self.start is None or key in self._asking:
            return
        if time.monotonic() > known.until - ASKED_AGAIN:
            asking = self._asking[key] = _Asking()
            self.start(self._ask_ahead, key, asking)

    async def _ask_ahead(self, key: K, asking: _Asking[V]) -> None:
        """Ask before anybody needs it. If that fails, who needs it asks again."""
        with suppress(CoordinatorError):
            await self._ask(key, asking)

    def forget(self, key: K) -> None:
        """It was changed here: ask before it is answered again."""
        self._known.pop(key, None)
        self._asking.pop(key, None)

    def learn(self, key: K, value: V, asked_at: float) -> None:
        """The store has said so to somebody who asked at that time (time.monotonic)."""
        if key not in self._asking:  # who asks now may be told of something newer
            self._keep(key, Known(value, asked_at + FRESH_FOR))

    async def get(self, key: K) -> Known[V]:
        """The answer. Raises what `fetch` does."""
        while True:
            known = self.known(key)
            if known is not None:
                return known
            asking = self._asking.get(key)
            if asking is None:
                asking = self._asking[key] = _Asking()
                return await self._ask(key, asking)
            await asking.ended.wait()
            if asking.error is not None:
                raise asking.error
            if asking.known is not None:
                return asking.known  # as fresh as when it was asked for, though that may have taken long

    async def _ask(self, key: K, asking: _Asking[V]) -> Known[V]:
        try:
            until = time.monotonic() + FRESH_FOR
            known = asking.known = Known(await self._fetch(key), until)
        except CoordinatorError as error:
            asking.error = error
            raise
        finally:  # also when the caller is gone: then the next of those who wait asks
            asking.ended.set()
            is_current = self._asking.get(key) is asking
            if is_current:
                del self._asking[key]
        if is_current:  # else it was changed while we asked
            self._keep(key, known)
        return known

    def _keep(self, key: K, known: Known[V]) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


class _Asking(Generic[V]):
    """A question that is on its way."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.known: Known[V] | None = None
        self.error: CoordinatorError | None = None
