"""Starts a runner's scripts, and sees that nothing of a script outlives its attempt or the runner.

    runner ──socket──► warden ──fork──► guard, one an attempt ──fork, exec──► script ──► whatever that starts
       └───────────── a control socket an attempt ───┘

A process of its own because forking from it is cheap and safe (it is small and has one thread), never holds up the
runner's event loop, and lets somebody be there to clean up when the runner is killed. It is run by path as a plain
script, so it must not import anything but the standard library.

Protocol. The runner sends the warden one byte with three descriptors: the guard's end of a control socket, the
script's stdout and its stderr. On the control socket follow a length (4 bytes, big endian) and a `Spec` in JSON. The
guard says BEGUN before there is a process for the script: without that, nothing of it has run. From then on come orders
(see ORDER); the end of the stream has the guard kill everything. When the script has ended, or the guard has ended it,
the guard kills what it left behind, answers how it was (see ENDING) and exits. When the runner's end of the warden's
own socket closes, the warden waits for the guards, removes the directory it was given and exits.

A script in a sandbox (see isolate.py) is two processes further down, below bubblewrap and `inside.py`, which tells the
guard how the script has ended. The guard ends the script alone and lets its result be brought out before it ends the
sandbox.

The guard also ends a script by itself: when it and what it started have more memory than they may, and when the runner
does not say in time that they may go on, because it is cut off from the coordinator, or hangs.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import itertools
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NoReturn, NotRequired, TypedDict

__all__ = [
    "BEGUN",
    "CUT_OFF",
    "ENDING",
    "GO_ON",
    "LENGTH",
    "NO_PROCESS",
    "NO_SANDBOX",
    "ORDER",
    "OUT_OF_MEMORY",
    "PAUSE",
    "SANDBOX_ENDED",
    "TERMINATE",
    "Sandbox",
    "Spec",
    "remove_tree",
]

LENGTH: Final = struct.Struct(">I")

ORDER: Final = struct.Struct(">cQQ")
"""What to do, and two numbers (ms), which only GO_ON has."""
TERMINATE: Final = b"T"  # SIGTERM to the script's process group
GO_ON: Final = b"G"  # for so long, then SIGTERM, and so much later the end; also what was paused
PAUSE: Final = b"P"  # stop all of it where it is, for as long as it takes

BEGUN: Final = b"\xff"  # no status, with which an ENDING begins, is so large
ENDING: Final = struct.Struct(">IBIQB")
"""The script's wait status, who ended it, the errno with which it could not be run or 0, the memory (bytes) that it
and what it started had when the guard last looked, and what its sandbox found (see `inside.REPORT`)."""
BY_ITSELF: Final = 0  # or by the runner
OUT_OF_MEMORY: Final = 1
CUT_OFF: Final = 2  # there was no GO_ON in time
NO_SANDBOX: Final = 3  # there was none to be had, so it has not run
NO_PROCESS: Final = 4  # nor was there a process, or a descriptor; the errno says which
SANDBOX_ENDED: Final = 5  # before the script was known to have ended, which may be that script's doing

_DESCRIPTORS: Final = 3
_CANNOT_RUN: Final = 127  # the status shells use for it
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_LEFT_TO_THE_RUNNER: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PROC: Final = Path("/proc")
_MEMORY_RATE: Final = 16 * 1024**3  # bytes a second; no script gets memory faster
_SLOWEST_LOOK: Final = 0.5  # seconds between two looks at how much memory there is, at most
_FASTEST_LOOK: Final = 0.01  # and at least
_LOOK_SHARE: Final = 0.05  # of a processor's time, for all looks together
_NEVER: Final = float("inf")
_REPORT: Final = struct.Struct(">cIIB")  # inside.HAS_BEGUN and inside.REPORT
_REPORT_TO, _RESULT_TO, _SECCOMP = 50, 51, 52  # descriptors with which the sandbox is started
_SANDBOX_WITHIN: Final = 2.0  # seconds in which a sandbox whose script was killed must bring the result out
_SANDBOX_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH")


class Sandbox(TypedDict):
    """Where to run it. `argv` is bubblewrap with its arguments and what it starts, `owner` the user to whom the pipes
    are given or -1, `result` the file to which the result is brought, `seccomp` one with a filter, or ""."""

    argv: list[str]
    owner: int
    result: str
    seccomp: str


class Spec(TypedDict):
    """What to run. `memory` is what it and all it starts may have together in bytes, 0 for no limit; `stdin` a file.
    In a `sandbox` its own process starts it, which has read `argv` and `env` from a file."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdin: str
    memory: int
    sandbox: NotRequired[Sandbox]


