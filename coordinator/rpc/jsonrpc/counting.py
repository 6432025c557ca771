"""How many values a message holds: the time it takes to read goes by that, and nobody is served meanwhile."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_VALUES", "has_more_values"]

MAX_VALUES: Final = 131_072
"""A message of the default limit of bytes has hardly more, unless it was made to be slow to read."""

_BEGINNINGS: Final = (b",", b"[", b"{")


def has_more_values(message: str | bytes | bytearray, limit: int) -> bool:
    """Whether there are more than `limit` values in a JSON text, or more than half as many strings, which are slower.

    Counts commas and opening brackets outside strings, in a few milliseconds whatever the message is. What is not JSON
    may be counted wrongly.
    """
    if len(message) <= limit:
        return False
    text = message.encode(errors="replace") if isinstance(message, str) else message
    if _count(text) <= limit and text.count(b'"') <= limit:
        return False
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")  # an escaped quote ends no string
    if text.count(b'"') > limit:
        return True
    return _count(b"".join(text.split(b'"')[::2])) > limit


def _count(text: bytes | bytearray) -> int:
    return sum(map(text.count, _BEGINNINGS))
