"""How calls share a connection, and what ends them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio_websocket import WebSocketConnection

from coordinator.client import (
    CallTooLarge,
    CannotConnect,
    Client,
    Credentials,
    InvalidRequest,
    NoReply,
    NotFound,
    ReplyTooLarge,
    RpcError,
    aio,
    call_once,
    channel,
    connect,
)
from coordinator.signing import new_key
from tests.client.conftest import CALLER, context, job, port_of
from tests.support.peer import Peer, echo, peer
from tests.support.proxy import Side, proxied
from tests.support.server import CoordinatorProcess, coordinator, free_port


async def test_calls_made_in_the_same_moment_go_as_one_batch_and_a_single_one_as_an_object() -> None:
    async with peer() as server, connect(server.url) as client:
        await client.wait_connected()
        results: dict[int, Any] = {}

        async def call(number: int) -> None:
            results[number] = await client.call("m", [number])

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(call, number)
        await client.call("single")

    assert results == {number: [number] for number in range(50)}
    batch, single = server.frames
    assert len(batch) == 50
    assert single == {"jsonrpc": "2.0", "id": single["id"], "method": "single"}


async def test_many_calls_from_one_task_keep_within_the_servers_limits(client: Client, context_id: int) -> None:
    await client.context_create(context=context(context_id))
    jobs = [job(context_id, id, script="x" * 900) for id in range(2500)]
    calls = [("job.create", {"context_id": context_id, "job": job}) for job in jobs]
    missing = ("job.load", {"context_id": context_id, "caller_id": CALLER, "id": 9999})

    outcomes = await client.call_many([*calls, missing])

    assert [outcome["id"] for outcome in outcomes[:-1]] == list(range(2500))
    assert isinstance(outcomes[-1], NotFound)
    assert await client.call_many([]) == []


async def test_replies_too_large_for_one_batch_are_fetched_all_the_same(client: Client, context_id: int) -> None:
    await client.context_create(context=context(context_id))
    script = "x" * 1_000_000
    await client.job_create(context_id=context_id, job=job(context_id, 1, script=script))

    load = ("job.load", {"context_id": context_id, "caller_id": CALLER, "id": 1})
    outcomes = await client.call_many([load] * 40)

    assert not [outcome for outcome in outcomes if isinstance(outcome, ReplyTooLarge)]
    assert all(outcome["script"] == script for outcome in outcomes)


async def test_no_more_calls_are_in_flight_than_allowed() -> None:
    arrived = trio.Event()
    release = trio.Event()

    async def hold(server: Peer, socket: WebSocketConnection, frame: Any) -> None:
        if not release.is_set():
            arrived.set()
            await release.wait()
        await echo(server, socket, frame)

    async with peer(hold) as server, connect(server.url, max_in_flight=3) as client, trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(client.call, "m", [number])
        await arrived.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert [len(frame) for frame in server.frames] == [3]
        release.set()

    assert sum(len(frame) if isinstance(frame, list) else 1 for frame in server.frames) == 10
    assert all(len(frame) <= 3 for frame in server.frames if isinstance(frame, list))


async def silence(server: Peer, socket: WebSocketConnection, frame: Any) -> None:
    """No reply."""


async def test_a_call_not_answered_in_time_says_so_and_others_go_on() -> None:
    async def only_quick(server: Peer, socket: WebSocketConnection, frame: Any) -> None:
        if frame["method"] == "quick":
            await echo(server, socket, frame)

    async with peer(only_quick) as server, connect(server.url) as client:
        began = trio.current_time()
        with pytest.raises(NoReply, match="did not answer in time") as late:
            await client.call("slow", timeout=0.2)

        assert 0.2 <= trio.current_time() - began < 5
        assert late.value.may_have_been_applied
        assert isinstance(late.value, trio.TooSlowError)
        assert await client.call("quick", [1], timeout=math.inf) == [1]


async def test_a_cancelled_call_is_forgotten() -> None:
    async with peer(silence) as server, connect(server.url, max_in_flight=1) as client:
        for count, method in enumerate(["slow", "next"], 1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call, method)
                with trio.fail_after(30):
                    await server.received(count)
                nursery.cancel_scope.cancel()

    assert [frame["method"] for frame in server.frames] == ["slow", "next"]


async def test_many_calls_can_be_cancelled_together() -> None:
    async with peer(silence) as server, connect(server.url) as client:
        with trio.move_on_after(0.2) as scope:
            await client.call_many([("a", None), ("b", None)])
        assert scope.cancelled_caught
        server._reply = echo
        assert await client.call_many([("c", [1]), ("d", [2])]) == [[1], [2]]


async def test_a_notification_is_sent_and_not_answered() -> None:
    async with peer() as server, connect(server.url) as client:
        await client.notify("n", {"a": 1})
        await client.call("after")

    sent = [call for frame in server.frames for call in (frame if isinstance(frame, list) else [frame])]
    assert sent[0] == {"jsonrpc": "2.0", "method": "n", "params": {"a": 1}}


async def test_a_call_that_is_too_large_is_not_sent_and_harms_no_other(client: Client, context_id: int) -> None:
    with pytest.raises(CallTooLarge, match=r"takes 10000\d\d bytes"):
        async with connect("ws://127.0.0.1:1", max_frame_bytes=1_000_000) as other:
            await other.call("m", ["x" * 1_000_000])

    too_large = job(context_id, 1, script="x" * 1024 * 1024)
    with pytest.raises(CallTooLarge):
        await client.job_create(context_id=context_id, job=too_large)
    with pytest.raises(CallTooLarge):
        await client.call_many([("rpc.discover", None), ("m", ["x" * 1024 * 1024])])
    assert await client.call("rpc.discover")


@pytest.mark.slow
async def test_limits_of_the_server_that_the_client_was_not_told_of_are_errors_not_silence(tmp_path: Path) -> None:
    limits = ["--max-batch-length", "5", "--max-frame-bytes", "2000"]
    with coordinator("--data-dir", str(tmp_path), *limits) as server:
        async with connect(server.ws) as client:
            with trio.fail_after(20):
                (first, *_) = await client.call_many([("rpc.discover", None)] * 6)
                assert isinstance(first, InvalidRequest)
                assert first.data["setting"] == "max_batch_length"
                with pytest.raises(InvalidRequest, match="2000 bytes"):
                    await client.call("m", ["x" * 3000])
                assert await client.call("rpc.discover")


async def test_without_a_server_a_call_says_why_it_was_not_answered() -> None:
    async with connect(f"ws://127.0.0.1:{free_port()}", timeout=0.3) as client:
        with pytest.raises(NoReply, match=r"no connection to ws://127.0.0.1:\d+: Connection refused") as error:
            await client.call("m")
        assert not error.value.may_have_been_applied
        assert not client.connected


@pytest.mark.parametrize("give_up_after", [0, 0.3])
async def test_a_client_may_give_up(give_up_after: float) -> None:
    async with connect(f"ws://127.0.0.1:{free_port()}", give_up_after=give_up_after) as client:
        with trio.fail_after(10):
            with pytest.raises(CannotConnect):
                await client.call("m")
            with pytest.raises(CannotConnect):
                await client.call("again")
            with pytest.raises(CannotConnect):
                await client.wait_connected()


async def test_who_is_no_websocket_server_is_named(server: CoordinatorProcess) -> None:
    async with connect(server.http.replace("http", "ws") + "/no/websocket", give_up_after=0) as client:
        with pytest.raises(CannotConnect, match="404"):
            await client.call("m")


async def test_who_closes_in_the_handshake_does_not_hold_the_client_up() -> None:
    async def close(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, close, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        began = time.monotonic()
        async with connect(f"ws://127.0.0.1:{port}", give_up_after=0) as client:
            with pytest.raises(CannotConnect, match="closed the connection in the handshake"):
                await client.call("m")
        assert time.monotonic() - began < 5
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1", "ws://", "ws://h:port"])
async def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        async with connect(url):
            pass


@pytest.mark.parametrize(
    "header", [("x", "a\nb"), ("x", "\u20ac"), ("x y", "1"), ("", "1"), ("\xe9", "1"), ("x", " 1")]
)
@pytest.mark.parametrize("connecting", [connect, aio.connect])
async def test_a_header_that_is_none_is_refused_at_once(
    connecting: Callable[..., Any], header: tuple[str, str], server: CoordinatorProcess
) -> None:
    headers = dict([header])
    with pytest.raises(ValueError, match="cannot be sent"):
        await call_once(server.http, "context.load", headers=headers)
    with pytest.raises(ValueError, match="cannot be sent"):
        await connecting(server.ws, headers=headers).__aenter__()


async def test_a_message_that_is_not_json_costs_the_connection_not_the_calls() -> None:
    async def garble_once(server: Peer, socket: WebSocketConnection, frame: Any) -> None:
        if server.connections == 1:
            await socket.send_message("{")
        else:
            await echo(server, socket, frame)

    async with peer(garble_once) as server, connect(server.url) as client:
        assert await client.call("m", [1]) == [1]
    assert server.connections == 2


async def test_what_is_no_reply_of_ours_is_ignored() -> None:
    async def noise(server: Peer, socket: WebSocketConnection, frame: Any) -> None:
        for text in (
            '{"jsonrpc":"2.0","id":999,"result":1}',
            "[1, null]",
            '{"jsonrpc":"2.0","method":"flow.event","params":{"subscription":"unknown"}}',
            '{"jsonrpc":"2.0","method":"m"}',
            '{"jsonrpc":"2.0","method":"m","params":{"subscription":[]}}',
        ):
            await socket.send_message(text)
        await echo(server, socket, frame)

    async with peer(noise) as server, connect(server.url) as client:
        assert await client.call("m", [1]) == [1]
    assert server.connections == 1


@pytest.mark.parametrize("error", ["overloaded", ["overloaded"], 7, {}, {"code": "-1"}, None])
async def test_an_error_of_another_kind_is_that_of_its_call_alone(error: Any) -> None:
    async def fail(server: Peer, socket: WebSocketConnection, frame: Any) -> None:
        if frame["method"] == "m":
            await echo(server, socket, frame)
        else:
            await socket.send_message(json.dumps({"jsonrpc": "2.0", "id": frame["id"], "error": error}))

    async with peer(fail) as server, connect(server.url) as client:
        with pytest.raises(RpcError, match="not a JSON-RPC error"):
            await client.call("failing")
        assert await client.call("m", [1]) == [1]
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        "{",
        "",
        "[]",
        '{"jsonrpc":"2.0","id":0,"result":5}',
        '{"jsonrpc":"2.0","id":0,"result":{}}',
        '{"jsonrpc":"2.0","id":0,"result":{"server":"s","nonce":"n","expires_at":"soon"}}',
        '{"jsonrpc":"2.0","id":0,"error":"no"}',
    ],
)
async def test_a_login_that_is_not_answered_as_it_should_be_is_tried_again(answer: str, tmp_path: Path) -> None:
    new_key(tmp_path / "key")

    async def garble(_: Peer, socket: WebSocketConnection, __: Any) -> None:
        await socket.send_message(answer)

    as_seven = Credentials(principal="actor:7", key=tmp_path / "key")
    async with peer(garble) as server, connect(server.url, credentials=as_seven) as client:
        while server.connections < 2:
            with pytest.raises(NoReply, match=r"cannot log in|not answered yet|in time"):
                await client.call("m", timeout=0.05)


@pytest.mark.slow
async def test_a_server_that_has_gone_silent_is_left() -> None:
    lost = trio.Event()
    async with peer() as server, proxied(port_of(server.url)) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}"
        async with connect(url, keepalive=1.0, on_disconnect=lost.set) as client:
            await client.call("m", [1])
            carried = proxy.forwarded[Side.TO_CLIENT]
            await proxy.until_forwarded(carried + 10, Side.TO_CLIENT)  # pongs, while nothing else is said
            assert not lost.is_set()

            proxy.stall()

            with trio.fail_after(10):
                await lost.wait()
                await proxy.pass_all()
                assert await client.call("m", [2]) == [2]


async def test_a_reply_that_takes_long_to_come_is_waited_for() -> None:
    async with peer() as server, proxied(port_of(server.url)) as proxy:
        async with connect(f"ws://127.0.0.1:{proxy.port}", keepalive=0.2) as client:
            await client.wait_connected()
            proxy.slow_down(Side.TO_CLIENT, 500_000)
            assert await client.call("m", ["x" * 500_000]) == ["x" * 500_000]
            assert client.connections == 1


async def test_an_error_of_the_body_is_raised_as_it_is() -> None:
    async with peer() as server:

        async def fail() -> None:
            async with connect(server.url) as client:
                await client.call("m")
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await fail()


async def test_a_closed_client_says_so() -> None:
    async with peer(silence) as server, trio.open_nursery() as nursery:
        async with connect(server.url) as client:

            async def call() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.call("m")

            nursery.start_soon(call)
            await server.received(1)
        with pytest.raises(trio.ClosedResourceError):
            await client.call("m")


async def test_closing_takes_no_longer_than_the_servers_goodbye(
    server: CoordinatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "CLOSE_TIMEOUT", math.inf)
    with trio.fail_after(30):
        for _ in range(10):
            async with connect(server.ws) as client:
                await client.wait_connected()


async def test_headers_are_sent_with_the_handshake(server: CoordinatorProcess) -> None:
    async with connect(server.ws, headers={"Origin": "http://elsewhere.example"}, give_up_after=0) as client:
        with pytest.raises(CannotConnect, match="403"):
            await client.call("rpc.discover")
