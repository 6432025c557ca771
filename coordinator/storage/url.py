"""The configured store, from its URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from coordinator.redaction import redact, remember
from coordinator.storage.cluster import Cluster
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.sentinel import SentinelService
from coordinator.storage.topology import Topology

__all__ = ["has_password", "topology_from_url"]

_SERVER_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_OPTIONS: Final = re.compile(
    r"(?:db|protocol|timeout|username|password|client_name|(?:ssl|socket|retry|health|sentinel|max)_\w+)=[^&]*"
)
_QUOTES: Final = re.compile(r"(Port could not be cast to integer value|netloc) (?:as )?.*", re.S)
"""What urllib says of a URL that it does not understand, and then quotes: without an @ that may be a password."""
_SECRET_OPTION: Final = re.compile(r"(?:^|&)\w*password=([^&]*)")


def topology_from_url(url: str) -> Topology:
    """Read a URL: what `Endpoint.from_url` takes, or

    - `redis+cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]` for a cluster, of which these are some nodes;
    - `redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]` for the master that these
      Sentinels know as SERVICE. User and password are the servers'; the Sentinels' own are the options
      `sentinel_username` and `sentinel_password`.

    `rediss`, `valkey` and `valkeys` for `redis` mean what they mean there, as do the options after `?`. A password may
    have any character in it as it is; only a % before two hexadecimal digits must be written %25. From then on logs and
    errors do not show it.

    Raises:
        ValueError: not such a URL, or a file it names cannot be used. The text has no secret in it.
    """
    try:
        return _topology(_canonical(url))
    except ValueError as error:
        raise ValueError(redact(_QUOTES.sub(r"\1", str(error)))) from None


def has_password(url: str) -> bool:
    """Whether there is a secret in a store's URL."""
    _, credentials, _, query = _parts(url)
    return ":" in (credentials or "") or _SECRET_OPTION.search(query) is not None


def _canonical(url: str) -> str:
    """The URL with its credentials and options quoted, so that every reader takes them for the same."""
    start, credentials, place, query = _parts(url)
    secrets = _SECRET_OPTION.findall(query)
    remember(*secrets, *map(unquote, secrets))
    if credentials is not None:
        username, colon, password = credentials.partition(":")
        remember(password, unquote(password))
        start += f"{quote(unquote(username), safe='')}{colon}{quote(unquote(password), safe='')}@"
    return start + place + (f"?{query.replace('#', '%23')}" if query else "")


def _parts(url: str) -> tuple[str, str | None, str, str]:
    """The scheme with its ://, the credentials (None without an @ behind them), then hosts and path, then options.

    A password may look like any of the others, so the credentials end at the last @ that leaves a host and a path
    behind it, or before options that are known: in these there may be an @ too.
    """
    scheme, separator, rest = url.partition("://")
    start = scheme + separator
    is_unix = scheme.endswith("unix")
    if not separator or "@" not in rest or (is_unix and rest.startswith("/")):
        place, _, query = rest.partition("?")
        return start, None, place, query
    found = [
        (credentials, place, query)
        for credentials, remaining in _splits_at_sign(rest)
        for place, question, query in [remaining.partition("?")]
        if (place.startswith("/") if is_unix else "@" not in place)
        if not question or all(map(_OPTIONS.fullmatch, query.split("&")))
    ]
    if not found:
        before, _, behind = rest.rpartition("@")
        place, _, query = behind.partition("?")
        return start, before, place, query
    credentials, place, query = ([parts for parts in found if parts[2]] or found)[-1]
    return start, credentials, place, query


def _splits_at_sign(rest: str) -> Iterator[tuple[str | None, str]]:
    """All ways to take what is before an @ for the credentials, the shortest first, which is none."""
    yield None, rest
    at = rest.find("@")
    while at >= 0:
        yield rest[:at], rest[at + 1 :]
        at = rest.find("@", at + 1)


def _topology(url: str) -> Topology:
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if kind == "cluster":
        return _cluster(base, rest)
    if kind == "sentinel":
        return _sentinel(base, rest)
    return Endpoint.from_url(url)


def _cluster(scheme: str, rest: str) -> Cluster:
    credentials, hosts, path, query = _split(rest)
    first = Endpoint.from_url(f"{scheme}://{credentials}{hosts[0]}{path}?{query}")
    return Cluster([first.at(*_host_and_port(host, _SERVER_PORT)) for host in hosts])


def _sentinel(scheme: str, rest: str) -> SentinelService:
    credentials, hosts, path, query = _split(rest)
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise ValueError(f"a {scheme}+sentinel:// URL needs the name of the master: HOST:PORT/SERVICE")
    if database and not database.isdecimal():
        raise ValueError(f"the database {database!r} in a {scheme}+sentinel:// URL is no number")
    options = dict(parse_qsl(query))
    username, password = options.pop("sentinel_username", None), options.pop("sentinel_password", None)
    server = Endpoint.from_url(f"{scheme}://{credentials}{hosts[0]}/{database}?{urlencode(options)}")
    watcher = replace(server, username=username, password=password)
    return SentinelService(
        [watcher.at(*_host_and_port(host, _SENTINEL_PORT)) for host in hosts], unquote(service), server
    )


def _split(rest: str) -> tuple[str, list[str], str, str]:
    """Credentials with their @, hosts with their ports, path and query."""
    # By hand: newer Pythons refuse brackets that are not around the whole host, as in a list of several.
    place, _, query = rest.partition("?")
    authority, slash, path = place.partition("#")[0].partition("/")
    credentials, at, hosts = authority.rpartition("@")
    return credentials + at, hosts.split(","), slash + path, query


def _host_and_port(host: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("the URL has an empty host")
    return parts.hostname, parts.port or default
