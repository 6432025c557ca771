"""A connection of HTTP/1 without sockets: what it answers, what it reads, and when it gives up."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from coordinator.budget import SLOWEST_BODY
from coordinator.rpc.head_limits import MAX_HEAD, MAX_HEADERS
from coordinator.rpc.http.answers import Answers
from coordinator.rpc.http.connection import Connection
from coordinator.rpc.http.decisions import Request
from coordinator.rpc.http.heads import PREFACE, HeadReader
from coordinator.rpc.http.lifetime import LAST_CALL, Handover, Limits, Waiting
from tests.support.http import MAX_BODY, answers

LIMITS = Limits(idle_timeout=75.0, request_timeout=30.0, write_timeout=30.0, max_unsent_bytes=1 << 20)
CALL = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}'
NOTIFICATION = b'{"jsonrpc":"2.0","method":"nothing"}'
LINES = b"host: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % LINES
GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


def post(body: bytes = CALL, *lines: bytes, version: bytes = b"1.1") -> bytes:
    more = b"".join(b"%b\r\n" % line for line in lines)
    return b"POST / HTTP/%b\r\n%bcontent-length: %d\r\n%b\r\n%b" % (version, LINES, len(body), more, body)


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class Served:
    """A client of a connection.

    Attributes:
        handover: what `serve` returned.
        received: what the client got.
        has_ended: the connection did.
    """

    def __init__(self, stream: Any, waiting: Waiting) -> None:
        self.stream = stream
        self.waiting = waiting
        self.handover: Handover | None = None
        self.received = b""
        self.has_ended = False

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()

    def statuses(self) -> list[int]:
        """The statuses of the responses so far."""
        return [int(part[:3]) for part in self.received.split(b"HTTP/1.1 ")[1:]]

    async def collect(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in self.stream:
                self.received += data

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for that; on a MockClock the time that it takes is that of the deadlines on the way."""
        with trio.fail_after(10_000):
            while not condition():
                await trio.sleep(0.01)


@asynccontextmanager
async def served(
    limits: Limits = LIMITS, pair: tuple[Any, Any] | None = None, **of_answers: Any
) -> AsyncIterator[Served]:
    theirs, ours = pair or trio.testing.memory_stream_pair()
    rules = answers(**of_answers)
    waiting = Waiting()
    client = Served(theirs, waiting)

    async def serve() -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.TooSlowError):
            client.handover = await Connection(ours, rules, HeadReader(rules), limits, waiting).serve()
        client.has_ended = True
        if client.handover is None:
            await trio.aclose_forcefully(ours)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(client.collect)
        yield client
        nursery.cancel_scope.cancel()


ODD = {
    "get": GET,
    "large head": post(CALL, b"x: " + b"y" * 10_000),
    "largest head": post(CALL, b"x: " + b"y" * (MAX_HEAD - len(post(b"")) - 7)),
    "repeated header": post(CALL, b"a: 1", b"A: 2"),
    "chunked": chunked(CALL, 7),
    "chunked, with all there is": CHUNKED + b"%x;a=b\r\n%b\r\n0\r\nc: d\r\n\r\n" % (len(CALL), CALL),
    "expect": post(CALL, b"expect: 100-continue"),
    "HTTP/1.0": post(CALL, b"connection: keep-alive", version=b"1.0"),
    "head": GET.replace(b"GET", b"HEAD"),
    "options": GET.replace(b"GET", b"OPTIONS"),
    "of the server": b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "absolute": post().replace(b"POST /", b"POST http://localhost/"),
    "line ends before it": b"\r\n\r\n" + post(),
    "other type": post().replace(b"application/json", b"text/plain"),
    "elsewhere": post().replace(b"POST /", b"POST /x"),
    "notification": post(NOTIFICATION),
    "gzip": post(gzip.compress(CALL), b"content-encoding: gzip"),
    "damaged gzip": post(b"x", b"content-encoding: gzip"),
    "bomb": post(gzip.compress(b" " * (MAX_BODY + 1)), b"content-encoding: gzip"),
    "zstd": post(CALL, b"content-encoding: zstd"),
    "websocket elsewhere": GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
}
STATUS = dict.fromkeys(ODD, 200) | {
    **dict.fromkeys(["options", "of the server", "notification"], 204),
    **dict.fromkeys(["elsewhere", "websocket elsewhere"], 404),
    **dict.fromkeys(["other type", "zstd"], 415),
    "damaged gzip": 400,
    "bomb": 413,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("cut", ["whole", "in two", "bytewise"])
async def test_an_odd_request_is_answered_and_so_is_the_call_behind_it(odd: str, cut: str) -> None:
    request = ODD[odd] + post()
    pieces = {
        "whole": [request],
        "in two": [request[: len(ODD[odd]) // 2], request[len(ODD[odd]) // 2 :]],
        "bytewise": [request[at : at + 1] for at in range(len(request))] if len(request) < 1_000 else [request],
    }[cut]

    async with served() as client:
        await client.send(*pieces)

        statuses = [status for status in client.statuses() if status != 100]
        assert statuses == [STATUS[odd], 200]
        assert b'"id":1,"error":{"code":-32601,' in client.received.rpartition(b"HTTP/1.1")[2]
        assert not client.has_ended


async def test_leave_to_send_the_body_is_given_only_if_it_is_waited_for() -> None:
    request = post(CALL, b"expect: 100-continue")

    async with served() as client:
        await client.send(request)
        assert client.statuses() == [200]
        await client.send(request[: -len(CALL)])
        assert client.statuses() == [200, 100]
        await client.send(CALL)
        assert client.statuses() == [200, 100, 200]
        await client.send(request.replace(b"application/json", b"text/plain")[: -len(CALL)])
        assert client.statuses() == [200, 100, 200, 415]
        assert b"connection: close" in client.received


@pytest.mark.parametrize("behind", [b"\r\n", b"\r\n\r\n", b"GET "])
async def test_what_is_behind_the_last_request_does_no_harm(behind: bytes) -> None:
    async with served() as client:
        await client.send(post(CALL, b"connection: close") + behind)
        await client.stream.send_eof()
        await client.until(lambda: client.has_ended)

        assert client.statuses() == [200]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"x" * (MAX_BODY + 1))[:500], 413),
        (chunked(b"x" * (MAX_BODY + 1), 5_000)[:-7], 413),
        (post(b"x" * (MAX_BODY + 1))[:500].replace(b"POST /", b"POST /x"), 404),
        (CHUNKED + b"x\n", 400),
        (b"GET / HTTP/1.1\nhost: x\n\n", 400),
        (b"\x16\x03\x01", 400),
        (b"\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD, 431),
    ],
)
async def test_a_refusal_comes_at_once_and_then_the_connection_ends(
    request_: bytes, status: int, autojump: None
) -> None:
    async with served() as client:
        await client.send(request_)
        assert client.statuses() == [status]
        assert b"connection: close\r\n" in client.received
        await client.until(lambda: client.has_ended)


