"""A browser is no way in: which origins and hosts may call, on both transports."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.contract.conftest import ALLOWED_HOST, ALLOWED_ORIGIN
from tests.support.clients import JSON, PATIENCE, TRANSPORTS, HttpClient, json_text, plain_http, request
from tests.support.jsonrpc import read_json
from tests.support.records import create, fresh_id, load, sample
from tests.support.server import CoordinatorProcess

FOREIGN_ORIGINS = ["https://evil.example", "http://127.0.0.1:1", "http://localhost", "null", "file://", "evil.example"]
FOREIGN_HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "notlocalhost"]
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "LOCALHOST", "api.localhost"]
LOOPBACK_SPELLINGS = [
    *("localhost.", "LocalHost.", "api.localhost.", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[::1%25lo]"),
    *("0.0.0.0", "[::]", "127.1", "2130706433"),
]
NO_LOOPBACK_HOSTS = [
    *("", "localhost..", "evil.example@localhost", "localhost@evil.example", "localhost/evil", "::1"),
    *("localhost:80:80", "[::ffff:10.0.0.1]", "localhost, localhost", "localhost evil.example"),
]


def status(server: CoordinatorProcess, transport: str, *, origin: str | None = None, host: str | None = None) -> int:
    """The HTTP status of a call, or of a handshake: 200 for both if it goes through. {own} is the server's address."""
    url = urlsplit(getattr(server, transport))
    named = url if host is None else url._replace(netloc=f"{host}:{url.port}")
    origin = None if origin is None else origin.format(own=named.netloc)
    if transport == "http":
        headers = {**JSON, "host": named.netloc, **({} if origin is None else {"origin": origin})}
        body = json_text(request(*load("actor", 0, 0), id=1))
        with plain_http(server) as http:
            return http.post("/", content=body, headers=headers).status_code
    try:
        with (
            socket.create_connection((url.hostname, url.port)) as sock,
            connect(named.geturl(), sock=sock, additional_headers={} if origin is None else {"Origin": origin}),
        ):
            return 200
    except InvalidStatus as refused:
        return refused.response.status_code


def raw_status(server: CoordinatorProcess, transport: str, *headers: tuple[str, str]) -> int:
    """The HTTP status of a call or a handshake with these headers, as they are; {own} is the server's address."""
    url = urlsplit(getattr(server, transport))
    body = "" if transport == "ws" else json_text(request(*load("actor", 0, 0), id=1))
    usual = {
        "http": f"POST / HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n",
        "ws": "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n",
    }
    lines = "".join(f"{name}: {value.format(own=url.netloc)}\r\n" for name, value in headers)
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE) as sock, sock.makefile("rb") as answer:
        sock.sendall(f"{usual[transport]}{lines}\r\n{body}".encode())
        return int(answer.readline().split()[1])


SERVED = {"http": 200, "ws": 101}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
@pytest.mark.parametrize("port", ["", ":9652"])
def test_loopback_may_be_called_by_every_spelling_of_its_names(
    server: CoordinatorProcess, transport: str, host: str, port: str
) -> None:
    assert raw_status(server, transport, ("Host", host + port)) == SERVED[transport]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("host", NO_LOOPBACK_HOSTS)
def test_what_only_looks_like_a_loopback_name_is_refused(server: CoordinatorProcess, transport: str, host: str) -> None:
    assert raw_status(server, transport, ("Host", host)) in (400, 403)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("hosts", [("{own}", "evil.example"), ("evil.example", "{own}"), ("{own}", "{own}")])
