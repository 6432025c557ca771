"""URLs as people write them."""

from __future__ import annotations

import pytest

from coordinator.client.address import Address

WEBSOCKETS = [
    ("ws://127.0.0.1:9653", "ws://127.0.0.1:9653", "127.0.0.1:9653", "/"),
    ("ws://127.0.0.1:9653/", "ws://127.0.0.1:9653", "127.0.0.1:9653", "/"),
    ("wss://hero.example", "wss://hero.example:9653", "hero.example:9653", "/"),
    ("wss://hero.example:443", "wss://hero.example:443", "hero.example", "/"),
    ("ws://hero.example:443", "ws://hero.example:443", "hero.example:443", "/"),
    ("ws://hero.example:80", "ws://hero.example:80", "hero.example", "/"),
    ("ws://[::1]:9653", "ws://[::1]:9653", "[::1]:9653", "/"),
    ("ws://[fe80::1%25eth0]:1", "ws://[fe80::1%eth0]:1", "[fe80::1]:1", "/"),
    ("WS://Hero.Example:1", "ws://hero.example:1", "hero.example:1", "/"),
    ("ws://bücher.example:1", "ws://xn--bcher-kva.example:1", "xn--bcher-kva.example:1", "/"),
    ("ws://h:1/%20/é?key=ö", "ws://h:1/%20/%C3%A9", "h:1", "/%20/%C3%A9?key=%C3%B6"),
    ("http://h:9652", "ws://h:9652/ws", "h:9652", "/ws"),
    ("http://h:9652/", "ws://h:9652/ws", "h:9652", "/ws"),
    ("http://h", "ws://h:9652/ws", "h:9652", "/ws"),
    ("https://h/hero/", "wss://h:9652/hero/ws", "h:9652", "/hero/ws"),
    ("https://h/hero//", "wss://h:9652/hero/ws", "h:9652", "/hero/ws"),
    ("https://h/hero/ws/", "wss://h:9652/hero/ws", "h:9652", "/hero/ws"),
    ("wss://h/hero/", "wss://h:9653/hero/", "h:9653", "/hero/"),
    ("https://h:443/ws", "wss://h:443/ws", "h", "/ws"),
    ("https://h:443/?key=1", "wss://h:443/ws", "h", "/ws?key=1"),
    (" ws://h:1 ", "ws://h:1", "h:1", "/"),
    ("h", "ws://h:9653", "h:9653", "/"),
    ("h:1", "ws://h:1", "h:1", "/"),
    ("http:9653", "ws://http:9653", "http:9653", "/"),
    ("h:9652", "ws://h:9652/ws", "h:9652", "/ws"),
    ("[::1]:9653", "ws://[::1]:9653", "[::1]:9653", "/"),
    ("127.0.0.1", "ws://127.0.0.1:9653", "127.0.0.1:9653", "/"),
]


@pytest.mark.parametrize(("text", "url", "host_header", "resource"), WEBSOCKETS)
def test_each_url_leads_to_a_websocket(text: str, url: str, host_header: str, resource: str) -> None:
    address = Address.parse(text).for_websocket()

    assert (address.url, address.host_header, address.resource) == (url, host_header, resource)
    assert address.is_websocket


@pytest.mark.parametrize(
    ("text", "resource"),
    [
        ("http://h:1", "/"),
        ("http://h:1//", "/"),
        ("http://h:1/hero", "/hero"),
        ("http://h:1/hero/", "/hero/"),
        ("http://h:1/hero/?a=b/", "/hero/?a=b/"),
        ("http://h:1/ws/", "/ws"),
    ],
)
def test_a_slash_behind_a_path_is_asked_for_as_it_is_written(text: str, resource: str) -> None:
    """nginx redirects /hero to /hero/ where it serves the coordinator beneath that, and a POST is lost on the way."""
    assert Address.parse(text).resource == resource


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no URL"),
        ("/path", "is no URL"),
        ("ftp://h:1", "begins with ftp://"),
        ("http:/h:1", "needs :// behind http"),
        ("ws:h", "needs :// behind ws"),
        ("ws://", "names no host"),
        ("ws://:9653", "names no host"),
        ("ws://h:port", "no port from 1 to 65535"),
        ("ws://h:70000", "no port from 1 to 65535"),
        ("ws://h:0", "port 0"),
        ("ws://::1:9653", "needs brackets"),
        ("::1", "needs brackets"),
        ("ws://[::1:9653", "is no URL"),
        ("ws://[h]:1", "is no URL"),
        ("ws://my host:1", "a blank in it"),
        ("ws://h\r\nX: y", "a blank in it"),
        (f"ws://{'x' * 64}:1", "is no name of a host"),
    ],
)
def test_what_is_no_url_is_refused_in_one_line_that_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        Address.parse(text)

    assert "\n" not in str(refused.value)


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="credentials") as refused:
        Address.parse("wss://me:s3cret@hero.example:1")

    assert "s3cret" not in str(refused.value)


def test_a_query_in_which_there_may_be_a_secret_is_sent_but_not_shown() -> None:
    address = Address.parse("wss://hero.example:1/?token=s3cret")

    assert address.resource == "/?token=s3cret"
    assert "s3cret" not in address.url
