"""The front-end over WebSocket without a store: pings, floods, stopping, and connections somebody else has accepted."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, Final, cast

import pytest
import trio
import trio.testing

from coordinator.actors.directory import Directory
from coordinator.actors.mailbox import Mailbox
from coordinator.actors.request import Request
from coordinator.engine.engine import Engine
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.websocket import connection as connection_module
from coordinator.rpc.websocket.connection import ANSWERED, CLOSE_TIMEOUT, PONG_TIMEOUT, RECEIVE_BYTES, SLICE_FRAMES
from coordinator.rpc.websocket.handshake import Refused, accept, read_upgrade
from coordinator.rpc.websocket.server import HANDSHAKE_TIMEOUT, LOOK_EVERY, SHAKEN_AT_ONCE, WebSocketFrontEnd
from coordinator.server import bootstrap
from coordinator.storage.connection import Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import GLOBAL, ContextKey, Layout
from tests.support.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close_payload, frame
from tests.support.inprocess import in_memory

HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CALL: Final = b'{"jsonrpc":"2.0","id":1,"method":"actor.load","params":{"id":1}}'


class Held:
    """Stands for the directory: keeps what is posted until the test answers it."""

    slice_calls = None
    readiness = None

    def expected(self, _: ContextKey) -> int:
        return 0

    def saw(self, _: ContextKey, size: int) -> None:
        pass

    def __init__(self) -> None:
        self.requests: list[Request] = []
        mailbox = Mailbox(GLOBAL, 1)
        mailbox.expected = 0  # the replies take nothing of their client's budget
        self.mailboxes = {GLOBAL: mailbox}

    def post_nowait(self, _: ContextKey, request: Request) -> None:
        self.requests.append(request)

    async def post(self, _: ContextKey, request: Request) -> None:
        raise AssertionError(request)

    def answer_all(self) -> None:
        requests, self.requests = self.requests, []
        for request in requests:
            request._outcomes += [b"{}"] * request.calls  # type: ignore[attr-defined]
            request.done = True
            request.reply(b"")  # where `finish` would report what is wrong with it, this raises


class FrontEnd(WebSocketFrontEnd):
    """One over a directory that answers nothing by itself."""

    def __init__(self, **more: Any) -> None:
        self.held = Held()
        store = Store(Endpoint(), Layout())  # never asked
        engine = Engine(Directory(store), store, max_subscriptions=10)
        limits: dict[str, Any] = {"request_timeout": 30, "max_batch": 10, "max_batch_reply": 1000}
        dispatcher = Dispatcher(cast(Directory, self.held), engine, store.layout, **limits)
        bounds: dict[str, Any] = {
            "max_connections": 10,
            "max_in_flight": 10,
            "max_frame_bytes": 1 << 20,
            "max_unsent_bytes": 1 << 20,
            "write_timeout": 30.0,
            **more,
        }
        super().__init__(dispatcher, AccessPolicy("127.0.0.1"), **bounds)


class Peer:
    """The client's end of a connection in memory."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send_eof(self) -> None:
        """Send no more, and go on reading."""
        await cast(trio.abc.HalfCloseableStream, self.stream).send_eof()

    async def head(self) -> bytes:
        while b"\r\n\r\n" not in self._received:
            self._received += await self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return head

    async def next(self) -> Frame | None:
        while True:
            received = self._received
            if len(received) >= 2:
                length, start = received[1], 2
                if length == 126:
                    length, start = int.from_bytes(received[2:4]), 4
                if len(received) >= start + length:
                    self._received = received[start + length :]
                    return Frame(received[0] & 0x0F, received[start : start + length])
            more = await self._more()
            if not more:
                return None
            self._received += more

    async def _more(self) -> bytes:
        return bytes(await self.stream.receive_some())