# -- warden


def _warden(requests: socket.socket, directory: str) -> None:
    """Fork a guard a request, until the runner is gone."""
    _prctl(_PR_SET_DUMPABLE, 0)  # scripts of the same user neither trace us nor take a guard's descriptors
    for number in _LEFT_TO_THE_RUNNER:
        signal.signal(number, signal.SIG_IGN)
    guard_changed = _woken_by_children()
    while True:
        ready, _, _ = select.select([requests.fileno(), guard_changed], [], [])
        if guard_changed in ready:
            _drain(guard_changed)
            _look_after_guards(os.WNOHANG)
        if requests.fileno() not in ready:
            continue
        descriptors = _receive(requests)
        if descriptors is None:
            break
        if not descriptors:
            continue
        try:
            guard = os.fork()
        except OSError as error:
            with contextlib.suppress(OSError):  # the runner is gone
                os.write(descriptors[0], _no_process(error))
        else:
            if guard == 0:
                requests.close()
                _as_guard(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    _look_after_guards(0)
    remove_tree(directory)


def _look_after_guards(options: int) -> None:
    """Reap those that have ended. Have go on those that were stopped, by their scripts for one: who is to end a script
    must not stand still. Without WNOHANG until all have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            guard, status = os.waitpid(-1, os.WUNTRACED | options)
            if not guard:
                return
            if os.WIFSTOPPED(status):
                os.kill(guard, signal.SIGCONT)


def _woken_by_children() -> int:
    """A descriptor that can be read from when something has become of a child."""
    changed, wakeup = os.pipe()
    for descriptor in (changed, wakeup):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return changed


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


def _receive(requests: socket.socket) -> tuple[int, ...] | None:
    """The descriptors of the next request, none of one that cannot be met; None at the end."""
    space = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = requests.recvmsg(1, space, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    if not data:
        return None
    received = array.array("i")
    for _level, _kind, packed in ancillary:
        received.frombytes(packed)
    for descriptor in received:
        os.set_inheritable(descriptor, False)  # where there is no MSG_CMSG_CLOEXEC
    if len(received) == _DESCRIPTORS:
        return tuple(received)
    if received:  # some were cut off, by our limit of open files
        with contextlib.suppress(OSError):
            os.write(received[0], _no_process(OSError(errno.EMFILE, "")))
    for descriptor in received:
        os.close(descriptor)
    return ()


def remove_tree(directory: str) -> None:
    """Remove it with all that a script has put there: nested more deeply than a path or our stack goes, or without
    permissions. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        _permit(directory)
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(directory)


def _empty(top: int) -> None:
    """Directories of directories are moved up here one by one, so that nothing is ever deep."""
    lifted = (f".{os.urandom(8).hex()}-{number}" for number in itertools.count())
    stuck: set[str] = set()
    while names := [name for name in os.listdir(top) if name not in stuck]:
        for name in names:
            try:
                if not _is_unlinked(name, top):
                    _lift_out_of(name, top, lifted)
                    os.rmdir(name, dir_fd=top)
            except OSError:
                stuck.add(name)


def _lift_out_of(name: str, top: int, lifted: Iterator[str]) -> None:
    _permit(name, top)
    directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        for inner in os.listdir(directory):
            if not _is_unlinked(inner, directory):
                _permit(inner, directory)  # who moves a directory changes it, too
                os.rename(inner, next(lifted), src_dir_fd=directory, dst_dir_fd=top)
    finally:
        os.close(directory)


def _is_unlinked(name: str, directory: int) -> bool:
    """Whether it is gone now; it is not if it is a directory."""
    if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=directory)
    return True


def _permit(path: str, within: int | None = None) -> None:
    """Let us look into a directory again. What somebody has put in its place, such as a link, stays as it is."""
    with contextlib.suppress(OSError):
        if not hasattr(os, "O_PATH"):
            os.chmod(path, 0o700, dir_fd=within, follow_symlinks=False)
            return
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
        try:
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
        finally:
            os.close(descriptor)


