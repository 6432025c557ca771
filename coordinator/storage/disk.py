"""Room on the disk for what the embedded Valkey is about to append, set aside before it is needed.

Valkey answers a write even if the disk had no room for it, unless it also calls fsync each time, and then it exits
instead. So blocks are set aside behind the end of its append-only file, which does not change the file's size, and
writes are refused as soon as few of them remain: what is acknowledged has its place, and Valkey lives on for reading.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

__all__ = ["NO_SPACE", "AppendOnlyRoom", "DirectoryGone", "free_bytes", "low_water"]

LEAST_LOW: Final = 256 * 1024  # bytes: below the low water nothing may be written any more
MOST_LOW: Final = 8 * 1024 * 1024
LOW_SHARE: Final = 16  # of a small file system, one part in so many is the low water
AHEAD: Final = 8  # times the low water is set aside

NO_SPACE: Final = "no space left on device"

_KEEP_SIZE: Final = 1  # FALLOC_FL_KEEP_SIZE
_IS_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryGone(Exception):
    """The data directory, or the append-only file in it, is not the one Valkey writes to any more."""


def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """The C library's, where there is one."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

    def allocate(descriptor: int, mode: int, begin: int, length: int) -> int:
        return 0 if function(descriptor, mode, begin, length) == 0 else ctypes.get_errno()

    return allocate


_allocate: Final = _fallocate()


def free_bytes(directory: Path) -> int:
    """What its file system has left for us. Raises OSError."""
    found = os.statvfs(directory)
    return found.f_frsize * (found.f_bfree if os.geteuid() == 0 else found.f_bavail)


def low_water(directory: Path) -> int:
    """With fewer bytes than these in front of it Valkey may take no writes. Raises OSError."""
    found = os.statvfs(directory)
    return max(LEAST_LOW, min(MOST_LOW, found.f_frsize * found.f_blocks // LOW_SHARE))


def _file_size_limit() -> int:
    """`ulimit -f`, in bytes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


class AppendOnlyRoom:
    """The room behind the end of the append-only file that is being written.

    Args:
        directory: the data directory.
        lock: an open file of it, by which it is known again.
    """

    def __init__(self, directory: Path, lock: IO[str]) -> None:
        self._directory = directory
        self._lock = lock
        self._manifest = directory / "appendonlydir" / "appendonly.aof.manifest"
        self._manifest_seen: tuple[int, int] | None = None  # inode and time of the one that was read
        self._path: Path | None = None  # the file
        self._generation = 0  # the number in its name
        self._descriptor: int | None = None
        self._until = 0  # an offset: up to there blocks are set aside
        self._is_full = False
        self._low = LEAST_LOW
        self._can_allocate = _allocate is not None

    def needs_care(self) -> bool:
        """Whether `care` should be called now. Takes microseconds: it looks at the size of an open file."""
        return self._is_full or self.is_tight or self._has_moved()

    @property
    def is_tight(self) -> bool:
        """Whether less is set aside than a fast client may fill before we look again."""
        return self._descriptor is None or self._ahead() < self._wanted // 2

    @property
    def is_short(self) -> bool:
        """Whether so little room remains that nothing may be written any more."""
        return self._descriptor is None or self._ahead() < self._low

    def care(self) -> bool:
        """Look at the directory, and set room aside. Returns whether there is enough to write. May block.

        Raises:
            DirectoryGone: the text says what is gone.
            OSError: of the system; no descriptors, for example.
        """
        self.look_for_directory()
        if self._descriptor is None or self._has_moved():
            self._open()
        self._low = low_water(self._directory)
        ahead = self._ahead()
        if ahead < self._wanted:
            self._set_aside()
            ahead = self._ahead()
        # Once it was too little, twice as much is needed: else the next few writes would end it again.
        self._is_full = ahead < (2 * self._low if self._is_full else self._low)
        return not self._is_full

    def look_for_directory(self) -> None:
        """Raises DirectoryGone."""
        ours = os.fstat(self._lock.fileno())
        try:
            found = os.stat(self._lock.name)
        except FileNotFoundError:
            raise DirectoryGone(f"the data directory {self._directory} is gone") from None
        if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
            raise DirectoryGone(f"the data directory {self._directory} is another one now")

    def close(self) -> None:
        """Valkey has ended: give back what is set aside."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size)
        self.forget()

    def forget(self) -> None:
        """Look for the file anew: another Valkey writes it now, or none."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._path, self._manifest_seen, self._until = None, None, None, 0

    @property
    def _wanted(self) -> int:
        return AHEAD * self._low

    def _ahead(self) -> int:
        """Bytes that may be appended for certain."""
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        room = self._until - size
        if not self._can_allocate:  # the best that can be known: what is free now
            try:
                room = free_bytes(self._directory)
            except OSError:
                room = 0
        return min(room, _file_size_limit() - size)

    def _has_moved(self) -> bool:
        """Whether the manifest or the file is not the one that was read: Valkey writes another file, or the directory
        is gone, or something else was put in its place."""
        if self._path is None or self._descriptor is None:
            return True
        try:
            found, file = os.stat(self._manifest), os.stat(self._path)
        except OSError:
            return True
        is_same = os.path.samestat(file, os.fstat(self._descriptor))
        return (found.st_ino, found.st_mtime_ns) != self._manifest_seen or not is_same

    def _open(self) -> None:
        """Find the file that is being written: the last one of the manifest."""
        try:
            found = os.stat(self._manifest)
            lines = self._manifest.read_text(encoding="utf-8").splitlines()
            _, name, _, number, *_ = [line.split() for line in lines if line.endswith(" type i")][-1]
            path, generation = self._manifest.parent / name, int(number)
            if self._descriptor is not None and generation <= self._generation:  # Valkey's own next one is a later one
                if not os.path.samestat(os.stat(path), os.fstat(self._descriptor)):
                    raise DirectoryGone(
                        f"the append-only file in {self._directory} was replaced; start the coordinator again to go "
                        "on with what is there now, or put back what was there"
                    )
                self._manifest_seen = found.st_ino, found.st_mtime_ns
                return
            descriptor = os.open(path, os.O_WRONLY)
        except (FileNotFoundError, IndexError, ValueError):
            raise DirectoryGone(f"the append-only file in {self._directory} is gone") from None
        if self._path is not None and path != self._path:
            self.close()  # nobody appends to it any more
        self.forget()
        self._descriptor, self._path, self._generation = descriptor, path, generation
        self._manifest_seen = found.st_ino, found.st_mtime_ns
        self._until = os.fstat(descriptor).st_size

    def _set_aside(self) -> None:
        """As much as is wanted, or half of it, a quarter, … as the disk has it."""
        assert self._descriptor is not None
        size, length = os.fstat(self._descriptor).st_size, self._wanted
        while self._can_allocate and size + length > self._until and length >= LEAST_LOW:
            assert _allocate is not None
            fault = _allocate(self._descriptor, _KEEP_SIZE, size, length)
            if fault == 0:
                self._until = size + length
            elif fault in _IS_FULL:
                length //= 2
            elif fault != errno.EINTR:
                self._can_allocate = False  # a file system that does not know how
