"""The files an embedded Valkey keeps its data in: what is there, whether it is whole, and how it is repaired.

A manifest names a base, which a rewrite has made, and files of commands that were appended since.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

__all__ = [
    "MANIFEST",
    "CannotRepair",
    "Tail",
    "directory_of",
    "fault_before_start",
    "flush",
    "last_appended",
    "listed_files",
    "repair",
    "tail_of",
    "write_manifest",
]

MANIFEST: Final = "appendonly.aof.manifest"
MOST_ARGUMENTS: Final = 2_000_000
MOST_BYTES: Final = 1024 * 1024 * 1024  # of one argument
SHOWN: Final = 60  # characters of a command that is lost
LOG_TAIL: Final = 4 * 1024 * 1024
_FILE: Final = re.compile(r"appendonly\.aof\.(\d+)\.(base|incr)\.(rdb|aof)")
_HAS_SERVED: Final = b"eady to accept connections"


class CannotRepair(Exception):
    """There is nothing to repair, or not by us; the text says why."""


def directory_of(data_dir: Path) -> Path:
    return data_dir / "appendonlydir"


def fault_before_start(data_dir: Path) -> str | None:
    """Why Valkey must not be started: it would begin without the data that was there. None: it may be."""
    directory = directory_of(data_dir)
    found = _files(directory)
    if (directory / MANIFEST).exists():
        missing = [name for name in listed_files(directory) if not (directory / name).exists()]
        if missing:
            names = ", ".join(missing)
            return f"{directory} has no {names}, which its manifest names; put them back, or {_way_out(data_dir)}"
        return None
    if found:
        return (
            f"{directory} has {', '.join(found)} but no {MANIFEST}, without which Valkey would start empty; put it "
            f"back, or {_way_out(data_dir)}"
        )
    if _has_served(data_dir):
        return (
            f"{data_dir} was used before, but its append-only files are missing; put {directory.name} back, or to "
            "begin without data remove valkey.log as well, or choose another --data-dir"
        )
    return None


def _way_out(data_dir: Path) -> str:
    return f"see what can be saved with: herocoordinator repair --data-dir {data_dir}"


def _has_served(data_dir: Path) -> bool:
    try:
        with (data_dir / "valkey.log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL))
            return _HAS_SERVED in log.read()
    except OSError:
        return False


def _files(directory: Path) -> list[str]:
    """The data files that are there, in the order of their numbers, bases first."""
    try:
        matches = [match for name in os.listdir(directory) if (match := _FILE.fullmatch(name))]
    except OSError:
        return []
    return [match[0] for match in sorted(matches, key=lambda match: (match[2], int(match[1])))]


def listed_files(directory: Path) -> list[str]:
    """The files the manifest names, but for those of which a rewrite has no more need."""
    lines = (directory / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
    words = [line.split() for line in lines]
    return [line[1] for line in words if len(line) >= 6 and line[0] == "file" and line[5] in {"b", "i"}]


def last_appended(data_dir: Path) -> int | None:
    """The size of the file that is appended to; None if there is none."""
    try:
        return (directory_of(data_dir) / listed_files(directory_of(data_dir))[-1]).stat().st_size
    except (OSError, IndexError):
        return None


def flush(data_dir: Path) -> None:
    """fsync what Valkey has appended: an fsync covers the file's data, whichever process wrote it. Raises OSError."""
    for path in directory_of(data_dir).glob("*.incr.aof"):
        # A rewrite removes old files; what replaces them Valkey flushes itself.
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
            finally:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the complete commands of a file end.

    Attributes:
        end: the offset behind the last one.
        lost: bytes behind that.
        what: the beginning of what is there.
    """

    end: int
    lost: int
    what: str


def tail_of(path: Path) -> Tail:
    """Read a file of commands to where it is whole. A transaction that was not completed does not count."""
    size = path.stat().st_size
    end = 0
    before_transaction: int | None = None
    with path.open("rb") as file:
        for name in _commands(file):
            if name == b"MULTI":
                before_transaction = end if before_transaction is None else before_transaction
            elif name == b"EXEC":
                before_transaction = None
            end = file.tell()
        if before_transaction is not None:
            end = before_transaction
        file.seek(end)
        return Tail(end, size - end, _shown(file.read(4 * SHOWN)))


def _shown(data: bytes) -> str:
    if not data.strip(b"\0"):
        return "zeros" if data else ""
    words = [word for word in data.split(b"\r\n") if word and word[:1] not in b"*$"]
    return ascii(b" ".join(words).decode(errors="replace"))[:SHOWN]


def _commands(file: IO[bytes]) -> Iterator[bytes]:
    """The names of the complete commands. Ends at the first that is not complete."""
    while line := file.readline(64):
        if line.startswith(b"#") and line.endswith(b"\n"):
            yield b"#"  # a time stamp
            continue
        count = _number(line, b"*", MOST_ARGUMENTS)
        if not count:
            return
        name = b""
        for at in range(count):
            length = _number(file.readline(64), b"$", MOST_BYTES)
            if length is None:
                return
            argument = file.read(length + 2)
            if len(argument) < length + 2 or not argument.endswith(b"\r\n"):
                return
            if at == 0:
                name = argument[:-2].upper()
        yield name


def _number(line: bytes, mark: bytes, most: int) -> int | None:
    digits = line[1:-2]
    if line[:1] != mark or line[-2:] != b"\r\n" or not digits.isdigit() or len(digits) > 10:
        return None
    return number if (number := int(digits)) <= most else None


def repair(data_dir: Path) -> Iterator[str]:
    """Repair the files of a data directory nobody uses, after copying them. Yields what was done and what is lost.

    Raises:
        CannotRepair, OSError.
    """
    directory = directory_of(data_dir)
    found = _files(directory)
    if not found:
        raise CannotRepair(f"there are no append-only files in {directory}: there is nothing to repair")
    copy = directory.with_name(f"{directory.name}.before-repair-{time.strftime('%Y%m%d-%H%M%S')}")
    shutil.copytree(directory, copy)
    yield f"copied {directory} to {copy}"
    listed = listed_files(directory) if (directory / MANIFEST).exists() else []
    if not listed:
        base = [name for name in found if ".base." in name][-1:]
        listed = base + [name for name in found if ".incr." in name]
        yield f"made a new {MANIFEST}, of {', '.join(listed)}"
        if not base:
            yield "there is no base file: what a rewrite had put together before is lost"
    kept: list[str] = []
    for at, name in enumerate(listed):
        if not (directory / name).exists():
            yield f"{name} is missing: what it held is lost"
            continue
        kept.append(name)
        if name.endswith(".rdb"):
            continue
        tail = tail_of(directory / name)
        if tail.lost:
            os.truncate(directory / name, tail.end)
            yield f"cut {name} off behind its last complete command, at byte {tail.end}"
            yield f"lost: {tail.lost} bytes behind that, which begin with {tail.what}"
            for later in listed[at + 1 :]:
                yield f"lost: {later}, which was written after that"
            break
    write_manifest(directory, kept)


def write_manifest(directory: Path, names: list[str]) -> None:
    """Name these files, in this order, as those that hold the data. Raises CannotRepair, OSError."""
    lines = []
    for name in names:
        match = _FILE.fullmatch(name)
        if match is None:
            raise CannotRepair(f"the manifest names {name}, which is no file of Valkey's; the files are as they were")
        lines.append(f"file {name} seq {match[1]} type {match[2][0]}\n")
    new = directory / f"temp-{MANIFEST}"
    with new.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    new.replace(directory / MANIFEST)
