"""Who may call from a browser: the Origin and Host checks of both front-ends.

A page on any site can make its visitor's browser send requests here; only same-origin pages and those on the
allow-list get through. On loopback the Host must be a loopback name too, or a hostile site could point its own name
at 127.0.0.1 (DNS rebinding). Clients that are no browsers send no Origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["AccessPolicy"]


class AccessPolicy:
    """The rules of one listener.

    Args:
        bound_to: the address it listens on.
        allowed_origins: `scheme://host[:port]`, or `*` for any.
        allowed_hosts: names accepted in Host beyond the loopback ones, or `*` for any.
    """

    def __init__(
        self, bound_to: str, *, allowed_origins: Iterable[str] = (), allowed_hosts: Iterable[str] = ()
    ) -> None:
        self._origins = {origin.rstrip("/").lower() for origin in allowed_origins}
        self._hosts = {host.lower() for host in allowed_hosts}
        self._checks_host = _is_loopback(bound_to) and "*" not in self._hosts

    def refusal(self, origin: str | None, host: str | None) -> str | None:
        """Why this request is refused, or None if it is not."""
        if self._checks_host and host is not None:
            name = _host_name(host)
            if name not in self._hosts and not _is_loopback(name):
                return f"Host {host!r} is not a loopback name; allow it with --allowed-hosts"
        if origin is not None and not self.is_allowed(origin) and not _same(origin, host):
            return f"Origin {origin!r} may not call this server; allow it with --allowed-origins"
        return None

    def is_allowed(self, origin: str) -> bool:
        """Whether the origin is on the allow-list."""
        return "*" in self._origins or origin.lower() in self._origins


def _same(origin: str, host: str | None) -> bool:
    return host is not None and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _host_name(host: str) -> str:
    """The name in a Host header: without port and brackets, in lower case."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
