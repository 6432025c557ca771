"""Chunked bodies (RFC 9112, 7.1), to the letter: where two readers could differ, there is no body.

h11 reads them too, but takes bare line feeds in trailers, on which it and a proxy may differ, and needs several times
the processor time for a chunk, which counts where a client sends a chunk for each byte.
"""

from __future__ import annotations

import re
from typing import Final

from coordinator.rpc.http.bodies import TooLarge

__all__ = ["CHUNKS_AT_ONCE", "ChunkedBody", "MalformedChunk"]

CHUNKS_AT_ONCE: Final = 256  # read before others get on, in about half a millisecond
_MAX_LINE: Final = 4096  # bytes of a chunk's first line
_MAX_TRAILERS: Final = 16 * 1024  # bytes of all trailers

_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00\r\n]*\r\n")


class MalformedChunk(Exception):
    """The body is not chunked as it says it is."""


class ChunkedBody:
    """One body, fed with what arrives.

    Args:
        limit: bytes of the body without its framing.

    Attributes:
        body: what has arrived of it.
        unparsed: what is behind its end, once that is there.
        is_behind: there may be more in what has arrived: feed it with nothing once others have got on.
    """

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.is_behind = False
        self.unparsed = b""
        self._limit = limit
        self._data = b""
        self._at = 0  # in the data
        self._missing = 0  # bytes of the chunk that has begun, its line end included
        self._trailers: int | None = None  # bytes of them, once the last chunk is there

    def feed(self, data: bytes) -> bool:
        """Take what has arrived, or CHUNKS_AT_ONCE chunks of it. Returns whether the body is whole.

        Raises:
            MalformedChunk, TooLarge: there is no point in reading on.
        """
        self._data = self._data[self._at :] + data
        self._at = 0
        self.is_behind = False
        chunks = 0
        while self._trailers is None:
            if chunks >= CHUNKS_AT_ONCE:
                self.is_behind = True
                return False
            chunks += 1
            if self._missing == 0 and not self._begin_chunk():
                return False
            if self._missing and not self._take_data():
                return False
        return self._skip_trailers()

    def _begin_chunk(self) -> bool:
        """Read a chunk's first line. Returns whether it has arrived."""
        data, at = self._data, self._at
        found = _CHUNK.match(data, at)
        if found is None:
            end = data.find(b"\n", at)
            if end >= 0 or len(data) - at > _MAX_LINE:
                raise MalformedChunk("a chunk does not begin with its size")
            return False
        if found.end() - at > _MAX_LINE:
            raise MalformedChunk("a chunk's first line is too long")
        self._at = found.end()
        size = int(found[1], 16)
        if size == 0:
            self._trailers = 0
            return True
        if len(self.body) + size > self._limit:
            raise TooLarge
        self._missing = size + 2
        return True

    def _take_data(self) -> bool:
        """Take what has arrived of the chunk. Returns whether it is whole."""
        data, at, missing = self._data, self._at, self._missing
        if len(data) - at >= missing:
            end = at + missing
            if data[end - 2 : end] != b"\r\n":
                raise MalformedChunk("a chunk is longer than its size")
            self.body += data[at : end - 2]
            self._at = end
            self._missing = 0
            return True
        arrived = min(len(data) - at, missing - 2)  # the line end is looked at as a whole
        self.body += data[at : at + arrived]
        self._at = at + arrived
        self._missing = missing - arrived
        return False

    def _skip_trailers(self) -> bool:
        """Skip what is behind the last chunk. Returns whether its end has arrived."""
        data = self._data
        assert self._trailers is not None
        while not data.startswith(b"\r\n", self._at):
            found = _TRAILER.match(data, self._at)
            arrived = found.end() if found is not None else len(data)
            if self._trailers + arrived - self._at > _MAX_TRAILERS:
                raise MalformedChunk("the trailers are too long")
            if found is None:
                if b"\n" in data[self._at :]:
                    raise MalformedChunk("a trailer is no header")
                return False
            self._trailers += arrived - self._at
            self._at = arrived
        self.unparsed = data[self._at + 2 :]
        return True
