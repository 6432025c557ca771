"""The short way for the common message over WebSocket: one whole masked frame, unmasked here, not seen by wsproto.

Sans-IO. wsproto looks at each frame in several layers of Python, which is most of what a small message costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["PlainFrames"]

OTHER: Final = 0
TEXT: Final = 0x81  # whole, without extensions
MESSAGE: Final = (TEXT, 0x82)  # text, binary
CONTROL: Final = (0x89, 0x8A)  # ping, pong

_MASKED: Final = 0x80
_TWO_BYTES: Final = 126  # of length follow
_EIGHT_BYTES: Final = 127


class PlainFrames:
    """Takes messages out of what one client sends after its handshake (RFC 6455, section 5.2).

    Pings and pongs among them are left over. So is everything from the first frame on that is none of these: a part
    of a message, one too large, a close, whatever breaks the protocol.

    Args:
        max_bytes: of a message's payload.

    Attributes:
        left: what is left over of the data taken last, for the one who sees to the rest.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()  # the beginning of a frame
        self._missing = 0  # bytes to wait for before it is worth another look
        self._is_over = False
        self.left = bytearray()

    def take(self, data: bytes) -> Iterator[str | bytes]:
        """The messages complete with this, each unmasked when it is asked for. `left` is set after the last."""
        self.left = bytearray()
        if self._is_over:
            self.left += data
            return
        if self._held:
            self._held += data
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = bytes(self._held)
            self._held.clear()
        at = 0
        while at < len(data):
            kind, start, end = self._head(data, at)
            if kind == OTHER:
                break
            if end > len(data):
                self._held += data[at:]
                self._missing = end - len(data)
                return
            if kind in CONTROL:
                self.left += data[at:end]
            else:
                payload = _unmasked(data[start:end], data[start - 4 : start])
                try:
                    message = payload.decode() if kind == TEXT else payload
                except UnicodeDecodeError:
                    break
                yield message
            at = end
        else:
            return
        self._is_over = True
        self.left += data[at:]

    def _head(self, data: bytes, at: int) -> tuple[int, int, int]:
        """Of the frame there: its kind, and where its payload starts and ends, or how far to read to know more."""
        if len(data) - at < 2:
            return TEXT, at, at + 2
        kind = data[at]
        length = data[at + 1] - _MASKED
        start = at + 6
        if length < 0 or (kind not in MESSAGE and (kind not in CONTROL or length >= _TWO_BYTES)):
            return OTHER, at, at
        if length >= _TWO_BYTES:
            least, start = (_TWO_BYTES, start + 2) if length == _TWO_BYTES else (65536, start + 8)
            if start > len(data):
                return kind, at, start
            length = int.from_bytes(data[at + 2 : start - 4])
            if length < least:
                return OTHER, at, at
        if length > self._max_bytes and kind in MESSAGE:
            return OTHER, at, at
        return kind, start, start + length


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    """As one number each: several times faster than byte by byte."""
    length = len(payload)
    pad = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")
