"""A context as JSON Lines.

The first line says what it is and when it was; a line each follows for the actors it needs, and then, ascending by
name, for what each key of the context holds: all of a record, or a part of something long. The last line says how many
lines there were before, and their digest without the first. So what is brought into a store is equal, but for the first
line, to what is written of it again. Texts that are no UTF-8 have lone surrogates for their bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.storage.visit import CannotTransfer

__all__ = [
    "FLEETING",
    "KINDS",
    "OF_ENGINE",
    "STAGED",
    "Body",
    "Damaged",
    "Header",
    "line_of",
    "numbered",
    "parsed",
    "verify",
]

FORMAT: Final = 1
MAX_LINE: Final = 64 * 1024 * 1024  # bytes
STAGED: Final = "import:"  # before the names of keys that are being brought; transfer.lua has it too
KINDS: Final = ("hash", "list", "set", "zset", "stream", "string")
FLEETING: Final = ("writer:", "followed:", "take:", "deleted:", STAGED)
"""How the names of keys begin that say who is connected now, or what somebody was answered a moment ago."""
OF_ENGINE: Final = frozenset({"skew", "clock", "bytes", "bytes_before", "count", "counting", "counted_at", "migrated"})
"""What the engine keeps of a context that is the store's, not the context's."""


class Damaged(CannotTransfer):
    """A file is not whole, or no export."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line.

    Attributes:
        context: the context's id.
        schema: the layout of what is stored in it.
        now: what its clock of timers showed, ms.
        exported_at: Unix time, ms.
        version: of the coordinator that has written it.
    """

    context: int
    schema: int
    now: int
    exported_at: int
    version: str

    def line(self) -> bytes:
        return line_of(
            {
                "herocoordinator": "context",
                "format": FORMAT,
                "context": self.context,
                "schema": self.schema,
                "now": self.now,
                "exported_at": self.exported_at,
                "version": self.version,
            }
        )


class Body:
    """Writes the lines behind the first one.

    Args:
        write: is given line by line.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._digest = hashlib.sha256()
        self._count = 0

    def put(self, line: bytes) -> None:
        self._write(line)
        self._digest.update(line)
        self._count += 1

    def end(self) -> None:
        """Write the last line."""
        self._write(line_of({"lines": self._count, "sha256": self._digest.hexdigest()}))


def line_of(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def verify(path: Path, on_progress: Callable[[int], None]) -> Header:
    """Read a file to its end, and see that it is an export, and whole.

    Args:
        on_progress: is told how many lines were read, now and then.

    Raises: Damaged, with the number of the line; OSError.
    """
    digest = hashlib.sha256()
    header: Header | None = None
    number = 0
    for number, raw in numbered(path):
        line = parsed(path, number, raw)
        if header is None:
            header = _header(path, line)
            continue
        if "sha256" in line:
            count, expected = line.get("lines"), line["sha256"]
            if count != number - 2 or expected != digest.hexdigest():
                raise Damaged(
                    f"{path}, line {number}: what is before it is not what was exported ({number - 2} lines here, "
                    f"{count} then): take another copy of the file, or export the context again"
                )
            if any(True for _ in numbered(path, after=number)):
                raise Damaged(f"{path}, line {number + 1}: there is more than one export in the file")
            return header
        _check(path, number, line)
        digest.update(raw)
        if number % 10_000 == 0:
            on_progress(number)
    raise Damaged(
        f"{path}, line {number + 1}: the file ends before the export does: take another copy of it, or export the "
        "context again"
    )


def numbered(path: Path, after: int = 0) -> Iterator[tuple[int, bytes]]:
    """The lines of a file behind that one, with their numbers."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if number <= after:
                continue
            if len(raw) > MAX_LINE:
                raise Damaged(f"{path}, line {number}: it is longer than {MAX_LINE} bytes")
            if not raw.endswith(b"\n"):
                raise Damaged(f"{path}, line {number}: the file ends in the middle of it: take another copy of it")
            yield number, raw


def parsed(path: Path, number: int, raw: bytes) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        raise Damaged(f"{path}, line {number}: it is no JSON: take another copy of the file") from None
    if not isinstance(line, dict):
        raise Damaged(f"{path}, line {number}: it is no object")
    return line


def _header(path: Path, line: Mapping[str, Any]) -> Header:
    if line.get("herocoordinator") != "context":
        raise Damaged(f"{path}, line 1: this is no export of a context")
    if line.get("format") != FORMAT:
        raise Damaged(
            f"{path}, line 1: it has format {line.get('format')}, and this version reads {FORMAT}: use the "
            f"one that has written it ({line.get('version')}), or a newer one"
        )
    wanted = {"context": int, "schema": int, "now": int, "exported_at": int, "version": str}
    values: dict[str, Any] = {name: line.get(name) for name in wanted}
    wrong = [name for name, kind in wanted.items() if type(values[name]) is not kind]
    if wrong or not 0 <= line["context"] < 2**32:
        raise Damaged(f"{path}, line 1: `{(wrong or ['context'])[0]}` is missing or wrong")
    return Header(**values)


def _are_texts(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(item, str) for item in items)


def _are_pairs(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_IS_RIGHT: Final[Mapping[str, Callable[[Any], bool]]] = {
    "hash": _are_pairs,
    "list": _are_texts,
    "set": _are_texts,
    "zset": lambda value: (
        isinstance(value, list)
        and all(
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) in (int, float)
            for pair in value
        )
    ),
    "stream": lambda value: (
        isinstance(value, list)
        and all(_are_texts(entry) and len(entry) >= 3 and len(entry) % 2 == 1 for entry in value)
    ),
    "string": lambda value: isinstance(value, str),
}


def _check(path: Path, number: int, line: Mapping[str, Any]) -> None:
    """Raises Damaged unless the line is about an actor or a key."""
    kinds = [kind for kind in KINDS if kind in line]
    about = "actor" if "actor" in line else "key"
    is_named = type(line.get("actor")) is int if about == "actor" else isinstance(line.get("key"), str) and line["key"]
    if not is_named or len(kinds) != 1 or not _IS_RIGHT[kinds[0]](line[kinds[0]]):
        raise Damaged(f"{path}, line {number}: it says neither what an actor is nor what a key holds")
    if about == "key" and (
        line["key"].startswith(FLEETING) or (line["key"] == "engine" and OF_ENGINE & line.get("hash", {}).keys())
    ):
        raise Damaged(f"{path}, line {number}: `{line['key']}` is no key of an export")
