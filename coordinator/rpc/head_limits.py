"""How large the head of a request may be, whatever reads it: over HTTP/1, or that of a WebSocket's handshake."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_HEAD", "MAX_HEADERS", "has_too_many_headers"]

MAX_HEAD: Final = 16 * 1024  # bytes; Hypercorn's own limit
MAX_HEADERS: Final = 256  # h11 takes 5 µs over one, and 4,000 fit into a head


def has_too_many_headers(head: bytes) -> bool:
    """Whether a head that ends with its empty line has more than MAX_HEADERS."""
    return head.count(b"\n") > MAX_HEADERS + 2  # the request line and the empty one
