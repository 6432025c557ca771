"""Challenges: a text of ours that a key signs once.

A challenge on a WebSocket is kept by its connection. Over HTTP there is no connection to keep it, so it says itself
when it was made, under a MAC; the store makes sure that it is used once, when its signature was found right:
whoever has no key makes us store nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from typing import Final

__all__ = ["CHALLENGE_SECONDS", "Nonces", "is_ours", "sealed_nonce"]

CHALLENGE_SECONDS: Final = 30
OUTSTANDING: Final = 8  # challenges of a connection; a further one takes the oldest one's place
_RANDOM: Final = 16
_TIME: Final = 8
_MAC: Final = 16
_DOMAIN: Final = b"herocoordinator.nonce.v1"


class Nonces:
    """The challenges of one connection."""

    def __init__(self) -> None:
        self._expiries: OrderedDict[str, int] = OrderedDict()

    def new(self) -> tuple[str, int]:
        """A nonce, and until when (Unix time in seconds) it is good."""
        nonce, expires_at = secrets.token_urlsafe(_RANDOM + _TIME), int(time.time()) + CHALLENGE_SECONDS
        self._expiries[nonce] = expires_at
        while len(self._expiries) > OUTSTANDING:
            self._expiries.popitem(last=False)
        return nonce, expires_at

    def use(self, nonce: str) -> int | None:
        """Until when it was good; None if it is none of ours, was used, or its time is over."""
        expires_at = self._expiries.pop(nonce, None)
        return expires_at if expires_at is not None and time.time() < expires_at else None


def sealed_nonce(secret: bytes) -> tuple[str, int]:
    """A nonce that every coordinator with this secret knows again, and until when it is good."""
    expires_at = int(time.time()) + CHALLENGE_SECONDS
    body = secrets.token_bytes(_RANDOM) + expires_at.to_bytes(_TIME, "big")
    return base64.urlsafe_b64encode(body + _mac(secret, body)).decode(), expires_at


def is_ours(secret: bytes, nonce: str) -> int | None:
    """Until when such a nonce is good; None if it is none of ours, or that is over."""
    try:
        decoded = base64.b64decode(nonce, b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    body, mac = decoded[:-_MAC], decoded[-_MAC:]
    # The other spellings that base64 has for the same bytes would be used a second time.
    if len(body) != _RANDOM + _TIME or base64.urlsafe_b64encode(decoded).decode() != nonce:
        return None
    if not hmac.compare_digest(mac, _mac(secret, body)):
        return None
    expires_at = int.from_bytes(body[_RANDOM:], "big")
    return expires_at if time.time() < expires_at else None


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.new(secret, _DOMAIN + body, hashlib.sha256).digest()[:_MAC]