class Clients(trio.abc.Listener[trio.abc.Stream]):
    """Connections in memory, made by the test."""

    def __init__(self) -> None:
        self._put, self._get = trio.open_memory_channel[trio.abc.Stream](100)

    def connect(self) -> Peer:
        near, far = in_memory()
        self._put.send_nowait(far)
        return Peer(near)

    async def opened(self) -> Peer:
        peer = self.connect()
        await peer.send(HANDSHAKE)
        assert b" 101 " in await peer.head()
        return peer

    async def accept(self) -> trio.abc.Stream:
        return await self._get.receive()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def serving(front_end: WebSocketFrontEnd) -> AsyncIterator[Clients]:
    clients = Clients()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front_end.serve, cast(trio.SocketListener, clients))
        yield clients
        nursery.cancel_scope.cancel()


# -- pings


async def test_a_silent_client_is_pinged_and_then_given_up(autojump: None) -> None:
    async with serving(FrontEnd(ping_interval=20.0)) as clients:
        peer = await clients.opened()
        begun = trio.current_time()

        assert await peer.next() == (PING, b"")
        assert 20 <= trio.current_time() - begun <= 20 + 2 * LOOK_EVERY
        assert await peer.next() is None
        assert trio.current_time() - begun <= 20 + PONG_TIMEOUT + 4 * LOOK_EVERY


@pytest.mark.parametrize("sign", [frame(PONG), frame(TEXT, b"{}"), frame(TEXT, b" " * 50)[:9]])
async def test_each_byte_a_client_sends_keeps_it_connected(autojump: None, sign: bytes) -> None:
    front_end = FrontEnd(ping_interval=20.0)
    async with serving(front_end) as clients:
        peer = await clients.opened()
        for byte in sign:
            await trio.sleep(PONG_TIMEOUT + 19)
            assert front_end.connections == 1
            await peer.send(bytes([byte]))


async def test_without_an_interval_nobody_is_pinged(autojump: None) -> None:
    front_end = FrontEnd(ping_interval=0.0)
    async with serving(front_end) as clients:
        peer = await clients.opened()
        with trio.move_on_after(1000) as limit:
            await peer.next()

        assert limit.cancelled_caught
        assert front_end.connections == 1


async def test_a_client_we_do_not_read_from_is_not_given_up_for_its_silence(autojump: None) -> None:
    front_end = FrontEnd(ping_interval=20.0, max_in_flight=1)
    async with serving(front_end) as clients:
        peer = await clients.opened()
        await peer.send(frame(TEXT, CALL) * 2)
        await trio.sleep(200)
        assert front_end.connections == 1
        front_end.held.answer_all()

        reply = await peer.next()

        assert reply is not None
        assert reply.opcode == TEXT


async def test_an_idle_client_is_one_task_and_no_timer(autojump: None) -> None:
    front_end = FrontEnd(ping_interval=20.0)
    async with serving(front_end) as clients:
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(10):
            await clients.opened()
        await trio.testing.wait_all_tasks_blocked()

        assert trio.lowlevel.current_statistics().tasks_living == before + 10


# -- floods


