"""Files that are given to us, and those of them that nobody else may read: keys and tokens."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["Unusable", "read_file", "read_secret", "write_secret"]

MAX_BYTES: Final = 16 * 1024


class Unusable(ValueError):
    """A file holds no key, or not safely; the text says which and what to do."""


def read_file(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """The first bytes of a file, so many at most, and its state as it was opened. Raises OSError.

    It never waits: whatever may come from a pipe, a device or a socket is refused, for nobody knows when it comes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else a pipe that nobody writes to waits
    try:
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
    except BaseException:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        return file.read(most), state


def others_may(state: os.stat_result) -> bool:
    """Whether somebody else may read or change a file.

    A file of root's that our own group may only read is given to us: where a secret is mounted for a user other than
    root, it looks like this, and nobody but root can change it.
    """
    is_given_to_us = (
        state.st_uid == 0 != os.geteuid()
        and state.st_gid in {os.getegid(), *os.getgroups()}
        and not state.st_mode & 0o037
    )
    return bool(state.st_mode & 0o077) and not is_given_to_us


def read_secret(path: Path, what: str) -> bytes:
    """What a file holds that nobody else may read. Raises Unusable."""
    try:
        content, state = read_file(path, MAX_BYTES)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unusable(f"cannot read the {what} in {path}: {reason}") from None
    if others_may(state):
        raise Unusable(f"others can read the {what} in {path}: chmod 600 {path}")
    return content


def write_secret(path: Path, data: bytes) -> None:
    """Make a file that nobody else can read. Raises OSError; FileExistsError if there is anything of that name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
