"""What happens to strangers: pools of a proxy, pipelined requests, a slow line."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients import HttpClient, plain_http, request
from tests.support.leaving import http_socket, post
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.streaming import job, job_ids

HEALTH_CHECK: Final = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nuser-agent: proxy\r\n\r\n"


class Responses:
    """Reads HTTP responses with a Content-Length, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._data = b""

    def next(self) -> tuple[int, bytes]:
        """Status and body."""
        while b"\r\n\r\n" not in self._data:
            self._receive()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
        length = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
        while len(self._data) < length:
            self._receive()
        body, self._data = self._data[:length], self._data[length:]
        return int(head.split(b" ")[1]), body

    def _receive(self) -> None:
        more = self._connection.recv(65536)
        assert more, f"the server closed after {self._data[:200]!r}"
        self._data += more


def load(id: int) -> dict[str, Any]:
    return request("actor.load", {"id": 0}, id)


def test_a_proxy_checks_health_and_then_sends_calls_on_the_same_connections(server: CoordinatorProcess) -> None:
    pool = [http_socket(server) for _ in range(5)]
    readers = [Responses(connection) for connection in pool]
    for round in range(3):
        for connection, reader in zip(pool, readers, strict=True):
            connection.sendall(HEALTH_CHECK)
            assert reader.next() == (200, b'{"status":"ok"}')
        for at, (connection, reader) in enumerate(zip(pool, readers, strict=True)):
            connection.sendall(post(load(round * 5 + at), "x-forwarded-for: 10.0.0.1", "via: 1.1 proxy"))
            status, body = reader.next()
            assert (status, json.loads(body)["id"]) == (200, round * 5 + at)
    for connection in pool:
        connection.close()


def test_a_proxy_sends_a_head_of_many_kilobytes(server: CoordinatorProcess) -> None:
    with http_socket(server) as connection:
        reader = Responses(connection)
        for id in range(3):
            connection.sendall(post(load(id), f"cookie: {'c' * 4_000}", f"x-trace: {'t' * 4_000}"))
            status, body = reader.next()
            assert (status, json.loads(body)["id"]) == (200, id)


def test_pipelined_requests_of_every_kind_are_answered_in_order(server: CoordinatorProcess) -> None:
    chunked = (
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    body = json.dumps(load(2)).encode()
    requests = [
        post(load(1)),
        HEALTH_CHECK,
        chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        post([load(3), load(4)]),
        post({"jsonrpc": "2.0", "method": "actor.load", "params": {"id": 0}}),
        b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n",
        post(load(5)),
    ]
    with http_socket(server) as connection:
        connection.sendall(b"".join(requests) * 20)
        reader = Responses(connection)
        answers = [reader.next() for _ in range(len(requests) * 20)]

    statuses = [status for status, _ in answers]
    assert statuses == [200, 200, 200, 200, 204, 404, 200] * 20
    assert [json.loads(body)["id"] for _, body in answers[0::7]] == [1] * 20
    assert [json.loads(body)["id"] for _, body in answers[2::7]] == [2] * 20
    assert [[reply["id"] for reply in json.loads(body)] for _, body in answers[3::7]] == [[3, 4]] * 20


def test_many_pipelined_calls_sent_in_one_go_are_all_answered(server: CoordinatorProcess) -> None:
    with http_socket(server) as connection:
        connection.sendall(b"".join(post(load(id)) for id in range(1_000)))
        reader = Responses(connection)

        assert [json.loads(reader.next()[1])["id"] for _ in range(1_000)] == list(range(1_000))


SIZE: Final = 900_000
COPIES: Final = 16
BYTES_A_SECOND: Final = 500_000


@pytest.mark.slow
def test_a_reply_read_steadily_arrives_however_long_it_takes(tmp_path: Path) -> None:
    """14 MB at half a megabyte a second take half a minute, six times the time-out; each second a part is accepted."""
    with coordinator("--data-dir", str(tmp_path), "--client-write-timeout", "5") as server:
        with plain_http(server) as http:
            HttpClient(http).result("job.create", job(1, 1, "x" * SIZE))
        batch = [request("job.load", job_ids(1, 1), id) for id in range(COPIES)]
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            connection.settimeout(60)
            port = int(server.http.rpartition(":")[2])
            connection.connect(("127.0.0.1", port))
            connection.sendall(post(batch, "connection: close"))
            begun, received = time.monotonic(), bytearray()
            while more := connection.recv(16 * 1024):
                received += more
                time.sleep(max(0.0, begun + len(received) / BYTES_A_SECOND - time.monotonic()))
            taken = time.monotonic() - begun

    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert [reply["id"] for reply in json.loads(body)] == list(range(COPIES))
    assert taken > 20
