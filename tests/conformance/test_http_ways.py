"""The same bytes down both ways: our HTTP/1, and Hypercorn's on the ASGI app that HTTP/2 is served by.

The answers are the same but for what concerns the connection: `date` and `connection`, a 100 before the answer, and
whether the connection outlives a request that is refused before its body has come. What only one of them refuses (bare
line feeds, continued lines, two lengths) and what h11 has no keep-alive for (HTTP/1.0) is in test_http_heads. A head of
over 16 KiB is always refused by ours, by Hypercorn only if it does not arrive at once.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import trio
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.rpc.http.asgi import AsgiApp
from coordinator.rpc.http.connection import Connection
from coordinator.rpc.http.heads import HeadReader
from coordinator.rpc.http.http2 import hypercorn_config
from coordinator.rpc.http.lifetime import Limits, Waiting
from tests.support.http import ALLOWED_ORIGIN, MAX_BODY, answers

LIMITS: Final = Limits(idle_timeout=60.0, request_timeout=30.0, write_timeout=30.0, max_unsent_bytes=1 << 20)
RULES: Final = answers(has_websocket=False)
HEADS: Final = HeadReader(RULES)
CALL: Final = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}'

Serve = Callable[[trio.SocketStream], Awaitable[Any]]
Response = tuple[int, list[tuple[bytes, bytes]], bytes]


async def serve_ours(stream: trio.SocketStream) -> None:
    await Connection(stream, RULES, HEADS, LIMITS, Waiting()).serve()
    await stream.aclose()


async def serve_hypercorn(stream: trio.SocketStream) -> None:
    app = wrap_app(AsgiApp(RULES, LIMITS, lambda: None), 1, "asgi")  # type: ignore[arg-type] # its own types
    config = hypercorn_config()
    await TCPServer(app, config, WorkerContext(None), ConnectionState({}), stream).run()  # type: ignore[arg-type]


async def exchanged(serve: Serve, pieces: list[bytes], methods: list[bytes]) -> list[Response]:
    """The responses to requests with these methods, sent in pieces."""
    ours, theirs = trio.socket.socketpair()
    client = trio.SocketStream(theirs)
    responses: list[Response] = []
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, trio.SocketStream(ours))
            nursery.start_soon(partial(_send, client, pieces))
            received = b""
            while len(responses) < len(methods):
                parsed = _parsed(received, methods[len(responses)])
                if parsed is None:
                    data = await client.receive_some()
                    assert data, (received, responses)
                    received += data
                    continue
                response, received = parsed
                if response[0] != 100:
                    responses.append(response)
            nursery.cancel_scope.cancel()
    return responses


async def _send(client: trio.SocketStream, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            await client.send_all(piece)
            await trio.lowlevel.checkpoint()  # so that the other side may read it by itself
            await trio.lowlevel.checkpoint()
    except trio.BrokenResourceError:
        pass  # it was refused before its end


def _parsed(data: bytes, method: bytes) -> tuple[Response, bytes] | None:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    status = int(first.split(b" ")[1])
    has_body = method != b"HEAD" and status not in (100, 204)
    length = int(dict(headers)[b"content-length"]) if has_body else 0
    if len(rest) < length:
        return None
    kept = sorted(header for header in headers if header[0] not in (b"date", b"connection"))
    return (status, kept, rest[:length]), rest[length:]


def odd_case(name: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([name, name.title(), name.upper()])


METHODS = st.sampled_from([b"POST"] * 6 + [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PATCH", b"post", b"X-Y"])
TARGETS = st.sampled_from(
    [b"/"] * 6
    + [
        b"/healthz",
        b"/readyz",
        b"/metrics",
        b"/openrpc.json",
        b"/dashboard.json",
        b"/ws",
        b"/nothing",
        b"/?a=b",
        b"/%2f",
        b"/healthz?x",
        b"*",
    ]
    + [
        b"http://localhost/",
        b"http://localhost",
        b"http://evil.example/",
        b"HTTP://localhost/healthz",
        b"ftp://x/",
        b"//",
    ]
)
BODIES = st.one_of(
    st.sampled_from(
        [
            CALL,
            b"[%b,%b]" % (CALL, CALL),
            b'{"jsonrpc":"2.0","method":"nothing"}',
            b"",
            b"{",
            b"[]",
            b"{}",
            b"\xef\xbb\xbf{}",
        ]
    ),
    st.sampled_from([gzip.compress(CALL), gzip.compress(b" " * (MAX_BODY + 1)), CALL + b" " * (MAX_BODY - len(CALL))]),
    st.binary(max_size=200),
)
TYPES = st.sampled_from(
    [b"application/json"] * 6
    + [b"Application/JSON ; charset=UTF-8", b"application/json-rpc", b"text/plain", b"", b"application/json; charset=x"]
)
EXTRA = st.lists(
    st.sampled_from(
        [
            *((b"x-some", b"thing"), (b"x-some", b"other"), (b"accept", b"*/*"), (b"x-long", b"y" * 3_500)),
            *(
                (b"origin", ALLOWED_ORIGIN.encode()),
                (b"origin", b"https://evil.example"),
                (b"origin", b"http://localhost"),
            ),
            *((b"content-encoding", b"gzip"), (b"content-encoding", b"identity"), (b"content-encoding", b"zstd")),
            *((b"access-control-request-method", b"POST"), (b"access-control-request-private-network", b"true")),
            *((b"expect", b"100-continue"), (b"expect", b"tea"), (b"cookie", b"a=b")),
        ]
    ),
    max_size=4,
)


@st.composite
def requests(draw: st.DrawFn, *, harmless: bool = False) -> tuple[bytes, bytes]:
    """A request's method and its bytes; a harmless one leaves the connection open."""
    method, body = draw(METHODS), draw(BODIES)
    extra = [header for header in draw(EXTRA) if not harmless or header[0] != b"expect"]
    headers = [(b"host", draw(st.sampled_from([b"localhost", b"127.0.0.1:80", b"localhost", b"evil.example"])))]
    headers += [(b"content-type", draw(TYPES)), *extra]
    if draw(st.booleans()):
        size = draw(st.integers(max(1, len(body) // 50), 5_000))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        extension = draw(st.sampled_from([b"", b";a", b';a="b"']))
        trailers = draw(st.sampled_from([b"", b"x-trailer: y\r\n"]))
        chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
        framed = chunks + b"0\r\n%b\r\n" % trailers
        headers.append((b"transfer-encoding", b"chunked"))
    else:
        framed = body
        headers.append((b"content-length", b"%d" % len(body)))
    lines = [
        b"%b:%b%b" % (draw(odd_case(name)), draw(st.sampled_from([b" ", b"", b"\t "])), value)
        for name, value in headers
    ]
    return method.upper(), b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, draw(TARGETS), b"\r\n".join(lines), framed)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({place % len(data) for place in at} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def compare(pieces: list[bytes], methods: list[bytes]) -> None:
    async def both() -> None:
        ours = await exchanged(serve_ours, pieces, methods)
        assert ours == await exchanged(serve_hypercorn, pieces, methods)

    trio.run(both)


CUTS = st.lists(st.integers(0, 30_000), max_size=6)


@settings(max_examples=150, deadline=None)
@given(request=requests(), cuts=CUTS)
def test_a_request_is_answered_alike(request: tuple[bytes, bytes], cuts: list[int]) -> None:
    method, data = request

    compare(cut(data, cuts), [method])


@settings(max_examples=60, deadline=None)
@given(several=st.lists(requests(harmless=True), min_size=2, max_size=4), cuts=CUTS)
def test_requests_on_one_connection_are_answered_alike(several: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(data for _, data in several)

    compare(cut(data, cuts), [method for method, _ in several])


@settings(max_examples=40, deadline=None)
@given(
    head=st.sampled_from(
        [
            *(b"POST / HTTP/1.1\r\nhost : x\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"POST /\r\n\r\n", b"\x00\r\n\r\n"),
            *(
                b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n",
                b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
            ),
            *(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n"),
            b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 20_000,
        ]
    ),
    cuts=CUTS,
)
def test_what_is_no_request_is_refused_alike(head: bytes, cuts: list[int]) -> None:
    async def statuses() -> None:
        ours = await exchanged(serve_ours, cut(head, cuts), [b"GET"])
        theirs = await exchanged(serve_hypercorn, cut(head, cuts), [b"GET"])
        assert [answer[0] for answer in ours] == [answer[0] for answer in theirs]

    trio.run(statuses)
