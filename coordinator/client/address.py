"""What a URL says: the one place that knows how a coordinator's address is written."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from coordinator.redaction import without_credentials

__all__ = ["Address"]

DEFAULT_HTTP_PORT: Final = 9652
DEFAULT_WS_PORT: Final = 9653
WEBSOCKET_PATH: Final = "/ws"
"""Where the HTTP port serves WebSockets, beneath the path of the API itself."""

_PORTS: Final = {"http": DEFAULT_HTTP_PORT, "https": DEFAULT_HTTP_PORT, "ws": DEFAULT_WS_PORT, "wss": DEFAULT_WS_PORT}
_STANDARD_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_WEBSOCKET: Final = {"http": "ws", "https": "wss"}
_FORMS: Final = "http://HOST:PORT, https://HOST:PORT, ws://HOST:PORT or wss://HOST:PORT"
_PATH_CHARACTERS: Final = "/%:@!$&'()*+,;=~-._?"


@dataclass(frozen=True)
class Address:
    """Where a URL leads to.

    Attributes:
        scheme: http, https, ws or wss.
        host: a name in ASCII (its IDNA form) or an IP address without brackets, perhaps with a zone.
        port: the one in the URL, or the coordinator's own: 9652 of http and https, 9653 of ws and wss.
        names_port: whether the URL has a port.
        path: empty, or with a slash at its beginning. One at its end stays, unless a WebSocket's own path is before it:
            a proxy may serve the coordinator at /hero/, and answer /hero with a redirect.
        query: without its question mark.
    """

    scheme: str
    host: str
    port: int
    names_port: bool
    path: str = ""
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address of a coordinator as a person writes it.

        HOST and HOST:PORT without a scheme are ws://, or http:// if the port is 9652.

        Raises:
            ValueError: it is none; the message says why in one line.
        """
        text = text.strip()
        if any(character.isspace() or not character.isprintable() for character in text):
            raise ValueError(f"{without_credentials(text)!r} is no URL: there is a blank in it")
        if "://" not in text:
            text = _with_scheme(text)
        parts = _split(text)
        if parts.scheme not in _PORTS:
            raise ValueError(
                f"{without_credentials(text)!r} begins with {parts.scheme}://; a coordinator's URL is {_FORMS}"
            )
        if "@" in parts.netloc:
            raise ValueError(
                f"there are credentials before the @ of the URL for {parts.hostname!r}; "
                "a coordinator asks for none, so leave them out"
            )
        try:
            port = parts.port
        except ValueError:
            raise ValueError(
                f"{without_credentials(text)!r} has no port from 1 to 65535 behind its host{_bracket_hint(parts)}"
            ) from None
        if port == 0:
            raise ValueError(f"{without_credentials(text)!r} has port 0, where nobody listens")
        host = _host(parts, text)
        return cls(
            scheme=parts.scheme,
            host=host,
            port=_PORTS[parts.scheme] if port is None else port,
            names_port=port is not None,
            path=_path(parts),
            query=quote(parts.query, safe=_PATH_CHARACTERS),
        )

    @property
    def is_secure(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme in ("https", "wss")

    @property
    def is_websocket(self) -> bool:
        """Whether a WebSocket is asked for, by the scheme or by the path that the HTTP port has for it."""
        return self.scheme in ("ws", "wss") or self.path.endswith(WEBSOCKET_PATH)

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine's loopback, as far as the URL tells."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".").lower() == "localhost"

    def for_websocket(self) -> Address:
        """The WebSocket of the same coordinator: http://HOST:9652 becomes ws://HOST:9652/ws."""
        if self.scheme not in _WEBSOCKET:
            return self
        path = self.path if self.is_websocket else self.path.rstrip("/") + WEBSOCKET_PATH
        return replace(self, scheme=_WEBSOCKET[self.scheme], path=path)

    @property
    def host_header(self) -> str:
        """The Host of a request, which has a port unless it is the scheme's standard one."""
        host = self.host.partition("%")[0]  # a zone means nothing to the peer
        host = f"[{host}]" if ":" in host else host
        return host if self.port == _STANDARD_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def resource(self) -> str:
        """The target of a request."""
        return (self.path or "/") + (f"?{self.query}" if self.query else "")

    @property
    def url(self) -> str:
        """As it is shown: with its port, and without a query, in which there may be a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def _with_scheme(text: str) -> str:
    """What is meant by HOST or HOST:PORT."""
    name, colon, rest = text.partition(":")
    if name.lower() in _PORTS and colon and not rest.isdigit():
        raise ValueError(f"{without_credentials(text)!r} is no URL: it needs :// behind {name}")
    netloc = text.partition("/")[0]
    if not netloc:
        raise ValueError(f"{without_credentials(text)!r} is no URL: a coordinator's is {_FORMS}")
    return f"{'http' if netloc.endswith(f':{DEFAULT_HTTP_PORT}') else 'ws'}://{text}"


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError as error:  # brackets that do not match, or hold no IPv6 address
        why = "there is something wrong behind the @" if "@" in text else error
        raise ValueError(f"{without_credentials(text)!r} is no URL: {why}") from None


def _path(parts: SplitResult) -> str:
    path = quote(parts.path, safe=_PATH_CHARACTERS)
    stripped = path.rstrip("/")
    return path if stripped and not stripped.endswith(WEBSOCKET_PATH) else stripped


def _bracket_hint(parts: SplitResult) -> str:
    is_ipv6 = parts.netloc.count(":") > 1 and "[" not in parts.netloc
    return "; an IPv6 address needs brackets, as in ws://[::1]:9653" if is_ipv6 else ""


def _host(parts: SplitResult, text: str) -> str:
    host = unquote(parts.hostname or "")
    if not host:
        raise ValueError(f"{without_credentials(text)!r} names no host; a coordinator's URL is {_FORMS}")
    if hint := _bracket_hint(parts):
        raise ValueError(f"{without_credentials(text)!r} is no URL{hint}")
    if ":" in host:
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"{host!r} is no name of a host: {error}") from None
