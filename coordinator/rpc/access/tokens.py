"""What somebody shows to say who it is.

A token of ours is `hc_` and 256 random bits. What is kept of one is its SHA-256, so nobody who reads the store can use
it. A JWT of an identity provider says itself whose it is, and has to be verified.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final, NamedTuple

from coordinator.rpc.access.principals import Principal

__all__ = ["NOTHING", "NO_TOKEN", "Shown", "bearer_of", "digest", "id_of", "new_token", "read_token", "shown_by"]

ID_DIGITS: Final = 32  # of a token's digest, that are its id
NO_TOKEN: Final = "none"
"""Stands for the digest of what is no token."""
_TOKEN: Final = re.compile(r"hc_[A-Za-z0-9_-]{43}", re.ASCII)
MAX_JWT: Final = 8192  # characters
_SIGNED: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_SCHEME: Final = re.compile(rb"(?i:bearer) +", re.ASCII)
_BEARER: Final = re.compile(rb"(?i:bearer) +(hc_[A-Za-z0-9_-]{43})", re.ASCII)


class Shown(NamedTuple):
    """What a client has shown.

    Attributes:
        digest: by which it is known again: of a token, of a JWT, or of what a certificate names; NO_TOKEN of what is
            none of them, '' if nothing was shown.
        jwt: the JWT.
        certified: whom its certificate names.
    """

    digest: str = ""
    jwt: str = ""
    certified: Principal | None = None


NOTHING: Final = Shown()


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


def read_token(text: str) -> Shown:
    """A token, or a JWT, by itself."""
    ours = digest(text)
    if ours:
        return Shown(ours)
    if len(text) <= MAX_JWT and _SIGNED.fullmatch(text):
        return Shown("jwt:" + hashlib.sha256(text.encode()).hexdigest(), text)
    return Shown(NO_TOKEN)


def shown_by(authorization: bytes | None) -> Shown:
    """The token, or the JWT, in an Authorization header."""
    if authorization is None:
        return NOTHING
    scheme = _SCHEME.match(authorization.strip())
    return Shown(NO_TOKEN) if scheme is None else read_token(authorization.strip()[scheme.end() :].decode("latin-1"))
