"""What a head of HTTP/1 says: the common one, odd ones, and those that are refused."""

from __future__ import annotations

import h11
import pytest

from coordinator.rpc.head_limits import MAX_HEAD, MAX_HEADERS
from coordinator.rpc.http.decisions import Answer, Call, ShowPage, WebSocketUpgrade
from coordinator.rpc.http.heads import CHUNKED, PREFACE, HeadReader
from tests.support.http import answers

HEADS = HeadReader(answers())
LINES = b"Host: localhost\r\nContent-Type: application/json\r\n"
POST = b"POST / HTTP/1.1\r\n" + LINES


def status(head: bytes) -> int:
    """The status of the refusal, which ends the connection."""
    read = HEADS.read(head)
    assert isinstance(read.decision, Answer)
    assert read.is_broken
    assert read.closes
    return read.decision.status


def test_a_plain_post_is_a_call() -> None:
    read = HEADS.read(POST + b"Content-Length: 7\r\n\r\n")

    assert isinstance(read.decision, Call)
    assert (read.length, read.closes, read.connection) == (7, False, b"")
    assert read.replied == b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    assert read.silent == b"HTTP/1.1 204 No Content\r\n"


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (b"Transfer-Encoding: chunked", CHUNKED),
        (b"TRANSFER-ENCODING: Chunked", CHUNKED),
        (b"Content-Length: 7\r\nContent-Length: 7", 7),
        (b"content-length:7 \t", 7),
        (b"Content-Length: 007", 7),
        (b"X-Other: 7", 0),
    ],
)
def test_the_body_has_one_length(line: bytes, length: int) -> None:
    assert HEADS.read(POST + line + b"\r\n\r\n").length == length


@pytest.mark.parametrize(
    ("version", "line", "closes", "said"),
    [
        (b"1.1", b"a: b", False, b""),
        (b"1.1", b"Connection: Keep-Alive", False, b""),
        (b"1.1", b"Connection: close", True, b"connection: close\r\n"),
        (b"1.1", b"Connection: x\r\nConnection: y , CLOSE", True, b"connection: close\r\n"),
        (b"1.0", b"a: b", True, b"connection: close\r\n"),
        (b"1.0", b"Connection: Keep-Alive", False, b"connection: keep-alive\r\n"),
        (b"1.2", b"a: b", False, b""),
    ],
)
def test_what_becomes_of_the_connection_is_as_asked(version: bytes, line: bytes, closes: bool, said: bytes) -> None:
    read = HEADS.read(b"GET /healthz HTTP/%b\r\n%b%b\r\n\r\n" % (version, LINES, line))

    assert isinstance(read.decision, ShowPage)
    assert (read.closes, read.connection) == (closes, said)


