"""The first process of an attempt's sandbox: starts the script there, watches the limits, and says how it ended.

    guard ──fork, exec──► bwrap ──► this, process 1 in there ──fork, exec──► script ──► whatever that starts

It is run by path as a plain script, so it must not import anything but the standard library, and of that only what is
loaded in a few milliseconds, for each attempt waits for it. When it exits, the kernel
kills whatever is still in the sandbox. Of the runner it has two descriptors, which the script does not get: one for its
report (HAS_BEGUN and REPORT), one for the file that the runner reads the result from.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import select
import signal
import stat
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn, TypedDict

    class Inside(TypedDict):
        """What the first process in a sandbox is to run, and within which limits.

        `copy` is a file of the attempt that is put into the working directory, or "". `hard_processes` is where the
        kernel gives no more, 0 if it cannot count them for this attempt alone.
        """

        argv: list[str]
        env: dict[str, str]
        copy: str
        processes: int
        hard_processes: int
        disk: int
        file: int


__all__ = [
    "DISK",
    "FILE",
    "HAS_BEGUN",
    "HOME",
    "JOB",
    "NO_RESULT_FILE",
    "PROCESSES",
    "REPORT",
    "RESULT",
    "RESULT_CLOSED",
    "TEMPORARY",
    "WORK",
    "WRITABLE",
]

HAS_BEGUN: Final = b"!"
"""Said before the script runs: from then on, the sandbox may end without a report by its doing."""
REPORT: Final = struct.Struct(">IIB")
"""The script's wait status, the errno with which it could not be run or 0, and what was found, of these:"""
PROCESSES: Final = 1  # it had more of them than it may
DISK: Final = 2  # that was full when it ended, or had more files than it may
FILE: Final = 4  # one was as large as it may be
NO_RESULT_FILE: Final = 8  # HERO_RESULT is no file any more
RESULT_CLOSED: Final = 16  # we may not read it, or not pass it on

JOB: Final = "/job"
"""The attempt's files, which the script may only read."""
WRITABLE: Final = "/tmp"
"""The one bounded file system that it may write to."""
WORK: Final = f"{WRITABLE}/work"
TEMPORARY: Final = f"{WRITABLE}/tmp"
HOME: Final = f"{WRITABLE}/home"
RESULT: Final = f"{WRITABLE}/result"

_LOOK_EVERY: Final = 0.25  # seconds
_INODES_A_MEBIBYTE: Final = 256  # files of 4 KiB fill the disk just then
_FEWEST_INODES: Final = 1024
_FILES_LOOKED_AT: Final = 10_000
_COPIED_BYTES: Final = 128 * 1024  # of the result, which the runner refuses far below
_CANNOT_RUN: Final = 127
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_ERRNO: Final = struct.Struct(">I")


