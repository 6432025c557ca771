"""Processes: what ours may use, how children learn that we are gone, and how we wait for them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import trio

__all__ = [
    "OUT_OF_DESCRIPTORS",
    "MemoryReturner",
    "collect_garbage_less_often",
    "die_with_parent",
    "exit_status",
    "file_limit",
    "hide_process",
    "hide_secret_variables",
    "memory_limit",
    "open_files",
    "raise_file_limit",
    "share_the_interpreter_fairly",
]

OUT_OF_DESCRIPTORS: Final = {errno.EMFILE, errno.ENFILE}

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_IS_SECRET: Final = re.compile(
    rb"^HEROCOORDINATOR_(?:\w*KEY|\w*TOKEN|REDIS_URL)$|^(?:REDIS|VALKEY)_URL$|_TOKEN$|_SECRET$|_KEY$|PASSWORD"
)
_POLL_EVERY: Final = 0.05  # seconds between looks whether a process has ended, where nothing tells us


def raise_file_limit() -> int:
    """A connection is a file descriptor: set the limit of open files to the most we may have, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "infinity" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return file_limit()


def file_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def open_files() -> int:
    """How many of the descriptors the limit counts are in use now; the standard streams where nothing can tell."""
    limit = file_limit()
    try:
        used = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return 3
    return sum(number < limit for number in used) - 1  # one is the directory's


def collect_garbage_less_often() -> None:
    """A 1 MiB body of `[[],[],…` takes 24 ms to parse like this and 110 with Python's own thresholds. Everybody waits
    for a collection: of 25,000 new objects that stay, those of two hundred clients that connect, it takes 12 ms. Below
    that, at 10,000, collections take 3 % of our time for a flow's jobs."""
    gc.freeze()
    gc.set_threshold(25_000, 40, 100)


def share_the_interpreter_fairly() -> None:
    """A worker thread that computes keeps the event loop waiting five times as long by default, at each of its system
    calls."""
    sys.setswitchinterval(0.001)


def memory_limit() -> int:
    """Bytes of memory this process and its children may use: the machine's, or what its control groups allow. 0 where
    the system does not say."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if "SC_PHYS_PAGES" in os.sysconf_names else []
    for path in _memory_limits():
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return min((limit for limit in limits if limit > 0), default=0)


def _memory_limits() -> Iterator[Path]:
    """Files that may hold a limit of ours: of each control group we are in, and of those around it. See cgroups(7)."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            root, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        inner = root / group.strip("/")
        yield from (place / name for place in (inner, *inner.parents) if place.is_relative_to(root))


def hide_process() -> None:
    """Keep our memory and descriptors from other processes of this user. Root sees them all the same. Linux only;
    elsewhere nothing."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def hide_secret_variables() -> None:
    """Blank the variables with secrets that we were started with where the system shows them to others of this user and
    to root. `os.environ` keeps them. Linux only; elsewhere nothing."""
    if not sys.platform.startswith("linux"):
        return
    variables = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    at = 0
    while variables and (address := variables[at]) is not None:
        name, _, value = ctypes.string_at(address).partition(b"=")
        if _IS_SECRET.search(name):
            ctypes.memset(address + len(name) + 1, ord("*"), len(value))
        at += 1


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """For the child, between fork and exec: the kernel sends it this signal when we die. Linux only; elsewhere None.

    "We" is the *thread* that forked, so start the child from one that lives as long as the process.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # looked up before the fork: nothing may be loaded after it
    parent = os.getpid()

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # we died before the call
            os._exit(1)

    return set_signal


class MemoryReturner:
    """Gives memory that was used for large replies back to the operating system, which glibc does not by itself.

    It keeps what was freed in the middle of its heap; `malloc_trim` returns whole pages of that (malloc_trim(3)). Where
    there is no such function nothing is done.
    """

    GROWTH: Final = 16 * 1024 * 1024  # bytes of resident memory beyond the least there was that are worth a try
    MOST_PAUSE: Final = 4  # looks

    def __init__(self) -> None:
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._least = _resident_bytes()
        self._pause = 1  # looks from one try to the next: more after each that returned little, for it was in use
        self._looks = 0

    def look(self) -> None:
        """Return what is free if the process is larger than it was, which takes some milliseconds."""
        resident = _resident_bytes()
        self._looks += 1
        if self._trim is None or resident < self._least + self.GROWTH:
            self._pause = 1
            return
        if self._looks < self._pause:
            return
        self._looks = 0
        self._trim(0)
        remaining = _resident_bytes()
        self._least = min(self._least, remaining)
        self._pause = 1 if resident - remaining > self.GROWTH // 2 else min(2 * self._pause, self.MOST_PAUSE)


def _resident_bytes() -> int:
    """The memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


async def exit_status(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process, cancellably. Returns its status, or minus the number of the signal that ended it."""
    while process.poll() is None:
        with _exit_descriptor(process) as descriptor:
            if descriptor is None:
                await trio.sleep(_POLL_EVERY)
            else:
                await trio.lowlevel.wait_readable(descriptor)
    return process.returncode


@contextlib.contextmanager
def _exit_descriptor(process: subprocess.Popen[bytes]) -> Iterator[int | None]:
    """A descriptor that turns readable when the process ends, where the system has such a thing and lets us have it.

    It may not: we have no descriptors left, or a sandbox forbids the call.
    """
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
