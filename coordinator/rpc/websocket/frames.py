"""The frames of a WebSocket (RFC 6455, section 5), sans-IO: bytes of a client in, events out; and the frames we send.

A message that arrives whole in one frame goes a short way. Everything else (fragments, control frames, frames that are
cut by the reads) goes a longer one, and the short way is taken again at the next message boundary.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

__all__ = [
    "GOING_AWAY",
    "INVALID_DATA",
    "POLICY_VIOLATION",
    "PROTOCOL_ERROR",
    "TOO_BIG",
    "Close",
    "Event",
    "Failure",
    "FrameDecoder",
    "Part",
    "Ping",
    "Pong",
    "close_frame",
    "ping_frame",
    "pong_frame",
    "text_frame",
    "text_head",
]

GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
INVALID_DATA: Final = 1007
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_OPCODES: Final = frozenset((_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG))

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_CONTROL: Final = 0x08
_WHOLE_TEXT: Final = _FIN | _TEXT
_WHOLE: Final = (_WHOLE_TEXT, _FIN | _BINARY)
_MASKED: Final = 0x80
_TWO_BYTES: Final = 126  # of length follow
_EIGHT_BYTES: Final = 127
_HEAD_BYTES: Final = 14  # at most
_CONTROL_BYTES: Final = 125  # of payload at most
_REASON_BYTES: Final = 123

_NO_UTF8: Final = "a text message must be UTF-8"


class Ping(NamedTuple):
    """The client wants a pong with the same payload."""

    payload: bytes


class Pong(NamedTuple):
    """The answer to a ping, or a sign of life of the client's own."""

    payload: bytes


class Close(NamedTuple):
    """The client sends no more. The code is None if it gave none."""

    code: int | None
    reason: str


class Failure(NamedTuple):
    """The client has broken the protocol: the code and the reason to close with."""

    code: int
    reason: str


class Part(Enum):
    """A frame that is a part of a message was read, and the message goes on."""

    PART = "part"


Event = str | bytes | Ping | Pong | Close | Failure | Part
"""`str` and `bytes` are text and binary messages."""


