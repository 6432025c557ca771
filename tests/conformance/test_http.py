"""JSON-RPC over HTTP: verbs, types and sizes of bodies, and which refusals leave the connection as it is."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.clients import JSON, HttpClient, json_text, request
from tests.support.jsonrpc import read_json
from tests.support.records import create, load, sample
from tests.support.server import CoordinatorProcess

MAX_BODY = 1024 * 1024
CALL = json_text(request(*load("actor", 0, 0), id=1)).encode()


def padded(size: int) -> bytes:
    """A call in a body of this many bytes."""
    return CALL + b" " * (size - len(CALL))


def in_chunks(body: bytes, size: int) -> Iterator[bytes]:
    """Sent so, the body has no Content-Length."""
    yield from (body[at : at + size] for at in range(0, len(body), size))


def connection_of(response: httpx.Response) -> Any:
    """Which of our connections it came on."""
    return response.extensions["network_stream"].get_extra_info("client_addr")


def detail(refused: httpx.Response, id: int | None = None) -> dict[str, Any]:
    """What a refusal says, which is what JSON-RPC says to what is no request."""
    content = read_json(refused.content)
    assert (content["id"], content["error"]["code"]) == (id, -32600)
    data: dict[str, Any] = content["error"]["data"]
    return data


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_other_verbs_are_refused_with_those_allowed(http: httpx.Client, verb: str) -> None:
    refused = http.request(verb, "/")

    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD, POST, OPTIONS"


def test_options_tells_the_verbs_allowed(server: CoordinatorProcess, http: httpx.Client) -> None:
    told = http.options("/")
    of_the_server = exchange(server, b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n")

    assert (told.status_code, told.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    assert (of_the_server[0], of_the_server[1][b"allow"]) == (b"204", b"GET, HEAD, POST, OPTIONS")


def test_a_person_finds_a_page_that_says_where_things_are(http: httpx.Client) -> None:
    page, head = http.get("/"), http.head("/")

    assert page.headers["content-type"].startswith("text/html")
    assert all(http.get(link).status_code == 200 for link in re.findall('href="([^"]+)"', page.text))
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(page.content)), b"")


def test_a_browser_finds_the_dashboard_and_loads_it_once(http: httpx.Client) -> None:
    page = http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    again = http.get("/", headers={"accept": "text/html,*/*;q=0.8", "if-none-match": page.headers["etag"]})
    offered = http.get("/dashboard.json").json()

    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert all(http.get(f"/{part}").status_code == 200 for part in re.findall('(?:href|src)="([^"]+)"', page.text))
    assert (again.status_code, again.content, "content-length" in again.headers) == (304, b"", False)
    assert {"flow.subscribe", "auth.whoami"} <= offered["methods"].keys()
    assert "status" in offered["methods"]["flow.list"]


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/rpc", "/metrics/", "/%00", "/..%2f", "/" + "x" * 5_000])
def test_elsewhere_there_is_nothing(http: httpx.Client, verb: str, path: str) -> None:
    assert http.request(verb, path, headers=JSON).status_code == 404


@pytest.mark.parametrize(
    "kind",
    [
        *("text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data"),
        *("application/json-seq", "application/jsonp", "json", "*/*", ""),
        *("application/json; charset=latin-1", "application/json;charset=utf-16", 'application/json; charset="x"'),
    ],
)
def test_a_body_of_another_type_is_refused(http: httpx.Client, kind: str) -> None:
    refused = http.post("/", content=CALL, headers={"content-type": kind})

    assert refused.status_code == 415
    assert re.search("application/json|UTF-8", detail(refused)["detail"])


def test_a_body_without_a_type_is_refused(http: httpx.Client) -> None:
    assert http.post("/", content=CALL).status_code == 415


@pytest.mark.parametrize(
    "kind",
    [
        *("application/json", "Application/JSON", "application/json-rpc", "application/jsonrequest"),
        *("application/json; charset=utf-8", "application/json;charset=UTF-8", 'application/json; charset="utf-8"'),
        *("application/json ; Charset=utf8", "application/json; charset='Utf-8'; x=y", "application/json;"),
    ],
)
def test_json_is_taken_however_its_type_is_written(http: httpx.Client, kind: str) -> None:
    assert http.post("/", content=CALL, headers={"content-type": kind}).json()["id"] == 1


def test_the_largest_body_is_taken(http: httpx.Client) -> None:
    whole = http.post("/", content=padded(MAX_BODY), headers=JSON)
    chunked = http.post("/", content=in_chunks(padded(MAX_BODY), 100_000), headers=JSON)

    assert whole.json()["id"] == chunked.json()["id"] == 1


@pytest.mark.parametrize("size", [MAX_BODY + 1, 8 * MAX_BODY])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_larger_body_is_refused_naming_the_limit(http: httpx.Client, size: int, is_chunked: bool) -> None:
    body = padded(size)

    refused = http.post("/", content=in_chunks(body, 100_000) if is_chunked else body, headers=JSON)

    assert refused.status_code == 413
    said = detail(refused, id=1)  # that of the call in the body
    assert (said["limit"], said["setting"]) == (MAX_BODY, "max_body_bytes")
    assert http.post("/", content=CALL, headers=JSON).json()["id"] == 1


def test_a_body_in_many_small_chunks_is_taken(http: httpx.Client) -> None:
    assert http.post("/", content=in_chunks(CALL, 1), headers=JSON).json()["id"] == 1


def test_a_reply_says_what_it_is(http: httpx.Client) -> None:
    reply = http.post("/", content=CALL, headers=JSON)

    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["content-length"]) == len(reply.content)


def test_no_reply_has_no_body_and_no_type(http: httpx.Client) -> None:
    reply = http.post("/", content='{"jsonrpc":"2.0","method":"actor.load"}', headers=JSON)

    assert (reply.status_code, reply.content) == (204, b"")
    assert "content-type" not in reply.headers


def test_the_connection_outlives_refusals_and_errors(http: httpx.Client) -> None:
    connections = []
    http.event_hooks["response"].append(lambda response: connections.append(connection_of(response)))

    responses = [
        http.post("/", content=CALL, headers=JSON),
        http.get("/"),
        http.get("/nothing"),
        http.post("/nothing", content=CALL, headers=JSON),
        http.put("/", content=CALL, headers=JSON),
        http.post("/", content=CALL),
        http.post("/", content=CALL, headers={**JSON, "origin": "https://evil.example"}),
        http.post("/", content="{", headers=JSON),
        http.post("/", content=b"\xff", headers=JSON),
        http.post("/", content="[]", headers=JSON),
        http.post("/", content="[1]", headers=JSON),
        http.post("/", content='{"jsonrpc":"2.0","method":"x"}', headers=JSON),
        http.post("/", content=CALL, headers=JSON),
    ]

    assert [response.status_code for response in responses] == [
        *(200, 200, 404, 404, 405, 415, 403, 200, 200, 200, 200, 204, 200)
    ]
    assert len(set(connections)) == 1


def test_requests_sent_without_waiting_are_answered_in_order(server: CoordinatorProcess) -> None:
    url = urlsplit(server.http)
    bodies = [json_text(request(*load("actor", 0, 0), id=id)).encode() for id in range(5)]
    posts = [b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
             b"content-length: %d\r\n%b\r\n%b" % (len(body), b"connection: close\r\n" * (body is bodies[-1]), body)
             for body in bodies]  # fmt: skip

    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(b"".join(posts))
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    positions = [received.index(b'"id":%d,' % id) for id in range(5)]
    assert received.count(b"HTTP/1.1 200") == 5
    assert positions == sorted(positions)


def test_a_call_cut_off_in_the_middle_changes_nothing(
    server: CoordinatorProcess, http: httpx.Client, context: int
) -> None:
    url = urlsplit(server.http)
    body = json_text(request(*create("job", context, sample("job", context, 1)), id=1)).encode()
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(head % (len(body) + 1) + body)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)

    assert HttpClient(http).error(*load("job", context, 1))["code"] == -32001


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: -1",
        b"content-length: x",
        b"content-length: 1\r\ncontent-length: 2",
        b"content-length: " + b"9" * 400,
        b"transfer-encoding: gzip",
        b"bad header",
    ],
)
def test_a_broken_head_is_refused(server: CoordinatorProcess, http: httpx.Client, head: bytes) -> None:
    url = urlsplit(server.http)

    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n%b\r\n\r\n" % head)
        status = connection.recv(65536)

    assert status.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
    assert http.post("/", content=CALL, headers=JSON).json()["id"] == 1


@pytest.mark.parametrize("path", ["/", "/ws"])
def test_a_websocket_is_served_on_this_port_too(server: CoordinatorProcess, path: str) -> None:
    with connect(server.http.replace("http:", "ws:") + path, proxy=None) as socket:
        socket.send(CALL)

        assert read_json(socket.recv(20))["id"] == 1


def test_a_websocket_is_refused_anywhere_else(server: CoordinatorProcess) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(server.http.replace("http:", "ws:") + "/other", proxy=None):
        pass

    assert refused.value.response.status_code == 404


def exchange(server: CoordinatorProcess, *pieces: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Send a request in pieces, each by itself; its response's status, headers and body."""
    url = urlsplit(server.http)
    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05 if len(pieces) > 1 else 0)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        while len(body) < int(headers.get(b"content-length", b"0")):
            body += connection.recv(65536)
    return lines[0].split(b" ")[1], headers, body


