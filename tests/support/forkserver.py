"""`herocoordinator` forked off a process that has imported it, once for each process of tests: most of the time that a
command takes is otherwise that of its imports.

What comes of it is a process like any other, with an environment, a directory and standard streams of its own. Only
what the system shows of its command line and its first environment is the server's: who tests that starts a new one.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import math
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["ForkedProcess", "would_be_alike"]

_ROOT: Final = Path(__file__).parents[2]
_MOST_BYTES: Final = 1 << 20  # of a request
_READ_LATER: Final = ("HEROCOORDINATOR_", "COLUMNS")  # than at the imports


class ForkedProcess:
    """As subprocess.Popen, as far as tests need it.

    Args:
        stdout: None for ours.
        stderr: None for a pipe.

    Attributes:
        pid: of the process, which is no child of ours.
        returncode: None as long as it is not known to have ended.
        stderr: our end of the pipe.
    """

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
    ) -> None:
        self.args = [sys.executable, "-m", "coordinator", *arguments]
        self.returncode: int | None = None
        self.stderr: IO[str] | None = None
        self._lock = threading.Lock()
        self._reports, theirs = socket.socketpair()
        environment = {**os.environ, **(env or {})}
        request = {"arguments": arguments, "environment": environment, "directory": os.getcwd()}
        with theirs, contextlib.ExitStack() as stack:
            if stderr is None:
                reading, writing = os.pipe()
                self.stderr = open(reading)  # noqa: SIM115 - whoever reads it closes it
                stderr = stack.enter_context(open(writing, "w"))
            streams = [1 if stdout is None else stdout.fileno(), stderr.fileno()]
            socket.send_fds(_server(), [json.dumps(request).encode()], [*streams, theirs.fileno()])
        self._lines = self._reports.makefile("rb")
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None and _is_readable(self._reports.fileno(), 0):
                self.returncode = int(self._lines.readline())
                self._lines.close()
                self._reports.close()  # which lets go of its process id
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            ended = self.returncode is not None
            watched = None if ended else os.dup(self._reports.fileno())  # another thread may close ours meanwhile
        if watched is not None:
            try:
                if not _is_readable(watched, timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
            finally:
                os.close(watched)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _is_readable(descriptor: int, timeout: float | None) -> bool:
    poll = select.poll()  # unlike select.select for descriptors of any size
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else math.ceil(timeout * 1000)))


def would_be_alike(env: Mapping[str, str] | None = None) -> bool:
    """Whether what is forked is as a new process with these variables beside ours: what that would inherit of us, and
    take from it as it starts, is as it was when the server did."""
    _server()
    return _inherited() == _at_first and all(name.startswith(_READ_LATER) for name in env or ())


def _inherited() -> dict[str, Any]:
    umask = os.umask(0o077)
    os.umask(umask)
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {**variables, "umask": umask, "files": resource.getrlimit(resource.RLIMIT_NOFILE)}


_at_first: Final[dict[str, Any]] = {}


@functools.cache
def _server() -> socket.socket:
    """Our end of the server's socket. It ends when that is closed: with us."""
    _at_first.update(_inherited())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.forkserver", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=_ROOT,
        )
    return ours


# -- in the server


def _serve(listener: socket.socket) -> dict[str, Any] | None:
    """Answer requests. In the server itself it returns None in the end, and in each process that it forks off the
    request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, *_ = socket.recv_fds(listener, _MOST_BYTES, 3)
        if not message:
            return None
        *streams, reports = descriptors
        if os.fork() == 0:
            listener.close()
            with socket.socket(fileno=reports) as report:
                _attend(report, streams)
            for number, descriptor in enumerate(streams, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return json.loads(message)  # type: ignore[no-any-return]
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(report: socket.socket, streams: list[int]) -> None:
    """Fork once more, and return in the child. The parent says how that has ended, and keeps its process id taken until
    it is asked for no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return
    for descriptor in streams:  # whoever reads what is written there learns of its end
        os.close(descriptor)
    with contextlib.suppress(OSError):  # who asked may be gone
        report.sendall(b"%d\n" % pid)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        report.sendall(b"%d\n" % (ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status))
        report.recv(1)
    os._exit(0)


def _import_all() -> None:
    """All commands, and what each imports when it runs."""
    from coordinator.cli import main  # noqa: PLC0415 - in the server only

    with main.make_context("herocoordinator", ["version"]) as context:
        for name in main.list_commands(context):
            main.get_command(context, name)
    gc.collect()
    gc.freeze()  # or the end of each process would look through all that


def _main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        _import_all()
        request = _serve(listener)
    if request is not None:
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[0] = request["directory"]
        sys.argv[1:] = request["arguments"]
        sys.orig_argv[:] = [sys.executable, "-m", "coordinator", *request["arguments"]]
        runpy.run_module("coordinator", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
