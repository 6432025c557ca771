"""Odd frames, and the WebSocket client that sends them; see odd_clients."""

from __future__ import annotations

import base64
import os
import socket
from typing import Final
from urllib.parse import urlsplit

from bench.machine import cpu_seconds
from bench.servers import Coordinator, ServerFailed
from coordinator.load.messages import message

__all__ = ["CALLS", "ODD", "QUICK_CALLS", "Client"]

CALLS: Final = 4_000  # before and after; processor time comes in steps of 10 ms
QUICK_CALLS: Final = 1_000
WINDOW: Final = 20
CONTEXT: Final = 1

_LOAD: Final = message("load", 1, CONTEXT, 0).payload
_MASK: Final = b"\x11\x22\x33\x44"


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    head = bytes([first, 0x80 | length]) if length < 126 else bytes([first, 0xFE]) + length.to_bytes(2)
    return head + _MASK + bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(payload))


_CALL: Final = _frame(0x81, _LOAD)
_PARTS: Final = (_frame(0x01, _LOAD[:20]), _frame(0x00, _LOAD[20:40]), _frame(0x80, _LOAD[40:]))

ODD: Final[dict[str, tuple[bytes, int]]] = {
    "nothing": (b"", 0),
    "a fragmented message": (b"".join(_PARTS), 1),
    "a ping": (_frame(0x89, b"odd"), 1),
    "a pong": (_frame(0x8A, b"odd"), 0),
    "a ping inside a message": (_PARTS[0] + _frame(0x89, b"odd") + _PARTS[1] + _PARTS[2], 2),
    "a binary message": (_frame(0x82, _LOAD), 1),
    "what is no call": (_frame(0x81, b"{}"), 1),
}
"""What is sent, and how many frames come for it."""


class Client:
    """A WebSocket to the coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        url = urlsplit(coordinator.urls["ws"])
        self._process = coordinator.processes["server"]
        self._socket = socket.create_connection((url.hostname, url.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._received:
            self._receive()
        _, _, self._received = self._received.partition(b"\r\n\r\n")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def calls(self, count: int) -> float:
        """Send calls, a window at a time. Returns the server's microseconds of processor time for each."""
        begun = cpu_seconds(self._process)
        for _ in range(count // WINDOW):
            self.send((_CALL * WINDOW, WINDOW))
        return max(cpu_seconds(self._process) - begun, 0.01) / count * 1e6

    def send(self, odd: tuple[bytes, int]) -> None:
        """Send frames, and wait for as many as come for them."""
        data, answers = odd
        self._socket.sendall(data)
        for _ in range(answers):
            self._next()

    def _next(self) -> None:
        while True:
            received = self._received
            if len(received) >= 4:
                length, start = received[1], 2
                if length == 126:
                    length, start = int.from_bytes(received[2:4]), 4
                if len(received) >= start + length:
                    self._received = received[start + length :]
                    return
            elif len(received) >= 2 and received[1] <= len(received) - 2:
                self._received = received[2 + received[1] :]
                return
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ServerFailed("the WebSocket ended")
        self._received += data
