"""The TLS stream by itself: trio's own stream checks, and what TLS adds to a stream's life."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.testing
import trustme

from coordinator.socketio import receive_next, send_now, send_steadily
from coordinator.tlsstream import (
    CHUNK_BYTES,
    FAREWELL_TIMEOUT,
    HANDSHAKE_TIMEOUT,
    MAX_UNREAD_ANSWERS,
    TlsStream,
    serve_tls,
)

LARGE = bytes(range(256)) * (1 << 14)  # 4 MiB
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

authority = trustme.CA()
certificate = authority.issue_cert("localhost")


def server_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    certificate.configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def raw_pair(*, is_small: bool = False) -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = socket.socketpair()
    if is_small:
        for end in (one, other):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return trio.SocketStream(trio.socket.from_stdlib_socket(one)), trio.SocketStream(
        trio.socket.from_stdlib_socket(other)
    )


async def pair(
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, is_small: bool = False
) -> tuple[TlsStream, TlsStream]:
    """The server's end and the client's, after the handshake."""
    ours, theirs = raw_pair(is_small=is_small)
    server = TlsStream(ours, server_context(version), server_side=True)
    client = TlsStream(theirs, client_context(), server_side=False, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        nursery.start_soon(client.do_handshake)
    return server, client


async def clogged_pair(version: ssl.TLSVersion) -> tuple[TlsStream, TlsStream]:
    """A pair of streams that can send no more until the other one reads."""
    streams = await pair(version, is_small=True)
    for stream in streams:
        with trio.move_on_after(0.01):
            await stream.send_all(LARGE)
    return streams


@contextlib.asynccontextmanager
async def both(streams: tuple[TlsStream, TlsStream]) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    async with streams[0], streams[1]:
        yield streams


@pytest.mark.parametrize("version", VERSIONS)
async def test_it_is_a_stream_as_trio_wants_them(version: ssl.TLSVersion) -> None:
    await trio.testing.check_half_closeable_stream(partial(pair, version), partial(clogged_pair, version))


async def receive_exactly(stream: TlsStream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await stream.receive_some()
        assert data, "the stream ended early"
        received += data
    return bytes(received)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_reply_is_with_the_kernel_before_any_other_task_runs(version: ssl.TLSVersion) -> None:
    async with both(await pair(version)) as (server, client):
        assert send_now(server, b"hello") == b""

        assert select.select([client.socket], [], [], 0)[0]
        assert await client.receive_some() == b"hello"


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_the_kernel_does_not_take_remains_and_nothing_is_sent_twice(version: ssl.TLSVersion) -> None:
    async with both(await pair(version)) as (server, client), trio.open_nursery() as nursery:
        remaining = send_now(server, LARGE)
        assert 0 < len(remaining) < len(LARGE)
        assert send_now(server, remaining) == remaining
        nursery.start_soon(server.send_all, remaining)

        assert await receive_exactly(client, len(LARGE)) == LARGE


async def test_what_remains_may_be_sent_in_pieces_and_with_more_behind_it() -> None:
    async with both(await pair(is_small=True)) as (server, client), trio.open_nursery() as nursery:
        remaining = send_now(server, LARGE[:200_000]) + b"and more"

        async def send_in_pieces() -> None:
            for at in range(0, len(remaining), 1000):
                await send_steadily(server, remaining[at : at + 1000], 10.0)

        nursery.start_soon(send_in_pieces)
        assert await receive_exactly(client, 200_008) == LARGE[:200_000] + b"and more"


async def test_what_follows_a_send_that_was_cancelled_is_whole() -> None:
    async with both(await pair(is_small=True)) as (server, client), trio.open_nursery() as nursery:
        with trio.move_on_after(0.01) as limit:
            await server.send_all(b"a" * len(LARGE))
        assert limit.cancelled_caught
        nursery.start_soon(server.send_all, b"the end")

        received = b""
        while not received.endswith(b"the end"):
            received += await client.receive_some()
        assert received.strip(b"a") == b"the end"


async def test_no_more_than_a_chunk_is_encrypted_ahead_of_the_kernel() -> None:
    async with both(await pair(is_small=True)) as (server, client), trio.open_nursery() as nursery:
        accepted: list[int] = []
        nursery.start_soon(send_steadily, server, LARGE, 10.0, accepted.append)
        received = 0
        while received < len(LARGE):
            received += len(await client.receive_some(1 << 14))
            kernel = 64 * 1024  # more than two small socket buffers, and what the client has read ahead
            assert sum(accepted) <= received + kernel + CHUNK_BYTES
        await trio.testing.wait_all_tasks_blocked()
        assert sum(accepted) == len(LARGE)


async def test_a_peer_that_accepts_nothing_is_given_up() -> None:
    async with both(await pair()) as (server, _):
        with pytest.raises(trio.TooSlowError):
            await send_steadily(server, LARGE, 0.05)


async def test_records_that_arrived_together_are_received_together() -> None:
    async with both(await pair()) as (server, client):
        for part in (b"one", b"two", b"three"):
            await client.send_all(part)

        assert await receive_next(server) == b"onetwothree"


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_end_that_was_announced_and_one_that_was_not_read_alike(version: ssl.TLSVersion) -> None:
    for is_announced in (True, False):
        server, client = await pair(version)
        await client.send_all(b"last words")
        await (client if is_announced else client.transport_stream).aclose()

        assert await receive_exactly(server, 10) == b"last words"
        assert await server.receive_some() == b""
        assert await server.receive_some() == b""
        await server.aclose()


async def test_half_closed_it_still_receives_what_was_under_way() -> None:
    async with both(await pair()) as (server, client):
        await client.send_all(LARGE[:100_000])
        await server.send_eof()
        await client.send_all(b"later")

        assert await receive_exactly(server, 100_005) == LARGE[:100_000] + b"later"
        assert await client.receive_some() == b""


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_record_that_was_tampered_with_breaks_it_and_the_peer_learns_why(version: ssl.TLSVersion) -> None:
    async with both(await pair(version)) as (server, client):
        await client.send_all(b"good")
        await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)

        assert await server.receive_some() == b"good"
        with pytest.raises(trio.BrokenResourceError, match="bad record"):
            await server.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="alert bad record"):
            await client.receive_some()


async def test_sending_on_a_connection_that_broke_raises_what_a_socket_does() -> None:
    server, client = await pair()
    async with server:
        await client.transport_stream.aclose()

        with pytest.raises(OSError, match="Broken pipe"):
            send_now(server, b"hello")
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"hello")


async def test_closing_the_socket_under_it_ends_who_waits() -> None:
    server, client = await pair(is_small=True)

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some()

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await server.send_all(LARGE)

    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(server.transport_stream)
    await server.aclose()


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    async with both(await pair()) as (server, client):
        for at in range(len(LARGE[:2000]) // 100):
            with trio.move_on_after(0):
                await server.receive_some()
            await client.send_all(LARGE[at * 100 : at * 100 + 100])
            with trio.CancelScope() as scope:
                scope.cancel()
                await server.receive_some()

        assert await receive_exactly(server, 2000) == LARGE[:2000]


async def test_session_tickets_wait_for_the_first_reply() -> None:
    """A client that is gone already must not be answered with a reset that destroys its request."""
    async with both(await pair()) as (_, client):
        assert not select.select([client.socket], [], [], 0)[0]


async def test_a_peer_that_makes_us_answer_and_does_not_read_is_given_up() -> None:
    """OpenSSL answers each request for new keys; a client may send such requests and read nothing."""
    async with both(await pair(is_small=True)) as (server, client):
        with trio.move_on_after(0.01):
            await server.send_all(LARGE)

        class Asked:
            def read(self, size: int) -> bytes:
                server._outgoing.write(b"x" * (MAX_UNREAD_ANSWERS + 1))
                raise ssl.SSLWantReadError

            def pending(self) -> int:
                return 0

        server._ssl = Asked()  # type: ignore[assignment]
        await client.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError, match="new keys"):
            await server.receive_some()


# -- the server's handshake


async def test_both_sides_see_the_protocol_and_the_certificate() -> None:
    ours, theirs = raw_pair()
    at_server, at_client = server_context(), client_context()
    at_server.set_alpn_protocols(["h2", "http/1.1"])
    at_client.set_alpn_protocols(["http/1.1", "h2"])
    client = TlsStream(theirs, at_client, server_side=False, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        server = await serve_tls(ours, at_server)
    async with both((server, client)):
        assert server.alpn == client.alpn == server.selected_alpn_protocol() == "h2"
        assert server.peer_certificate() is None
        shown = client.peer_certificate()
        assert shown is not None
        assert ("DNS", "localhost") in shown["subjectAltName"]
        assert server.socket is ours.socket


@pytest.mark.usefixtures("autojump")
@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_a_client_that_does_not_get_on_with_its_handshake_is_dropped_in_time(sent: bytes) -> None:
    ours, theirs = raw_pair()
    async with ours, theirs:
        await theirs.send_all(sent)
        began = trio.current_time()

        with pytest.raises(trio.BrokenResourceError, match="within 10 s"):
            await serve_tls(ours, server_context())
        assert trio.current_time() - began == pytest.approx(HANDSHAKE_TIMEOUT)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PRI"])
async def test_http_without_tls_is_told_what_this_port_speaks(method: str) -> None:
    ours, theirs = raw_pair()
    async with theirs:
        await theirs.send_all(f"{method} / HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

        async def refuse() -> None:
            async with ours:
                with pytest.raises(trio.BrokenResourceError, match="handshake failed"):
                    await serve_tls(ours, server_context())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
            answer = b""
            while data := await theirs.receive_some():
                answer += data
            await theirs.send_eof()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"this port speaks TLS" in answer


@pytest.mark.parametrize(
    "sent", [b"\x00" * 100, b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x00\x05xxxxx", b"\x80\x2e\x01"]
)
async def test_garbage_ends_the_handshake_without_more(sent: bytes) -> None:
    ours, theirs = raw_pair()
    async with ours, theirs:
        await theirs.send_all(sent)
        await theirs.send_eof()

        with pytest.raises(trio.BrokenResourceError, match="handshake failed"):
            await serve_tls(ours, server_context())


async def test_handshakes_that_come_at_once_take_turns() -> None:
    """Counted in passes of the loop, not in time."""
    turns, at_server, count = trio.Semaphore(2), server_context(), 20
    pairs = [raw_pair() for _ in range(count)]
    answered: list[int] = []
    async with trio.open_nursery() as nursery:
        for _, theirs in pairs:
            client = TlsStream(theirs, client_context(), server_side=False, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                client._ssl.do_handshake()
            await theirs.send_all(client._outgoing.read())
        for ours, _ in pairs:
            nursery.start_soon(serve_tls, ours, at_server, turns)
        while not answered or (answered[-1] < count and len(answered) < 100 * count):
            readable, _, _ = select.select([theirs.socket.fileno() for _, theirs in pairs], [], [], 0)
            answered.append(len(readable))
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    for stream in sum(pairs, ()):
        await stream.aclose()

    assert answered[-1] == count
    # Between two looks there may be all but two whole passes.
    assert max(after - before for before, after in pairwise(answered)) <= 2 * 2


@pytest.mark.usefixtures("autojump")
async def test_a_client_that_was_refused_and_stays_is_not_waited_for() -> None:
    ours, theirs = raw_pair()
    async with ours, theirs:
        await theirs.send_all(b"GET / HTTP/1.1\r\n\r\n")
        began = trio.current_time()

        with pytest.raises(trio.BrokenResourceError):
            await serve_tls(ours, server_context())
        assert trio.current_time() - began <= FAREWELL_TIMEOUT


async def test_one_that_is_gone_ends_the_handshake() -> None:
    ours, theirs = raw_pair()
    await theirs.aclose()
    async with ours:
        with pytest.raises(trio.BrokenResourceError):
            await serve_tls(ours, server_context())
