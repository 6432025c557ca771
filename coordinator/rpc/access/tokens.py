"""Tokens: `hc_` and 256 random bits. What is kept of one is its SHA-256, so nobody who reads the store can use it."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

__all__ = ["ID_DIGITS", "NO_TOKEN", "bearer_of", "digest", "id_of", "new_token"]

ID_DIGITS: Final = 32  # of a token's digest, that are its id
NO_TOKEN: Final = "none"
"""Stands for the digest of what is no token."""
_TOKEN: Final = re.compile(r"hc_[A-Za-z0-9_-]{43}", re.ASCII)
_BEARER: Final = re.compile(rb"(?i:bearer) +(hc_[A-Za-z0-9_-]{43})", re.ASCII)


def new_token() -> str:
    return "hc_" + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is kept of it; '' of a text that is no token."""
    return hashlib.sha256(token.encode()).hexdigest() if _TOKEN.fullmatch(token) else ""


def id_of(digest: str) -> str:
    """How people and logs name the token of this digest."""
    return digest[:ID_DIGITS]


def bearer_of(authorization: bytes | None) -> str:
    """The digest of the token in an Authorization header; NO_TOKEN if there is none in it, '' if there is no header."""
    if authorization is None:
        return ""
    match = _BEARER.fullmatch(authorization.strip())
    return NO_TOKEN if match is None else digest(match[1].decode())
