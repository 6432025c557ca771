"""The cookie of a browser's session: it holds a token, and counts only for pages of our own.

A browser sends it by itself, whoever has made it send the request. So it is looked at only if the request says that it
comes from a page of exactly the origin it goes to: by its Origin, or, as browsers leave that out of some requests, by
Sec-Fetch-Site, which no page can set. What a browser opens in a window shows nothing by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.access.tokens import NOTHING, Shown, digest

__all__ = ["cleared_cookie", "session_cookie", "shown_by_cookie"]

NAME: Final = "herocoordinator"
SECURE_NAME: Final = "__Host-herocoordinator"  # one that only this host can have set, over TLS
_SEPARATOR: Final = re.compile("[;,]")  # a header that was given twice is joined by a comma
_ATTRIBUTES: Final = "; Path=/; HttpOnly; SameSite=Strict"


def session_cookie(policy: AccessPolicy, token: str, seconds: int) -> bytes:
    """The value of Set-Cookie that begins a session."""
    return _cookie(policy, token, seconds)


def cleared_cookie(policy: AccessPolicy) -> bytes:
    """The one that ends it."""
    return _cookie(policy, "", 0)


def shown_by_cookie(
    policy: AccessPolicy, headers: Mapping[bytes, bytes], host: str | None, *, needs_origin: bool = False
) -> Shown:
    """What the cookie of a request shows: nothing if there is none, or two, or another page may have sent it.

    Args:
        headers: by lower-case names; the values of a repeated one joined by commas.
        host: by which the client has called us.
        needs_origin: Sec-Fetch-Site is not enough.
    """
    cookie = headers.get(b"cookie")
    if cookie is None:
        return NOTHING
    origin = headers.get(b"origin")
    if origin is not None:
        is_own = policy.is_own_page(origin.decode("latin-1"), host)
    else:
        is_own = not needs_origin and bool(host) and headers.get(b"sec-fetch-site") == b"same-origin"
    if not is_own:
        return NOTHING
    pairs = (pair.strip().partition("=") for pair in _SEPARATOR.split(cookie.decode("latin-1")))
    values = [value for name, _, value in pairs if name == _name(policy)]
    shown = digest(values[0]) if len(values) == 1 else ""
    return Shown(shown) if shown else NOTHING


def _cookie(policy: AccessPolicy, value: str, seconds: int) -> bytes:
    secure = "; Secure" if policy.is_secure else ""
    return f"{_name(policy)}={value}{_ATTRIBUTES}; Max-Age={seconds}{secure}".encode()


def _name(policy: AccessPolicy) -> str:
    return SECURE_NAME if policy.is_secure else NAME
