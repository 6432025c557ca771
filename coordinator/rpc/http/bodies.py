"""What a request's body is: its media type, and the coding it is sent in. Bytes in, bytes out."""

from __future__ import annotations

import zlib
from typing import Final

__all__ = ["ACCEPTED_CODINGS", "DamagedBody", "TooLarge", "coding_of", "decoded", "type_fault"]

ACCEPTED_CODINGS: Final = b"gzip, deflate"

MEMBERS: Final = 1000  # of a gzip body; whoever writes several makes them large
_PIECE: Final = 16 * 1024  # bytes decoded at a time: what is behind the end of a member is copied for the next one

_TYPES: Final = (b"application/json", b"application/json-rpc", b"application/jsonrequest")
_CHARSETS: Final = (b"utf-8", b"utf8")
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class DamagedBody(Exception):
    """The body is not what its Content-Encoding says."""


class TooLarge(Exception):
    """The body is, or would become, larger than the limit."""


def type_fault(content_type: bytes) -> str | None:
    """What is wrong with a Content-Type (empty if there is none), or None if a call may be sent so."""
    kind, *params = content_type.split(b";")
    if kind.strip().lower() not in _TYPES:
        return "Content-Type must be application/json"
    for param in params:
        name, _, value = param.partition(b"=")
        if name.strip().lower() == b"charset":
            charset = value.strip().strip(b"\"'").strip().lower()
            if charset not in _CHARSETS:
                return f"JSON is sent in UTF-8 here, not in {charset.decode('latin-1')[:40]!r}"
    return None


def coding_of(content_encoding: bytes) -> bytes | None:
    """The coding to undo: `gzip`, `deflate`, or empty for none; None if it is one we do not decode."""
    codings = [coding.strip().lower() for coding in content_encoding.split(b",")]
    named = [coding.removeprefix(b"x-") for coding in codings if coding not in (b"", b"identity")]
    if not named:
        return b""
    return named[0] if len(named) == 1 and named[0] in (b"gzip", b"deflate") else None


def decoded(body: bytes | bytearray, coding: bytes, limit: int) -> bytes:
    """The body without its coding.

    Args:
        coding: as `coding_of` gives it, not empty.
        limit: bytes; never more than one beyond it are made.

    Raises:
        TooLarge: it has more.
        DamagedBody: it is cut off, goes on behind its end, or is none of that coding.
    """
    parts: list[bytes] = []
    room, at = limit, 0
    given = memoryview(body)
    for _ in range(MEMBERS):
        decoder = zlib.decompressobj(_GZIP if coding == b"gzip" else _deflate_format(body))
        while not decoder.eof:
            if at == len(given):
                raise DamagedBody(f"the body is {coding.decode()} that has no end")
            piece = given[at : at + _PIECE]
            try:
                part = decoder.decompress(piece, room + 1)
            except zlib.error as error:
                raise DamagedBody(f"the body is no {coding.decode()}: {error}") from None
            if len(part) > room:
                raise TooLarge
            at += len(piece) - len(decoder.unused_data)
            room -= len(part)
            parts.append(part)
        if at == len(given):
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if coding != b"gzip":  # a gzip file may have several members (RFC 1952, 2.2)
            raise DamagedBody("the body goes on behind the end of its deflate")
    raise DamagedBody(f"the body has more than {MEMBERS} gzip members")


def _deflate_format(body: bytes | bytearray) -> int:
    """RFC 9110 means zlib's format; some clients send the bare data."""
    is_zlib = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _ZLIB if is_zlib else _RAW
