"""HTTP clients that come and go: none is remembered, none too many is let in, none holds up a shutdown."""

from __future__ import annotations

import contextlib

import httpx
import pytest
import trio
import trio.testing

from coordinator.server.app import App
from tests.support.inprocess import http_url, serving
from tests.support.looking import metric
from tests.support.server import ValkeyProcess


async def http_connections(app: App) -> int:
    return await trio.to_thread.run_sync(metric, http_url(app), "http_connections")


async def test_a_client_that_closes_is_forgotten_at_once(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url, keep_alive_timeout=1000.0) as app:
        for _ in range(20):
            async with httpx.AsyncClient(verify=False) as client:
                await client.get(f"{http_url(app)}/healthz")

        with trio.fail_after(10):
            while await http_connections(app) > 1:  # the one asking
                await trio.sleep(0.01)


async def test_a_client_over_the_limit_gets_503_and_a_place_once_there_is_one(store: ValkeyProcess) -> None:
    async with serving(redis_url=store.url, max_connections=2) as app, httpx.AsyncClient(verify=False) as late:
        async with httpx.AsyncClient(verify=False) as first, httpx.AsyncClient(verify=False) as second:
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


PLAIN = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
PING = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}'


async def ended(stream: trio.SocketStream) -> bool:
    """Whether the server closes, by whatever is left to read."""
    with trio.move_on_after(15):
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        return True
    return False


@pytest.mark.parametrize("first", [b"", PLAIN % (len(PING), PING), PLAIN % (99, PING)], ids=["new", "used", "halfway"])
async def test_a_client_that_sends_nothing_more_is_let_go(store: ValkeyProcess, first: bytes) -> None:
    async with serving(redis_url=store.url, keep_alive_timeout=0.5, request_timeout=1.0) as app:
        client = await trio.open_tcp_stream(*app.http_address)
        if first:
            await client.send_all(first)

        assert await ended(client)


async def test_idle_clients_are_closed_at_once_when_we_stop(store: ValkeyProcess) -> None:
    with trio.fail_after(15):
        async with serving(redis_url=store.url, shutdown_grace=60.0) as app:
            new = await trio.open_tcp_stream(*app.http_address)
            used = await trio.open_tcp_stream(*app.http_address)
            small = b'{"jsonrpc":"2.0","id":1,"method":"auth.whoami"}'  # whose reply is received whole
            await used.send_all(PLAIN % (len(small), small))
            await used.receive_some(1000)
            await trio.testing.wait_all_tasks_blocked(0.1)
        assert await ended(new)
        assert await ended(used)


async def test_a_client_that_never_reads_its_replies_is_disconnected(store: ValkeyProcess) -> None:
    batch = b"[" + b",".join([PING] * 50) + b"]"  # answered with a good megabyte
    async with serving(redis_url=store.url, client_write_timeout=1.0) as app:
        client = await trio.open_tcp_stream(*app.http_address)
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(20):
                with trio.move_on_after(0.5):
                    await client.send_all(PLAIN % (len(batch), batch))

        with trio.fail_after(20):
            while await http_connections(app) > 1:  # the one asking
                await trio.sleep(0.05)
