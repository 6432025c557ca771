"""Starts a runner's scripts, and sees that nothing of a script outlives its attempt or the runner.

    runner ──socket──► warden ──fork──► guard, one an attempt ──fork, exec──► script ──► whatever that starts
       └───────────── a control socket an attempt ───┘

A process of its own because forking from it is cheap and safe (it is small and has one thread), never holds up the
runner's event loop, and lets somebody be there to clean up when the runner is killed. It is run by path as a plain
script, so it must not import anything but the standard library.

Protocol. The runner sends the warden one byte with three descriptors: the guard's end of a control socket, the
script's stdout and its stderr. On the control socket follow a length (4 bytes, big endian) and a `Spec` in JSON. From
then on the byte `T` has the guard send SIGTERM to the script's process group; the end of the stream has it kill
everything. When the script has ended the guard kills what it left behind, answers with the wait status (4 bytes, big
endian) and exits. When the runner's end of the warden's own socket closes, the warden waits for the guards, removes
the directory it was given and exits.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypedDict

__all__ = ["LENGTH", "STATUS", "TERMINATE", "Spec"]

LENGTH: Final = struct.Struct(">I")
STATUS: Final = struct.Struct(">I")
TERMINATE: Final = b"T"

_DESCRIPTORS: Final = 3
_CANNOT_RUN: Final = 127  # the status shells use for it
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LEFT_TO_THE_RUNNER: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Spec(TypedDict):
    """What to run. `memory` is the size of the address space in bytes, 0 for no limit; `stdin` a file."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdin: str
    memory: int


# -- warden


def _warden(requests: socket.socket, directory: str) -> None:
    """Fork a guard a request, until the runner is gone."""
    for number in _LEFT_TO_THE_RUNNER:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guards leave no zombies
    while True:
        descriptors = _receive(requests)
        if descriptors is None:
            break
        # Without a process to be had the descriptors are closed all the same, which tells the runner.
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                requests.close()
                _as_guard(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, 0)  # with SIGCHLD ignored this returns when the last one has ended
    shutil.rmtree(directory, ignore_errors=True)


def _receive(requests: socket.socket) -> tuple[int, int, int] | None:
    """The descriptors of the next request, None at the end."""
    space = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    while True:
        data, ancillary, _, _ = requests.recvmsg(1, space, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
        if not data:
            return None
        received = array.array("i")
        for _level, _kind, packed in ancillary:
            received.frombytes(packed)
        for descriptor in received:
            os.set_inheritable(descriptor, False)  # where there is no MSG_CMSG_CLOEXEC
        if len(received) == _DESCRIPTORS:
            control, stdout, stderr = received
            return control, stdout, stderr
        for descriptor in received:  # some were cut off, by our limit of open files
            os.close(descriptor)


# -- guard


def _as_guard(control: int, stdout: int, stderr: int) -> NoReturn:
    status = 1
    try:
        with socket.socket(fileno=control) as connection:
            _Guard(connection).run(stdout, stderr)
        status = 0
    finally:
        os._exit(status)  # whatever happens, never back into the warden's loop


class _Guard:
    """Watches over one script."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children = Path(f"/proc/self/task/{os.getpid()}/children")
        self._sees_orphans = self._children.exists() and _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._script = 0
        self._status: int | None = None

    def run(self, stdout: int, stderr: int) -> None:
        spec = self._read_spec()
        if spec is None:
            return
        child_ended, wakeup = os.pipe()
        for descriptor in (child_ended, wakeup):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        guard = os.getpid()
        self._script = os.fork()
        if self._script == 0:
            _become(spec, stdout, stderr, guard)
        os.close(stdout)
        os.close(stderr)
        self._watch(child_ended)
        self._end_everything()
        if self._status is not None:
            with contextlib.suppress(OSError):  # nobody there to hear it
                self._control.sendall(STATUS.pack(self._status))

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

    def _watch(self, child_ended: int) -> None:
        """Until the script has ended or is no longer wanted."""
        while not self._script_has_ended():
            ready, _, _ = select.select([self._control.fileno(), child_ended], [], [])
            if child_ended in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(child_ended, 4096)
            if self._control.fileno() in ready and not self._obey():
                return

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
            order = self._control.recv(1)
        except OSError:
            return False
        if order == TERMINATE:
            try:
                os.killpg(self._script, signal.SIGTERM)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(self._script, signal.SIGTERM)
        return bool(order)

    def _end_everything(self) -> None:
        """Kill the script's group and, as orphans become ours, whatever descends from it; reap them all."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._script, signal.SIGKILL)
        if self._status is None:
            os.kill(self._script, signal.SIGKILL)
        while True:
            if self._sees_orphans:
                for child in map(int, self._children.read_text().split()):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(child, signal.SIGKILL)
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            if pid == self._script:
                self._status = status


# -- script


def _become(spec: Spec, stdout: int, stderr: int, guard: int) -> NoReturn:
    """Turn this process into the script; what prevents that is said on the script's stderr."""
    command = spec["argv"][0]
    try:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the call
            os._exit(1)
        for number in (*_LEFT_TO_THE_RUNNER, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # exec keeps ignored signals ignored
        os.chdir(spec["cwd"])
        os.dup2(os.open(spec["stdin"], os.O_RDONLY), 0)
        _limit(resource.RLIMIT_CORE, 0)
        if spec["memory"]:
            _limit(resource.RLIMIT_AS, spec["memory"])
        os.execve(command, spec["argv"], spec["env"])
    except Exception as error:
        why = getattr(error, "strerror", None) or error
        os.write(2, f"herocoordinator runner: cannot run {command}: {why}\n".encode(errors="replace"))
    finally:
        os._exit(_CANNOT_RUN)


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