@pytest.mark.parametrize(
    ("head", "refusal"),
    [
        (POST + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Content-Length: 7\r\nContent-Length: 8\r\n\r\n", 400),
        (POST + b"Content-Length: 7, 8\r\n\r\n", 400),
        (POST + b"Content-Length: +7\r\n\r\n", 400),
        (POST + b"Content-Length: -7\r\n\r\n", 400),
        (POST + b"Content-Length: 0x7\r\n\r\n", 400),
        (POST + b"Content-Length: 7 7\r\n\r\n", 400),
        (POST + b"Content-Length:\r\n\r\n", 400),
        (POST + b"Content-Length : 7\r\n\r\n", 400),
        (POST + b" Content-Length: 7\r\n\r\n", 400),
        (POST + b"Content-Length: 7\r\n folded\r\n\r\n", 400),
        (POST + b"Content-Length: 7\n\r\n", 400),
        (POST + b"a: b\n\nGET / HTTP/1.1\r\n\r\n", 400),
        (POST + b"a: b\rc: d\r\n\r\n", 400),
        (POST + b"a\x00: b\r\n\r\n", 400),
        (POST + b"a: \x00b\r\n\r\n", 400),
        (POST + b"bad header\r\n\r\n", 400),
        (POST + b"a:\r\n" * MAX_HEADERS + b"\r\n", 431),
        (POST + b": nameless\r\n\r\n", 400),
        (POST + b"Host: other\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n", 400),  # HTTP/1.1 needs a Host
        (b"POST / HTTP/2.0\r\n" + LINES + b"\r\n", 505),
        (b"POST / HTTP/0.9\r\n" + LINES + b"\r\n", 505),
        (b"POST  / HTTP/1.1\r\n" + LINES + b"\r\n", 400),
        (b"POST / /x HTTP/1.1\r\n" + LINES + b"\r\n", 400),
        (b"POST /\xe9 HTTP/1.1\r\n" + LINES + b"\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"", 400),
        (b"\r\n\r\n", 400),
        (POST, 400),
        (PREFACE, 505),  # unless the connection begins with it
    ],
)
def test_what_two_readers_may_read_differently_or_takes_long_is_refused(head: bytes, refusal: int) -> None:
    assert status(head) == refusal


@pytest.mark.parametrize(
    ("target", "host", "refusal"),
    [
        (b"http://localhost/", b"evil.example", None),
        (b"HTTP://LOCALHOST:9652/", b"evil.example", None),
        (b"https://me@localhost", b"localhost", None),
        (b"http://evil.example/", b"localhost", 403),
        (b"http:///", b"localhost", 400),
        (b"ftp://localhost/", b"localhost", 400),
        (b"http://[/", b"localhost", 400),
        (b"localhost:80", b"localhost", 400),
        (b"*", b"localhost", 400),
    ],
)
def test_an_absolute_target_says_where_the_request_goes(target: bytes, host: bytes, refusal: int | None) -> None:
    read = HEADS.read(b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n\r\n" % (target, host))

    assert (read.decision.status if isinstance(read.decision, Answer) else None) == refusal


@pytest.mark.parametrize(
    ("version", "line", "expects"),
    [
        (b"1.1", b"Expect: 100-continue", True),
        (b"1.1", b"expect: 100-Continue", True),
        (b"1.0", b"Expect: 100-continue", False),
        (b"1.0", b"Expect: tea", False),
        (b"1.1", b"a: b", False),
    ],
)
def test_a_client_may_wait_for_leave_to_send_its_body(version: bytes, line: bytes, expects: bool) -> None:
    read = HEADS.read(b"POST / HTTP/%b\r\n%bContent-Length: 7\r\n%b\r\n\r\n" % (version, LINES, line))

    assert isinstance(read.decision, Call)
    assert read.expects_continue is expects


def test_other_expectations_are_not_met() -> None:
    read = HEADS.read(POST + b"Expect: tea\r\n\r\n")

    assert isinstance(read.decision, Answer)
    assert read.decision.status == 417


UPGRADE = b"Connection: keep-alive, Upgrade\r\nUpgrade: %b\r\n"


@pytest.mark.parametrize("path", [b"/", b"/ws", b"/ws?x=y"])
def test_a_websocket_is_asked_for(path: bytes) -> None:
    upgrade = UPGRADE % b"WebSocket"

    assert isinstance(HEADS.read(b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, LINES, upgrade)).decision, WebSocketUpgrade)
    assert not isinstance(HEADS.read(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, LINES)).decision, WebSocketUpgrade)
    assert not isinstance(
        HEADS.read(b"POST %b HTTP/1.1\r\n%b%b\r\n" % (path, LINES, upgrade)).decision, WebSocketUpgrade
    )


@pytest.mark.parametrize("settings", [b"", b"AAMAAABkAAQAoAAAAAIAAAAA", b"AAMAAABkAAQAoAAA"])
def test_http2_may_be_asked_for(settings: bytes) -> None:
    upgrade = UPGRADE % b"h2c" + b"HTTP2-Settings: %b\r\n" % settings

    http2 = HEADS.read(b"GET /healthz HTTP/1.1\r\n%b%b\r\n" % (LINES, upgrade)).http2
    assert http2 is not None
    assert dict(http2.headers)[b":path"] == b"/healthz"


@pytest.mark.parametrize(
    "more", [b"HTTP2-Settings: AAM", b"HTTP2-Settings: ?", b"HTTP2-Settings:\r\nContent-Length: 2", b"a: b"]
)
def test_an_upgrade_that_is_malformed_or_has_a_body_is_not_made(more: bytes) -> None:
    assert HEADS.read(POST + UPGRADE % b"h2c" + more + b"\r\n\r\n").http2 is None


def test_of_h11_this_is_relied_upon() -> None:
    """That it joins no lines for us that it refuses, and tells what is behind a head."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(b"GET / HTTP/1.1\r\nA: 1\r\nhost: x\r\na: 2\r\n\r\nrest")
    request = connection.next_event()

    assert isinstance(request, h11.Request)
    assert [*request.headers] == [(b"a", b"1"), (b"host", b"x"), (b"a", b"2")]
    assert connection.trailing_data == (b"rest", False)