class _Fault(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameDecoder:
    """Makes events of what one client sends after its handshake. However the bytes are cut, the events are the same.

    Its work is linear in the bytes, and it holds no more than one message of `max_bytes` bytes. A failure comes as soon
    as the bytes leave no other outcome: of a message that is too large, by the head of the frame that makes it so.

    Args:
        max_bytes: of a message's payload.

    Attributes:
        is_over: there was a Close or a Failure. Whatever comes after it is ignored.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unparsed = b""  # the beginning of a head, or of a control frame
        self._remaining = 0  # bytes of the payload of the data frame we are in
        self._mask = b""  # for the next of them
        self._is_final = False  # that frame
        self._opcode = 0  # of the message we are in
        self._message = bytearray()  # what there is of it
        self._unchecked = b""  # its last bytes, which begin a character
        self.is_over = False

    @property
    def begun(self) -> int | None:
        """Bytes of a message or frame that has begun and is not there in all; None between them."""
        if not self._unparsed and not self._opcode and not self._remaining:
            return None
        return len(self._unparsed) + len(self._message)

    def receive(self, data: bytes) -> Iterator[Event]:
        """The events that these bytes complete, each made when it is asked for."""
        if self._unparsed:
            data = self._unparsed + data
            self._unparsed = b""
        at = 0
        end = len(data)
        while at < end and not self.is_over:
            first = data[at]
            if first in _WHOLE and not self._opcode and end - at > 7:
                length = data[at + 1] - _MASKED
                start = at + 6
                if length == _TWO_BYTES:
                    length = data[at + 2] << 8 | data[at + 3]
                    start += 2
                    if length < _TWO_BYTES:
                        length = -1
                elif length == _EIGHT_BYTES:
                    length = -1
                stop = start + length
                if 0 <= length <= self._max_bytes and stop <= end:
                    message: str | bytes = _unmasked(data[start:stop], data[start - 4 : start])
                    if first == _WHOLE_TEXT:
                        try:
                            message = message.decode()  # type: ignore[union-attr] # it is bytes
                        except UnicodeDecodeError:
                            self.is_over = True
                            yield Failure(INVALID_DATA, _NO_UTF8)
                            return
                    at = stop
                    yield message
                    continue
            try:
                event, at = self._step(data, at)
            except _Fault as fault:
                event = Failure(fault.code, fault.reason)
                self.is_over = True
            if event is not None:
                yield event

    def _step(self, data: bytes, at: int) -> tuple[Event | None, int]:
        """Read on by a head, a control frame or a piece of a payload. Returns the event, if it makes one, and where it
        ends. Raises _Fault."""
        if self._remaining:
            return self._read_payload(data, at)
        head = data[at : at + _HEAD_BYTES]
        opcode = self._read_opcode(head[0])
        length, size = _read_length(head)
        if opcode & _CONTROL:
            end = at + size + length
            if size == 0 or end > len(data):
                self._unparsed = data[at:]
                return None, len(data)
            return self._control(opcode, _unmasked(data[at + size : end], head[size - 4 : size])), end
        if len(self._message) + length > self._max_bytes:
            raise _Fault(TOO_BIG, f"a message may have {self._max_bytes} bytes, see --max-frame-bytes")
        if size == 0:
            self._unparsed = head
            return None, len(data)
        if opcode:
            self._opcode = opcode
        self._is_final = bool(head[0] & _FIN)
        self._mask = head[size - 4 : size]
        self._remaining = length
        at += size
        return self._read_payload(data, at) if at < len(data) or not length else (None, at)

    def _read_opcode(self, first: int) -> int:
        """The opcode of the frame that begins with this byte. Raises _Fault if there may be no such frame now."""
        opcode = first & 0x0F
        if first & _RESERVED:
            raise _Fault(PROTOCOL_ERROR, "a frame with reserved bits")
        if opcode not in _OPCODES:
            raise _Fault(PROTOCOL_ERROR, f"a frame with the reserved opcode {opcode}")
        if opcode & _CONTROL:
            if not first & _FIN:
                raise _Fault(PROTOCOL_ERROR, "a control frame in fragments")
        elif opcode == _CONTINUATION and not self._opcode:
            raise _Fault(PROTOCOL_ERROR, "a continuation frame of no message")
        elif opcode != _CONTINUATION and self._opcode:
            raise _Fault(PROTOCOL_ERROR, "a new message inside of a fragmented one")
        return opcode

    def _read_payload(self, data: bytes, at: int) -> tuple[Event | None, int]:
        piece = data[at : at + self._remaining]
        size = len(piece)
        if size:
            piece = _unmasked(piece, self._mask)
            shift = size % 4
            self._mask = self._mask[shift:] + self._mask[:shift]
            self._remaining -= size
            self._message += piece
            if self._opcode == _TEXT:
                self._check_text(piece)
        if self._remaining:
            return None, at + size
        if not self._is_final:
            return Part.PART, at + size
        if self._unchecked:
            raise _Fault(INVALID_DATA, _NO_UTF8)
        message = self._message.decode() if self._opcode == _TEXT else bytes(self._message)
        self._message = bytearray()
        self._opcode = 0
        return message, at + size

    def _check_text(self, piece: bytes) -> None:
        """Raises _Fault as soon as no continuation could make it UTF-8."""
        text = self._unchecked + piece
        try:
            _, checked = utf_8_decode(text, "strict", False)
        except UnicodeDecodeError:
            raise _Fault(INVALID_DATA, _NO_UTF8) from None
        rest = self._unchecked = text[checked:]
        if rest[:1] == b"\xed" and rest[1:2] >= b"\xa0":  # half of a surrogate: Python looks at the third byte first
            raise _Fault(INVALID_DATA, _NO_UTF8)

    def _control(self, opcode: int, payload: bytes) -> Event:
        if opcode == _PING:
            return Ping(payload)
        if opcode == _PONG:
            return Pong(payload)
        close = _read_close(payload)
        self.is_over = True
        return close


def _read_length(head: bytes) -> tuple[int, int]:
    """The length of the payload and the size of the head that begins here; 0 for the size if it is incomplete, and for
    the length if that is not known yet. Raises _Fault."""
    if len(head) < 2:
        return 0, 0
    length = head[1] - _MASKED
    if length < 0:
        raise _Fault(PROTOCOL_ERROR, "a frame that is not masked")
    if length < _TWO_BYTES:
        size = 6
    elif head[0] & _CONTROL:
        raise _Fault(PROTOCOL_ERROR, f"a control frame of more than {_CONTROL_BYTES} bytes")
    else:
        size, least = (8, _TWO_BYTES) if length == _TWO_BYTES else (_HEAD_BYTES, 1 << 16)
        if len(head) < size - 4:
            return 0, 0
        length = int.from_bytes(head[2 : size - 4])
        if length < least or length >= 1 << 63:
            raise _Fault(PROTOCOL_ERROR, "a length that is not in its shortest form, or of 64 bits")
    return length, size if len(head) >= size else 0


def _read_close(payload: bytes) -> Close:
    if not payload:
        return Close(None, "")
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not _may_be_sent(code):
        raise _Fault(PROTOCOL_ERROR, "a Close frame whose code may not be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise _Fault(INVALID_DATA, "the reason of a Close frame must be UTF-8") from None


def _may_be_sent(code: int) -> bool:
    """Whether a Close frame may hold this code: those of RFC 6455 and its registry, of libraries, and private ones."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    """As one number each: several times faster than byte by byte."""
    length = len(payload)
    pad = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")


# -- what we send: whole frames that are not masked


def text_head(length: int) -> bytes:
    """What precedes the payload of a text message."""
    if length < _TWO_BYTES:
        return b"\x81%c" % length
    if length < 1 << 16:
        return b"\x81\x7e%b" % length.to_bytes(2)
    return b"\x81\x7f%b" % length.to_bytes(8)


def text_frame(payload: bytes) -> bytes:
    """A text message."""
    length = len(payload)
    if length < _TWO_BYTES:
        return b"\x81%c%b" % (length, payload)
    if length < 1 << 16:
        return b"\x81\x7e%b%b" % (length.to_bytes(2), payload)
    return b"\x81\x7f%b%b" % (length.to_bytes(8), payload)


def ping_frame() -> bytes:
    """A ping without a payload."""
    return b"\x89\x00"


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping."""
    return b"\x8a%c%b" % (len(payload), payload)


def close_frame(code: int | None, reason: str) -> bytes:
    """A Close; its reason is cut to what fits."""
    payload = b""
    if code is not None:
        payload = code.to_bytes(2) + reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
    return b"\x88%c%b" % (len(payload), payload)
