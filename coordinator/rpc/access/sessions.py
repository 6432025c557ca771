"""Browsers: sessions of a cookie, and tickets for WebSockets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from coordinator import models
from coordinator.errors import Conflict, InvalidParams, NotLoggedIn
from coordinator.rpc.access import tokens
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.tickets import TICKET_SECONDS, new_ticket, read_ticket
from coordinator.storage.functions import credentials
from coordinator.storage.keys import GLOBAL

if TYPE_CHECKING:
    from coordinator.rpc.access.client import Access

__all__ = ["TOKENS", "Session", "begin_session", "end_session", "keep_token", "log_in_by_ticket", "ticket"]

SESSION_SECONDS: Final = 12 * 3600  # at most, that a browser stays logged in
LABEL: Final = "browser session"
TOKENS: Final = 200  # of one principal
GENERATIONS: Final = 4  # tokens, each made by the one before; all are asked about for whoever shows the last

_OPERATOR: Final = "the operator's token is not for browsers: make an actor, and a token of that"


class Session:
    """A session that has begun.

    Attributes:
        token: for the cookie.
        principal: whose it is.
        expires_at: Unix time in seconds.
        seconds: until then.
    """

    def __init__(self, token: str, principal: Principal, created_at: int, expires_at: int) -> None:
        self.token = token
        self.principal = principal
        self.expires_at = expires_at
        self.seconds = max(0, expires_at - created_at)


async def keep_token(access: Access, token: str, principal: str, seconds: int, kept: dict[str, str]) -> tuple[int, int]:
    """Have the store keep a token. Returns when it was made and when it expires (Unix time in seconds)."""
    digest = tokens.digest(token)
    keys = access.gate.keyspace(GLOBAL)
    given = {"digest": digest, **{name: value for name, value in kept.items() if value}}
    command = credentials.token_create(keys, tokens.id_of(digest), principal, seconds, TOKENS, given)
    (reply,) = await access.gate.registry.write(GLOBAL, command)
    return credentials.read_token_create(reply)


async def begin_session(access: Access) -> Session:
    """A session of who has logged in. It is as limited as what was shown for it, and ends with that.

    Raises:
        Conflict: it is the operator, or what was shown was made by a session that was made by one, and so on.
        NotLoggedIn: it is nobody.
        StorageError: the store does not answer.
    """
    if access.principal is None:
        raise NotLoggedIn(access.refusal or "a session is begun with a token: `Authorization: Bearer hc_…`")
    principal = _in_browser(access.principal)
    if len(principal.tokens) >= GENERATIONS:
        raise Conflict("this session was made by another one, and that by another: log in again")
    scope = principal.scope
    kept = {
        "label": LABEL,
        "key": principal.key,
        "parent": " ".join(principal.tokens),
        "access": "read" if scope.is_reading else "full",
    }
    if scope.contexts is not None:
        kept["contexts"] = to_json(sorted(scope.contexts)).decode()
    seconds = int(max(1, min(SESSION_SECONDS, principal.expires_at - time.time())))
    token = tokens.new_token()
    created_at, expires_at = await keep_token(access, token, principal.name, seconds, kept)
    return Session(token, principal, created_at, expires_at)


async def end_session(access: Access) -> None:
    """Let the token of who has logged in by a cookie be good no longer. Raises StorageError."""
    principal = access.principal
    if principal is None or not principal.token or principal.kind == "operator":
        return
    keys, registry = access.gate.keyspace(GLOBAL), access.gate.registry
    (reply,) = await registry.write(GLOBAL, credentials.token_revoke(keys, principal.token, principal.name))
    credentials.read_token_revoke(reply)
    registry.tokens.forget(principal.token)


async def ticket(access: Access, params: models.TicketParams) -> bytes:
    principal = _in_browser(access.principal)
    _, secret = await access.gate.identity()
    text, expires_at = new_ticket(secret, principal)
    return to_json({"ticket": text, "expires_at": expires_at})


async def log_in_by_ticket(access: Access, text: str) -> Principal:
    """Who a ticket is for, which is used up with that. Raises NotLoggedIn, InvalidParams, StorageError."""
    if access.conversation is None:
        msg = "is for a WebSocket; over HTTP the cookie, or a token, is sent with each request"
        raise InvalidParams.at("ticket", msg=msg, type="unusable")
    gate = access.gate
    _, secret = await gate.identity()
    read = read_ticket(secret, text)
    detail = f"the ticket is none of this coordinator, was used, or is over {TICKET_SECONDS} s old: auth.ticket"
    if read is None:
        raise NotLoggedIn(detail)
    key = gate.keyspace(GLOBAL).used(read.name)
    (before,) = await gate.registry.write(GLOBAL, ("SET", key, "1", "NX", "PX", 2000 * TICKET_SECONDS))
    if before is None:
        raise NotLoggedIn(detail)
    if not await gate.logins.good_until(read.principal):
        raise NotLoggedIn("the login that the ticket was got by is over")
    return read.principal


def _in_browser(principal: Principal | None) -> Principal:
    assert principal is not None, "who calls this has logged in"
    if principal.kind == "operator":
        raise Conflict(_OPERATOR, principal="operator")
    return principal