# -- guard


def _as_guard(control: int, stdout: int, stderr: int) -> NoReturn:
    status = 1
    try:
        with socket.socket(fileno=control) as connection:
            guard = _Guard(connection)
            try:
                guard.run(stdout, stderr)
            except OSError as error:
                if guard.has_begun:
                    raise
                connection.sendall(_no_process(error))
        status = 0
    finally:
        os._exit(status)  # whatever happens, never back into the warden's loop


def _no_process(error: OSError) -> bytes:
    return ENDING.pack(0, NO_PROCESS, error.errno or 0, 0, 0)


class _Guard:
    """Watches over one script."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children = Path(f"/proc/self/task/{os.getpid()}/children")
        self._sees_orphans = self._children.exists() and _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._script = 0
        self._status: int | None = None
        self._ended_by = BY_ITSELF
        self._memory = _Memory(0)
        self._terminates_at = self._kills_at = _NEVER
        self._kill_grace = 0.0
        self._is_paused = False
        self._is_sandboxed = False

    @property
    def has_begun(self) -> bool:
        """Whether there is, or was, a process for the script."""
        return self._script != 0

    def run(self, stdout: int, stderr: int) -> None:
        """Raises OSError, before it has begun."""
        spec = self._read_spec()
        if spec is None:
            return
        child_ended = _woken_by_children()
        failed, failure = os.pipe()
        reported, report = os.pipe()
        self._memory = _Memory(spec["memory"])
        self._is_sandboxed = "sandbox" in spec
        guard = os.getpid()
        # A SIGTERM that comes before the script is there is kept for it. We ignore SIGTERM, and so does our copy until
        # it has become the script, so an order to stop would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        self._control.sendall(BEGUN)
        self._script = os.fork()
        if self._script == 0:
            _become(spec, stdout, stderr, failure, report, guard)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        for descriptor in (stdout, stderr, failure, report):
            os.close(descriptor)
        has_ended = self._watch(child_ended)
        if self._is_sandboxed and not has_ended:
            self._end_in_sandbox(child_ended)
        self._end_everything()
        if self._status is not None:
            error = os.read(failed, _ERRNO.size)  # at once, for nobody has the other end any more
            errno, found = _ERRNO.unpack(error)[0] if error else 0, 0
            if self._is_sandboxed and not errno:
                said = os.read(reported, _REPORT.size)
                if len(said) == _REPORT.size:
                    _, self._status, errno, found = _REPORT.unpack(said)
                elif has_ended:
                    self._ended_by = SANDBOX_ENDED if said else NO_SANDBOX
            ending = ENDING.pack(self._status, self._ended_by, errno, self._memory.used, found)
            with contextlib.suppress(OSError):  # nobody there to hear it
                self._control.sendall(ending)

    def _read_spec(self) -> Spec | None:
        """What the runner wants run; None if it changed its mind."""
        with contextlib.suppress(OSError):
            head = self._control.recv(LENGTH.size, socket.MSG_WAITALL)
            if len(head) == LENGTH.size:
                (length,) = LENGTH.unpack(head)
                body = self._control.recv(length, socket.MSG_WAITALL)
                if len(body) == length:
                    spec: Spec = json.loads(body)
                    return spec
        return None

    def _watch(self, child_ended: int) -> bool:
        """Until the script has ended or must end; whether it has."""
        while not self._script_has_ended():
            wake_at = min(self._memory.look_at, self._terminates_at, self._kills_at)
            timeout = None if wake_at == _NEVER else max(0.0, wake_at - time.monotonic())
            ready, _, _ = select.select([self._control.fileno(), child_ended], [], [], timeout)
            if child_ended in ready:
                _drain(child_ended)
            # An order before a deadline: it may be that the script may go on.
            if self._control.fileno() in ready and not self._obey():
                return False
            now = time.monotonic()
            if now >= self._memory.look_at and self._memory.is_too_much(self._family()):
                self._ended_by = OUT_OF_MEMORY
                return False
            if now >= self._kills_at:
                return False
            if now >= self._terminates_at:
                self._ended_by = CUT_OFF
                self._terminates_at, self._kills_at = _NEVER, now + self._kill_grace
                self._terminate()
        return True

    def _script_has_ended(self) -> bool:
        """Also reaps orphans, but not the script: while it is a zombie its process group cannot become another's."""
        if not hasattr(os, "waitid"):
            pid, status = os.waitpid(self._script, os.WNOHANG)
            self._status = status if pid else None
            return bool(pid)
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return False
            if ended.si_pid == self._script:
                return True
            os.waitpid(ended.si_pid, 0)

    def _obey(self) -> bool:
        """Do what the runner asks. False when it wants everything to end, or is gone."""
        try:
            data = self._control.recv(ORDER.size, socket.MSG_WAITALL)
        except OSError:
            return False
        if len(data) < ORDER.size:
            return False
        order, allowed, grace = ORDER.unpack(data)
        if order == TERMINATE:
            if self._is_paused or (self._is_sandboxed and self._sandboxed_script() is None):  # it could act meanwhile
                return False
            self._terminate()
        elif order == PAUSE:
            self._pause()
        elif order == GO_ON and self._ended_by == BY_ITSELF:
            self._terminates_at, self._kill_grace = time.monotonic() + allowed / 1000, grace / 1000
            self._resume()
        return True

    def _terminate(self) -> None:
        script = self._sandboxed_script() if self._is_sandboxed else self._script
        if script is None:
            return
        try:
            os.killpg(script, signal.SIGTERM)
        except ProcessLookupError:  # it has no group of its own yet
            with contextlib.suppress(ProcessLookupError):  # of a sandbox's, which somebody else reaps
                os.kill(script, signal.SIGTERM)

    def _pause(self) -> None:
        """Stop every process of the script where it is; also those that are started while we do."""
        self._terminates_at, self._is_paused = _NEVER, True
        stopped: set[int] = set()
        while more := set(self._family(with_sandbox=True)) - stopped:
            self._send_to(more, signal.SIGSTOP)
            stopped |= more

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._send_to(self._family(with_sandbox=True), signal.SIGCONT)

    def _send_to(self, processes: Iterable[int], number: signal.Signals) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)

    def _family(self, *, with_sandbox: bool = False) -> Iterator[int]:
        """The script and what descends from it, as far as the system tells; and, if so wanted, what makes its sandbox,
        from which it may not have been started yet."""
        if not self._sees_orphans:
            yield self._script
            return
        unseen = self._inner() if self._is_sandboxed and not with_sandbox else [os.getpid()]
        while unseen:
            for child in _children_of(unseen.pop()):
                yield child
                unseen.append(child)

    def _inner(self) -> list[int]:
        """The first process inside the sandbox, as soon as there is one."""
        return list(_children_of(self._script))

    def _sandboxed_script(self) -> int | None:
        """The script itself: the first that was started inside, so the oldest there."""
        return next((child for inner in self._inner() for child in _children_of(inner)), None)

    def _end_in_sandbox(self, child_ended: int) -> None:
        """Kill the script; then the sandbox brings the result out, says how it was, and ends with all that is in it."""
        script = self._sandboxed_script()
        if script is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(script, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(script, signal.SIGKILL)
        self._send_to([self._script, *self._inner()], signal.SIGCONT)  # they may be paused
        until = time.monotonic() + _SANDBOX_WITHIN
        while not self._script_has_ended() and (remaining := until - time.monotonic()) > 0:
            if select.select([child_ended], [], [], remaining)[0]:
                _drain(child_ended)

    def _end_everything(self) -> None:
        """Kill the script's group and, as orphans become ours, whatever descends from it; reap them all."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._script, signal.SIGKILL)
        if self._status is None:
            os.kill(self._script, signal.SIGKILL)
        while True:
            if self._sees_orphans:
                for child in map(int, self._children.read_text(encoding="utf-8").split()):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(child, signal.SIGKILL)
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            if pid == self._script:
                self._status = status


def _children_of(process: int) -> Iterator[int]:
    """The children of all its threads."""
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{process}/task/{thread}/children", "rb") as children:
                yield from map(int, children.read().split())


class _Memory:
    """Watches how much memory processes have of their own, which neither a limit of the address space (many programs
    reserve much more than they use) nor one of each process can tell.

    Attributes:
        used: bytes, when we last looked.
        look_at: when the next look is due, on the monotonic clock.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0
        self.look_at = time.monotonic() + self._pause(0.0) if limit and _PROC.exists() else _NEVER

    def is_too_much(self, processes: Iterable[int]) -> bool:
        began = time.monotonic()
        family = list(processes)
        self.used = sum(map(_own_memory, family))
        if self.used > self._limit:  # pages that forked processes share are counted in each of them
            self.used = sum(map(_share_of_memory, family))
        now = time.monotonic()
        self.look_at = now + self._pause(now - began)
        return self.used > self._limit

    def _pause(self, cost: float) -> float:
        """Seconds until it could be too much at the earliest, or a look costs too much."""
        until_full = max(0, self._limit - self.used) / _MEMORY_RATE
        return max(min(until_full, _SLOWEST_LOOK), _FASTEST_LOOK, cost / _LOOK_SHARE)


def _own_memory(process: int) -> int:
    """Bytes of a process that are no pages of files."""
    return _kibibytes(f"/proc/{process}/status", (b"RssAnon:", b"RssShmem:", b"VmSwap:"))


def _share_of_memory(process: int) -> int:
    """The same, of what it shares with others its share. Slow: the system looks at each page."""
    share = _kibibytes(f"/proc/{process}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"))
    return share or _own_memory(process)