def post_head(size: int, *more: bytes) -> bytes:
    lines = [b"host: localhost", b"content-type: application/json", b"content-length: %d" % size, *more]
    return b"POST / HTTP/1.1\r\n" + b"".join(b"%b\r\n" % line for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    "body", [CALL, b"[%b,%b]" % (CALL, CALL), b"{", b"[]", b"", b'{"jsonrpc":"2.0","method":"x"}', padded(300_000)]
)
@pytest.mark.parametrize("more", [(), (b"origin: http://localhost",)])
def test_however_a_call_is_wrapped_its_answer_is_the_same(
    server: CoordinatorProcess, body: bytes, more: tuple[bytes, ...]
) -> None:
    short = exchange(server, post_head(len(body), *more) + body)
    large = exchange(server, post_head(len(body), b"x: " + b"y" * 10_000, *more) + body)
    closing = exchange(server, post_head(len(body), b"connection: close", *more) + body)
    old = exchange(server, post_head(len(body), *more).replace(b"HTTP/1.1", b"HTTP/1.0") + body)

    assert closing[1].pop(b"connection") == b"close"
    assert old[1].pop(b"connection") == b"close"
    for answer in (short, large, closing, old):
        assert answer[1].pop(b"date")
    assert short == large == closing == old


def test_a_request_in_pieces_is_answered_wherever_it_is_cut(server: CoordinatorProcess) -> None:
    head = post_head(len(CALL))
    whole = exchange(server, head + CALL)

    for pieces in (
        [head, CALL],
        [head + CALL[:5], CALL[5:]],
        [head[:9], head[9:] + CALL],
        [head[:-1], head[-1:], CALL],
    ):
        status, _, body = exchange(server, *pieces)
        assert (status, body) == (whole[0], whole[2])


def test_plain_posts_behind_another_request_are_answered(server: CoordinatorProcess) -> None:
    url = urlsplit(server.http)
    get = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    post = post_head(len(CALL)) + CALL
    last = post_head(len(CALL), b"connection: close") + CALL

    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(post + get + post + get + last)
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    assert received.count(b"HTTP/1.1 200") == 5
    assert received.count(b'{"status":"ok"}') == 2
    assert received.count(b'"id":1,') == 3