async def test_what_goes_on_arriving_after_a_refusal_is_dropped(autojump: None) -> None:
    async with served() as client:
        await client.send(post(b"x" * (MAX_BODY + 1))[:500])
        for _ in range(8):
            await client.send(b"x" * 100_000)
        assert client.statuses() == [413]
        assert not client.has_ended
        await client.stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert client.has_ended


async def test_who_never_stops_sending_after_a_refusal_is_cut(autojump: None) -> None:
    async with served() as client:
        await client.send(post(b"x" * (MAX_BODY + 1))[:500])
        while not client.has_ended:
            assert trio.current_time() < 1_000
            with contextlib.suppress(trio.BrokenResourceError):
                await client.send(b"x")
            await trio.sleep(1)


async def test_a_head_has_a_time_limit_in_all(autojump: None) -> None:
    async with served() as client:
        begun = trio.current_time()
        with contextlib.suppress(trio.BrokenResourceError):
            for at in range(1_000):
                await client.send(GET[:-1][at : at + 1] or b"x")
                await trio.sleep(5)
                if client.statuses():
                    break
        assert client.statuses() == [408]
        assert trio.current_time() - begun <= LIMITS.request_timeout + 5


async def test_a_body_has_a_time_limit_in_all(autojump: None) -> None:
    async with served() as client:
        begun = trio.current_time()
        await client.send(post(b" " * MAX_BODY)[: -MAX_BODY + 1])
        while not client.statuses():
            await client.send(b" ")
            await trio.sleep(5)

        assert client.statuses() == [408]
        assert trio.current_time() - begun <= LIMITS.request_timeout + MAX_BODY / SLOWEST_BODY + 5


async def test_a_body_that_comes_steadily_is_waited_for(autojump: None) -> None:
    size = 1 << 21
    async with served(max_body_bytes=size) as client:
        request = post(CALL + b" " * (size - len(CALL)))
        for at in range(0, len(request), SLOWEST_BODY):
            await client.send(request[at : at + SLOWEST_BODY])
            await trio.sleep(0.9)

        assert client.statuses() == [200]


async def test_who_sends_nothing_is_let_go(autojump: None) -> None:
    async with served() as client:
        await client.send(post())
        await client.until(lambda: client.has_ended)

        assert client.statuses() == [200]
        assert trio.current_time() >= LIMITS.idle_timeout


@pytest.mark.parametrize("cut", [1, 20, -len(CALL), -1])
async def test_a_request_cut_off_is_not_answered(cut: int) -> None:
    async with served() as client:
        await client.send(post()[:cut])
        await client.stream.send_eof()
        await client.until(lambda: client.has_ended)

        assert client.received == b""


