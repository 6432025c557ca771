"""The file of a log: whole lines are appended to it, by several processes at once, and nobody else reads it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from coordinator.storage.private import NotPrivate, open_private

__all__ = ["LogFile"]

STANDARD_ERROR: Final = Path("-")
PIECE: Final = 1024 * 1024  # bytes written at once
PIPED: Final = 4096  # to a pipe or a terminal, which others write to as well and which takes so many in one piece
LOCK_TIMEOUT: Final = 0.5  # seconds; what holds a lock for longer is none of ours
LOCK_EVERY: Final = 0.005


class LogFile:
    """Used in one thread at a time. It is opened when something is to be written, and again when its path leads to
    another file or to none, as it does once it was rotated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[Any] | None = None
        self._is_torn = False  # the last line is a part of one

    def check(self) -> None:
        """Open it as for writing. Raises OSError, NotPrivate."""
        self._descriptor()

    def append(self, lines: bytes) -> tuple[int, str | None]:
        """Append lines. Returns how many bytes were, which are whole lines, and why the others were not."""
        done = 0
        try:
            descriptor = self._descriptor()
            is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            with _locked(descriptor) if is_regular else contextlib.nullcontext(False) as is_locked:
                for piece in _pieces(lines, PIECE if is_regular else PIPED):
                    self._mend(descriptor)
                    written = os.write(descriptor, piece)
                    if written < len(piece):
                        whole = piece.rfind(b"\n", 0, written) + 1
                        is_mended = whole == written or (is_locked and _taken_back(descriptor, written - whole))
                        self._is_torn = not is_mended
                        return done + whole, os.strerror(errno.ENOSPC)
                    done += written
        except OSError as error:
            return done, error.strerror or str(error)
        except NotPrivate as error:
            return done, str(error)
        return done, None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _mend(self, descriptor: int) -> None:
        """End a line of which only a part could be written, so that it spoils no other."""
        if self._is_torn:
            os.write(descriptor, b"\n")
            self._is_torn = False

    def _descriptor(self) -> int:
        if self.path == STANDARD_ERROR:
            return 2
        if self._file is not None and not self._is_in_place(self._file.fileno()):
            self.close()
            self._is_torn = False
        if self._file is None:
            self._file = open_private(self.path, "ab")
        return self._file.fileno()

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            there = os.lstat(self.path)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[bool]:
    """While this lasts, no other worker appends: what a full disk has let through of a line can be taken back."""
    until = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                yield False
                return
            time.sleep(LOCK_EVERY)
        except OSError:  # this file system has no locks
            yield False
            return
    try:
        yield True
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _taken_back(descriptor: int, size: int) -> bool:
    """Whether the last bytes that were written could be cut off again."""
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    if os.fstat(descriptor).st_size != end:
        return False
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, end - size)
        return True
    return False


def _pieces(lines: bytes, limit: int) -> Iterator[bytes]:
    """The lines, as many together as are within the limit."""
    at = 0
    while len(lines) - at > limit:
        end = lines.rfind(b"\n", at, at + limit) + 1 or lines.find(b"\n", at) + 1
        yield lines[at:end]
        at = end
    yield lines[at:]