def test_a_request_for_several_hosts_is_refused(
    server: CoordinatorProcess, transport: str, hosts: tuple[str, ...]
) -> None:
    assert raw_status(server, transport, *(("Host", host) for host in hosts)) in (400, 403)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("ws://{own}", "{own}"),
        ("wss://{own}", "{own}"),
        ("HTTP://{own}", "{own}"),
        ("http://localhost:80", "localhost"),
        ("http://localhost", "localhost:80"),
        ("https://localhost", "localhost:443"),
        ("wss://localhost:443", "localhost"),
        ("http://[::1]:9652", "[0:0::1]:9652"),
        ("http://localhost:9652", "LOCALHOST.:9652"),
    ],
)
def test_its_own_origin_is_its_own_however_it_is_written(
    server: CoordinatorProcess, transport: str, origin: str, host: str
) -> None:
    assert raw_status(server, transport, ("Host", host), ("Origin", origin)) == SERVED[transport]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "origins",
    [
        ("http://evil.example", "http://{own}"),
        ("http://{own}", "http://evil.example"),
        ("http://{own}", "http://{own}"),
        ("http://{own}, http://{own}",),
        ("http://user@{own}",),
        ("http://{own}/",),
        ("",),
        ("null",),
    ],
)
def test_several_origins_and_what_is_none_are_refused(
    server: CoordinatorProcess, transport: str, origins: tuple[str, ...]
) -> None:
    assert raw_status(server, transport, ("Host", "{own}"), *(("Origin", origin) for origin in origins)) == 403


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("origin", [None, "http://{own}", "https://{own}"])
def test_its_own_pages_and_what_is_no_page_may_call(
    server: CoordinatorProcess, transport: str, origin: str | None
) -> None:
    assert status(server, transport, origin=origin) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_other_pages_may_not(server: CoordinatorProcess, transport: str, origin: str) -> None:
    assert status(server, transport, origin=origin) == 403


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("origin", [ALLOWED_ORIGIN, ALLOWED_ORIGIN.upper()])
def test_pages_that_are_allowed_may(open_server: CoordinatorProcess, transport: str, origin: str) -> None:
    assert status(open_server, transport, origin=origin) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("origin", [f"{ALLOWED_ORIGIN}.evil.example", f"{ALLOWED_ORIGIN}:1", "http://app.example"])
def test_pages_only_like_those_allowed_may_not(open_server: CoordinatorProcess, transport: str, origin: str) -> None:
    assert status(open_server, transport, origin=origin) == 403


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
def test_loopback_may_be_called_by_its_names(server: CoordinatorProcess, transport: str, host: str) -> None:
    assert status(server, transport, host=host) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("origin", [None, "http://{own}"])
def test_loopback_may_not_be_called_by_another_name(
    server: CoordinatorProcess, transport: str, host: str, origin: str | None
) -> None:
    assert status(server, transport, host=host, origin=origin) == 403


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_loopback_may_be_called_by_a_name_that_is_allowed(open_server: CoordinatorProcess, transport: str) -> None:
    assert status(open_server, transport, host=ALLOWED_HOST) == 200


def test_a_refused_call_is_explained_and_changes_nothing(http: httpx.Client) -> None:
    id = fresh_id()
    call = json_text(request(*create("actor", 0, sample("actor", 0, id)), id=1))

    refused = http.post("/", content=call, headers={**JSON, "origin": "https://evil.example"})

    loaded = HttpClient(http).error(*load("actor", 0, id))
    assert "--allowed-origins" in read_json(refused.content)["error"]["data"]["detail"]
    assert "access-control-allow-origin" not in refused.headers
    assert loaded["code"] == -32001


@pytest.mark.parametrize("page", ["/openrpc.json", "/metrics", "/healthz", "/readyz"])
def test_pages_are_kept_from_other_pages_too(http: httpx.Client, page: str) -> None:
    refused = http.get(page, headers={"origin": "https://evil.example"})

    assert refused.status_code == 403


def test_a_browser_is_told_that_the_page_is_allowed(open_server: CoordinatorProcess) -> None:
    preflight = {"origin": ALLOWED_ORIGIN, "access-control-request-method": "POST"}

    with plain_http(open_server) as http:
        asked = http.options("/", headers=preflight)
        called = http.post("/", content="[]", headers={**JSON, "origin": ALLOWED_ORIGIN})

    assert asked.status_code == 204
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-headers"] == "content-type"
    for answer in (asked, called):
        assert answer.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
        assert answer.headers["vary"] == "Origin"


def test_a_browser_is_told_nothing_of_the_kind_for_another_page(open_server: CoordinatorProcess) -> None:
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}

    with plain_http(open_server) as http:
        asked = http.options("/", headers=preflight)

    assert asked.status_code == 403
    assert not any(name.startswith("access-control-") for name in asked.headers)
