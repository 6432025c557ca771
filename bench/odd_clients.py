"""What an odd request or frame costs the plain calls behind it on its connection: processor time, before and after."""

from __future__ import annotations

import re
import socket
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from bench import odd_clients_ws, servers
from bench.compare import Plan
from bench.machine import cpu_seconds
from bench.odd_clients_ws import CALLS, QUICK_CALLS
from bench.servers import Coordinator, ServerFailed
from coordinator.load.messages import message

__all__ = ["GOAL", "OddClient", "measure"]

GOAL: Final = 1.1  # what a plain call may cost after the odd request, by what it cost before
POSTS: Final = 1_000  # before and after; processor time comes in steps of 10 ms
QUICK_POSTS: Final = 300
CONTEXT: Final = 1

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LOAD: Final = message("load", 1, CONTEXT, 0).payload
_LINES: Final = b"host: localhost\r\ncontent-type: application/json\r\n"
_SIZE: Final = b"content-length: %d\r\n" % len(_LOAD)
_POST: Final = b"POST / HTTP/1.1\r\n%b%b\r\n%b" % (_LINES, _SIZE, _LOAD)
_CHUNK: Final = b"%x;a=b\r\n%b\r\n0\r\nx-trailer: y\r\n\r\n" % (len(_LOAD), _LOAD)

ODD: Final = {
    "nothing": b"",
    "GET": b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a head of 10 KB": b"POST / HTTP/1.1\r\n%b%bx: %b\r\n\r\n%b" % (_LINES, _SIZE, b"y" * 10_000, _LOAD),
    "a header twice": b"POST / HTTP/1.1\r\n%b%ba: 1\r\na: 2\r\n\r\n%b" % (_LINES, _SIZE, _LOAD),
    "a chunked body": b"POST / HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n%b" % (_LINES, _CHUNK),
    "Expect": b"POST / HTTP/1.1\r\n%b%bexpect: 100-continue\r\n\r\n%b" % (_LINES, _SIZE, _LOAD),
    "HTTP/1.0": b"POST / HTTP/1.0\r\nconnection: keep-alive\r\n%b%b\r\n%b" % (_LINES, _SIZE, _LOAD),
    "an absolute target": _POST.replace(b"POST /", b"POST http://localhost/"),
    "a refusal": b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n",
}


@dataclass(frozen=True, slots=True)
class OddClient:
    """One odd request or frame.

    Attributes:
        before_us, after_us: the server's processor time a plain call, in microseconds, of each round.
    """

    name: str
    before_us: list[float]
    after_us: list[float]

    @property
    def ratio(self) -> float:
        """After by before: the median of the rounds."""
        return statistics.median(after / before for before, after in zip(self.before_us, self.after_us, strict=True))


def measure(plan: Plan, note: Callable[[str], None], *, is_quick: bool) -> list[OddClient]:
    """Each odd request or frame on a connection of its own in each round."""
    found: list[OddClient] = []
    with servers.coordinator(plan.cores, plan.data_root, "--fsync", plan.fsync) as coordinator:
        coordinator.seed(range(CONTEXT, CONTEXT + 1))
        for scheme, client, all_odd, count in (
            ("HTTP", _Client, ODD, QUICK_POSTS if is_quick else POSTS),
            ("WebSocket", odd_clients_ws.Client, odd_clients_ws.ODD, QUICK_CALLS if is_quick else CALLS),
        ):
            of_scheme = {name: OddClient(f"{scheme}, {name}", [], []) for name in all_odd}
            for _ in range(plan.rounds):
                for name, odd in all_odd.items():
                    _one_round(client(coordinator), odd, count, of_scheme[name])
            found += of_scheme.values()
    for one in found:
        note(f"{one.name}: {one.ratio:.2f}")
    return found


def _one_round(client: Any, odd: Any, count: int, found: OddClient) -> None:
    with client:
        client.calls(count // 4)
        found.before_us.append(client.calls(count))
        client.send(odd)
        found.after_us.append(client.calls(count))


class _Client:
    """A connection to the coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        url = urlsplit(coordinator.urls["http"])
        self._process = coordinator.processes["server"]
        self._socket = socket.create_connection((url.hostname, url.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def calls(self, count: int) -> float:
        """Send plain POSTs, one after the other. Returns the server's microseconds of processor time for each."""
        begun = cpu_seconds(self._process)
        for _ in range(count):
            if not self.send(_POST).startswith(b"HTTP/1.1 200"):
                raise ServerFailed("a plain POST was not answered")
        return max(cpu_seconds(self._process) - begun, 0.01) / count * 1e6

    def send(self, request: bytes) -> bytes:
        """Send a request; its response. None of those sent here is answered with 100 first: their bodies are there."""
        response = b""
        if not request:
            return response
        self._socket.sendall(request)
        while True:
            data = self._socket.recv(65536)
            if not data:
                raise ServerFailed(f"the connection ended after {request[:40]!r}")
            response += data
            head, end, body = response.partition(b"\r\n\r\n")
            if end:
                length = _LENGTH.search(head)
                if len(body) >= (int(length[1]) if length else 0):
                    return response
