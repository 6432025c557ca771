"""Clients that call job.take over HTTP or WebSocket and then go, each in a way of its own."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from abc import ABC, abstractmethod
from typing import Any, Final
from urllib.parse import urlsplit

import h2.config
import h2.connection

from tests.support.clients import request
from tests.support.server import CoordinatorProcess
from tests.support.streaming import RawClient

__all__ = ["WAYS", "WAYS_THAT_END_THE_CONNECTION", "Leaver", "http_socket", "leaver", "post"]

_ABORTIVE_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST
_PIPELINED_BYTES: Final = 256 * 1024
_CHILD: Final = """
import socket, sys, time
host, port, data = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
connection = socket.create_connection((host, port))
connection.sendall(data)
print("sent", flush=True)
time.sleep(600)
"""


def http_socket(server: CoordinatorProcess) -> socket.socket:
    """A connection to the HTTP port."""
    url = urlsplit(server.http)
    return socket.create_connection((url.hostname or "", url.port or 0), timeout=60.0)


def post(content: Any, *more: str) -> bytes:
    """A POST of this as JSON; `more` are further lines of its head."""
    body = json.dumps(content).encode()
    lines = ["POST / HTTP/1.1", "host: localhost", "content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *more, "", ""]).encode() + body


class Leaver(ABC):
    """A client that waits for a job."""

    def __init__(self, server: CoordinatorProcess, take: dict[str, Any]) -> None:
        self.server = server
        self.take = take
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Connect, and send the call."""

    @abstractmethod
    def leave(self) -> None: ...

    def clean_up(self) -> None:  # noqa: B027
        """Give back what leaving did not."""


class _Http(Leaver):
    """HTTP/1.1; `before` is sent first and `behind` follows the call without waiting."""

    before: bytes = b""
    behind: bytes = b""

    def begin(self) -> None:
        self.socket = http_socket(self.server)
        if self.before:
            self.socket.sendall(self.before)
            self.socket.recv(65536)
        self.socket.sendall(post(request("job.take", self.take, 1)))
        self.socket.setblocking(False)
        try:
            while self.behind:
                self.behind = self.behind[self.socket.send(self.behind) :]
        except BlockingIOError:
            pass  # more than anybody takes while the call waits

    def leave(self) -> None:
        self.socket.close()

    def clean_up(self) -> None:
        self.socket.close()


class Fin(_Http):
    pass


class Reset(_Http):
    def leave(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTIVE_CLOSE)
        self.socket.close()


class HalfClose(_Http):
    """Will send nothing more, but could read."""

    def leave(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)


class FinBehindPipelined(_Http):
    behind = post(request("actor.load", {"id": 0}, 2)) * (_PIPELINED_BYTES // 150)


class ResetBehindPipelined(FinBehindPipelined, Reset):
    pass


class FinAfterGet(_Http):
    before = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


class ResetAfterGet(Reset):
    before = FinAfterGet.before


class Killed(Leaver):
    """Another process, ended by kill -9."""

    def begin(self) -> None:
        url = urlsplit(self.server.http)
        data = post(request("job.take", self.take, 1)).hex()
        command = [sys.executable, "-c", _CHILD, str(url.hostname), str(url.port), data]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"sent\n"

    def leave(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def clean_up(self) -> None:
        self.leave()
        assert self.process.stdout is not None
        self.process.stdout.close()


class _Http2(Leaver):
    def begin(self) -> None:
        url = urlsplit(self.server.http)
        self.socket = http_socket(self.server)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        body = json.dumps(request("job.take", self.take, 1)).encode()
        self.stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", url.netloc), (":path", "/")]
        self.h2.send_headers(self.stream, [*head, ("content-type", "application/json")])
        self.h2.send_data(self.stream, body, end_stream=True)
        self.flush()
        self.h2.receive_data(self.socket.recv(65536))
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def clean_up(self) -> None:
        self.socket.close()


class ResetStream(_Http2):
    """The stream ends, the connection stays."""

    def leave(self) -> None:
        self.h2.reset_stream(self.stream, 8)  # CANCEL
        self.flush()


class GoAway(_Http2):
    def leave(self) -> None:
        self.h2.close_connection()
        self.flush()
        self.socket.close()


class Http2Fin(_Http2):
    def leave(self) -> None:
        self.socket.close()


class _WebSocket(Leaver):
    def begin(self) -> None:
        self.raw = RawClient(self.server.ws)
        self.raw.upgrade()
        self.raw.send_call(1, "job.take", self.take)

    def clean_up(self) -> None:
        self.raw.close()


class WebSocketFin(_WebSocket):
    def leave(self) -> None:
        self.raw.close()


class WebSocketReset(_WebSocket):
    def leave(self) -> None:
        self.raw.vanish()


class WebSocketClose(_WebSocket):
    """A Close frame, and the answer to it is read."""

    def leave(self) -> None:
        self.raw.socket.sendall(b"\x88\x82" + bytes(4) + (1000).to_bytes(2))
        while self.raw.socket.recv(65536):
            pass
        self.raw.close()


_ALL: Final[tuple[type[Leaver], ...]] = (
    *(Fin, Reset, HalfClose, FinBehindPipelined, ResetBehindPipelined, FinAfterGet, ResetAfterGet, Killed),
    *(ResetStream, GoAway, Http2Fin, WebSocketFin, WebSocketReset, WebSocketClose),
)
WAYS: Final = {way.__name__: way for way in _ALL}
WAYS_THAT_END_THE_CONNECTION: Final = [name for name in WAYS if name != "ResetStream"]


def leaver(way: str, server: CoordinatorProcess, take: dict[str, Any]) -> Leaver:
    """A client that waits for a job, and will leave in this way."""
    return WAYS[way](server, take)
