"""Whether processes run, seen from outside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["children_of", "command_of", "holder_of", "is_running", "parent_of", "started_at"]


def is_running(pid: int) -> bool:
    """A zombie does not run: it waits for its parent only."""
    try:
        return _stat(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(_stat(pid)[1])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> list[str]:
    """Its command line; empty for a zombie."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def started_at(pid: int) -> int:
    """When it began, in ticks since the machine did."""
    return int(_stat(pid)[19])


def holder_of(client_port: int, server_port: int, pids: Iterable[int]) -> int | None:
    """Which of these processes has the server's end of an open TCP connection over IPv4."""
    inode = None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, found = line.split()[:10]
        if (int(local.partition(":")[2], 16), int(remote.partition(":")[2], 16)) == (server_port, client_port):
            inode = found
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return pid
    return None


def _stat(pid: int) -> list[str]:
    """What /proc/PID/stat says after the name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
