"""Heads of HTTP/1: from a request's bytes, up to and with its empty line, to what is to be done; and of responses.

h11 parses. What it takes but another reader on the way might read differently (RFC 9112, 11.2: request smuggling) is
refused here, and so is what it leaves to its user.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import h11

from coordinator.rpc.head_limits import MAX_HEAD, MAX_HEADERS, has_too_many_headers
from coordinator.rpc.http.answers import Answers, has_token
from coordinator.rpc.http.decisions import Answer, Call, Decision, Request

__all__ = ["CHUNKED", "PREFACE", "Head", "HeadReader", "Http2Upgrade", "response_head"]

REMEMBERED_BYTES: Final = 4 * 1024  # of the largest head that is remembered
REMEMBERED: Final = 1024  # heads; a client's are all but the same each time
CHUNKED: Final = -1
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\n"  # how a client begins that speaks HTTP/2 without asking; a body follows

_CLOSE: Final = b"connection: close\r\n"
_PROXY_PROTOCOL: Final = b"PROXY "
_SHOWN_BYTES: Final = re.compile(r"""bytearray\(b(['"])(.*)\1\)""")  # as h11 shows a line that it does not take
_BARE_LINE_FEED: Final = re.compile(rb"(?<!\r)\n")
_CONTINUED_LINE: Final = re.compile(rb"\n[ \t]")


@dataclass(frozen=True, slots=True)
class Http2Upgrade:
    """The client asks to go on in HTTP/2, and for the answer to this request there.

    Attributes:
        headers: the request as HTTP/2 has it.
        settings: the client's, in base64.
    """

    headers: tuple[tuple[bytes, bytes], ...]
    settings: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """What a head says.

    Attributes:
        decision: what is to be done.
        length: bytes of the body, or CHUNKED.
        closes: the connection ends after the response.
        is_broken: where the request ends cannot be told: nothing more is read.
        expects_continue: the client waits for a 100 before it sends the body.
        omits_body: the response has none, whatever its headers say.
        connection: the line that says what becomes of the connection, or none.
        replied, silent: the beginning of the response to a call; see Call.
        http2: the upgrade to HTTP/2 that it asks for.
    """

    decision: Decision
    length: int = 0
    closes: bool = False
    is_broken: bool = False
    expects_continue: bool = False
    omits_body: bool = False
    connection: bytes = b""
    replied: bytes = b""
    silent: bytes = b""
    http2: Http2Upgrade | None = None


class _Malformed(Exception):
    """The head is refused with this status."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail


class HeadReader:
    """Reads heads, and remembers the common ones: at most REMEMBERED × REMEMBERED_BYTES in all."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.remembered = lru_cache(REMEMBERED)(self.read)
        """As `read`, for a head of at most REMEMBERED_BYTES."""

    def read(self, head: bytes) -> Head:
        """What it says. Raises nothing on bad input."""
        try:
            return self._read(_parsed(head))
        except _Malformed as malformed:
            return self.broken(malformed.status, malformed.detail)

    def broken(self, status: int, detail: str) -> Head:
        """What is to be done with what is no head: refuse it, and end the connection."""
        return Head(self._answers.refusal(status, detail), closes=True, is_broken=True, connection=_CLOSE)

    def _read(self, parsed: h11.Request) -> Head:
        is_old = parsed.http_version < b"1.1"
        headers = _joined(parsed.headers)
        if is_old:
            headers.pop(b"expect", None)  # RFC 9110, 10.1.1
        request = Request(parsed.method.upper(), parsed.target, headers)
        decision = self._answers.decide(request)
        if is_old:
            closes = not has_token(headers, b"connection", b"keep-alive")
            connection = _CLOSE if closes else b"connection: keep-alive\r\n"
        else:
            closes = has_token(headers, b"connection", b"close")
            connection = _CLOSE if closes else b""
        call = decision if isinstance(decision, Call) else None
        return Head(
            decision,
            length=_length(headers, is_old=is_old),
            closes=closes,
            expects_continue=b"expect" in headers,
            omits_body=request.method == b"HEAD",
            connection=connection,
            replied=response_head(call.replied, connection) if call else b"",
            silent=response_head(call.silent, connection) if call else b"",
            http2=None if is_old else _http2_upgrade(request),
        )


def response_head(answer: Answer, connection: bytes) -> bytes:
    """The lines of a response's head but for its length, its date and the empty line."""
    lines = b"".join(b"%b: %b\r\n" % header for header in answer.headers if header[0] != b"connection")
    if any(name == b"upgrade" for name, _ in answer.headers):
        connection = b"connection: upgrade" + (b", close\r\n" if connection == _CLOSE else b"\r\n")
    return b"HTTP/1.1 %d %b\r\n%b%b" % (answer.status, HTTPStatus(answer.status).phrase.encode(), lines, connection)


def _parsed(head: bytes) -> h11.Request:
    """The request, or none of which two readers may differ in what it says."""
    if _BARE_LINE_FEED.search(head):
        raise _Malformed(400, "a line ends with a bare line feed")
    if _CONTINUED_LINE.search(head):
        raise _Malformed(400, "a header goes on in the next line")
    if has_too_many_headers(head):
        raise _Malformed(431, f"a request of over {MAX_HEADERS} headers")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        if head.startswith(_PROXY_PROTOCOL):
            raise _Malformed(
                400, "the PROXY protocol is not spoken here; have the proxy send X-Forwarded-For"
            ) from None
        raise _Malformed(error.error_status_hint, _SHOWN_BYTES.sub(r"\2", str(error))) from None
    if not isinstance(event, h11.Request) or connection.trailing_data[0]:
        raise _Malformed(400, "this is no request")
    if not event.http_version.startswith(b"1."):
        raise _Malformed(505, "HTTP/1.1, HTTP/1.0 and HTTP/2 are spoken here")
    return event


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = b"%b, %b" % (joined[name], value) if name in joined else value
    return joined


def _length(headers: Mapping[bytes, bytes], *, is_old: bool) -> int:
    """The length of the body. h11 has checked that the headers are well-formed by themselves."""
    if b"transfer-encoding" not in headers:
        return int(headers.get(b"content-length", 0))
    if b"content-length" in headers:
        raise _Malformed(400, "a body has a Content-Length or is chunked, not both")
    if is_old:
        raise _Malformed(400, "HTTP/1.0 has no Transfer-Encoding")
    return CHUNKED


def _http2_upgrade(request: Request) -> Http2Upgrade | None:
    """The upgrade it asks for, unless it is malformed or the request has a body: then it is answered in HTTP/1.1."""
    headers = request.headers
    if not has_token(headers, b"upgrade", b"h2c") or not has_token(headers, b"connection", b"upgrade"):
        return None
    settings = _padded_settings(headers.get(b"http2-settings"))
    if b"content-length" in headers or b"transfer-encoding" in headers or settings is None:
        return None
    kept = [
        (name, value)
        for name, value in headers.items()
        if name not in (b"host", b"connection", b"upgrade", b"http2-settings", b"keep-alive", b"te")
    ]
    pseudo = [
        (b":method", request.method),
        (b":path", request.target),
        (b":scheme", b"http"),
        (b":authority", headers.get(b"host", b"")),
    ]
    return Http2Upgrade((*pseudo, *kept), settings)


def _padded_settings(encoded: bytes | None) -> bytes | None:
    """The body of a SETTINGS frame in base64, if it is one, with the padding clients leave out (RFC 7540, 3.2.1)."""
    if encoded is None:
        return None
    padded = encoded + b"=" * (-len(encoded) % 4)
    try:
        return padded if len(base64.b64decode(padded, b"-_", validate=True)) % 6 == 0 else None
    except (binascii.Error, ValueError):
        return None