FLOODS: Final = {
    "pings": frame(PING),
    "pongs": frame(PONG),
    "empty objects": frame(TEXT, b"{}"),
    "empty messages": frame(TEXT),
    "fragments of one byte": frame(CONTINUATION, b" ", fin=False),
    "empty fragments": frame(CONTINUATION, fin=False),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_lets_others_get_on_all_the_time(kind: str) -> None:
    """Counted in the steps of another task, not in time."""
    one = FLOODS[kind]
    front_end = FrontEnd()
    frames = 20 * RECEIVE_BYTES // len(one)
    async with serving(front_end) as clients:
        peer = await clients.opened()
        steps = 0

        async def count() -> None:
            nonlocal steps
            while True:
                steps += 1
                await trio.lowlevel.checkpoint()

        async def drain() -> None:
            while await peer.next() is not None:
                pass

        async with trio.open_nursery() as nursery:
            start = frame(TEXT, b" ", fin=False) if "fragments" in kind else b""
            await peer.send(start + one * frames + frame(CLOSE, close_payload(4000)))
            nursery.start_soon(drain)
            nursery.start_soon(count)
            while front_end.connections:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert steps >= frames / SLICE_FRAMES


async def test_of_messages_that_cannot_be_read_few_are_answered_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """To answer one takes many times as long as to pass over a frame that leads to no call."""
    read = most = 0
    parse = protocol.parse

    def counted(*arguments: Any) -> Any:
        nonlocal read, most
        read += 1
        most = max(most, read)
        return parse(*arguments)

    async def step() -> None:
        nonlocal read
        while True:
            read = 0
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(protocol, "parse", counted)
    front_end = FrontEnd()
    async with serving(front_end) as clients:
        peer = await clients.opened()
        async with trio.open_nursery() as nursery:
            await peer.send(frame(TEXT, b"{") * 1000 + frame(CLOSE, close_payload(4000)))
            nursery.start_soon(step)
            while await peer.next() is not None:
                pass
            nursery.cancel_scope.cancel()
    assert (
        0 < most <= 2 * SLICE_FRAMES // ANSWERED
    )  # the end of one slice and the beginning of the next may be one step


async def test_a_flood_of_pings_that_reads_nothing_holds_no_memory() -> None:
    front_end = FrontEnd()
    near, far = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front_end.serve_connection, far)
        await near.send_all(HANDSHAKE)
        await near.receive_some(1000)
        await near.send_all(b"".join(frame(PING, b"%06d" % number) for number in range(20_000)))
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = front_end._open

        assert connection._outbox.waiting < 2 * RECEIVE_BYTES
        nursery.cancel_scope.cancel()


async def test_handshakes_that_come_at_once_are_worked_on_a_few_at_a_time() -> None:
    """Counted in passes of the loop, not in time."""
    count = 20 * SHAKEN_AT_ONCE
    front_end = FrontEnd(max_connections=count)
    opened: list[int] = []
    async with trio.open_nursery() as nursery:
        pairs = [trio.testing.memory_stream_pair() for _ in range(count)]
        for near, _ in pairs:
            await near.send_all(HANDSHAKE)
        for _, far in pairs:
            nursery.start_soon(front_end.serve_connection, far)
        while not opened or (opened[-1] < count and len(opened) < 100 * count):
            opened.append(len(front_end._open))
            await trio.lowlevel.checkpoint()
        for near, _ in pairs:
            assert (await near.receive_some(1000)).startswith(b"HTTP/1.1 101 ")
        nursery.cancel_scope.cancel()

    # Between two looks there may be all but two whole passes.
    assert max(after - before for before, after in pairwise(opened)) <= 2 * SHAKEN_AT_ONCE


async def test_a_handshake_that_waits_in_line_does_not_run_out_of_time(autojump: None) -> None:
    front_end = FrontEnd(max_connections=SHAKEN_AT_ONCE + 1)
    async with serving(front_end) as clients:
        for _ in range(SHAKEN_AT_ONCE):
            await front_end._turns.acquire()
        waiting = [clients.connect() for _ in range(SHAKEN_AT_ONCE + 1)]
        for peer in waiting:
            await peer.send(HANDSHAKE)
        await trio.sleep(2 * HANDSHAKE_TIMEOUT)
        assert b" 503 " in await clients.connect().head()

        for _ in range(SHAKEN_AT_ONCE):
            front_end._turns.release()
        for peer in waiting:
            assert b" 101 " in await peer.head()


# -- notifications


