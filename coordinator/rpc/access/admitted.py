"""Calls that were admitted and wait in a mailbox: looked at again, so that none is carried out whose caller's role has
ended meanwhile.

The store is asked who is what in a context ahead of all that waits there, or the answer would come behind the calls
that are to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import trio

from coordinator.actors.directory import Directory
from coordinator.errors import CoordinatorError, NotLoggedIn
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.fresh import FRESH_FOR
from coordinator.rpc.access.gate import Gate
from coordinator.rpc.access.registry import Members
from coordinator.rpc.methods.method import Method
from coordinator.supervision import contain

__all__ = ["Admitted"]

LOOKED_AT_AFTER: Final = FRESH_FOR  # seconds since it was admitted, after which a call is looked at again
LOOK_EVERY: Final = FRESH_FOR / 2  # seconds
LOOK_TIMEOUT: Final = 2.0  # seconds for one look
ASK_TIMEOUT: Final = 1.0  # seconds for asking about a context, so that a slow one keeps no other from being looked at
DECIDED_AT_ONCE: Final = 64  # requests, before others get on


class Refusable(Protocol):
    """A request some calls of which may be refused before they are carried out; see Request."""

    admitted: list[tuple[Access, Method, Any]]

    def refuse(self, refused: Mapping[int, CoordinatorError]) -> None:
        """Answer those of its calls with these, by their places among those that were admitted."""


class Admitted:
    """Looks at those of a process.

    Args:
        request_timeout: seconds from when a call is admitted to its deadline.
    """

    def __init__(self, directory: Directory, gate: Gate, *, request_timeout: float) -> None:
        self._directory = directory
        self._gate = gate
        self._deadline_then = request_timeout - LOOKED_AT_AFTER  # seconds from now, of what is to be looked at

    async def run(self) -> None:
        """Look at what has waited for a while, again and again. Never returns."""
        while True:
            await trio.sleep(LOOK_EVERY)
            waiting = self._directory.admitted_until(trio.current_time() + self._deadline_then)
            if waiting:
                with trio.move_on_after(LOOK_TIMEOUT), contain("looking at calls that wait"):
                    await self._look_at(waiting)

    async def _look_at(self, waiting: list[Refusable]) -> None:
        good = {
            access: await self._is_good(access)
            for access in {access for request in waiting for access, _, _ in request.admitted}
        }
        contexts = {
            context
            for request in waiting
            for access, method, params in request.admitted
            if (principal := access.principal) is not None
            and principal.kind == "actor"
            and (context := access.context_of(method.right, params)) is not None
        }
        members: dict[int, Members] = {}
        async with trio.open_nursery() as nursery:
            for context in contexts:
                nursery.start_soon(self._ask, context, members)
        for number, request in enumerate(waiting, 1):
            self._decide(request, members, good)
            if number % DECIDED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    async def _is_good(self, access: Access) -> bool:
        """Whether its login is; while the store is away nothing is carried out, and nobody is taken for logged out."""
        principal = access.principal
        try:
            return principal is None or bool(await self._gate.logins.good_until(principal))
        except CoordinatorError:
            return True

    async def _ask(self, context: int, members: dict[int, Members]) -> None:
        with trio.move_on_after(ASK_TIMEOUT), suppress(CoordinatorError):  # it is asked again with the next look
            members[context] = await self._gate.registry.members_ahead(context)

    def _decide(self, request: Refusable, members: Mapping[int, Members], good: Mapping[Access, bool]) -> None:
        refused: dict[int, CoordinatorError] = {}
        for at, (access, method, params) in enumerate(request.admitted):
            principal, context = access.principal, access.context_of(method.right, params)
            outcome: Method | CoordinatorError
            if not good[access]:
                outcome = NotLoggedIn("the login has ended meanwhile")
            elif context is None or principal is None or principal.kind != "actor":
                outcome = access.decide(method, params, context, None)
            elif context in members:
                outcome = access.decide(method, params, context, members[context])
            else:
                continue
            if isinstance(outcome, CoordinatorError):
                refused[at] = outcome
        if refused:
            request.refuse(refused)
