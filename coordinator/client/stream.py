"""Connecting to an address, in clear text or over TLS."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from coordinator.client.address import Address
from coordinator.client.reasons import Unreachable

__all__ = ["Stream", "open_stream", "time_limit", "tls_context"]

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def tls_context(ca: str | os.PathLike[str] | None = None) -> ssl.SSLContext:
    """What decides which certificates are accepted: those that `ca`, or without it the system, vouches for.

    Args:
        ca: a file of certificates (PEM), of authorities or of the coordinator itself. The system's do not count then.

    Raises:
        ValueError: there is no certificate to be had from the file; the message says why in one line.
    """
    if ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=os.fspath(ca))
    except ssl.SSLError:  # it is an OSError, too
        raise ValueError(f"{os.fspath(ca)!r} has no certificate in PEM form in it") from None
    except OSError as error:
        raise ValueError(f"cannot read the certificates in {os.fspath(ca)!r}: {error.strerror}") from None


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raises Unreachable when the block takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise Unreachable(f"{what} within {seconds:g} s") from None


async def open_stream(address: Address, tls: ssl.SSLContext | None) -> Stream:
    """A connection to the address; with a context the TLS handshake has been made.

    Raises:
        OSError, trio.BrokenResourceError: there is none to be had; `reasons.reason_of` says why.
    """
    stream = await trio.open_tcp_stream(address.host, address.port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if tls is None:
        return stream
    secure = trio.SSLStream(stream, tls, server_hostname=address.host.partition("%")[0], https_compatible=True)
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(secure)
        raise
    return secure
