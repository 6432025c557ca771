"""Sessions of browsers: a token is changed for a cookie that scripts of pages cannot read, and that is ended again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from typing import Final

import trio
from pydantic_core import to_json

from coordinator.budget import Budget
from coordinator.errors import Conflict, CoordinatorError, NotLoggedIn, Overloaded
from coordinator.rpc.access.audit.trail import Trail
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.cookies import cleared_cookie, session_cookie, shown_by_cookie
from coordinator.rpc.access.forwarded import Proxies
from coordinator.rpc.access.gate import Gate
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.access.sessions import begin_session, end_session
from coordinator.rpc.access.tokens import Shown, shown_by
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher

__all__ = ["METHODS", "PATH", "ChangeSession", "Refusal", "Sessions", "decide_session"]

PATH: Final = "/session"
METHODS: Final = b"POST, DELETE, OPTIONS"


@dataclass(frozen=True, slots=True)
class ChangeSession:
    """The request begins a session, or ends it.

    Attributes:
        shown: a token, or with `ends` what the cookie shows.
        told: where it is from as it tells; see Proxies.
        headers: of its response, whatever comes of it.
        request_id: the one it has, if that can be shown.
    """

    shown: Shown
    ends: bool
    told: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing is changed. `is_challenge`: the response says how to log in."""

    status: int
    detail: str
    is_challenge: bool = False
    retry_after: int = 0


def decide_session(
    policy: AccessPolicy, method: bytes, headers: Mapping[bytes, bytes], host: str | None, told: str
) -> ChangeSession | Refusal:
    """What is to be done, as far as the head tells: only pages of our own begin and end sessions, so that no other one
    logs its visitor in as somebody else, or out."""
    origin = headers.get(b"origin")
    if origin is None or not policy.is_own_page(origin.decode("latin-1"), host):
        return Refusal(
            403, "a session is for pages of this server, by their Origin; others send a token with each call"
        )
    if method == b"DELETE":
        return ChangeSession(shown_by_cookie(policy, headers, host), True, told)
    shown = shown_by(headers.get(b"authorization"))
    if not shown.digest:
        return Refusal(401, "a session is begun with a token: send `Authorization: Bearer hc_…`", is_challenge=True)
    return ChangeSession(shown, False, told)


class Sessions:
    """Begins and ends them."""

    def __init__(self, dispatcher: Dispatcher, policy: AccessPolicy, proxies: Proxies) -> None:
        self._dispatcher = dispatcher
        self._policy = policy
        self._proxies = proxies

    async def change(self, change: ChangeSession, gate: Gate, budget: Budget) -> tuple[bytes, bytes] | Refusal:
        """Returns the cookie for Set-Cookie, and the response's body, which is none if a session was ended."""
        access = Access(gate, shown=change.shown)
        address = self._proxies.address(budget.address, change.told)
        refused = await self._over_limits(access, address)
        if refused is not None:
            return Refusal(429, refused.data["detail"], retry_after=ceil(refused.data["retry_after"]))
        try:
            await access.identify()
            if access.principal is None:
                await gate.failing.take()
            trail = None
            if self._dispatcher.logs is not None:
                trail = Trail(self._dispatcher.logs, "http", address, access, request_id=change.request_id)
            return await (self._end(access, trail) if change.ends else self._begin(access, trail))
        except NotLoggedIn as error:
            return Refusal(401, error.data["detail"], is_challenge=True)
        except Conflict as error:
            return Refusal(403, error.data["detail"])
        except CoordinatorError:
            return Refusal(503, "the store does not answer, or too many log in at once; try again soon", retry_after=1)

    async def _end(self, access: Access, trail: Trail | None) -> tuple[bytes, bytes]:
        principal = access.principal
        await end_session(access)
        if trail is not None and principal is not None:
            trail.session_ended(principal.name)
        return cleared_cookie(self._policy), b""

    async def _begin(self, access: Access, trail: Trail | None) -> tuple[bytes, bytes]:
        try:
            session = await begin_session(access)
        except (Conflict, NotLoggedIn):
            if trail is not None:
                trail.session_begun(is_good=False)
            raise
        if trail is not None:
            trail.session_begun(is_good=True)
        body = to_json({"principal": session.principal.name, "expires_at": session.expires_at})
        return session_cookie(self._policy, session.token, session.seconds), body

    async def _over_limits(self, access: Access, address: str) -> Overloaded | None:
        """Count the request as a call, and keep one who is over the limits waiting a little."""
        limits = self._dispatcher.limits
        if limits is None:
            return None
        account = limits.account(access, address)
        with suppress(CoordinatorError):  # while the store is away it counts by its address
            if account.is_used_up(0):
                await access.gate.finding_out.take()
            await access.identify()
        refused = account.admit(0)
        if refused is not None:
            await trio.sleep(account.pause(refused))
        return refused
