"""Where the store is: a Redis URL, read by redis-py, and a stream opened to it with trio."""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from coordinator.importing import without
from coordinator.secretfiles import read_file
from coordinator.storage.faults import StoreMisconfigured
from coordinator.storage.keys import Command, ContextKey

# redis-py imports OpenTelemetry's SDK wherever it is installed, for metrics that nobody asks it for here; that would be
# a tenth of the time of a start.
with without("opentelemetry"):
    from redis.connection import SSLConnection, parse_url

__all__ = ["Endpoint"]

MAX_PEM: Final = 16 * 1024 * 1024  # bytes; the authorities of a system are a quarter of one MiB

_DATABASE = re.compile(r"/?|/[0-9]+", re.ASCII)
_ALIASES = {"valkey": "redis", "valkeys": "rediss", "redis+unix": "unix", "valkey+unix": "unix"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server's address and credentials; as a `Topology`, the one server everything is on.

    `path` is a Unix socket and then wins over `host` and `port`; `tls` is the context for TLS or None.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> Endpoint:
        """Read a `redis://`, `rediss://`, `unix://`, `valkey://` or `valkeys://` URL, with redis-py's options
        (`ssl_cert_reqs`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_check_hostname`, `db`).

        Raises:
            ValueError: not such a URL, or a file it names cannot be used.
        """
        scheme, _, rest = url.partition("://")
        options = parse_url(  # type: ignore[no-untyped-call]
            f"{_ALIASES.get(scheme, scheme)}://{rest}"
        )
        if scheme.endswith("unix"):
            if not options.get("path"):
                raise ValueError("a unix:// URL needs the socket's path")
        elif not _DATABASE.fullmatch(urlsplit(url).path):  # redis-py takes what is no number for database 0
            raise ValueError(f"the path of a {scheme}:// URL is the number of a database, as /0")
        is_tls = options.get("connection_class") is SSLConnection
        return cls(
            host=options.get("host", "localhost"),
            port=options.get("port", 6379),
            path=options.get("path"),
            username=options.get("username"),
            password=options.get("password"),
            database=options.get("db", 0),
            tls=_tls_context(options) if is_tls else None,
        )

    def __str__(self) -> str:
        """The address without credentials, for logs."""
        if self.path is not None:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}"

    def at(self, host: str, port: int) -> Endpoint:
        """Another server, reached and served alike."""
        return replace(self, host=host, port=port, path=None)

    @property
    def hello(self) -> Command:
        """The first command on a connection: RESP3, our credentials, our name."""
        words = ["HELLO", "3"]
        if self.password is not None:
            words += ["AUTH", self.username or "default", self.password]
        return (*words, "SETNAME", "herocoordinator")

    async def where(self, context_key: ContextKey) -> Endpoint:
        """Itself. Not a checkpoint."""
        return self

    def invalidate(self, context_key: ContextKey, reason: str) -> None:
        """There is no other."""

    def check(self, endpoint: Endpoint, greeting: Mapping[bytes, Any]) -> None:
        """Raises StoreMisconfigured for a node of a cluster: it has only part of the keys."""
        if greeting.get(b"mode") == b"cluster":
            raise StoreMisconfigured(
                f"{self} is a node of a cluster; name it as redis+cluster://HOST:PORT, with --isolation prefix"
            )

    async def open(self) -> trio.abc.Stream:
        """Connect. A checkpoint; cancelling it closes what was opened. Raises one of `faults.TRANSPORT_ERRORS`."""
        if self.path is not None:
            return await trio.open_unix_socket(self.path)
        stream = await trio.open_tcp_stream(self.host, self.port)
        if self.tls is None:
            return stream
        secure = trio.SSLStream(stream, self.tls, server_hostname=self.host)
        try:
            await secure.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.BrokenResourceError) and isinstance(
                error.__cause__, ssl.SSLCertVerificationError
            ):
                raise StoreMisconfigured(f"TLS to {self}: {error.__cause__.verify_message}") from error
            raise
        return secure


def _pem(path: str) -> bytes:
    """What a file holds that the URL names. Raises OSError."""
    try:
        content, _ = read_file(Path(path), MAX_PEM)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    if b"-----BEGIN " not in content:  # of an empty one OpenSSL would make: trust the system's authorities
        raise OSError(errno.EINVAL, "it holds nothing in PEM", path)
    return content


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    authorities, certificate, key = (options.get(name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    try:
        cadata = None if not authorities else _pem(authorities).decode("ascii", "ignore")
        context = ssl.create_default_context(cadata=cadata, capath=options.get("ssl_ca_path"))
        if certificate:
            for path in filter(None, (certificate, key)):
                _pem(path)  # OpenSSL reads it by itself, and would wait for a pipe
            # Without a password it would ask for one, at the terminal.
            context.load_cert_chain(certificate, key, options.get("ssl_password") or "")
    except OSError as error:
        raise ValueError(f"TLS files of the Redis URL: {error}") from error
    requirement = options.get("ssl_cert_reqs", "required")
    if requirement in ("none", "optional"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE if requirement == "none" else ssl.CERT_OPTIONAL
    elif requirement != "required":
        raise ValueError("ssl_cert_reqs is none, optional or required")
    if options.get("ssl_check_hostname") is False:
        context.check_hostname = False
    return context
