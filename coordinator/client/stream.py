"""Connecting to an address, in clear text or over TLS."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from coordinator.client.address import Address
from coordinator.client.credentials import Credentials
from coordinator.client.reasons import Unreachable
from coordinator.secretfiles import Unusable, read_file

__all__ = ["Stream", "headers_from", "open_stream", "time_limit", "tls_context", "tls_for"]

MAX_AUTHORITIES: Final = 16 * 1024 * 1024  # bytes; the authorities of a system are a quarter of one MiB

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"([\x21-\x7e\x80-\xff]([\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def tls_context(ca: str | os.PathLike[str] | None = None, credentials: Credentials | None = None) -> ssl.SSLContext:
    """What decides which certificates are accepted, and which one is shown: that of the credentials, if they have one.

    Args:
        ca: a file of certificates (PEM), of authorities or of the coordinator itself. The system's do not count then.

    Raises:
        ValueError: there is no certificate to be had from a file; the message says why in one line.
    """
    try:
        authorities = None if ca is None else read_file(Path(ca), MAX_AUTHORITIES)[0].decode("ascii", "ignore")
        if authorities is not None and not authorities.strip():
            raise ValueError("it is empty")  # of which OpenSSL would make: trust those of the system
        context = ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError):  # the first is an OSError, too
        raise ValueError(f"{str(ca)!r} has no certificate in PEM form in it") from None
    except OSError as error:
        raise ValueError(f"cannot read the certificates in {str(ca)!r}: {error.strerror}") from None
    if credentials is not None and credentials.certificate is not None:
        credentials.show_certificate(context)
    return context


def tls_for(
    address: Address,
    ca: str | os.PathLike[str] | None,
    ssl_context: ssl.SSLContext | None,
    credentials: Credentials | None,
) -> ssl.SSLContext | None:
    """What a connection to the address is secured by; None for one in clear text. Raises ValueError."""
    if ca is not None and ssl_context is not None:
        raise ValueError("ca and ssl_context are given both; the context decides whom to trust")
    has_certificate = credentials is not None and credentials.certificate is not None
    if has_certificate and ssl_context is not None:
        raise ValueError("ssl_context and a certificate in the credentials are given both; load it into the context")
    if address.is_secure:
        return ssl_context or tls_context(ca, credentials)
    if has_certificate:
        raise Unusable(f"a client certificate can be shown over https:// and wss:// only, not to {address.url}")
    return None


def headers_from(given: Mapping[str, str] | None) -> dict[str, str]:
    """Header fields as a caller gives them. Raises ValueError for what no field may be, before anything is sent."""
    fields = dict(given or {})
    for name, value in fields.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name!r} cannot be sent: there is a character in it that no header may have")
    return fields


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
