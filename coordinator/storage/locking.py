"""The locks of a data directory, by which one coordinator at a time uses it, once the last one's Valkey is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Final

import trio

from coordinator.storage.private import NotPrivate, close_to_others, open_private

__all__ = ["DataDirectoryInUse", "lock"]

_DYING_TIMEOUT: Final = 0.5  # seconds a coordinator that was just killed may take to be gone
_ORPHAN_TIMEOUT: Final = 10.0  # seconds a Valkey whose coordinator was killed may take to go


class DataDirectoryInUse(Exception):
    """Another coordinator has the data directory, or it cannot be used at all."""


async def lock(data_dir: Path) -> tuple[contextlib.ExitStack, IO[str]]:
    """Take the directory, which is created if it is missing. Waits only for a coordinator that was just killed,
    and its Valkey.

    Returns what gives it back when it is closed, and the lock for Valkey to inherit.

    Raises:
        DataDirectoryInUse.
    """
    with contextlib.ExitStack() as acquired:
        ours, for_valkey = _open(data_dir, acquired)
        if not await _locked(ours, _DYING_TIMEOUT):
            ours.seek(0)
            raise _in_use(data_dir, f"another coordinator (process {ours.read().strip()})")
        with contextlib.suppress(OSError):  # a full disk: who comes second is not told our process id
            os.ftruncate(ours.fileno(), 0)
            os.write(ours.fileno(), f"{os.getpid()}\n".encode())
        if not await _locked(for_valkey, _ORPHAN_TIMEOUT):
            raise _in_use(data_dir, "a Valkey that does not stop")
        return acquired.pop_all(), for_valkey


def _open(data_dir: Path, acquired: contextlib.ExitStack) -> tuple[IO[str], IO[str]]:
    """The files that are locked, of the coordinator and of its Valkey. Raises DataDirectoryInUse."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        close_to_others(data_dir)
        ours = acquired.enter_context(open_private(data_dir / "lock", "a+"))
        for_valkey = acquired.enter_context(open_private(data_dir / "valkey.lock", "a+"))
    except NotPrivate as error:
        raise DataDirectoryInUse(f"cannot use the data directory: {error}") from error
    except OSError as error:
        raise DataDirectoryInUse(f"cannot use the data directory {data_dir}: {error.strerror}") from error
    return ours, for_valkey


def _in_use(data_dir: Path, by: str) -> DataDirectoryInUse:
    return DataDirectoryInUse(
        f"the data directory {data_dir} is in use by {by}; stop it, or choose another with --data-dir"
    )


async def _locked(file: IO[str], seconds: float) -> bool:
    """flock it, until every process that inherited the open file is gone. False if somebody else still has it after so
    many seconds."""
    deadline = trio.current_time() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if trio.current_time() > deadline:
                return False
            await trio.sleep(0.05)
        else:
            return True
