"""How many values a message holds: the time it takes to read goes by that, and nobody is served meanwhile."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_VALUES", "has_more_values", "is_costly"]

MAX_VALUES: Final = 131_072
"""A message of the default limit of bytes has hardly more, unless it was made to be slow to read."""

_BEGINNINGS: Final = (b",", b"[", b"{")
_COSTLY_BYTES: Final = 64 * 1024  # a shorter message is read in a millisecond or two, whatever it is
_COSTLY_MARKS: Final = 8_000
_MARKS: Final = (",", "[", "{", "\\")
_MARKS_IN_BYTES: Final = tuple(mark.encode() for mark in _MARKS)


def is_costly(message: str | bytes | bytearray) -> bool:
    """Whether it may take more than a few milliseconds to read: by its values and escaped characters."""
    if len(message) < _COSTLY_BYTES:
        return False
    if isinstance(message, str):
        return sum(map(message.count, _MARKS)) > _COSTLY_MARKS
    return sum(map(message.count, _MARKS_IN_BYTES)) > _COSTLY_MARKS


def has_more_values(message: str | bytes | bytearray, limit: int) -> bool:
    """Whether there are more than `limit` values in a JSON text, or more than half as many strings, which are slower,
    or a quarter as many lists and objects, which are slower still.

    Counts commas and opening brackets outside strings, in a few milliseconds whatever the message is. What is not JSON
    may be counted wrongly.
    """
    if len(message) <= limit // 4:
        return False
    text = message.encode(errors="replace") if isinstance(message, str) else message
    if _count(text) <= limit // 4 or (_is_within(text, limit) and text.count(b'"') <= limit):
        return False
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")  # an escaped quote ends no string
    if text.count(b'"') > limit:
        return True
    return not _is_within(b"".join(text.split(b'"')[::2]), limit)


def _is_within(text: bytes | bytearray, limit: int) -> bool:
    # Brackets that are never closed are soon found to be no JSON.
    return _count(text) <= limit and text.count(b"]") + text.count(b"}") <= limit // 4


def _count(text: bytes | bytearray) -> int:
    return sum(map(text.count, _BEGINNINGS))