def _main(owner: int, report: int, result: int) -> NoReturn:
    """Run the script as the user `owner`, or if that is -1 as the one we are."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of what the script can send us, only this would end us
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:  # noqa: SIM105 - contextlib takes long to load
            os.set_inheritable(descriptor, descriptor <= 2)
        except OSError:
            pass  # it was that of the directory
    if owner >= 0:
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
    with open(f"{JOB}/inside", "rb") as file:
        inside: Inside = marshal.load(file)
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # the script neither traces us nor takes our descriptors
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # changing the user has cleared it
    for directory in (WORK, TEMPORARY, HOME):
        os.mkdir(directory, 0o700)
    os.close(os.open(RESULT, os.O_WRONLY | os.O_CREAT, 0o600))
    if inside["copy"]:
        with open(f"{JOB}/{inside['copy']}", "rb") as source, open(f"{WORK}/{inside['copy']}", "wb") as target:
            target.write(source.read())
    woken, wakeup = os.pipe()
    for descriptor in (woken, wakeup):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    failed, failure = os.pipe()
    script = os.fork()
    if script == 0:
        _become(inside, report, failure)
    for descriptor in (0, 1, 2, failure):
        os.close(descriptor)
    status, found = _watch(inside, script, report, woken)
    failed_with = os.read(failed, _ERRNO.size)
    try:
        found |= _copy_result(result)
    except OSError as error:
        found |= NO_RESULT_FILE if error.errno in {errno.ELOOP, errno.ENXIO} else RESULT_CLOSED
    os.write(report, REPORT.pack(status, _ERRNO.unpack(failed_with)[0] if failed_with else 0, found))
    os._exit(0)


def _become(inside: Inside, report: int, failure: int) -> NoReturn:
    """Turn this process into the script; what prevents that is said on its stderr, the errno to `failure`."""
    command = inside["argv"][0]
    try:
        os.write(report, HAS_BEGUN)
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(WORK)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _limit(resource.RLIMIT_FSIZE, inside["file"])
        if inside["hard_processes"]:
            _limit(resource.RLIMIT_NPROC, inside["hard_processes"])
        os.execve(command, inside["argv"], inside["env"])
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        os.write(failure, _ERRNO.pack(getattr(error, "errno", None) or 0))
        os.write(2, f"herocoordinator runner: cannot run {command}: {why}\n".encode(errors="replace"))
    finally:
        os._exit(_CANNOT_RUN)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _watch(inside: Inside, script: int, report: int, woken: int) -> tuple[int, int]:
    """The script's wait status, and what was found. It is killed where nothing else enforces a limit."""
    found = 0
    looks_at = time.monotonic() + _LOOK_EVERY
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(report, 0)  # an error there means that the guard is gone
    while True:
        for descriptor, _ in poll.poll(max(0.0, looks_at - time.monotonic()) * 1000):
            if descriptor == report:
                os._exit(1)
            os.read(woken, 4096)
        status = _reap(script)
        if status is not None or time.monotonic() >= looks_at:
            if _processes() > inside["processes"]:
                found |= PROCESSES
            if _has_too_many_files(inside):
                found |= DISK
        if status is not None:
            if os.statvfs(WRITABLE).f_bavail == 0:
                found |= DISK
            if status != 0 and _has_full_file(inside["file"]):
                found |= FILE
            return status, found
        if time.monotonic() >= looks_at:
            if found:
                os.kill(script, signal.SIGKILL)
            looks_at = time.monotonic() + _LOOK_EVERY


def _reap(script: int) -> int | None:
    """Take leave of all who have ended; the script's wait status if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == script:
            return status


def _processes() -> int:
    """How many processes and threads there are, beside this one."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            try:  # noqa: SIM105 - as above
                count += max(1, os.stat(f"/proc/{name}/task").st_nlink - 2)
            except OSError:
                pass  # it has just ended
    return count


def _has_too_many_files(inside: Inside) -> bool:
    """Each takes memory of the kernel's, also if it is empty."""
    most = max(_FEWEST_INODES, inside["disk"] // 1024 // 1024 * _INODES_A_MEBIBYTE)
    states = [os.statvfs(place) for place in (WRITABLE, "/dev/shm")]
    return sum(state.f_files - state.f_ffree for state in states) > most


def _has_full_file(size: int) -> bool:
    """Whether a file is as large as a file may be, so that more of it was refused. What of the machine is shown there
    is on other file systems."""
    directories, own = [WRITABLE], os.stat(WRITABLE).st_dev
    seen = 0
    while directories and seen < _FILES_LOOKED_AT:
        try:
            with os.scandir(directories.pop()) as entries:
                for entry in entries:
                    seen += 1
                    state = entry.stat(follow_symlinks=False)
                    if state.st_dev != own:
                        continue
                    if stat.S_ISDIR(state.st_mode):
                        directories.append(entry.path)
                    elif state.st_size >= size:
                        return True
        except OSError:
            pass  # it cannot be read, or somebody is about to remove it
    return False


def _copy_result(target: int) -> int:
    """Give the runner what is in HERO_RESULT, as far as it reads it, in a file as long as that one. Raises OSError."""
    try:
        source = os.open(RESULT, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    state = os.fstat(source)
    if not stat.S_ISREG(state.st_mode):
        return NO_RESULT_FILE
    remaining = _COPIED_BYTES
    while remaining and (data := os.read(source, min(65536, remaining))):
        os.write(target, data)
        remaining -= len(data)
    os.ftruncate(target, state.st_size)
    return 0


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
