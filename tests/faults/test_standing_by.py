"""What clients send is answered in place of their connections' tasks, as long as nothing has to be waited for: that
costs them no switch, it changes no answer, and whatever happens to a connection meanwhile is noticed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from coordinator import readiness
from coordinator.actors.directory import Directory
from coordinator.readiness import Readiness, WatchedSocket
from coordinator.rpc.jsonrpc.calls import Intake
from coordinator.rpc.jsonrpc.replies import Sink
from coordinator.rpc.work import Rest, Work, begin, carry_out
from coordinator.server.app import App
from coordinator.standby import Standby
from coordinator.supervision import faults
from tests.support.inprocess import serving
from tests.support.proxy import Proxy, proxied
from tests.support.server import ValkeyProcess
from tests.support.workers import SOME_RUNNER

HANG = 60.0
CONTEXT = 5
MASK = b"\x00\x00\x00\x00"


def call(number: int, method: str = "job.list", **params: Any) -> bytes:
    params = params or {"context_id": CONTEXT}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


def actor(id: int) -> bytes:
    return call(id, "actor.create", actor={"id": id, "pubkey": "none", "address": []})


HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Client:
    """Speaks to the coordinator over one connection, byte by byte."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.data = b""

    async def until(self, end: bytes) -> bytes:
        while end not in self.data:
            more = await self.stream.receive_some()
            assert more, f"it ended after {self.data!r}"
            self.data += more
        found, end, self.data = self.data.partition(end)
        return found + end

    async def exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            more = await self.stream.receive_some()
            assert more, f"it ended after {self.data!r}"
            self.data += more
        found, self.data = self.data[:size], self.data[size:]
        return found

    async def ended(self) -> None:
        while await self.stream.receive_some():
            pass


class Http(Client):
    def message(self, body: bytes) -> bytes:
        return (
            b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (
                len(body),
                body,
            )
        )

    async def reply(self) -> Any:
        head = (await self.until(b"\r\n\r\n")).lower()
        self.head = head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        body = await self.exactly(length)
        return json.loads(body) if body else None


class WebSocket(Client):
    def message(self, body: bytes) -> bytes:
        length = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2)
        return b"\x81" + length + MASK + body

    async def reply(self) -> Any:
        opcode, length = await self.exactly(2)
        assert opcode == 0x81
        if length == 126:
            length = int.from_bytes(await self.exactly(2))
        elif length == 127:
            length = int.from_bytes(await self.exactly(8))
        return json.loads(await self.exactly(length))


UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Speaker = Http | WebSocket


@asynccontextmanager
async def connected_to(app: App, transport: str) -> AsyncIterator[Speaker]:
    """A client, whose connection was not used yet."""
    host, port = app.http_address if transport == "http" else app.ws_address
    async with await trio.open_tcp_stream(host, port) as stream:
        client: Speaker = Http(stream) if transport == "http" else WebSocket(stream)
        if transport == "ws":
            await stream.send_all(UPGRADE)
            await client.until(b"\r\n\r\n")
        yield client


@asynccontextmanager
async def connected(app: App, transport: str) -> AsyncIterator[Speaker]:
    """A client whose connection's task stands by."""
    async with connected_to(app, transport) as client:
        await exchanged(client, actor(1))
        yield client


async def exchanged(client: Speaker, body: bytes) -> Any:
    await client.stream.send_all(client.message(body))
    return await client.reply()


