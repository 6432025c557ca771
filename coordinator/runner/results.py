"""The file a script writes its results to, `key=value` a line."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["MAX_RESULT_BYTES", "Results", "parse_results", "read_results"]

MAX_RESULT_BYTES: Final = 64 * 1024
"""Of the file; the result map must fit into one frame."""
_COMPLAINTS: Final = 5


class Results(NamedTuple):
    """`complaints` are about lines that were left out."""

    values: dict[str, str]
    complaints: list[str]


def read_results(path: Path) -> Results:
    """What the script wrote; nothing if the file is gone or was replaced by something that is no file."""
    try:
        # A script may have put a FIFO or a link to elsewhere in its place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        return Results({}, [f"HERO_RESULT cannot be read: {error.strerror}"])
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Results({}, ["HERO_RESULT cannot be read: it is no file any more"])
        return parse_results(os.read(descriptor, MAX_RESULT_BYTES + 1))
    finally:
        os.close(descriptor)


def parse_results(data: bytes) -> Results:
    """`key=value` a line; the value may hold `=` and blanks, the last line of a key wins, empty lines are nothing."""
    values: dict[str, str] = {}
    complaints: list[str] = []
    if len(data) > MAX_RESULT_BYTES:
        complaints.append(f"HERO_RESULT: only its first {MAX_RESULT_BYTES} bytes are read")
        data = data[:MAX_RESULT_BYTES]
        data = data[: data.rfind(b"\n") + 1]
    wrong = []
    for number, line in enumerate(data.split(b"\n"), 1):
        key, equals, value = line.removesuffix(b"\r").decode(errors="replace").partition("=")
        if equals and key.strip():
            values[key.strip()] = value
        elif key.strip() or equals:
            wrong.append(number)
    complaints += [f"HERO_RESULT line {number} left out: it is no key=value" for number in wrong[:_COMPLAINTS]]
    if len(wrong) > _COMPLAINTS:
        complaints.append(f"HERO_RESULT: {len(wrong) - _COMPLAINTS} more lines left out")
    return Results(values, complaints)
