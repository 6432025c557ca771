"""Hosts and origins as headers, settings and URLs write them, brought to one spelling. Knows no policy."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Final, NamedTuple

__all__ = [
    "ANY",
    "DEFAULT_PORTS",
    "NULL",
    "Host",
    "Origin",
    "allowed_host",
    "allowed_origin",
    "is_address",
    "is_loopback",
    "is_wildcard",
    "means_this_machine",
    "read_host",
    "read_origin",
    "url_of",
]

ANY: Final = "*"
NULL: Final = "null"
"""The Origin of pages that have none: a file, a frame in a sandbox."""
MAX_PORT: Final = 65535
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SAME_AS: Final = {"ws": "http", "wss": "https"}  # a handshake is a request over HTTP

# RFC 9110, 7.2: no user, no path. A name has none of the characters that end one in a URL, for one reader or another.
_HOST: Final = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]+)(?:%[0-9a-z._~-]+)?\]|(?P<name>[^\x00-\x20\x7f/?#@\\:\[\]%,;\"'<>^`{|}]+))"
    r"(?::(?P<port>[0-9]{0,5}))?",
    re.IGNORECASE | re.ASCII,
)
_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>.+)", re.IGNORECASE | re.ASCII)
_ODD_IPV4: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", re.ASCII)


class Host(NamedTuple):
    """A name in lower case without the root's dot, or an address as `ipaddress` writes it; and a port, if one is given.

    An IPv6 address has neither brackets nor a zone.
    """

    name: str
    port: int | None


class Origin(NamedTuple):
    """A web origin. `ws` is `http` and `wss` is `https`; `port` is the scheme's own if none is given."""

    scheme: str
    name: str
    port: int | None


def read_host(text: str) -> Host | None:
    """What stands in a Host header; None if that names no host. A user, a path or a blank in it makes it none."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    name = _address_v6(match["v6"]) if match["v6"] else _name(match["name"].lower())
    port = int(match["port"]) if match["port"] else None
    if name is None or (port is not None and port > MAX_PORT):
        return None
    return Host(name, port)


def read_origin(text: str) -> Origin | None:
    """What stands in an Origin header; None if that is no origin of a page on some host, as `null`."""
    match = _ORIGIN.fullmatch(text)
    host = None if match is None else read_host(match["host"])
    if match is None or host is None:
        return None
    scheme = match["scheme"].lower()
    scheme = _SAME_AS.get(scheme, scheme)
    return Origin(scheme, host.name, DEFAULT_PORTS.get(scheme) if host.port is None else host.port)


def allowed_origin(text: str) -> Origin | str:
    """An entry of the allow-list of origins: what Origin headers of it are read as, `null` or `*`.

    Raises:
        ValueError: it is nonsense.
    """
    if text in (ANY, NULL):
        return text
    origin = read_origin(text.removesuffix("/"))
    if origin is None or ANY in origin.name:
        raise ValueError(f"{text!r} is no origin: one is SCHEME://HOST[:PORT], as https://app.example; * allows any")
    return origin


def allowed_host(text: str) -> str:
    """An entry of the allow-list of hosts: the name that Host headers of it are read as, or `*`.

    Raises:
        ValueError: it is nonsense.
    """
    if text == ANY:
        return text
    is_bare_v6 = text.count(":") > 1 and not text.startswith("[")
    host = read_host(f"[{text}]" if is_bare_v6 else text)
    if host is None or host.port is not None or ANY in host.name:
        raise ValueError(f"{text!r} is no host: one is a name or an address without a port; * allows any")
    return host.name


def is_address(name: str) -> bool:
    """Whether a `Host.name` is an IP address."""
    return _address(name) is not None


def is_loopback(name: str) -> bool:
    """Whether it can lead to nothing but this machine: a `Host.name`, or an address one listens on."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def means_this_machine(name: str) -> bool:
    """Whether a client that asked for this `Host.name` asked for its own machine: loopback, or `0.0.0.0` or `::`."""
    return is_loopback(name) or is_wildcard(name)


def is_wildcard(name: str) -> bool:
    """Whether who listens there listens on every address of the machine: `0.0.0.0` or `::`."""
    address = _address(name)
    return address is not None and address.is_unspecified


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, that of IPv4 for one inside IPv6 (`::ffff:127.0.0.1`)."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _address_v6(text: str) -> str | None:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _name(text: str) -> str | None:
    name = text.removesuffix(".")
    if not name or ".." in f".{name}.":
        return None
    if _ODD_IPV4.fullmatch(name):  # `127.1`, `0x7f.1`, as browsers read them
        try:
            return str(ipaddress.IPv4Address(socket.inet_aton(name)))
        except OSError:
            return None
    return name


def url_of(scheme: str, host: str, port: int | None) -> str:
    """The URL of a server."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port is None else f"{scheme}://{name}:{port}"
