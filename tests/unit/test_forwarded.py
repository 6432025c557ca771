"""Where a client is that calls through a proxy, and who is not believed."""

from __future__ import annotations

import pytest

from coordinator.rpc.access.forwarded import Proxies, peer_address

PROXIES = Proxies(["10.0.0.0/24", "2001:db8:ff::/48"])
PROXY = "10.0.0.7"


def address(peer: str = PROXY, **headers: str) -> str:
    told = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return peer_address(peer, told, PROXIES)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.9, 192.0.2.1", "192.0.2.1"),  # what the client has written itself stands before
        ("192.0.2.1, 10.0.0.8", "192.0.2.1"),
        ("198.51.100.9,192.0.2.1,10.0.0.8,10.0.0.9", "192.0.2.1"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("192.0.2.1:5678", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("192.0.2.1, 2001:db8:ff::2", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:10.0.0.9", "10.0.0.9"),
        ("nonsense, 10.0.0.9", "10.0.0.9"),
        ("192.0.2.1, nonsense", PROXY),
        ("192.0.2.1, unknown", PROXY),
        ("192.0.2.1,", PROXY),
        ("", PROXY),
        ("010.0.0.9", PROXY),
        ("192.0.2.1, " + "10.0.0.8, " * 500 + "10.0.0.9", "10.0.0.8"),
    ],
)
def test_x_forwarded_for(header: str, expected: str) -> None:
    assert address(x_forwarded_for=header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=198.51.100.9, for=192.0.2.1;proto=https;by=10.0.0.7", "192.0.2.1"),
        ("proto=https; for=192.0.2.1, for=10.0.0.8", "192.0.2.1"),
        ('for="192.0.2.1:1234"', "192.0.2.1"),
        ('for="[2001:db8::1]:443"', "2001:db8::1"),
        ('for="198.51.100.9, for=198.51.100.8", for=192.0.2.1', "192.0.2.1"),
        ("for=192.0.2.1, for=_hidden", PROXY),
        ("for=192.0.2.1, proto=https", PROXY),
        ("proto=https", PROXY),
        ('for="192.0.2.1', PROXY),
        # What a client leaves open does not take in what the proxy puts behind it.
        ('for=198.51.100.9;by=", for="[2001:db8::1]"', "2001:db8::1"),
        ('for=198.51.100.9;by="x, for="[2001:db8::1]:443";proto=https', "2001:db8::1"),
        ('for=198.51.100.9;by="\\, for="192.0.2.1:80"', "192.0.2.1"),
        ('for=198.51.100.9;by=\\, for="192.0.2.1:80"', "192.0.2.1"),
        ('", for=192.0.2.1', "192.0.2.1"),
        ('for="[2001:db8::1]";host="a\\", for=198.51.100.9"', "2001:db8::1"),
        ('host="x;for=198.51.100.9";for=192.0.2.1', "192.0.2.1"),  # of a Host that the client has sent
        ("for=198.51.100.9;for=192.0.2.1", PROXY),
        ('by=", ' * 3_000 + 'for="192.0.2.1:80"', "192.0.2.1"),
        ("for=192.0.2.1, " + "for=10.0.0.8, " * 500 + "for=10.0.0.9", "10.0.0.8"),
    ],
)
def test_forwarded(header: str, expected: str) -> None:
    assert address(forwarded=header) == expected


def test_nobody_else_is_believed() -> None:
    for peer in ("192.0.2.200", "127.0.0.1", "::1", "2001:db8::9", ""):
        assert address(peer, x_forwarded_for="192.0.2.1") == peer
    assert address("::ffff:10.0.0.7", x_forwarded_for="192.0.2.1") == "192.0.2.1"
    assert peer_address("127.0.0.1", {b"x-forwarded-for": b"192.0.2.1"}, Proxies()) == "127.0.0.1"


def test_of_two_headers_that_differ_neither_counts() -> None:
    assert address(x_forwarded_for="192.0.2.1", forwarded="for=192.0.2.1") == "192.0.2.1"
    assert address(x_forwarded_for="192.0.2.1", forwarded="for=192.0.2.2") == PROXY
    assert address(x_forwarded_for="192.0.2.1", forwarded="") == PROXY
