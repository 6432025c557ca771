"""A connection of HTTP/2 without sockets: what ends a stream, what ends the connection, and what ends neither."""

from __future__ import annotations

import contextlib
import gzip
import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hypercorn.protocol.h2
import pytest
import trio
import trio.testing

from coordinator.rpc.http import http2
from coordinator.rpc.http.heads import Http2Upgrade
from coordinator.rpc.http.http2 import (
    FIELD_BYTES,
    IDLE_FRAMES,
    READ_BYTES,
    RESETS,
    STREAMS,
    WORK_A_SLICE,
    Http2,
    _Protocol,
)
from coordinator.rpc.http.lifetime import LAST_CALL, Handover, Limits, Waiting
from tests.support.http import MAX_BODY, answers

LIMITS = Limits(idle_timeout=75.0, request_timeout=30.0, write_timeout=30.0, max_unsent_bytes=1 << 20)
CALL = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}'
DISCOVER = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}'


def frame(kind: int, flags: int, payload: bytes = b"", *, stream: int | None = None) -> bytes:
    """A frame; of the first request if it is data, of the connection if it is none."""
    if stream is None:
        stream = 1 if kind == 0 else 0
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


class Client:
    """A client; its events are collected.

    Attributes:
        headers, statuses, bodies: of responses, by stream.
        resets: error codes of streams that were reset.
        goodbye: the error code the server ended the connection with.
        has_ended: the connection did.
    """

    def __init__(self, stream: Any, http2: Http2, waiting: Waiting) -> None:
        self.stream = stream
        self.http2 = http2
        self.waiting = waiting
        self.reads_bodies = True
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.statuses: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.goodbye: int | None = None
        self.has_ended = False

    def request(
        self,
        method: bytes = b"POST",
        path: bytes = b"/",
        *,
        ends: bool = False,
        more: Sequence[tuple[bytes, bytes]] = (),
        authority: bytes | None = b"localhost",
    ) -> int:
        id = self.h2.get_next_available_stream_id()
        pseudo = {b":method": method} if authority is None else {b":method": method, b":authority": authority}
        if method != b"CONNECT":
            pseudo |= {b":path": path, b":scheme": b"http"}
        headers = [*pseudo.items(), (b"content-type", b"application/json"), *more]
        self.h2.send_headers(id, headers, end_stream=ends)
        return id

    async def call(self, body: bytes = CALL) -> int:
        id = self.request()
        self.h2.send_data(id, body, end_stream=True)
        await self.flush()
        return id

    async def flush(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await self.stream.send_all(self.h2.data_to_send())
        await trio.testing.wait_all_tasks_blocked()

    async def send_raw(self, data: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)
        await trio.testing.wait_all_tasks_blocked()

    async def collect(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in self.stream:
                for event in self.h2.receive_data(data):
                    self._see(event)
                if reply := self.h2.data_to_send():
                    await self.stream.send_all(reply)

    def _see(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.headers[event.stream_id] = dict(event.headers)
            self.statuses[event.stream_id] = int(self.headers[event.stream_id][b":status"])
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            if self.reads_bodies:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = int(event.error_code or 0)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goodbye = int(event.error_code or 0)

    async def ended(self) -> None:
        """Wait for the end; on a MockClock that takes the time of the deadlines on the way."""
        with trio.fail_after(10_000):
            while not self.has_ended:
                await trio.sleep(0.01)


@asynccontextmanager
async def served(begun: Handover | None = None, *, greets: bool = True, **limits: Any) -> AsyncIterator[Client]:
    theirs, ours = trio.testing.memory_stream_pair()
    waiting = Waiting()
    http2 = Http2(answers(), Limits(**{**{n: getattr(LIMITS, n) for n in LIMITS.__slots__}, **limits}), waiting)
    client = Client(theirs, http2, waiting)

    async def serve() -> None:
        await http2.serve(ours, begun or Handover(b""))
        client.has_ended = True
        await trio.aclose_forcefully(ours)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(client.collect)
        if greets:
            client.h2.initiate_connection()
            await client.flush()
        yield client
        nursery.cancel_scope.cancel()


async def test_the_dashboard_is_shown_and_not_sent_twice() -> None:
    async with served() as client:
        browser = (b"accept", b"text/html"), (b"accept-encoding", b"gzip")
        page = client.request(b"GET", b"/", ends=True, more=browser)
        head = client.request(b"HEAD", b"/", ends=True, more=browser)
        await client.flush()
        assert gzip.decompress(client.bodies[page]).startswith(b"<!doctype html>")
        etag = client.headers[page][b"etag"]
        again = client.request(b"GET", b"/", ends=True, more=(*browser, (b"if-none-match", etag)))
        await client.flush()

        assert [client.statuses[id] for id in (page, head, again)] == [200, 200, 304]
        assert client.bodies[head] == client.bodies[again] == b""
        assert b"content-length" not in client.headers[again]


async def test_calls_and_pages_are_answered() -> None:
    async with served() as client:
        call = await client.call()
        page = client.request(b"GET", b"/healthz", ends=True)
        head = client.request(b"HEAD", b"/healthz", ends=True)
        nothing = client.request(b"GET", b"/nothing", ends=True)
        websocket = client.request(b"GET", b"/ws", ends=True)
        await client.flush()

        assert [client.statuses[id] for id in (call, page, head, nothing, websocket)] == [200, 200, 200, 404, 426]
        assert b'"id":1' in client.bodies[call]
        assert client.bodies[head] == b""
        assert not client.has_ended


async def test_an_upgrade_is_answered_in_http2() -> None:
    asked = ((b":method", b"GET"), (b":path", b"/healthz"), (b":scheme", b"http"), (b":authority", b"localhost"))
    async with served(Handover(b"", Http2Upgrade(asked, b"AAMAAABk")), greets=False) as client:
        client.h2.initiate_upgrade_connection()
        await client.flush()
        call = await client.call()

        assert (client.statuses[1], client.statuses[call]) == (200, 200)


@pytest.mark.parametrize("declared", [True, False])
async def test_an_oversized_stream_ends_by_itself(declared: bool) -> None:
    async with served() as client:
        length = (b"content-length", b"%d" % (MAX_BODY * 2))
        oversized = client.request(more=[length] if declared else [])
        await client.flush()
        for _ in range(4):
            if oversized in client.resets:
                break
            client.h2.send_data(oversized, b"x" * (MAX_BODY // 2))
            await client.flush()
        call = await client.call()

        assert client.statuses == {oversized: 413, call: 200}
        assert client.resets == {oversized: h2.errors.ErrorCodes.NO_ERROR}
        assert not client.has_ended


async def test_bodies_that_arrive_at_once_are_bounded_together() -> None:
    async with served(max_unsent_bytes=MAX_BODY) as client:
        streams = [client.request() for _ in range(4)]
        for id in streams:
            client.h2.send_data(id, b" " * (MAX_BODY // 2))
            await client.flush()
        refused = [id for id in streams if client.statuses.get(id) == 503]
        client.h2.end_stream(streams[0])
        await client.flush()
        call = await client.call()

        assert refused == streams[2:]
        assert client.statuses[call] == 200


async def test_a_client_that_goes_on_resetting_streams_is_told_to_calm_down(autojump: None) -> None:
    async with served() as client:
        for _ in range(RESETS + 10):
            if client.has_ended or client.goodbye is not None:
                break
            client.h2.reset_stream(client.request())
            await client.flush()

        assert client.goodbye == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


IDLE = {
    "pings": frame(6, 0, b"12345678"),
    "settings": frame(4, 0, b"\0\4\0\1\0\0"),
    "data without any": frame(0, 0),
}


@pytest.mark.parametrize("name", IDLE)
async def test_a_client_that_goes_on_asking_for_nothing_is_told_to_calm_down(autojump: None, name: str) -> None:
    async with served() as client:
        assert client.request() == 1
        await client.flush()
        await client.send_raw(IDLE[name] * (IDLE_FRAMES - 10))
        assert client.goodbye is None
        await client.send_raw(IDLE[name] * 20)

        assert client.goodbye == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("name", [*IDLE, "many headers"])
async def test_others_get_on_between_small_frames(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    handled: list[int] = []
    handle = _Protocol.handle

    async def handling(protocol: _Protocol, event: Any) -> None:
        handled.append(len(event.data))
        await handle(protocol, event)

    async with served() as client:
        client.request()
        await client.flush()
        if name == "many headers":
            for _ in range(20):
                client.request(ends=True, more=[(b"x-a", b"b")] * 300)
            flood, longest = client.h2.data_to_send(), FIELD_BYTES
        else:
            flood, longest = IDLE[name] * (READ_BYTES // len(IDLE[name])), len(IDLE[name])
        assert WORK_A_SLICE * longest < len(flood) <= READ_BYTES
        monkeypatch.setattr(_Protocol, "handle", handling)
        await client.send_raw(flood)

        assert sum(handled) == len(flood)
        assert max(handled) <= WORK_A_SLICE * longest + 700  # the frame with which it is enough is in it
        assert not client.has_ended


async def test_a_client_may_reset_a_stream_now_and_then(autojump: None) -> None:
    async with served() as client:
        for _ in range(RESETS * 2):
            client.h2.reset_stream(client.request())
            await client.flush()
            await trio.sleep(1)

        assert client.statuses[await client.call()] == 200


async def test_priorities_are_ignored() -> None:
    async with served() as client:
        for id in range(1001, 7001, 2):
            client.h2.prioritize(id, weight=7, depends_on=0)
        await client.flush()

        assert client.statuses[await client.call()] == 200


@pytest.mark.parametrize(("method", "path"), [(b"CONNECT", b""), (b"GET", b"/\xc3\xa9"), (b"\xe9", b"/")])
async def test_a_stream_that_cannot_be_served_ends_by_itself(method: bytes, path: bytes) -> None:
    async with served() as client:
        client.h2.config.validate_outbound_headers = False
        client.h2.config.normalize_outbound_headers = False
        refused = client.request(method, path, ends=True)
        await client.flush()
        call = await client.call()

        assert refused in client.resets
        assert client.statuses == {call: 200}


@pytest.mark.parametrize(
    "more",
    [
        [(b"host", b"127.0.0.1")],
        [(b"X-Upper", b"1")],
        [(b"connection", b"keep-alive")],
        [(b"transfer-encoding", b"chunked")],
        [(b"te", b"gzip")],
        [(b"x-blank", b" 1")],
        [(b"x-line", b"a\nb")],
        [(b"", b"1")],
        [(b":method", b"GET")],
        [(b":unknown", b"1")],
        [(b"content-length", b"x")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"9" * 5000)],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"content-length", b"1")],
        [(b"content-length", b"1000")],
    ],
)
async def test_a_malformed_head_ends_its_own_stream(more: list[tuple[bytes, bytes]]) -> None:
    """Others' requests may be on the connection: a proxy's."""
    async with served() as client:
        other = client.request()
        await client.flush()
        client.h2.config.validate_outbound_headers = False
        client.h2.config.normalize_outbound_headers = False
        malformed = client.request(more=more)
        client.h2.send_data(malformed, CALL, end_stream=True)
        client.h2.send_data(other, CALL, end_stream=True)
        await client.flush()

        assert client.resets == {malformed: h2.errors.ErrorCodes.PROTOCOL_ERROR}
        assert client.statuses == {other: 200}
        assert client.goodbye is None


async def test_trailers_that_do_not_end_their_request_end_its_stream() -> None:
    async with served() as client:
        malformed = client.request()
        await client.flush()
        block = client.h2.encoder.encode([(b"x-checksum", b"1")])
        await client.send_raw(frame(1, 0x4, block, stream=malformed))

        assert client.resets == {malformed: h2.errors.ErrorCodes.PROTOCOL_ERROR}
        assert client.statuses[await client.call()] == 200


async def test_heads_that_cannot_be_decompressed_end_the_connection() -> None:
    """For those after them could not be read either."""
    async with served() as client:
        begun = client.request()
        await client.flush()
        await client.send_raw(frame(1, 0x5, b"\xff\xff\xff\xff", stream=begun))

        assert client.goodbye == h2.errors.ErrorCodes.PROTOCOL_ERROR


async def test_bodies_that_are_too_long_leave_the_connection_its_window() -> None:
    async with served() as client:
        for _ in range(8):
            client.h2.config.validate_outbound_headers = False
            malformed = client.request(more=[(b"content-length", b"1")])
            client.h2.send_data(malformed, b"x" * 16_000)
            await client.flush()
            assert malformed in client.resets

        assert client.statuses[await client.call(b" " * 16_000 + CALL)] == 200


async def test_streams_over_the_most_are_refused_each_by_itself() -> None:
    """A client may begin any number before it hears of the bound."""
    async with served() as client:
        client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        client.h2.remote_settings.acknowledge()
        begun = [client.request() for _ in range(STREAMS + 20)]
        await client.flush()
        assert client.resets == dict.fromkeys(begun[STREAMS:], h2.errors.ErrorCodes.REFUSED_STREAM)

        for id in begun[:STREAMS]:
            client.h2.send_data(id, CALL, end_stream=True)
        await client.flush()
        assert client.statuses == dict.fromkeys(begun[:STREAMS], 200)
        assert client.statuses[await client.call()] == 200


async def test_the_frames_of_responses_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    async def send(stream: Any, data: bytes, timeout: float) -> None:
        sent.append(data)
        await stream.send_all(data)

    async with served() as client:
        await client.call()
        monkeypatch.setattr(http2, "send_steadily", send)
        for calls in (1, 3):
            sent.clear()
            begun = [client.request() for _ in range(calls)]
            for id in begun:
                client.h2.send_data(id, CALL, end_stream=True)
            await client.flush()

            assert [client.statuses[id] for id in begun] == [200] * calls
            assert len(sent) <= calls


async def test_who_does_not_read_holds_up_those_that_make_frames(autojump: None) -> None:
    """So what is unsent has a bound, though HTTP/2's own windows are as large as the client says."""
    async with served() as client:
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30})
        client.h2.increment_flow_control_window(1 << 30)
        await client.flush()
        reading = trio.Event()

        async def blocked(stream: Any, data: bytes, timeout: float) -> None:
            await reading.wait()
            await stream.send_all(data)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(http2, "send_steadily", blocked)
            begun = [await client.call(DISCOVER) for _ in range(5)]
            (connection,) = client.http2.connections
            assert http2.GATHERED_BYTES < connection._unsent_bytes < 2 * http2.GATHERED_BYTES
            reading.set()
            await trio.testing.wait_all_tasks_blocked()

        assert [client.statuses[id] for id in begun] == [200] * 5


async def test_a_request_may_name_no_host() -> None:
    """As health checks of proxies do."""
    async with served() as client:
        client.h2.config.validate_outbound_headers = False
        check = client.request(b"GET", b"/healthz", ends=True, authority=None)
        await client.flush()

        assert client.statuses == {check: 200}


async def test_no_websocket_is_offered() -> None:
    async with served() as client:
        assert client.h2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL, 0) == 0


async def test_an_idle_client_is_let_go_when_it_stops(autojump: None) -> None:
    async with served() as new, served() as used:
        await used.call()
        for client in (new, used):
            await client.http2.stop()
            client.waiting.stop()
        await trio.sleep(LAST_CALL)  # to read the goodbye
        await trio.testing.wait_all_tasks_blocked()

        for client in (new, used):
            assert client.has_ended
            assert client.goodbye == h2.errors.ErrorCodes.NO_ERROR
        assert trio.current_time() < 1.0


async def test_a_busy_client_is_let_go_once_it_is_answered(autojump: None) -> None:
    async with served() as client:
        busy = client.request()
        await client.flush()
        await client.http2.stop()
        client.waiting.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert not client.has_ended

        client.h2.send_data(busy, CALL, end_stream=True)
        await client.flush()
        assert client.statuses == {busy: 200}
        await client.ended()
        assert trio.current_time() < 1.0


async def test_what_a_busy_client_begins_while_it_stops_is_refused_so_that_it_may_be_sent_elsewhere(
    autojump: None,
) -> None:
    async with served() as client:
        busy = client.request()
        await client.flush()
        await client.http2.stop()
        late = await client.call()
        assert client.resets == {late: h2.errors.ErrorCodes.REFUSED_STREAM}

        client.h2.send_data(busy, CALL, end_stream=True)
        await client.flush()
        assert client.statuses == {busy: 200}
        await client.ended()


async def test_who_sends_nothing_is_let_go(autojump: None) -> None:
    async with served() as new, served() as used:
        await used.call()
        await new.ended()
        await used.ended()


async def test_a_body_has_a_time_limit_in_all(autojump: None) -> None:
    async with served() as client:
        slow = client.request()
        while slow not in client.statuses and trio.current_time() < 1_000:
            client.h2.send_data(slow, b" ")
            await client.flush()
            await trio.sleep(5)

        assert client.statuses == {slow: 408}


async def test_who_accepts_nothing_of_a_response_is_cut(autojump: None) -> None:
    async with served() as client:
        client.reads_bodies = False
        for _ in range(5):
            await client.call(DISCOVER)
        begun = trio.current_time()
        await client.ended()

        assert trio.current_time() - begun <= LIMITS.write_timeout * 2


async def test_who_leaves_in_the_middle_is_forgotten_at_once(autojump: None) -> None:
    async with served() as client:
        client.reads_bodies = False
        await client.call(DISCOVER)
        client.request()
        await client.flush()
        begun = trio.current_time()
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()

        assert client.has_ended
        assert trio.current_time() == begun


async def test_what_is_no_http2_is_told_so(autojump: None) -> None:
    async with served() as client:
        await client.stream.send_all(b"\0\0\x01" + b"\0" * 500)  # a DATA frame of no stream
        await trio.testing.wait_all_tasks_blocked()
        assert client.goodbye == h2.errors.ErrorCodes.PROTOCOL_ERROR
        await client.ended()


async def test_a_frame_that_is_too_long_is_refused_by_its_head(autojump: None) -> None:
    async with served() as client:
        for piece in (b"\0\0\0\x04\1\0\0\0\0", b"\0", b"\x40", b"\x01\x77"):
            assert client.goodbye is None
            await client.stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        assert client.goodbye == h2.errors.ErrorCodes.FRAME_SIZE_ERROR
        await client.ended()


def test_of_hypercorn_this_is_relied_upon() -> None:
    """`_handle_events` handles any number of events and sends what they have made; `streams` are those that have no
    answer yet, `stream_buffers` those whose answer is not out."""
    protocol = hypercorn.protocol.h2.H2Protocol

    assert [*inspect.signature(protocol._handle_events).parameters] == ["self", "events"]
    assert "await self._flush()" in inspect.getsource(protocol._handle_events)
    source = inspect.getsource(protocol.__init__)
    assert "self.streams" in source
    assert "self.stream_buffers" in source
