"""Clients that mean harm, a process of its own: `python -m bench.hostile NICENESS` reads an Attack on standard input
(a line of JSON), prints a line once it has begun, and goes on until standard input ends. `attacking` runs it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from bench.machine import pin
from bench.servers import ServerFailed

__all__ = ["Attack", "Kind", "attacking"]

Kind = Literal["flood", "drip", "deaf"]
"""`flood`: sends the same bytes again and again, and reads what comes. `drip`: sends them one by one, a byte each time
all connections have had theirs. `deaf`: sends them once and reads nothing."""

_DRIP_PAUSE: Final = 1.0  # seconds between the bytes of one connection
_FLOOD_BYTES: Final = 64 * 1024  # at least so much is sent at a time
_RECEIVE_BYTES: Final = 256 * 1024
_DIAL_TIMEOUT: Final = 20.0  # seconds
_STOP_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Attack:
    """What each of so many connections does.

    Attributes:
        url: ws:// makes the handshake first; http:// sends from the first byte on.
        payload: what is sent, as Latin-1 text; in it a WebSocket's frames are ready to be sent.
    """

    kind: Kind
    url: str
    payload: str
    connections: int


@contextmanager
def attacking(attack: Attack, core: int | None, niceness: int) -> Iterator[None]:
    """The attack goes on while the block runs. Raises ServerFailed if it ends before that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.hostile", str(niceness)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            pin([process.pid], core)
            process.stdin.write(json.dumps(asdict(attack)) + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                raise ServerFailed("the hostile client did not begin")
            yield
            if process.poll() is not None:
                raise ServerFailed(f"the hostile client ended with status {process.returncode}")
            process.stdin.close()
            process.wait(_STOP_TIMEOUT)
        finally:
            process.kill()


# -- inside the process


class _Client:
    """One connection, dialled again whenever the server has ended it."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self._payload = attack.payload.encode("latin-1")
        if attack.kind == "flood":
            self._payload *= _FLOOD_BYTES // len(self._payload) + 1
        self._at = 0
        self.dial()

    def dial(self) -> None:
        """Connect, and make the handshake where there is one."""
        url = urlsplit(self._attack.url)
        self._at = 0
        self.socket = socket.create_connection((url.hostname or "", url.port or 0), timeout=_DIAL_TIMEOUT)
        if url.scheme == "ws":
            key = base64.b64encode(os.urandom(16)).decode()
            self.socket.sendall(
                f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.socket.recv(1) or b"\r\n\r\n"
        self.socket.setblocking(False)

    @property
    def wants_to_send(self) -> bool:
        return self._attack.kind == "flood" or (self._attack.kind == "deaf" and self._at < len(self._payload))

    def send(self) -> None:
        """Send what is accepted; the flood begins again at its end."""
        with contextlib.suppress(BlockingIOError):
            self._at += self.socket.send(self._payload[self._at :])
        if self._at == len(self._payload) and self._attack.kind == "flood":
            self._at = 0

    def send_byte(self) -> None:
        """Send the next byte; the last one is never sent."""
        with contextlib.suppress(BlockingIOError):
            if self._at < len(self._payload) - 1:
                self._at += self.socket.send(self._payload[self._at : self._at + 1])

    def receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if not self.socket.recv(_RECEIVE_BYTES):
                raise ConnectionResetError


def _again(client: _Client) -> None:
    """Dial again. One who is refused tries again when its turn comes."""
    client.socket.close()
    with contextlib.suppress(OSError):
        client.dial()


def _run(attack: Attack) -> None:
    clients = [_Client(attack) for _ in range(attack.connections)]
    print("begun", flush=True)
    if attack.kind == "drip":
        _drip(clients)
    else:
        _pour(clients, reads=attack.kind == "flood")


def _drip(clients: list[_Client]) -> None:
    pause = _DRIP_PAUSE / 100
    while True:
        for first in range(100):
            for client in clients[first::100]:
                try:
                    client.receive()
                    client.send_byte()
                except OSError:
                    _again(client)
            if _told_to_stop(pause):
                return


def _pour(clients: list[_Client], *, reads: bool) -> None:
    by_socket: dict[Any, _Client] = {}
    while not _told_to_stop(0):
        by_socket = {client.socket: client for client in clients if client.socket.fileno() >= 0}
        wishing = [client.socket for client in clients if client.wants_to_send and client.socket.fileno() >= 0]
        readable, writable, _ = select.select([*by_socket] if reads else [], wishing, [], 0.1)
        for ready, act in ((readable, _Client.receive), (writable, _Client.send)):
            for found in ready:
                try:
                    act(by_socket[found])
                except OSError:
                    _again(by_socket[found])
        if not by_socket:
            time.sleep(0.1)


def _told_to_stop(within: float) -> bool:
    """Whether standard input ends within so many seconds."""
    return bool(select.select([sys.stdin], [], [], within)[0])


def _main() -> None:
    os.nice(int(sys.argv[1]))
    _run(Attack(**json.loads(sys.stdin.readline())))


if __name__ == "__main__":
    _main()
