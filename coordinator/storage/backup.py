"""Copies of an embedded store's files, made while it runs, and put back.

A copy is the store at one moment: the files that the manifest names are opened, and if it names the same ones
afterwards, what they held then is the base and all that was appended to it. A rewrite may remove them meanwhile; what
is open stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from coordinator.storage import aof

__all__ = ["Backup", "CannotBackUp", "CannotRestore", "back_up", "put_back"]

ABOUT: Final = "backup.json"
FORMAT: Final = 1
TRIES: Final = 100  # a rewrite may end between any two of them, and takes longer than one
PAUSE: Final = 0.05  # seconds
CHUNK: Final = 1024 * 1024  # bytes


class CannotBackUp(Exception):
    """The text says why."""


class CannotRestore(Exception):
    """The text says why."""


@dataclass(frozen=True, slots=True)
class Backup:
    """Attributes:
    made_at: Unix time.
    version: of the coordinator that has made it.
    size: bytes of all files.
    """

    made_at: int
    version: str
    size: int


def back_up(data_dir: Path, target: Path, version: str) -> Backup:
    """Copy the files of a data directory, whether a Valkey appends to them or not, to a directory that is made.

    Raises:
        CannotBackUp, OSError: then there is nothing at `target`.
    """
    if target.exists():
        raise CannotBackUp(f"{target} is there already; name one that is not")
    directory = aof.directory_of(data_dir)
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    try:
        unfinished.mkdir(mode=0o700, parents=True)
        with ExitStack() as opened:
            files = _opened(directory, opened)
            for name, source, size in files:
                with _new(unfinished / name) as copy:
                    _copy(source, copy, size)
                if not name.endswith(".rdb"):
                    _cut(unfinished / name, is_last=name == files[-1][0])
        aof.write_manifest(unfinished, [name for name, _, _ in files])
        made = Backup(int(time.time()), version, sum((unfinished / name).stat().st_size for name, _, _ in files))
        about = {
            "format": FORMAT,
            "made_at": made.made_at,
            "herocoordinator": made.version,
            "files": [
                {"name": name, "size": (unfinished / name).stat().st_size, "sha256": _digest(unfinished / name)}
                for name in (*(name for name, _, _ in files), aof.MANIFEST)
            ],
        }
        with _new(unfinished / ABOUT) as file_of_it:
            file_of_it.write(json.dumps(about, indent=2).encode())
            _flush(file_of_it)
        _flush_directory(unfinished)
        unfinished.rename(target)
        _flush_directory(target.absolute().parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return made


def put_back(backup: Path, data_dir: Path) -> Backup:
    """Copy a backup to a data directory that is empty or not there, and see that it is what was copied.

    Raises:
        CannotRestore, OSError: then the data directory is as it was.
    """
    made, names = _about(backup)
    was_there = data_dir.exists()
    if was_there and any(data_dir.iterdir()):
        raise CannotRestore(f"{data_dir} is not empty: name a data directory that is, or that is not there")
    directory = aof.directory_of(data_dir)
    try:
        directory.mkdir(parents=True, mode=0o700)
        data_dir.chmod(0o700)
        for name, size, digest in names:
            with (backup / name).open("rb") as source, _new(directory / name) as copy:
                _copy(source, copy, size)
            if (backup / name).stat().st_size != size or _digest(directory / name) != digest:
                raise CannotRestore(f"{backup / name} is not what was backed up: it has been changed or damaged")
        fault = aof.fault_before_start(data_dir)
        if fault is not None:
            raise CannotRestore(fault)
        _flush_directory(directory)
        _flush_directory(data_dir)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        if not was_there:
            shutil.rmtree(data_dir, ignore_errors=True)
        raise
    return made


def _opened(directory: Path, stack: ExitStack) -> list[tuple[str, IO[bytes], int]]:
    """The files that hold the data at one moment: name, file, and how much of it. Raises CannotBackUp, OSError."""
    for _ in range(TRIES):
        with ExitStack() as attempt, contextlib.suppress(FileNotFoundError):
            manifest = (directory / aof.MANIFEST).read_bytes()
            names = aof.listed_files(directory)
            files = [attempt.enter_context((directory / name).open("rb")) for name in names]
            sizes = [os.fstat(file.fileno()).st_size for file in files]
            if names and (directory / aof.MANIFEST).read_bytes() == manifest:
                stack.push(attempt.pop_all())
                return [*zip(names, files, sizes, strict=True)]
        if not (directory / aof.MANIFEST).exists():
            raise CannotBackUp(f"there is nothing to back up: {directory / aof.MANIFEST} is not there")
        time.sleep(PAUSE)
    raise CannotBackUp(
        f"the files that {directory / aof.MANIFEST} names are not all there; see what can be saved with: "
        f"herocoordinator repair --data-dir {directory.parent}"
    )


def _cut(path: Path, *, is_last: bool) -> None:
    """Cut off what was being written when it was copied, which nobody was told to be there."""
    tail = aof.tail_of(path)
    if tail.lost and not is_last:
        raise CannotBackUp(
            f"{path.name} is damaged at byte {tail.end}; see what can be saved with: herocoordinator repair"
        )
    if tail.lost:
        os.truncate(path, tail.end)


def _about(backup: Path) -> tuple[Backup, Iterator[tuple[str, int, str]]]:
    try:
        told: Any = json.loads((backup / ABOUT).read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise CannotRestore(f"{backup} has format {told['format']}; this coordinator knows {FORMAT}")
        files = [(str(file["name"]), int(file["size"]), str(file["sha256"])) for file in told["files"]]
        made = Backup(int(told["made_at"]), str(told["herocoordinator"]), sum(size for _, size, _ in files))
    except FileNotFoundError:
        raise CannotRestore(f"{backup} is no backup: there is no {ABOUT} in it") from None
    except (ValueError, KeyError, TypeError):
        raise CannotRestore(f"{backup / ABOUT} is not what was backed up: it has been changed or damaged") from None
    if any(Path(name).name != name or name in ("", ".", "..") for name, _, _ in files):
        raise CannotRestore(f"{backup / ABOUT} names files that are not in it")
    return made, iter(files)


def _new(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b")


def _copy(source: IO[bytes], copy: IO[bytes], size: int) -> None:
    remaining = size
    while remaining and (data := source.read(min(CHUNK, remaining))):
        copy.write(data)
        remaining -= len(data)
    _flush(copy)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
