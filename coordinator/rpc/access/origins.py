"""Who may call from a browser: the Origin and Host checks of both front-ends.

A page on any site can make its visitor's browser send requests here; only same-origin pages and those on the
allow-list get through. The Host must be one of ours too, or a hostile site could point its own name at our address
(DNS rebinding): on loopback a loopback name, elsewhere an address, which no site has for a name, or a name we are told
of. Clients that are no browsers send no Origin.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from coordinator.hosts import (
    ANY,
    DEFAULT_PORTS,
    NULL,
    Origin,
    allowed_host,
    allowed_origin,
    is_address,
    is_loopback,
    means_this_machine,
    read_host,
    read_origin,
)

__all__ = ["AccessPolicy", "joined"]


class AccessPolicy:
    """The rules of one listener.

    Args:
        bound_to: the address it listens on.
        allowed_origins: `scheme://host[:port]`, `null`, or `*` for any.
        allowed_hosts: names accepted in Host beyond those it has by itself, or `*` for any.
        own_names: what this machine and its certificate are called; accepted off loopback.
        public_url: at which clients reach us through a proxy. Its name is ours wherever we listen, and pages of its
            origin are our own, whichever Host the proxy sends.
        scheme: of our own pages, as browsers reach them; that of `public_url`, if there is one.

    Attributes:
        is_secure: they come over TLS.

    Raises:
        ValueError: one of those is neither.
    """

    def __init__(
        self,
        bound_to: str,
        *,
        allowed_origins: Iterable[str] = (),
        allowed_hosts: Iterable[str] = (),
        own_names: Iterable[str] = (),
        public_url: str | None = None,
        scheme: str = "http",
    ) -> None:
        self._public = None if public_url is None else _origin_of(public_url)
        self._scheme = scheme if self._public is None else self._public.scheme
        self.is_secure = self._scheme == "https"
        self._is_outside = not is_loopback(bound_to)
        self._own = set[str]()
        if self._is_outside:
            self._own = {read.name for name in own_names if (read := read_host(name)) is not None}
        if self._public is not None:
            self._own.add(self._public.name)
        self.allow(allowed_origins, allowed_hosts)

    def allow(self, origins: Iterable[str], hosts: Iterable[str]) -> None:
        """From now on let in these and no others, beside what it has by itself. Raises ValueError as above."""
        self._origins = {allowed_origin(text) for text in origins}
        allowed = {allowed_host(text) for text in hosts}
        self._checks_host = ANY not in allowed
        self._hosts = allowed | self._own

    def refusal(self, origin: str | None, host: str | None) -> str | None:
        """Why this request is refused, or None if it is not. Of a header given several times, see `joined`."""
        if self._checks_host and host is not None:
            named = read_host(host)
            if named is None or not (named.name in self._hosts or self._is_ours(named.name)):
                what = "a name of this server" if self._is_outside else "a loopback name"
                return f"Host {host!r} is not {what}; allow it with --allowed-hosts"
        if origin is not None and not (self.is_allowed(origin) or self._is_public(origin) or _is_own(origin, host)):
            return f"Origin {origin!r} may not call this server; allow it with --allowed-origins"
        return None

    def is_own_page(self, origin: str, host: str | None) -> bool:
        """Whether this is exactly the origin of our own pages: that of the public URL, or under that host. No list
        allows another one."""
        if self._is_public(origin):
            return True
        page = read_origin(origin)
        return page is not None and page.scheme == self._scheme and _is_own(origin, host)

    def _is_public(self, origin: str) -> bool:
        return self._public is not None and read_origin(origin) == self._public

    def _is_ours(self, name: str) -> bool:
        return means_this_machine(name) or (self._is_outside and is_address(name))

    def is_allowed(self, origin: str) -> bool:
        """Whether the origin is on the allow-list."""
        if ANY in self._origins:
            return True
        return (NULL if origin == NULL else read_origin(origin)) in self._origins


def _origin_of(url: str) -> Origin:
    parts = urlsplit(url)
    origin = read_origin(f"{parts.scheme}://{parts.netloc}")
    if origin is None:
        raise ValueError(f"{url!r} leads to no host")
    return origin


def joined(values: Iterable[str]) -> str | None:
    """The value of a header that may be given several times, as HTTP joins them: more than one is no host or origin."""
    values = [*values]
    return ", ".join(values) if values else None


def _is_own(origin: str, host: str | None) -> bool:
    """Whether a page of this origin comes from the host that the request is for."""
    page = read_origin(origin)
    own = None if host is None else read_host(host)
    if page is None or own is None or page.scheme not in DEFAULT_PORTS:
        return False
    # The scheme by which the page was reached tells which port a Host without one means.
    own_port = DEFAULT_PORTS[page.scheme] if own.port is None else own.port
    return (page.name, page.port) == (own.name, own_port)