def _kibibytes(path: str, names: tuple[bytes, ...]) -> int:
    """The sum of these lines of a file in /proc, in bytes; 0 if the process has ended."""
    try:
        with open(path, "rb") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith(names)) * 1024
    except OSError:
        return 0


# -- script

_ERRNO: Final = struct.Struct(">I")


def _become(spec: Spec, stdout: int, stderr: int, failure: int, report: int, guard: int) -> NoReturn:
    """Turn this process into the script; what prevents that is said on the script's stderr, its errno to `failure`."""
    command = spec["argv"][0]
    argv, env = spec["argv"], spec["env"]
    try:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the call
            os._exit(1)
        for number in (*_LEFT_TO_THE_RUNNER, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # exec keeps ignored signals ignored
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        os.chdir(spec["cwd"])
        os.dup2(os.open(spec["stdin"], os.O_RDONLY), 0)
        _limit(resource.RLIMIT_CORE, 0)
        if spec["memory"] and not _PROC.exists():  # the guard cannot watch it
            _limit(resource.RLIMIT_DATA, spec["memory"])
        if "sandbox" in spec:
            command, argv, env = _enter(spec["sandbox"], report)
        os.execve(command, argv, env)
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        os.write(failure, _ERRNO.pack(getattr(error, "errno", None) or 0))
        os.write(2, f"herocoordinator runner: cannot run {command}: {why}\n".encode(errors="replace"))
    finally:
        os._exit(_CANNOT_RUN)


def _enter(sandbox: Sandbox, report: int) -> tuple[str, list[str], dict[str, str]]:
    """What to execute for a sandbox, after giving it its descriptors. Nothing of the script's environment is in what
    runs outside."""
    if sandbox["owner"] >= 0:  # or /dev/stdout could not be opened
        for descriptor in (1, 2):
            os.fchown(descriptor, sandbox["owner"], sandbox["owner"])
    result = os.open(sandbox["result"], os.O_WRONLY | os.O_NOFOLLOW)
    descriptors = [(report, _REPORT_TO), (result, _RESULT_TO)]
    options: list[str] = []
    if sandbox["seccomp"]:
        descriptors.append((os.open(sandbox["seccomp"], os.O_RDONLY), _SECCOMP))
        options = ["--seccomp", str(_SECCOMP)]
    for source, number in descriptors:
        os.dup2(source, number)
    command, *rest = sandbox["argv"]
    env = {name: os.environ[name] for name in _SANDBOX_VARIABLES if name in os.environ}
    return command, [command, *options, *rest, str(_REPORT_TO), str(_RESULT_TO)], env


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _prctl(option: int, value: int) -> bool:
    """False where there is no such call."""
    return _call_prctl is not None and _call_prctl(option, value, 0, 0, 0) == 0


_call_prctl: Callable[..., int] | None = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


if __name__ == "__main__":
    with socket.socket(fileno=os.dup(0)) as _requests:  # dup'ed descriptors are closed on exec
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _warden(_requests, sys.argv[1])
