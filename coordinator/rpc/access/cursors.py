"""Cursors of lists that leave out what the caller may not know of: sealed, for they name where the next page begins,
which may be something of that."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["sealed", "unsealed"]

_DOMAIN: Final = b"herocoordinator.cursor.v1"
_NONCE: Final = 12
_ID: Final = 4  # bytes of each id, so that the length says nothing of it


def sealed(secret: bytes, principal: str, id: int) -> str:
    """A cursor behind this id, which nobody else can use, and nobody can read."""
    nonce = secrets.token_bytes(_NONCE)
    return base64.urlsafe_b64encode(
        nonce + _cipher(secret).encrypt(nonce, id.to_bytes(_ID), principal.encode())
    ).decode()


def unsealed(secret: bytes, principal: str, cursor: str) -> int | None:
    """The id in it; None if it is no cursor of this principal."""
    try:
        decoded = base64.b64decode(cursor, b"-_", validate=True)
        return int.from_bytes(_cipher(secret).decrypt(decoded[:_NONCE], decoded[_NONCE:], principal.encode()))
    except (binascii.Error, ValueError, InvalidTag):
        return None


def _cipher(secret: bytes) -> AESGCM:
    return AESGCM(hmac.new(secret, _DOMAIN, hashlib.sha256).digest())
