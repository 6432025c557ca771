"""The configured store, from its URL."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from coordinator.storage.cluster import Cluster
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.sentinel import SentinelService
from coordinator.storage.topology import Topology

__all__ = ["topology_from_url"]

_SERVER_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379


def topology_from_url(url: str) -> Topology:
    """Read a URL: what `Endpoint.from_url` takes, or

    - `redis+cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]` for a cluster, of which these are some nodes;
    - `redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]` for the master that these
      Sentinels know as SERVICE. User and password are the servers'; the Sentinels' own are the options
      `sentinel_username` and `sentinel_password`.

    `rediss`, `valkey` and `valkeys` for `redis` mean what they mean there, as do the options after `?`.

    Raises:
        ValueError: not such a URL, or a file it names cannot be used.
    """
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
    parts = urlsplit(f"//{rest}")
    credentials, at, hosts = parts.netloc.rpartition("@")
    return credentials + at, hosts.split(","), parts.path, parts.query


def _host_and_port(host: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("the URL has an empty host")
    return parts.hostname, parts.port or default
