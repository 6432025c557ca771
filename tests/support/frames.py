"""WebSocket frames byte by byte, over a blocking socket: for what no library would send, and to see all that comes."""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

from tests.support.streaming import RawClient

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "Frame", "FrameClient", "close_payload", "frame"]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_MASK: Final = b"\x37\xfa\x21\x3d"


class Frame(NamedTuple):
    """One that came."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """The code of a Close frame; None if it has none."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2]) if self.payload else None


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked frame."""
    length = len(payload)
    first = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length < 126:
        head = first + bytes([0x80 | length])
    elif length < 1 << 16:
        head = first + b"\xfe" + length.to_bytes(2)
    else:
        head = first + b"\xff" + length.to_bytes(8)
    pad = (_MASK * (length // 4 + 1))[:length]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + _MASK + masked.to_bytes(length, "big")


def close_payload(code: int | None, reason: bytes = b"") -> bytes:
    """The payload of a Close frame."""
    return b"" if code is None else code.to_bytes(2) + reason


class FrameClient(RawClient):
    """A client that sends what it is given and reads frames."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.socket.settimeout(60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.upgrade()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> Frame | None:
        """The next frame, which must be whole and as a server sends it; None at the end of the stream."""
        head = self._read(2)
        if not head:
            return None
        assert head[0] & 0xF0 == 0x80, f"neither fragments nor reserved bits: {head!r}"
        length = head[1]
        assert length < 128, "a server does not mask"
        if length >= 126:
            length = int.from_bytes(self._read(2 if length == 126 else 8))
        return Frame(head[0] & 0x0F, self._read(length))

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            more = self.socket.recv(65536)
        except TimeoutError:
            return not self._received
        finally:
            self.socket.settimeout(60)
        self._received += more
        return False

    def until_end(self) -> list[Frame]:
        """All that comes until the server has sent its last. A reset is an error."""
        frames = []
        while (one := self.next()) is not None:
            frames.append(one)
        return frames

    def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            data = self.socket.recv(1 << 20)
            if not data:
                assert not self._received, f"the stream ends within a frame: {self._received!r}"
                return b""
            self._received += data
        data, self._received = self._received[:size], self._received[size:]
        return data