async def test_when_it_stops_the_idle_are_let_go_and_the_others_answered(autojump: None) -> None:
    async with served() as idle, served() as halfway, served() as refused:
        await idle.send(post())
        await halfway.send(post()[:-1])
        await refused.send(post(b"x" * (MAX_BODY + 1))[:500])
        for client in (idle, halfway, refused):
            client.waiting.stop()
        await trio.sleep(LAST_CALL)
        await trio.testing.wait_all_tasks_blocked()
        assert (idle.has_ended, halfway.has_ended, refused.has_ended) == (True, False, True)

        await halfway.send(post()[-1:])
        assert halfway.statuses() == [200]
        assert b"connection: close\r\n" in halfway.received
        await halfway.until(lambda: halfway.has_ended)
        assert trio.current_time() < 1.0


@pytest.mark.parametrize("late", [post(), GET, chunked(CALL, 7)], ids=["call", "page", "chunked"])
@pytest.mark.parametrize("before", [b"", post()], ids=["new", "used"])
async def test_a_request_on_its_way_when_it_stops_is_answered_as_the_last(
    autojump: None, before: bytes, late: bytes
) -> None:
    async with served() as client:
        await client.send(before)
        client.waiting.stop()
        await trio.sleep(LAST_CALL / 2)
        await client.send(late + post())
        await client.until(lambda: client.has_ended)

        assert client.statuses() == [200] * (2 if before else 1)
        assert client.received.count(b"connection: close\r\n") == 1
        assert trio.current_time() < 1.0


@pytest.mark.parametrize("before", [b"", post(), post() + GET])
@pytest.mark.parametrize("path", [b"/", b"/ws"])
async def test_a_websocket_is_handed_over_with_all_that_was_read(before: bytes, path: bytes) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://x\r\n\r\n" % path

    async with served() as client:
        await client.send(before + head + b"\x81\x00")

        assert client.handover == Handover(head + b"\x81\x00", is_websocket=True)


async def test_http2_is_handed_over_whole_or_after_the_switch() -> None:
    preface = PREFACE + b"SM\r\n\r\n"
    asked = (
        b"GET /healthz HTTP/1.1\r\n%bconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings:\r\n\r\n"
        % LINES
    )
    async with served() as known, served() as later, served() as upgraded:
        await known.send(preface)
        await later.send(post() + preface)
        await upgraded.send(asked + preface)

        assert known.handover == Handover(preface)
        assert later.statuses() == [200, 505]
        assert upgraded.statuses() == [101]
        assert upgraded.handover is not None
        assert upgraded.handover.received == preface
        assert upgraded.handover.http2 is not None


async def test_pipelined_requests_let_others_get_on() -> None:
    others = 0

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await trio.lowlevel.checkpoint()

    async with served() as client, trio.open_nursery() as nursery:
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.send_all(post(b"{}") * 400)
        nursery.start_soon(count)
        await client.until(lambda: len(client.statuses()) == 400)
        nursery.cancel_scope.cancel()

    assert others >= 40


async def test_others_get_on_between_requests_with_many_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    read = most = 0

    def decide(rules: Answers, request: Request) -> Any:
        nonlocal read
        read += 1
        return decide_as_ever(rules, request)

    async def get_on() -> None:
        nonlocal read, most
        while True:
            read, most = 0, max(read, most)
            await trio.lowlevel.checkpoint()

    decide_as_ever = Answers.decide
    monkeypatch.setattr(Answers, "decide", decide)
    fields = b"a: xxxxxxxx\r\n" * (MAX_HEADERS - 2)
    heads = [b"GET / HTTP/1.1\r\nhost: localhost\r\nb: %d\r\n%b\r\n" % (number, fields) for number in range(16)]
    ours, theirs = (trio.SocketStream(end) for end in trio.socket.socketpair())
    async with served(pair=(theirs, ours)) as client, trio.open_nursery() as nursery:
        nursery.start_soon(get_on)
        await client.stream.send_all(b"".join(heads))
        await client.until(lambda: len(client.statuses()) == len(heads))
        nursery.cancel_scope.cancel()

    assert 1 <= most <= 4


@pytest.mark.parametrize(("pause", "arrives"), [(5, True), (20, False)])
async def test_a_large_reply_arrives_as_long_as_the_client_goes_on_reading(
    pause: float, arrives: bool, autojump: None
) -> None:
    """The time-out is for 64 KiB here, and for anything at all where the stream is a socket: see send_steadily."""
    theirs, ours = trio.testing.lockstep_stream_pair()
    rules = answers()
    begun = trio.current_time()
    cut = False

    async def serve() -> None:
        nonlocal cut
        try:
            await Connection(ours, rules, HeadReader(rules), LIMITS, Waiting()).serve()
        except trio.TooSlowError:
            cut = True
            await trio.aclose_forcefully(ours)

    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        call = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}'
        await theirs.send_all(post(b"[%b]" % b",".join([call] * 9)))
        with contextlib.suppress(trio.BrokenResourceError):
            while not received.endswith(b"}]") and (part := await theirs.receive_some(16 * 1024)):
                received += part
                await trio.sleep(pause)
        nursery.cancel_scope.cancel()

    assert received.endswith(b"}]") is arrives
    assert cut is not arrives
    assert trio.current_time() - begun > LIMITS.write_timeout
