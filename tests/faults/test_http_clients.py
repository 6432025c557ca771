"""HTTP clients that come and go: none is remembered, none too many is let in, none holds up a shutdown."""

from __future__ import annotations

import contextlib
import re

import httpx
import trio

from coordinator.app import App
from tests.support.inprocess import http_url, serving
from tests.support.server import ValkeyProcess


async def http_connections(app: App) -> int:
    async with httpx.AsyncClient() as client:
        page = (await client.get(f"{http_url(app)}/metrics")).text
    found = re.search(r"^herocoordinator_http_connections (\S+)", page, re.M)
    assert found is not None
    return int(float(found[1]))


async def test_a_client_that_closes_is_forgotten_at_once(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url, keep_alive_timeout=1000.0) as app:
        for _ in range(20):
            async with httpx.AsyncClient() as client:
                await client.get(f"{http_url(app)}/healthz")

        with trio.fail_after(10):
            while await http_connections(app) > 1:  # the one asking
                await trio.sleep(0.01)


async def test_a_client_over_the_limit_gets_503_and_a_place_once_there_is_one(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url, max_connections=2) as app, httpx.AsyncClient() as late:
        async with httpx.AsyncClient() as first, httpx.AsyncClient() as second:
            await first.get(f"{http_url(app)}/healthz")
            await second.get(f"{http_url(app)}/healthz")
            refused = await late.get(f"{http_url(app)}/healthz")
        assert refused.status_code == 503

        with trio.fail_after(10):
            while (await late.get(f"{http_url(app)}/healthz")).status_code == 503:
                await trio.sleep(0.01)


async def test_a_client_in_the_middle_of_its_request_is_cut_when_the_grace_ends(store: ValkeyProcess) -> None:
    with trio.fail_after(20):
        async with serving(redis_url=store.url, shutdown_grace=0.2) as app:
            half = await trio.open_tcp_stream(*app.http_address)
            await half.send_all(
                b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
            )
            await trio.sleep(0.1)

    with contextlib.suppress(trio.BrokenResourceError):
        while await half.receive_some():
            pass
