"""What is said of a request that cannot be read."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest

from tests.support.server import CoordinatorProcess


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 9652", "the PROXY protocol is not spoken here"),
        (b"GET  / HTTP/1.1", "illegal request line: GET  / HTTP/1.1"),
    ],
)
def test_it_is_shown_as_it_came(server: CoordinatorProcess, line: bytes, said: str) -> None:
    place = urlsplit(server.http)
    with socket.create_connection((place.hostname or "", place.port or 0), 10) as client:
        client.sendall(line + b"\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with client.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["data"]["detail"].startswith(said)
