"""Whether a worker's event loop still runs, and where it stands if it does not.

A worker says every second that it is alive. The parent looks as often, and counts the looks since it last heard
anything: so a parent that was itself held up for a while does not take its workers for dead.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from typing import Final

import trio

__all__ = ["HUNG_AFTER", "LOOK_EVERY", "dump_stacks_on_signal", "process_state", "stacks_of"]

LOOK_EVERY: Final = 1.0  # seconds between a worker's signs of life, and between the parent's looks
HUNG_AFTER: Final = 8  # looks without any
DUMP_TIME: Final = 0.5  # seconds a process has to write its stacks
DUMP_SIGNAL: Final = signal.SIGUSR1
MOST_BYTES: Final = 16 * 1024  # of stacks that are logged
_STATES: Final = {"R": "running", "S": "sleeping", "D": "waiting for a device", "T": "stopped by a signal", "Z": "dead"}


def dump_stacks_on_signal() -> int | None:
    """Have this process write its threads' stacks to a file in memory on DUMP_SIGNAL, also while its event loop stands
    still. Returns the file's descriptor, or None where there is no such file or no descriptor for it."""
    try:
        descriptor = os.memfd_create("stacks")
    except (AttributeError, OSError):
        return None
    faulthandler.register(DUMP_SIGNAL, file=descriptor, all_threads=True)
    return descriptor


def process_state(pid: int) -> str:
    """What the system says the process does (proc(5), `stat`); "unknown" where it does not say."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            state = stat.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "unknown"
    return _STATES.get(state, state)


async def stacks_of(pid: int, descriptor: int | None) -> str | None:
    """The stacks of a child that has called `dump_stacks_on_signal`, innermost call first; None if it cannot say."""
    if descriptor is None:
        return None
    try:
        os.kill(pid, DUMP_SIGNAL)
        await trio.sleep(DUMP_TIME)
        with open(f"/proc/{pid}/fd/{descriptor}", "rb") as file:  # noqa: ASYNC230 - it is memory
            return file.read(MOST_BYTES).decode(errors="replace") or None
    except OSError:
        return None
