"""Files that are ours alone: a directory that others could read is closed to them, and a link is never followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import structlog

__all__ = ["NotPrivate", "close_to_others", "open_private", "open_to_others"]

log = structlog.get_logger("coordinator")

_DIRECTORY: Final = 0o700
_FILE: Final = 0o600
_OTHERS: Final = 0o077
_NAMES: Final = ("appendonlydir", "appendonlydir-", "lock", "valkey.", "tls", "operator", "token")
"""What the names of our things in a data directory begin with."""
_OF_THE_DISK: Final = "lost+found"  # where the directory is a whole file system


class NotPrivate(Exception):
    """Others can get at it, and that cannot be mended; the text says why, and the way out."""


def open_private(path: Path, mode: str) -> IO[Any]:
    """Open a file of ours to append to it; a new one is for us alone.

    Raises:
        OSError: it cannot be opened.
        NotPrivate: a link is in its place.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, _FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPrivate(f"{path} is a link, which is not followed; remove it") from None
        raise
    return open(descriptor, mode)


def close_to_others(directory: Path) -> None:
    """Take from other users what they may do with a data directory and the files in it, and log it if they could.

    Raises:
        OSError: it cannot be read or changed.
        NotPrivate: it is somebody else's, holds something else, or has a link in the place of a file.
    """
    state = directory.stat()
    if state.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise NotPrivate(f"{directory} belongs to another user; choose one of your own, as a new one in it")
    entries = sorted(os.listdir(directory))
    if state.st_mode & _OTHERS:
        foreign = [name for name in entries if not name.startswith(_NAMES) and name != _OF_THE_DISK]
        if foreign or state.st_mode & stat.S_ISVTX:
            what = f"holds other things, as {foreign[0]}" if foreign else "is meant for several users"
            raise NotPrivate(
                f"{directory} can be read by others, and {what}; choose one of its own, or: chmod 700 {directory}"
            )
    if _mend(directory, _DIRECTORY, is_link_meant=True):
        log.warning("other users could get at the data directory; now they cannot", data=str(directory))
    for name in entries:
        if name.startswith(_NAMES):
            _mend_tree(directory / name)


def open_to_others(directory: Path) -> list[Path]:
    """What `close_to_others` would close: the directory and the files of ours in it that others can get at.

    Raises OSError: it cannot be read.
    """
    found = [directory] if directory.stat().st_mode & _OTHERS else []
    for name in sorted(os.listdir(directory)):
        if name.startswith(_NAMES) and name != "valkey.sock":
            found += _open_in(directory / name)
    return found


def _open_in(path: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):  # a rewrite has just removed it
        state = os.lstat(path)
        if not stat.S_ISLNK(state.st_mode):
            if state.st_mode & _OTHERS and not stat.S_ISSOCK(state.st_mode):
                yield path
            if stat.S_ISDIR(state.st_mode):
                for name in sorted(os.listdir(path)):
                    yield from _open_in(path / name)


def _mend_tree(path: Path) -> None:
    state = os.lstat(path)
    if stat.S_ISLNK(state.st_mode):
        if path.name == "valkey.sock":  # it says where the socket is, see EmbeddedValkey
            return
        if path.is_dir():  # on another disk, perhaps
            _mend(path, _DIRECTORY, is_link_meant=True)
            return
        raise NotPrivate(f"{path} is a link, which is not followed; move the file there")
    if stat.S_ISREG(state.st_mode):
        _mend(path, _FILE)
    elif stat.S_ISDIR(state.st_mode):
        _mend(path, _DIRECTORY)
        for name in os.listdir(path):
            _mend_tree(path / name)


def _mend(path: Path, mode: int, *, is_link_meant: bool = False) -> bool:
    """Give it this mode if others may do more, and tell if it was so. A link that somebody has put in its place
    meanwhile is not followed."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if is_link_meant else os.O_NOFOLLOW)
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, flags)
        try:
            if not os.fstat(descriptor).st_mode & _OTHERS:
                return False
            os.fchmod(descriptor, mode)
            return True
        except PermissionError:
            raise NotPrivate(
                f"{path} can be read by others, and is not yours to change: have its owner say chmod go= {path}, or "
                "choose a new directory in it"
            ) from None
        finally:
            os.close(descriptor)
    return False