class Switches(trio.abc.Instrument):
    """Counts how often tasks of connections run."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += "accepting" in task.name


@pytest.fixture(params=["http", "ws"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_calls_that_need_no_waiting_switch_to_no_task_of_their_connection(
    store: ValkeyProcess, transport: str
) -> None:
    switches = Switches()
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url) as app, connected(app, transport) as client:
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(switches)
            try:
                for id in range(10):
                    assert (await exchanged(client, actor(id)))["id"] == id
                    assert (await exchanged(client, call(id, "nothing")))["error"]["code"] == -32601
            finally:
                trio.lowlevel.remove_instrument(switches)
    assert switches.count == 0


CONVERSATION = [
    actor(2),
    call(3, "actor.load", id=2),
    b"{",
    b"[]",
    b"[%b,%b]" % (actor(4), call(5, "actor.load", id=4)),
    call(6, "nothing"),
    call(7, "rpc.discover"),
    call(8, "context.list"),
    call(9, "actor.load", id=9),
    b"[%b]" % b",".join(call(id, "actor.load", id=2) for id in range(70)),
    b" " * 70_000 + call(10, "actor.load", id=2),
]


async def talked(app: App, transport: str, way: str) -> list[Any]:
    """The replies to the conversation, each message sent when the one before was answered, or all at once, or in
    pieces."""
    async with connected(app, transport) as client:
        messages = [client.message(body) for body in CONVERSATION if transport == "http" or len(body) < 65_536]
        if way == "one by one":
            replies = []
            for message in messages:
                await client.stream.send_all(message)
                replies.append(await client.reply())
        else:
            replies = []
            async with trio.open_nursery() as sending:

                async def send() -> None:
                    whole = b"".join(messages)
                    size = len(whole) if way == "at once" else 977
                    for at in range(0, len(whole), size):
                        await client.stream.send_all(whole[at : at + size])
                        await trio.lowlevel.checkpoint()

                sending.start_soon(send)
                for _ in messages:
                    replies.append(await client.reply())
        without_times = json.loads(json.dumps(replies))
        return sorted(map(_key, without_times)) if transport == "ws" else [_key(reply) for reply in without_times]


def _key(reply: Any) -> str:
    """A reply without what differs each time."""
    text = json.dumps(reply, sort_keys=True)
    return "".join(character for character in text if not character.isdigit())[:2_000]


async def test_the_answers_are_the_same_however_they_are_asked_for_and_waited_for(
    store: ValkeyProcess, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    with trio.fail_after(HANG):
        for is_available in (True, False):
            monkeypatch.setattr(readiness, "is_available", lambda is_available=is_available: is_available)
            async with serving(redis_url=store.url) as app:
                found += [await talked(app, transport, way) for way in ("one by one", "at once", "in pieces")]
    assert found[0]
    assert all(replies == found[0] for replies in found)


def _directory(app: App) -> Directory:
    assert app._service is not None
    return app._service._directory


@asynccontextmanager
async def with_a_stalled_store(
    store: ValkeyProcess, transport: str, **settings: Any
) -> AsyncIterator[tuple[App, Proxy, Speaker]]:
    """A client has made a call, and the store does not answer it before the test lets it."""
    with trio.fail_after(HANG):
        async with (
            proxied(store.port) as proxy,
            serving(redis_url=proxy.url, store_timeout=30.0, **settings) as app,
            connected(app, transport) as client,
        ):
            proxy.stall()
            await client.stream.send_all(client.message(actor(3)))
            while not _directory(app).pending:
                await trio.sleep(0.01)
            yield app, proxy, client


async def test_a_message_that_comes_before_the_last_is_answered_is_answered_as_well(
    store: ValkeyProcess, transport: str
) -> None:
    async with with_a_stalled_store(store, transport) as (_, proxy, client):
        for id in (4, 5):
            await client.stream.send_all(client.message(actor(id)))
            await trio.sleep(0.02)
        await proxy.pass_all()
        assert sorted([(await client.reply())["id"] for _ in range(3)]) == [3, 4, 5]
        assert (await exchanged(client, actor(6)))["id"] == 6


async def test_what_is_owed_is_answered_before_the_coordinator_stops(store: ValkeyProcess, transport: str) -> None:
    async with with_a_stalled_store(store, transport, shutdown_grace=20.0) as (app, proxy, client):
        app.stop()
        await trio.sleep(0.1)
        await proxy.pass_all()
        assert (await client.reply())["id"] == 3
        if isinstance(client, Http):
            assert b"connection: close" in client.head
        await client.stream.send_eof()
        await client.ended()


@pytest.mark.parametrize("is_batch", [False, True])
async def test_who_has_sent_its_last_while_a_call_waits_is_answered_the_rest(
    store: ValkeyProcess, is_batch: bool
) -> None:
    """Only the call that waits ends: a job would go to a client that is gone."""
    async with serving(redis_url=store.url) as app, connected(app, "ws") as client:
        context = {"id": CONTEXT, "admins": [7], "readers": [], "executors": [7]}
        runner = {**SOME_RUNNER, "id": 3, "topic": "runner3"}
        await exchanged(client, call(2, "context.create", context=context))
        await exchanged(client, call(3, "runner.create", context_id=CONTEXT, runner=runner))
        take = call(4, "job.take", context_id=CONTEXT, runner_id=3, script_types=["Python"], wait=30.0)
        sent = [take, actor(5)]
        messages = [client.message(one) for one in ([b"[%b]" % b",".join(sent)] if is_batch else sent)]
        await client.stream.send_all(b"".join(messages))
        await client.stream.send_eof()
        with trio.fail_after(HANG / 4):
            replies = await client.reply() if is_batch else [await client.reply() for _ in sent]
            await client.ended()
    assert {reply["id"]: "result" in reply for reply in replies} == {4: False, 5: True}


async def test_a_request_that_was_on_its_way_when_it_stops_is_answered_as_the_last(store: ValkeyProcess) -> None:
    """Also the reset that a socket makes of what nobody has read must not destroy the answer."""
    async with serving(redis_url=store.url) as app, connected(app, "http") as client, connected(app, "http") as idle:
        app.stop()
        for _ in range(5):  # it has begun to stop, and listens no more
            await trio.lowlevel.checkpoint()
        await client.stream.send_all(client.message(actor(4)) + client.message(actor(5)))
        await trio.sleep(0.1)
        await client.stream.send_all(client.message(actor(6)))
        assert (await client.reply())["id"] == 4
        assert isinstance(client, Http)
        assert b"connection: close" in client.head
        await client.ended()
        await idle.ended()


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_a_client_that_leaves_with_a_call_on_its_way_leaves_nothing_behind(
    store: ValkeyProcess, transport: str, reset: bool
) -> None:
    faults_before = faults()
    async with with_a_stalled_store(store, transport) as (app, proxy, client):
        if reset:
            client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(client.stream)
        await trio.sleep(0.05)
        await proxy.pass_all()
        async with connected(app, transport) as other:
            assert (await exchanged(other, call(1, "actor.load", id=3)))["result"]["id"] == 3
            watched = _directory(app).readiness
            assert watched is not None
            while len(watched._watched) > 2 + 1:  # the store's connections, and the other client's
                await trio.sleep(0.01)
    assert faults() == faults_before


async def test_an_http_connection_that_is_used_is_kept_and_one_that_is_not_is_closed(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, keep_alive_timeout=1.0) as app, connected(app, "http") as client:
            for id in range(6):
                await trio.sleep(0.4)
                assert (await exchanged(client, actor(id)))["id"] == id
            last = trio.current_time()
            await client.ended()
            assert trio.current_time() - last >= 0.9


async def test_calls_beyond_a_mailbox_wait_in_the_task(store: ValkeyProcess, transport: str) -> None:
    async with with_a_stalled_store(store, transport, mailbox_length=1, request_timeout=50.0) as (app, proxy, client):
        async with trio.open_nursery() as nursery:
            answered = []

            async def ask(id: int) -> None:
                async with connected_to(app, transport) as other:
                    answered.append((await exchanged(other, actor(id)))["id"])

            for id in range(10, 22):
                nursery.start_soon(ask, id)
            await trio.sleep(0.3)
            await proxy.pass_all()
        assert sorted(answered) == [*range(10, 22)]
        assert (await client.reply())["id"] == 3


async def test_a_crash_in_place_of_a_task_ends_that_connection_alone(
    store: ValkeyProcess, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Intake.take

    def crashing(self: Intake, data: Any, sink: Sink) -> Work[int]:
        if b"crash" in bytes(data if not isinstance(data, str) else data.encode()):
            raise ZeroDivisionError
        return take(self, data, sink)

    with trio.fail_after(HANG):
        async with (
            serving(redis_url=store.url) as app,
            connected(app, transport) as client,
            connected(app, transport) as other,
        ):
            monkeypatch.setattr(Intake, "take", crashing)
            await client.stream.send_all(client.message(call(1, "crash")))
            await client.ended()
            assert (await exchanged(other, actor(2)))["id"] == 2


async def test_a_flood_is_taken_in_turns_with_others(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url) as app, connected(app, "ws") as flooding, connected(app, "ws") as other:
            assert isinstance(flooding, WebSocket)
            await flooding.stream.send_all(b"".join(flooding.message(call(id)) for id in range(900)))
            assert (await exchanged(other, call(1, "context.list")))["id"] == 1
            for _ in range(900):
                await flooding.reply()


# -- what it stands on


async def test_a_number_that_is_anothers_by_now_is_left_to_it() -> None:
    told: list[str] = []
    watching = Readiness()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watching.run)
        first, first_peer = trio.socket.socketpair()
        incoming = WatchedSocket(watching, trio.SocketStream(first), lambda: told.append("first"))
        number = first.fileno()
        first.close()
        second, second_peer = trio.socket.socketpair()
        if second.fileno() != number:
            os.dup2(second.fileno(), number)
            second = trio.socket.from_stdlib_socket(socket.socket(fileno=number))
        other = WatchedSocket(watching, trio.SocketStream(second), lambda: told.append("second"))
        incoming.forget()
        await second_peer.send(b"x")
        while "second" not in told:
            await trio.sleep(0.01)
        assert other.read_now() == b"x"
        assert other.read_now() is None
        assert incoming.read_now() is None
        nursery.cancel_scope.cancel()
        for end in (second, second_peer, first_peer):
            end.close()
    watching.close()


async def test_who_stands_by_is_left_work_and_crashes_once() -> None:
    standby = Standby[int]()
    found: list[object] = []

    async def stand_by() -> None:
        for _ in range(2):
            try:
                found.append(await standby.wait())
            except ZeroDivisionError as crash:
                found.append(type(crash))

    standby.instead(lambda: found.append("nobody stands by"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stand_by)
        await trio.testing.wait_all_tasks_blocked()
        standby.instead(lambda: found.append("in its place"))
        standby.leave(7)
        standby.instead(lambda: found.append("too late"))
        await trio.testing.wait_all_tasks_blocked()
        standby.instead(lambda: found.append(1 // 0))
        assert not standby.is_taken
    assert found == ["in its place", 7, ZeroDivisionError]


async def test_nothing_is_left_to_a_task_that_was_cancelled_though_it_has_not_run_yet() -> None:
    standby = Standby[int]()
    found: list[object] = []
    faults_before = faults()

    async def stand_by() -> None:
        for _ in range(2):
            with trio.CancelScope() as scope:
                scopes.append(scope)
                found.append(await standby.wait())

    def cancel_and_crash() -> None:
        scopes[-1].cancel()
        found.append(standby.is_taken)
        raise ZeroDivisionError

    scopes: list[trio.CancelScope] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stand_by)
        await trio.testing.wait_all_tasks_blocked()
        standby.instead(cancel_and_crash)  # raises nothing, though nobody is there to be told
        standby.instead(lambda: found.append("too late"))
        await trio.testing.wait_all_tasks_blocked()
        standby.leave(8)
    assert found == [False, 8]
    assert faults() == faults_before + 1


async def test_work_is_done_as_far_as_it_need_not_wait_and_gone_on_with_where_it_stopped() -> None:
    done: list[str] = []

    def work(waits: int) -> Work[str]:
        for at in range(waits):
            done.append(f"before {at}")
            try:
                done.append((yield _later(at)))
            except ZeroDivisionError:
                done.append("caught")
        return "result"

    async def _later(at: int) -> str:
        await trio.lowlevel.checkpoint()
        if at == 1:
            raise ZeroDivisionError
        return f"came {at}"

    assert begin(work(0)) == "result"
    rest = begin(work(2))
    assert isinstance(rest, Rest)
    assert done == ["before 0"]
    assert await rest.carry_out() == "result"
    assert done == ["before 0", "came 0", "before 1", "caught"]
    assert await carry_out(work(1)) == "result"
    closed = begin(work(1))
    assert isinstance(closed, Rest)
    closed.close()  # leaves no coroutine behind that was never awaited: pytest would say so