async def test_a_job_is_on_its_way_before_anything_else_is_done() -> None:
    """One alone, whose client waits for nothing else; several are gathered."""
    front_end = FrontEnd()
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        async with trio.open_nursery() as nursery:
            ours.setblocking(False)
            nursery.start_soon(
                front_end.serve_connection, trio.SocketStream(trio.socket.from_stdlib_socket(ours)), HANDSHAKE
            )
            await trio.testing.wait_all_tasks_blocked()
            assert theirs.recv(1000).startswith(b"HTTP/1.1 101 ")
            (connection,) = front_end._open

            connection.notify([b"{}"], in_batches=False, is_last=True)

            assert theirs.recv(1000) == b"\x81\x02{}"
            connection.notify([b"{}", b"{}"], in_batches=False, is_last=True)
            with pytest.raises(BlockingIOError):
                theirs.recv(1000)
            await trio.testing.wait_all_tasks_blocked()
            assert theirs.recv(1000) == 2 * b"\x81\x02{}"
            nursery.cancel_scope.cancel()


# -- leaving


@pytest.mark.parametrize("way", ["leaves", "is given up"])
async def test_a_reply_that_comes_when_its_client_is_gone_harms_nothing(autojump: None, way: str) -> None:
    """At each moment between the end being seen and the connection's task being over."""
    for steps in range(12):
        front_end = FrontEnd()
        async with serving(front_end) as clients:
            peer = await clients.opened()
            await peer.send(frame(TEXT, CALL) * 3)
            await trio.testing.wait_all_tasks_blocked()
            requests = [*front_end.held.requests]
            if way == "leaves":
                await peer.stream.aclose()
            else:
                for connection in front_end._open:
                    connection.give_up()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()

            front_end.held.answer_all()

            await trio.sleep(1)
            assert all(request.done for request in requests)
            assert front_end.connections == 0


# -- stopping


@pytest.mark.parametrize("sent", [3, 4, 10])
async def test_told_to_stop_it_is_as_quick_at_the_bound_as_below_it(autojump: None, sent: int) -> None:
    front_end = FrontEnd(max_in_flight=4)
    async with serving(front_end) as clients:
        peer = await clients.opened()
        await peer.send(frame(TEXT, CALL) * sent)
        await trio.testing.wait_all_tasks_blocked()
        front_end.stop(60.0)
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        front_end.held.answer_all()

        replies = [await peer.next() for _ in range(min(sent, 4))]
        close = await peer.next()

        assert all(reply is not None and json.loads(reply.payload)["id"] == 1 for reply in replies)
        assert close is not None
        assert (close.opcode, close.code) == (CLOSE, 1001)
        assert trio.current_time() - begun < 0.1


async def test_told_to_stop_it_waits_for_replies_no_longer_than_the_grace(autojump: None) -> None:
    front_end = FrontEnd(max_in_flight=4)
    async with serving(front_end) as clients:
        peer = await clients.opened()
        await peer.send(frame(TEXT, CALL) * 10)
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        front_end.stop(7.0)

        close = await peer.next()

        assert close is not None
        assert close.code == 1001
        assert trio.current_time() - begun == pytest.approx(7.0)


# -- clients that send their end


async def test_who_has_sent_its_last_is_answered_what_it_sent_before() -> None:
    front_end = FrontEnd()
    async with serving(front_end) as clients:
        peer = await clients.opened()
        await peer.send(frame(TEXT, CALL) * 3)
        await peer.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        front_end.held.answer_all()

        replies = [await peer.next() for _ in range(3)]
        assert all(reply is not None and json.loads(reply.payload)["id"] == 1 for reply in replies)
        assert await peer.next() is None
        await trio.testing.wait_all_tasks_blocked()
        assert front_end.connections == 0


async def test_who_has_sent_its_last_and_gets_no_answer_is_let_go_soon(autojump: None) -> None:
    front_end = FrontEnd()
    async with serving(front_end) as clients:
        peer = await clients.opened()
        await peer.send(frame(TEXT, CALL))
        await peer.send_eof()
        begun = trio.current_time()

        assert await peer.next() is None
        assert trio.current_time() - begun == pytest.approx(CLOSE_TIMEOUT)


# -- protocol errors and what came before them


