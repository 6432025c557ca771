"""Tickets: whoever has one is its principal on one WebSocket, once and within 30 s.

A page that is logged in by a cookie, which it cannot read, gets one over HTTP and shows it on a WebSocket to which the
browser sends no cookie. A ticket says itself whose it is, under a MAC, so making one stores nothing; the store
makes sure that it is used once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from typing import Final, NamedTuple

from pydantic_core import from_json, to_json

from coordinator.rpc.access.principals import Principal, Scope, read_principal

__all__ = ["TICKET_SECONDS", "Ticket", "new_ticket", "read_ticket"]

TICKET_SECONDS: Final = 30
_MAC: Final = 32
_DOMAIN: Final = b"herocoordinator.ticket.v1"


class Ticket(NamedTuple):
    """What a ticket says.

    Attributes:
        principal: whose it is; it is as limited, and ends with the same tokens, as who has asked for it.
        name: what the store remembers of it once it was used.
    """

    principal: Principal
    name: str


def new_ticket(secret: bytes, principal: Principal) -> tuple[str, int]:
    """A ticket that every coordinator with this secret knows again, and until when (Unix time in seconds) it is good.

    Args:
        principal: an actor or a runner.
    """
    expires_at = int(time.time()) + TICKET_SECONDS
    scope = principal.scope
    body = to_json(
        {
            "until": expires_at,
            "nonce": secrets.token_urlsafe(16),
            "principal": principal.name,
            "key": principal.key,
            "token": principal.token,
            "parent": principal.parent,
            "expires_at": principal.expires_at,
            "contexts": None if scope.contexts is None else sorted(scope.contexts),
            "is_reading": scope.is_reading,
        }
    )
    return base64.urlsafe_b64encode(_mac(secret, body) + body).decode(), expires_at


def read_ticket(secret: bytes, text: str) -> Ticket | None:
    """What a ticket says; None if it is none of ours, or its time is over."""
    try:
        decoded = base64.b64decode(text, b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    mac, body = decoded[:_MAC], decoded[_MAC:]
    if not body or not hmac.compare_digest(mac, _mac(secret, body)):
        return None
    said = from_json(body)
    named = read_principal(said["principal"])
    if named is None or said["until"] <= time.time():
        return None
    contexts = said["contexts"]
    principal = Principal(
        named.kind,
        named.id,
        named.context_id,
        key=said["key"],
        token=said["token"],
        parent=said["parent"],
        expires_at=said["expires_at"],
        scope=Scope(None if contexts is None else frozenset(contexts), said["is_reading"]),
    )
    # The other spellings that base64 has for the same bytes are the same ticket.
    return Ticket(principal, f"ticket:{said['nonce']}")


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.new(secret, _DOMAIN + body, hashlib.sha256).digest()
