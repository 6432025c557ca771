"""Where a client is that calls through a proxy.

A proxy puts the address it was called from behind what stands in the header already, which anybody may have written. So
headers are read from their end, as far as those who wrote are proxies of ours, and only if one of them has called us.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

__all__ = ["Proxies", "peer_address"]

FORWARDED_FOR: Final = b"x-forwarded-for"
FORWARDED: Final = b"forwarded"
READ: Final = 100  # addresses of a header at most, from its end

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 7239, 4: `name=value`, in quotes if it is an address of IPv6 or has a port, with semicolons between.
_PAIR: Final = re.compile(r"""\s*([\w!#$%&'*+.^`|~-]+)=("(?:[^"\\]|\\.)*"|[^;,"\s]*)\s*(?:;|$)""", re.ASCII)
_MARKS: Final = re.compile(r"""\\*"|,""")
_WITH_PORT: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?", re.ASCII)


class Proxies:
    """Those of --behind-proxy.

    Args:
        networks: where they are.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(network) for network in networks)
        self._is_one = lru_cache(1024)(self._is_in_networks)

    def told(self, headers: Mapping[bytes, bytes]) -> str:
        """Where a request is from as its headers tell, by lower-case names; '' if they tell nothing. To be believed if
        a proxy has sent it, see `address`."""
        if not self._networks:
            return ""
        by_proxies, standard = headers.get(FORWARDED_FOR), headers.get(FORWARDED)
        if by_proxies is None or standard is None:
            value = by_proxies if standard is None else standard
            return "" if value is None else self._nearest(value.decode("latin-1"), is_standard=by_proxies is None)
        # A proxy writes one of them and passes on the other, which is the client's.
        one = self._nearest(by_proxies.decode("latin-1"), is_standard=False)
        return one if one == self._nearest(standard.decode("latin-1"), is_standard=True) else ""

    def address(self, peer: str, told: str) -> str:
        """Where a client is whose connection is from `peer`, and whose request tells this."""
        return told if told and self._is_one(peer) else peer

    def _nearest(self, header: str, *, is_standard: bool) -> str:
        """The last address that is no proxy's, or else the first; '' if the last is none."""
        nearest = ""
        entries = _entries(header) if is_standard else header.split(",")
        for entry in entries[: -READ - 1 : -1]:
            address = _address_of(entry.strip())
            if not address:
                break  # what stands before was told by who hides, or cannot write
            nearest = address
            if not self._is_one(address):
                break
        return nearest

    def _is_in_networks(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def peer_address(peer: str, headers: Mapping[bytes, bytes], proxies: Proxies) -> str:
    """Where a client is: the one place that says so.

    Args:
        peer: where its connection is from.
        headers: of its request, by lower-case names; the values of a repeated one joined by commas.
    """
    return proxies.address(peer, proxies.told(headers))


def _entries(header: str) -> list[str]:
    """The addresses after `for=` in a Forwarded header, one for each proxy; '' where it tells none.

    What stands behind the last comma is a proxy's. So quotes are paired from the end: one that a client has left open
    would take in what the proxy has put behind it.
    """
    ends, is_quoted = [], False
    for mark in [*_MARKS.finditer(header)][::-1]:
        if mark[0] != ",":
            is_quoted ^= len(mark[0]) % 2 == 1  # else it is escaped
        elif not is_quoted:
            ends.append(mark.start())
            if len(ends) == READ:
                break
    ends.reverse()
    begins = [0 if len(ends) < READ else len(header), *(end + 1 for end in ends)]
    return [_for(header[begin:end]) for begin, end in zip(begins, [*ends, None], strict=True)]


def _for(element: str) -> str:
    """What stands after `for=`; '' if nothing does, or it does twice, or this is no element."""
    found, at = "", 0
    while at < len(element):
        pair = _PAIR.match(element, at)
        if pair is None or (pair[1].lower() == "for" and found):
            return ""
        if pair[1].lower() == "for":
            found = pair[2]
        at = pair.end()
    return found.strip('"')


def _address_of(text: str) -> str:
    """The address in an entry, without its port; '' if it is none."""
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(text if match is None else match["v6"] or match["v4"])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