async def test_what_was_called_before_a_protocol_error_is_answered_before_the_close() -> None:
    front_end = FrontEnd()
    async with serving(front_end) as clients:
        peer = await clients.opened()
        await peer.send(frame(TEXT, CALL) + frame(3))
        await trio.testing.wait_all_tasks_blocked()
        front_end.held.answer_all()

        reply, close = await peer.next(), await peer.next()

        assert reply is not None
        assert reply.opcode == TEXT
        assert close is not None
        assert close.code == 1002


async def test_the_close_of_a_client_is_answered_though_a_call_never_is(autojump: None) -> None:
    front_end = FrontEnd()
    async with serving(front_end) as clients:
        peer = await clients.opened()
        await peer.send(frame(TEXT, CALL) + frame(CLOSE, close_payload(1000, b"bye")))

        close = await peer.next()

        assert close == (CLOSE, close_payload(1000, b"bye"))
        assert trio.current_time() <= connection_module.CLOSE_TIMEOUT + LOOK_EVERY


# -- connections of others


@pytest.mark.parametrize("cut", [0, 1, 20, len(HANDSHAKE) - 1, len(HANDSHAKE), len(HANDSHAKE) + 5])
async def test_a_connection_that_somebody_else_began_to_read_is_served_from_there(cut: int) -> None:
    """The handshake and a message behind it, cut anywhere; nothing is lost and nothing comes twice."""
    front_end = FrontEnd()
    near, far = trio.testing.memory_stream_pair()
    data = HANDSHAKE + frame(TEXT, b"[]") + frame(PING, b"!")
    peer = Peer(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front_end.serve_connection, far, data[:cut])
        await peer.send(data[cut:] if cut < len(data) else b"")

        assert b" 101 " in await peer.head()
        reply, pong = await peer.next(), await peer.next()
        assert reply is not None
        assert json.loads(reply.payload)["error"]["code"] == -32600
        assert pong == (PONG, b"!")
        assert front_end.connections == 1
        await peer.send(frame(CLOSE))
        assert await peer.next() == (CLOSE, b"")
        assert await peer.next() is None
    assert front_end.connections == 0


async def test_stopping_reaches_connections_of_others() -> None:
    front_end = FrontEnd()
    near, far = trio.testing.memory_stream_pair()
    peer = Peer(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front_end.serve_connection, far, HANDSHAKE)
        await peer.head()
        front_end.stop(5.0)
        close = await peer.next()
        assert close is not None
        assert close.code == 1001
        await peer.send(frame(CLOSE, close_payload(1001)))
    assert front_end.connections == 0


async def test_a_host_that_is_no_name_is_refused() -> None:
    head = HANDSHAKE.replace(b"127.0.0.1", b"\xff")

    with pytest.raises(Refused) as refused:
        await accept(read_upgrade(head, ""))

    assert refused.value.response.startswith(b"HTTP/1.1 400 ")


# -- too many


async def test_an_old_handshake_gives_way_to_a_client_and_a_young_one_does_not(autojump: None) -> None:
    front_end = FrontEnd(max_connections=3)
    async with serving(front_end) as clients:
        open_ones = [await clients.opened(), await clients.opened()]
        half_open = clients.connect()
        await trio.testing.wait_all_tasks_blocked()

        assert b" 503 " in await clients.connect().head()
        await trio.sleep(2)
        newcomer = await clients.opened()

        with suppress(trio.BrokenResourceError):
            assert not await half_open.stream.receive_some()
        assert b" 503 " in await clients.connect().head()
        for peer in [*open_ones, newcomer]:
            await peer.send(frame(PING))
            assert await peer.next() == (PONG, b"")


# -- keep-alive


def test_accepted_connections_are_kept_alive_by_the_kernel() -> None:
    with bootstrap._listen("ws", "127.0.0.1", 0, 30.0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            values = [accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in bootstrap.KEEP_ALIVE]
            assert values == [*bootstrap.KEEP_ALIVE.values()]
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
