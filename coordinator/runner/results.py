"""The file a script writes its results to: `key=value` a line, or a value of several lines between marks of its own.

rows=12
report<<END
first line
second line
END
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["MAX_RESULT_BYTES", "Results", "parse_results", "read_results"]

MAX_RESULT_BYTES: Final = 64 * 1024
"""The largest file that is read; the result map must fit into one frame."""
_SHOWN: Final = 100  # characters of a line that is wrong
_MARK: Final = "<<"


class Results(NamedTuple):
    """`fault`: why these values are not, or not all, what the script meant; None if they are."""

    values: dict[str, str]
    fault: str | None = None


def read_results(path: Path) -> Results:
    """What the script wrote; nothing if it has removed the file."""
    try:
        # A script may have put a FIFO or a link to elsewhere in its place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Results({})
    except OSError as error:
        return Results({}, f"HERO_RESULT cannot be read: {error.strerror}")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Results({}, "HERO_RESULT cannot be read: it is no file any more")
        if status.st_size > MAX_RESULT_BYTES:
            return Results(
                {},
                f"HERO_RESULT is too large: {status.st_size} bytes, at most {MAX_RESULT_BYTES} are taken; put what is "
                "larger elsewhere and say there where",
            )
        with open(descriptor, "rb", closefd=False) as file:
            return parse_results(file.read(MAX_RESULT_BYTES))
    finally:
        os.close(descriptor)


def parse_results(data: bytes) -> Results:
    """What each line says; the value may hold `=` and blanks, the last line of a key wins, empty lines are nothing.

    After `key<<MARK` come the lines of the value, up to one that is just MARK. A line in which `=` comes before `<<` is
    `key=value`. Bytes that are no UTF-8 are a fault: with others in their place a value is not what the script meant.
    """
    data = data.removeprefix(codecs.BOM_UTF8)  # some editors and shells write one
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        before = data.count(b"\n", 0, error.start)
        return Results({}, f"HERO_RESULT line {before + 1} is not UTF-8")
    values: dict[str, str] = {}
    wrong: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at].removesuffix("\r")
        at += 1
        key, equals, value = line.partition("=")
        if _MARK in key:
            key, _, mark = line.partition(_MARK)
            end = _find(mark.strip(), lines, at)
            if key.strip() and mark.strip() and end is not None:
                block = lines[at:end]
                values[key.strip()] = "\n".join(_without_returns(block) if lines[at - 1].endswith("\r") else block)
                at = end + 1
                continue
            if key.strip() and mark.strip():
                return Results(
                    values, f"HERO_RESULT line {at} begins a value that no line {mark.strip()[:_SHOWN]!r} ends"
                )
            equals = ""
        if equals and key.strip():
            values[key.strip()] = value
        elif line.strip():
            wrong.append(f"line {at} is no key=value: {line[:_SHOWN]!r}")
    if not wrong:
        return Results(values)
    more = f" (and {len(wrong) - 1} more lines are not)" if len(wrong) > 1 else ""
    return Results(values, f"HERO_RESULT {wrong[0]}{more}")


def _find(mark: str, lines: list[str], start: int) -> int | None:
    """Where from `start` a line is just this mark."""
    return next((at for at in range(start, len(lines)) if lines[at].removesuffix("\r") == mark), None)


def _without_returns(lines: list[str]) -> list[str]:
    """The lines of a file that may end as on Windows."""
    return [line.removesuffix("\r") for line in lines]
