"""Starting scripts: the runner's end of `warden.py`."""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import structlog
import trio

from coordinator.runner import warden
from coordinator.runner.warden import BEGUN, ENDING, GO_ON, LENGTH, ORDER, PAUSE, TERMINATE, Spec

__all__ = ["CannotStart", "Ended", "GuardKilled", "Script", "Spawner", "open_spawner"]

log = structlog.get_logger("coordinator.runner")

_STOP_TIMEOUT: Final = 10.0  # seconds the warden may take to clean up
_FOR_THE_WARDEN: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Variables it gets. Scripts of the same user may see its environment, and ours may hold secrets."""


class CannotStart(Exception):
    """The system had no process or no descriptor left, or whoever was to start the script was killed before."""


class GuardKilled(Exception):
    """Nobody knows how a script has ended that may have been started."""


class Ended(NamedTuple):
    """How a script has ended.

    Attributes:
        status: its exit status, or minus the number of the signal that ended it.
        by: who ended it: a constant of `warden`.
        errno: why it could not be run, 0 if it could.
        memory: bytes that it and what it started had when that was last looked at.
        found: what its sandbox says of it: constants of `inside`, or'ed.
    """

    status: int
    by: int
    errno: int
    memory: int
    found: int = 0


class Script:
    """A running script. `aclose` kills it and all it started.

    Attributes:
        stdout, stderr: what it writes; the streams end at the latest when it has ended.
        poll: tells which of the two has something to read, first the one that had it first; None if the system cannot.
    """

    def __init__(
        self,
        control: trio.SocketStream,
        stdout: trio.lowlevel.FdStream,
        stderr: trio.lowlevel.FdStream,
        poll: select.epoll | None,
    ) -> None:
        self._control = control
        self._ordering = trio.Lock()
        self.stdout = stdout
        self.stderr = stderr
        self.poll = poll

    async def wait(self) -> Ended:
        """How it has ended; nothing it started runs any more.

        Raises GuardKilled if nobody knows that; CannotStart if nobody was there to start it.
        """
        received, has_begun = b"", False
        with contextlib.suppress(trio.BrokenResourceError):
            while len(received) < ENDING.size and (data := await self._control.receive_some(ENDING.size)):
                received += data
                has_begun = has_begun or received.startswith(BEGUN)
                received = received.removeprefix(BEGUN)
        if len(received) < ENDING.size:
            if has_begun:
                raise GuardKilled("the script's guard was killed")
            raise CannotStart("cannot start a process: there is nobody to do so")
        status, *rest = ENDING.unpack(received)
        return Ended(os.waitstatus_to_exitcode(status), *rest)

    async def terminate(self) -> None:
        """SIGTERM to its process group."""
        await self._order(TERMINATE)

    async def go_on(self, seconds: float, grace: float) -> None:
        """It may run for so long from now, if need be again; then, unless this is called again, it is sent SIGTERM, and
        `grace` seconds later it and all it started are killed, whether we still live or not."""
        await self._order(GO_ON, max(0, int(seconds * 1000)), int(grace * 1000))

    async def pause(self) -> None:
        """Stop it and all it started where they are, until `go_on`."""
        await self._order(PAUSE)

    async def _order(self, order: bytes, *numbers: int) -> None:
        async with self._ordering:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._control.send_all(ORDER.pack(order, *(numbers or (0, 0))))

    async def kill(self) -> None:
        """SIGKILL to it and all it started; `wait` then tells how it ended."""
        async with self._ordering:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._control.send_eof()

    async def aclose(self) -> None:
        if self.poll is not None:
            self.poll.close()
        for stream in (self._control, self.stdout, self.stderr):
            await trio.aclose_forcefully(stream)


class Spawner:
    """Starts scripts through a warden, and another warden should that one be killed.

    Attributes:
        directory: for the attempts' files; removed when the runner ends, however it ends.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()  # TMPDIR may be relative, and scripts work elsewhere
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._requesting = trio.Lock()

    def prepare(self) -> None:
        """Start the warden before it is needed. Raises OSError."""
        self._requests = self._start_warden()

    def new_directory(self) -> Path:
        """One for an attempt. Raises OSError."""
        for _ in range(2):
            with contextlib.suppress(FileNotFoundError):
                return Path(tempfile.mkdtemp(dir=self.directory))
            # Somebody who cleans up temporary files has removed it, for nothing was in it.
            with contextlib.suppress(FileExistsError):
                self.directory.mkdir(mode=0o700)
            if self.directory.lstat().st_uid != os.geteuid():
                raise PermissionError(errno.EACCES, f"{self.directory} is somebody else's")
        raise FileNotFoundError(errno.ENOENT, f"{self.directory} does not stay")

    async def start(self, spec: Spec) -> Script:
        """Raises CannotStart. A command that cannot be run is a script that says so and exits with 127."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                near, far = socket.socketpair()
                ours.callback(near.close)
                theirs.callback(far.close)
                readers = []
                writers = []
                for _ in range(2):
                    reader, writer = os.pipe()
                    ours.callback(os.close, reader)
                    theirs.callback(os.close, writer)
                    readers.append(reader)
                    writers.append(writer)
                poll = _poll_of(readers)
                if poll is not None:
                    ours.callback(poll.close)
                await self._request([far.fileno(), *writers])
            except OSError as error:
                raise CannotStart(f"cannot start a process: {error.strerror}") from error
            ours.pop_all()
        control = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        script = Script(control, trio.lowlevel.FdStream(readers[0]), trio.lowlevel.FdStream(readers[1]), poll)
        try:
            body = json.dumps(spec).encode()
            # Without a guard at the other end this fails, and `wait` says why.
            with contextlib.suppress(trio.BrokenResourceError):
                await control.send_all(LENGTH.pack(len(body)) + body)
        except BaseException:
            with trio.CancelScope(shield=True):
                await script.aclose()
            raise
        return script

    async def _request(self, descriptors: list[int]) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        async with self._requesting:
            if self._requests is not None:
                try:
                    await trio.socket.from_stdlib_socket(self._requests).sendmsg([b"+"], ancillary)
                    self._wake()
                    return
                except (BrokenPipeError, ConnectionResetError):
                    log.warning("the warden was killed; starting another")
                    self._close()
            self._requests = self._start_warden()
            await trio.socket.from_stdlib_socket(self._requests).sendmsg([b"+"], ancillary)

    def _start_warden(self) -> socket.socket:
        """Start one in a session of its own, so that Ctrl-C reaches us alone; its end of the pair is its stdin."""
        near, far = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", warden.__file__, str(self.directory)],
                stdin=far.fileno(),
                stdout=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _FOR_THE_WARDEN if name in os.environ},
                start_new_session=True,
            )
        except BaseException:
            near.close()
            raise
        finally:
            far.close()
        near.setblocking(False)
        return near

    def _wake(self) -> None:
        """Have the warden go on if somebody has stopped it, such as a script."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _close(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None
            self._wake()
        if self._process is not None:
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                log.warning("scripts were left that cannot be killed", directory=str(self.directory))
            self._process = None

    async def aclose(self) -> None:
        """Have the warden remove the directory, once nothing of a script is left, and wait for that."""
        with trio.CancelScope(shield=True):  # bounded by _STOP_TIMEOUT
            await trio.to_thread.run_sync(self._close)
            await trio.to_thread.run_sync(lambda: warden.remove_tree(str(self.directory)))


def _poll_of(descriptors: list[int]) -> select.epoll | None:
    if not hasattr(select, "epoll"):
        return None
    poll = select.epoll(len(descriptors))
    try:
        for descriptor in descriptors:
            poll.register(descriptor, select.EPOLLIN)
    except BaseException:
        poll.close()
        raise
    return poll


@contextlib.asynccontextmanager
async def open_spawner() -> AsyncIterator[Spawner]:
    """A spawner with a directory of its own in the system's temporary one."""
    spawner = Spawner(Path(tempfile.mkdtemp(prefix="herocoordinator-runner-")))
    try:
        spawner.prepare()
        yield spawner
    finally:
        await spawner.aclose()
