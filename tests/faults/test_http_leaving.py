"""HTTP clients that leave while a call waits, whatever way they leave: the call is given up, the job goes to somebody
else, and their connections are free at once."""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

import h2.config
import h2.connection
import pytest
import trio

from coordinator.budget import AHEAD_BYTES
from coordinator.server.app import App
from tests.support.api import ws_api
from tests.support.flows import submit, wide
from tests.support.inprocess import http_url, serving, ws_url
from tests.support.looking import until_metric
from tests.support.server import ValkeyProcess
from tests.support.workers import register

HANG: Final = 60.0
RUNNER: Final[dict[str, Any]] = {"runner_id": 3, "script_types": ["Python"]}
TAKE: Final = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "job.take", "params": {"context_id": 1, "wait": 60, **RUNNER}}
).encode()
LINES: Final = b"host: localhost\r\ncontent-type: application/json\r\n"
SIZED: Final = b"POST / HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (LINES, len(TAKE), TAKE)
CHUNKED: Final = b"POST / HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    LINES,
    len(TAKE),
    TAKE,
)
AHEAD: Final = AHEAD_BYTES + 16 * 1024  # more than the server reads ahead; the kernel holds the rest, and the end

Leave = Callable[[trio.SocketStream], Awaitable[None]]


async def close(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def half_close(stream: trio.SocketStream) -> None:
    await stream.send_eof()


async def close_behind_data(stream: trio.SocketStream) -> None:
    await stream.send_all(b"x" * AHEAD)
    await stream.aclose()


async def reset_behind_data(stream: trio.SocketStream) -> None:
    await stream.send_all(b"x" * AHEAD)
    await reset(stream)


LEAVING: Final = {leave.__name__: leave for leave in (close, reset, half_close, close_behind_data, reset_behind_data)}


async def asked_over_http1(app: App, request: bytes = SIZED) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(*app.http_address)
    await stream.send_all(request)
    return stream


async def asked_over_http2(app: App) -> tuple[trio.SocketStream, h2.connection.H2Connection]:
    stream = await trio.open_tcp_stream(*app.http_address)
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http2.initiate_connection()
    pseudo = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "localhost")]
    http2.send_headers(1, [*pseudo, ("content-type", "application/json")])
    http2.send_data(1, TAKE, end_stream=True)
    await stream.send_all(http2.data_to_send())
    return stream, http2


async def until_it_waits(app: App, *, calls: int) -> None:
    """Until so many calls have come and those that are not answered wait for a job."""
    await until_metric(http_url(app), calls, "calls_total")
    await until_metric(http_url(app), 0, "calls_pending")


async def somebody_else_gets_the_job(app: App, ws: Any, *, calls: int) -> None:
    """There is room for one call that waits, so the first is forgotten; the job comes to the second."""
    answers: list[dict[str, Any]] = []

    async def take() -> None:
        answers.append(await ws.call("job.take", context_id=1, wait=60, **RUNNER))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await until_it_waits(app, calls=calls)
        await submit(ws, 1, wide(1))
    assert [(taken["job"]["id"], taken["attempt"]) for taken in answers[0]["jobs"]] == [(1, 1)]


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("request_", [SIZED, CHUNKED], ids=["sized", "chunked"])
async def test_who_leaves_over_http1_is_noticed(store: ValkeyProcess, request_: bytes, leave: str) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_subscriptions=1) as app, ws_api(ws_url(app)) as ws:
            await register(ws, 1)
            leaving = await asked_over_http1(app, request_)
            await until_it_waits(app, calls=2)

            await LEAVING[leave](leaving)

            await until_metric(http_url(app), 1, "http_connections")  # the one that asks
            await somebody_else_gets_the_job(app, ws, calls=3)


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
async def test_who_leaves_over_http2_is_noticed(store: ValkeyProcess, leave: str) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_subscriptions=1) as app, ws_api(ws_url(app)) as ws:
            await register(ws, 1)
            leaving, _ = await asked_over_http2(app)
            await until_it_waits(app, calls=2)

            await LEAVING[leave](leaving)

            await until_metric(http_url(app), 1, "http_connections")
            await somebody_else_gets_the_job(app, ws, calls=3)


async def test_a_stream_of_http2_that_is_reset_is_noticed(store: ValkeyProcess) -> None:
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_subscriptions=1) as app, ws_api(ws_url(app)) as ws:
            await register(ws, 1)
            leaving, http2 = await asked_over_http2(app)
            await until_it_waits(app, calls=2)

            http2.receive_data(await leaving.receive_some())
            http2.reset_stream(1)
            await leaving.send_all(http2.data_to_send())

            await somebody_else_gets_the_job(app, ws, calls=3)
            await leaving.aclose()


@pytest.mark.parametrize("is_http2", [False, True])
async def test_who_has_left_takes_no_place_and_holds_up_no_shutdown(store: ValkeyProcess, is_http2: bool) -> None:
    places = 20
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url, max_connections=places, shutdown_grace=600.0) as app:
            async with ws_api(ws_url(app)) as ws:
                await register(ws, 1)
            for _ in range(3):
                leaving = []
                for _ in range(places - 1):
                    leaving.append((await asked_over_http2(app))[0] if is_http2 else await asked_over_http1(app))
                await until_metric(http_url(app), places, "http_connections")
                for stream in leaving:
                    await reset(stream)
                await until_metric(http_url(app), 1, "http_connections")
