"""Client certificates, and what holds of a connection before its client has shown anything. In the test's own loop."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
import trio_websocket
import trustme
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from coordinator import tlsstream
from tests.support.inprocess import serving
from tests.support.tls import Files


async def gets_in(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    """Whether a client with this context gets an answer over HTTP: with TLS 1.3 it learns only then if it does not."""
    try:
        async with httpx.AsyncClient(verify=context, timeout=30) as http:
            return (await http.get(f"https://localhost:{address[1]}/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def gets_a_websocket(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    """The same over WebSocket."""

    def call() -> bool:
        try:
            with connect(f"wss://localhost:{address[1]}", ssl=context, open_timeout=30) as websocket:
                websocket.send('{"jsonrpc":"2.0","id":1,"method":"context.load","params":{"id":1}}')
                return "-32001" in str(websocket.recv(30))
        except (OSError, EOFError, WebSocketException):
            return False

    return await trio.to_thread.run_sync(call)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("mode", "admitted"),
    [
        ("none", {"nobody", "known", "stranger"}),
        ("optional", {"nobody", "known"}),
        ("required", {"known"}),
        (None, {"known"}),
    ],
)
async def test_clients_are_asked_for_certificates(
    files: Files, tmp_path: Path, mode: str | None, admitted: set[str], version: ssl.TLSVersion
) -> None:
    clients = {
        "nobody": files.trust(),
        "known": files.trust(identity=files.client_authority.issue_cert("runner@example.org")),
        "stranger": files.trust(identity=trustme.CA().issue_cert("runner@example.org")),
    }
    settings = {**files.settings, "tls_client_ca": files.client_ca, "tls_client_certs": mode}
    async with serving(data_dir=tmp_path, **settings) as app:
        for name, context in clients.items():
            context.minimum_version = context.maximum_version = version
            assert await gets_in(app.http_address, context) == (name in admitted), name
            assert await gets_a_websocket(app.ws_address, context) == (name in admitted), name


@pytest.mark.parametrize("front_end", ["http", "ws"])
async def test_silent_handshakes_hold_no_slot_beyond_their_time(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front_end: str
) -> None:
    monkeypatch.setattr(tlsstream, "HANDSHAKE_TIMEOUT", 0.5)
    async with serving(data_dir=tmp_path, max_connections=3, **files.settings) as app:
        address = app.http_address if front_end == "http" else app.ws_address
        get = gets_in if front_end == "http" else gets_a_websocket
        silent = [await trio.open_tcp_stream(*address) for _ in range(3)]
        try:
            for stream in silent:
                with trio.fail_after(30):
                    assert await stream.receive_some() == b""  # we were hung up on
            assert await get(address, files.trust())
        finally:
            for stream in silent:
                await stream.aclose()


async def test_one_client_too_many_is_told_over_tls(files: Files, tmp_path: Path) -> None:
    async with serving(data_dir=tmp_path, max_connections=1, **files.settings) as app:
        url = f"https://localhost:{app.http_address[1]}/healthz"
        async with httpx.AsyncClient(verify=files.trust()) as first, httpx.AsyncClient(verify=files.trust()) as second:
            assert (await first.get(url)).status_code == 200
            assert (await second.get(url)).status_code == 503


async def test_a_shutdown_says_goodbye_over_tls(files: Files, tmp_path: Path) -> None:
    async with serving(data_dir=tmp_path, **files.settings) as app:
        url = f"wss://localhost:{app.ws_address[1]}"
        async with trio_websocket.open_websocket_url(url, files.trust()) as websocket:
            app.stop()
            with trio.fail_after(30), pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await websocket.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1001


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_an_idle_connection_that_we_close_ends_with_a_farewell(
    files: Files, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Without one a client would have to take it for an attack that cuts its connections off."""
    context = files.trust()
    context.minimum_version = context.maximum_version = version

    def connected(address: tuple[str, int]) -> ssl.SSLSocket:
        raw = socket.create_connection(address, 30)
        return context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)

    async with serving(data_dir=tmp_path, **files.settings) as app:
        with await trio.to_thread.run_sync(connected, app.http_address) as connection:
            app.stop()
            assert await trio.to_thread.run_sync(connection.recv, 100) == b""


async def test_a_handshake_under_way_does_not_hold_up_a_shutdown(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tlsstream, "HANDSHAKE_TIMEOUT", 3600.0)
    async with serving(data_dir=tmp_path, shutdown_grace=3600.0, **files.settings) as app:
        silent = [await trio.open_tcp_stream(*address) for address in (app.http_address, app.ws_address)]
        await trio.testing.wait_all_tasks_blocked()  # they are accepted
        app.stop()
        for stream in silent:
            async with stream:
                with trio.fail_after(60):
                    assert await stream.receive_some() == b""


async def test_clients_that_leave_in_the_middle_are_gone(files: Files, tmp_path: Path) -> None:
    """With and without a farewell, in a handshake and in a request, reset and closed."""
    async with serving(data_dir=tmp_path, **files.settings) as app:

        def leave(address: tuple[str, int], *, shakes: bool, resets: bool) -> None:
            raw = socket.create_connection(address, 30)
            if shakes:
                connection = files.trust().wrap_socket(raw, server_hostname="localhost")
                connection.sendall(b"POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\n{")
                raw = connection
            else:
                raw.sendall(b"\x16\x03\x01")
            if resets:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.close()

        for address in (app.http_address, app.ws_address):
            for shakes in (False, True):
                for resets in (False, True):
                    await trio.to_thread.run_sync(partial(leave, address, shakes=shakes, resets=resets))

        async with httpx.AsyncClient(verify=files.trust()) as http:
            url = f"https://localhost:{app.http_address[1]}/metrics"

            async def only_this_one() -> bool:
                page = (await http.get(url)).text.splitlines()
                return {"herocoordinator_http_connections 1.0", "herocoordinator_websocket_connections 0.0"} <= set(
                    page
                )

            with trio.fail_after(30):
                while not await only_this_one():
                    await trio.sleep(0.05)
