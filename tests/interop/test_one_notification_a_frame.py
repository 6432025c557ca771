"""Public clients drop an array of notifications, so each of them comes in a frame of its own unless a client asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import jsonrpc_websocket
import picows
import pytest
from websocket import create_connection
from websockets.asyncio.client import connect

from tests.interop.conftest import Play
from tests.support.clients import request
from tests.support.server import CoordinatorProcess
from tests.support.streaming import RawClient

Work = dict[str, Any]
Send = Callable[[str], Awaitable[None]]

ALL_JOBS: Final = list(range(1, 21))
WAIT: Final = 30.0  # seconds for what comes at once


def call(id: int, method: str, params: Any) -> str:
    return json.dumps(request(method, params, id))


async def subscribed(send: Send, frames: asyncio.Queue[str | bytes], work: Work) -> list[Any]:
    """What each frame holds, from the reply to the subscription until all twenty jobs were announced."""
    await send(call(1, "runner.create", work["runner"]))
    assert json.loads(await frames.get())["id"] == 1
    await send(call(2, "runner.subscribe", work["subscription"]))
    await send(call(3, "flow.submit", work["submission"]))
    seen: list[Any] = []
    while notified(seen) < len(ALL_JOBS):
        seen.append(json.loads(await asyncio.wait_for(frames.get(), WAIT)))
    return seen


def notified(seen: list[Any]) -> int:
    """How many notifications there are in these frames."""
    items = [item for frame in seen for item in (frame if isinstance(frame, list) else [frame])]
    return sum("method" in item for item in items)


def assert_one_a_frame(seen: list[Any]) -> None:
    assert [frame for frame in seen if isinstance(frame, list)] == []
    assert sorted(frame["params"]["job"]["id"] for frame in seen if "method" in frame) == ALL_JOBS


async def test_websockets_gets_one_notification_a_frame(server: CoordinatorProcess, work: Work) -> None:
    frames: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with connect(server.ws, proxy=None) as socket:

        async def read() -> None:
            async for message in socket:
                frames.put_nowait(message)

        reading = asyncio.create_task(read())
        assert_one_a_frame(await subscribed(socket.send, frames, work))
        reading.cancel()


async def test_aiohttp_gets_one_notification_a_frame(server: CoordinatorProcess, work: Work) -> None:
    frames: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with aiohttp.ClientSession() as session, session.ws_connect(server.ws) as socket:

        async def read() -> None:
            async for message in socket:
                frames.put_nowait(message.data)

        reading = asyncio.create_task(read())
        assert_one_a_frame(await subscribed(socket.send_str, frames, work))
        reading.cancel()


async def test_picows_gets_one_notification_a_frame(server: CoordinatorProcess, work: Work) -> None:
    frames: asyncio.Queue[str | bytes] = asyncio.Queue()

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.TEXT:
                frames.put_nowait(frame.get_payload_as_utf8_text())

    transport, _ = await picows.ws_connect(Listener, server.ws)

    async def send(text: str) -> None:
        transport.send(picows.WSMsgType.TEXT, text.encode())

    assert_one_a_frame(await subscribed(send, frames, work))
    transport.disconnect()


def test_websocket_client_gets_one_notification_a_frame(server: CoordinatorProcess, work: Work) -> None:
    socket = create_connection(server.ws, timeout=WAIT)
    socket.send(call(1, "runner.create", work["runner"]))
    assert json.loads(socket.recv())["id"] == 1
    socket.send(call(2, "runner.subscribe", work["subscription"]))
    socket.send(call(3, "flow.submit", work["submission"]))

    seen: list[Any] = []
    while notified(seen) < len(ALL_JOBS):
        seen.append(json.loads(socket.recv()))
    socket.close()

    assert_one_a_frame(seen)


async def test_jsonrpc_websocket_receives_every_job(server: CoordinatorProcess, work: Work) -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue()
    session = aiohttp.ClientSession()
    client = jsonrpc_websocket.Server(server.ws, session)
    client.runner.job = lambda job, **more: jobs.put_nowait(job["id"])
    await client.ws_connect()
    try:
        await client.runner.create(**work["runner"])
        await client.runner.subscribe(**work["subscription"])
        await client.flow.submit(**work["submission"])

        received = [await asyncio.wait_for(jobs.get(), WAIT) for _ in ALL_JOBS]

        assert sorted(received) == ALL_JOBS
    finally:
        await client.close()
        await session.close()


def test_ws_of_node_gets_one_notification_a_frame(node: Play, work: Work) -> None:
    assert_one_a_frame(node("ws", "subscribes", **work))


@pytest.mark.parametrize("script", ["rpc_websockets", "json_rpc_2", "open_rpc"])
def test_clients_of_node_receive_every_job(node: Play, work: Work, script: str) -> None:
    assert sorted(node(script, "subscribes", **work)) == ALL_JOBS


def test_a_client_that_asks_for_it_gets_notifications_in_batches(server: CoordinatorProcess, work: Work) -> None:
    socket = create_connection(server.ws, timeout=WAIT)
    socket.send(call(1, "runner.create", work["runner"]))
    socket.recv()
    socket.send(call(2, "flow.submit", work["submission"]))  # all twenty wait when the runner comes
    socket.recv()
    socket.send(call(3, "runner.subscribe", {**work["subscription"], "batch": True}))

    seen: list[Any] = []
    while notified(seen) < len(ALL_JOBS):
        seen.append(json.loads(socket.recv()))
    socket.close()

    batches = [frame for frame in seen if isinstance(frame, list)]
    assert seen[0]["id"] == 3
    assert "result" in seen[0]
    assert sorted(item["params"]["job"]["id"] for frame in batches for item in frame) == ALL_JOBS


@pytest.mark.parametrize("is_batch", [False, True])
@pytest.mark.parametrize("before", [0, 1, 62])
def test_the_reply_to_a_subscription_precedes_its_first_notification(
    server: CoordinatorProcess, work: Work, before: int, is_batch: bool
) -> None:
    """Twenty jobs wait already, and other calls, sent in one go with the subscription, come before and after it."""
    raw = RawClient(server.ws)
    raw.upgrade()
    for id, method, params in ((1, "runner.create", work["runner"]), (2, "flow.submit", work["submission"])):
        raw.send_call(id, method, params)
        assert next_text(raw)["id"] == id
    load = {"context_id": work["subscription"]["context_id"], "caller_id": 7, "id": 1}
    calls = [request("job.load", load, 100 + at) for at in range(before)]
    calls.append(request("runner.subscribe", work["subscription"], 3))
    calls += [request("job.load", load, 200 + at) for at in range(10)]
    raw.socket.sendall(b"".join(map(text_frame, [calls] if is_batch else calls)))

    seen: list[Any] = []
    while notified(seen) < len(ALL_JOBS):
        seen.append(next_text(raw))
    raw.close()

    items = [item for frame in seen for item in (frame if isinstance(frame, list) else [frame])]
    first_notification = next(at for at, item in enumerate(items) if "method" in item)
    reply = next(at for at, item in enumerate(items) if item.get("id") == 3)
    assert reply < first_notification


def text_frame(content: Any) -> bytes:
    """A masked text frame that holds this as JSON."""
    payload = json.dumps(content).encode()
    length = len(payload)
    head = bytes([0x81, 0x80 | length]) if length < 126 else b"\x81\xfe" + length.to_bytes(2, "big")
    return head + bytes(4) + payload  # masked with zeros


def next_text(raw: RawClient) -> Any:
    """What the next text frame holds."""

    def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = raw.socket.recv(count - len(data))
            assert more, "the server closed"
            data += more
        return data

    while True:
        kind, length = read(2)
        if length > 125:
            length = int.from_bytes(read(2 if length == 126 else 8), "big")
        payload = read(length)
        if kind == 0x81:
            return json.loads(payload)
