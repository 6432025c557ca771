"""Whether processes run, seen from outside."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_running", "parent_of"]


def is_running(pid: int) -> bool:
    """A zombie does not run: it waits for its parent only."""
    try:
        return _stat(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """What /proc/PID/stat says after the name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
