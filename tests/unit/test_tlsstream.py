"""The TLS stream by itself: trio's own stream checks, and what TLS adds to a stream's life."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
import trio.testing
import trustme

from coordinator.socketio import receive_next, send_now, send_steadily
from coordinator.tlsstream import TlsStream, serve_tls

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
    context = ssl.create_default_context()
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
