"""Which heads PlainPosts answers itself."""

from __future__ import annotations

import pytest

from coordinator.rpc.http.fast_path import read_head

PLAIN = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 7\r\n"


def test_a_plain_head_is_read_by_lower_case_names() -> None:
    assert read_head(PLAIN + b"\r\n") == {
        b"host": b"localhost",
        b"content-type": b"application/json",
        b"content-length": b"7",
    }


def test_keep_alive_may_be_asked_for() -> None:
    assert read_head(PLAIN + b"Connection: Keep-Alive\r\n\r\n") is not None


@pytest.mark.parametrize(
    "more",
    [
        *(b"Connection: close", b"Connection: keep-alive, close", b"Connection: upgrade\r\nUpgrade: h2c"),
        *(b"Upgrade: h2c", b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Content-Length: 8"),
        *(
            b"Origin: http://a\r\nOrigin: http://b",
            b"bad header",
            b"a: b\n\nGET / HTTP/1.1",
            b" folded: x",
            b"a\x00: b",
        ),
    ],
)
def test_a_head_that_asks_for_more_is_not_plain(more: bytes) -> None:
    assert read_head(PLAIN + more + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\r\n\r\n", PLAIN, b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n",  # HTTP/1.1 needs a Host
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -7\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_a_broken_head_is_not_plain(head: bytes) -> None:
    assert read_head(head) is None
