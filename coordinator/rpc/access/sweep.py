"""What lasts longer than a call (open connections, subscriptions, calls that wait) is looked at again as often as what
is known of its client is believed, and ended if the client may not have it any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import count
from typing import Any, Final, Protocol

import trio

from coordinator.actors.request import Request
from coordinator.errors import CoordinatorError, NotLoggedIn
from coordinator.rpc.access.fresh import FRESH_FOR
from coordinator.rpc.access.logins import Logins
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.registry import Registry
from coordinator.rpc.methods.method import Method
from coordinator.supervision import contain

__all__ = ["Sweep"]

SWEEP_EVERY: Final = FRESH_FOR / 2  # seconds between looks at what lasts
IDLE_EVERY: Final = 2  # of those looks, one is also at connections that have nothing
SWEEP_TIMEOUT: Final = 2.0  # seconds for one look
LOOKED_AT_ONCE: Final = 256  # clients, before others get on

_Waiting = tuple[Request, Method, Any]
"""A call that may take long, its method as it may be called, and its params."""


class Client(Protocol):
    """The client that has an open connection, a subscription or a call that waits: see `client.Access`."""

    @property
    def principal(self) -> Principal | None: ...

    @property
    def followed(self) -> Collection[int]:
        """The contexts in which it has subscriptions."""

    def log_out(self, reason: str) -> None:
        """It is nobody from now on."""

    async def judge(self, method: Method, params: Any) -> Method | CoordinatorError:
        """The method as it may be called with these params, or why it may not."""

    async def end_subscriptions(self) -> None:
        """End those that it may not have any more. Raises StorageError."""


class Sweep:
    """Looks at all clients of a process. `run` it beside the directory.

    Args:
        look: looks at files that may have changed, without blocking.
    """

    def __init__(self, registry: Registry, logins: Logins, look: Callable[[], None]) -> None:
        self._registry = registry
        self._logins = logins
        self._look = look
        self._open: set[Client] = set()  # those of connections
        self._waiting: dict[Request, tuple[Client, Method, Any]] = {}  # calls that may take long
        self._looking: set[Client] = set()  # those that are being looked at

    def opened(self, access: Client) -> None:
        """A connection is open that this client has."""
        self._open.add(access)

    def closed(self, access: Client) -> None:
        """It is not any more."""
        self._open.discard(access)

    def watch(self, call: Request, access: Client, method: Method, params: Any) -> None:
        """A call that may take long is on its way."""
        self._waiting[call] = access, method, params

    async def run(self) -> None:
        """Look at what lasts, again and again. Never returns."""
        async with trio.open_nursery() as nursery:
            with self._registry.asking_ahead(nursery):
                for number in count():
                    await trio.sleep(SWEEP_EVERY)
                    self._look()
                    with trio.move_on_after(SWEEP_TIMEOUT), contain("looking at who is logged in"):
                        await self._sweep(nursery, with_idle=number % IDLE_EVERY == 0)

    async def _sweep(self, nursery: trio.Nursery, *, with_idle: bool) -> None:
        """Look at each client that has something that lasts, and `with_idle` at each open connection.

        Logins, and who is what where something is followed, are looked at for all together. What else takes the store
        is asked in tasks, one a client at the most, so that a context which is slow keeps nobody else's from being
        ended.
        """
        calls = self._calls_that_wait()
        followed = {access: access.followed for access in self._open}
        busy = {access for access, contexts in followed.items() if contexts}
        busy |= calls.keys()
        looked_at = busy | self._open if with_idle else busy
        known = [(access, access.principal) for access in looked_at if access.principal is not None]
        with suppress(CoordinatorError):  # while the store is away it hands out nothing either
            await self._logins.ask_about(principal for _, principal in known)
            await self._registry.refresh_members(
                {
                    context
                    for access, principal in known
                    if principal.kind == "actor"
                    for context in followed.get(access, ())
                }
            )
        for number, (access, principal) in enumerate(known, 1):
            if self._logins.fresh_until(principal) == 0:
                self._end(access, calls.get(access, ()))
            elif access not in self._looking and (access in busy or principal.kind == "runner"):
                self._looking.add(access)
                nursery.start_soon(self._look_at, access, principal, calls.get(access, ()))
            if number % LOOKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _calls_that_wait(self) -> dict[Client, list[_Waiting]]:
        """By whose they are."""
        waiting: dict[Client, list[_Waiting]] = {}
        for call, (access, method, params) in [*self._waiting.items()]:
            if access.principal is None:  # another request with the same token has found that it is good no longer
                call.end(NotLoggedIn("the login has ended meanwhile"))
            if call.done:
                del self._waiting[call]
            else:
                waiting.setdefault(access, []).append((call, method, params))
        return waiting

    def _end(self, access: Client, calls: Iterable[_Waiting]) -> None:
        """Its login is over."""
        access.log_out("its login is over: the token or key has expired, was revoked or was replaced")
        for call, _, _ in calls:
            call.end(NotLoggedIn("the login has ended meanwhile"))

    async def _look_at(self, access: Client, principal: Principal, calls: Iterable[_Waiting]) -> None:
        """End what a client may not have any more. What cannot be looked at now is looked at the next time."""
        try:
            with trio.move_on_after(SWEEP_TIMEOUT), contain("looking at what a client has"), suppress(CoordinatorError):
                if not await self._logins.good_until(principal):
                    self._end(access, calls)
                    return
                for call, method, params in calls:
                    outcome = await access.judge(method, params)
                    if isinstance(outcome, CoordinatorError):
                        call.end(outcome)
                await access.end_subscriptions()
        finally:
            self._looking.discard(access)
