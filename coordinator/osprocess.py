"""Processes: what ours may use, how children learn that we are gone, and how we wait for them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Final

import trio

__all__ = ["collect_garbage_less_often", "die_with_parent", "exit_status", "raise_file_limit"]

_PR_SET_PDEATHSIG: Final = 1


def raise_file_limit() -> None:
    """A connection is a file descriptor; take as many as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def collect_garbage_less_often() -> None:
    """A 1 MiB body of `[[],[],…` takes 24 ms to parse like this and 110 with Python's own thresholds."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """For the child, between fork and exec: the kernel sends it this signal when we die. Linux only; elsewhere None.

    "We" is the *thread* that forked, so start the child from one that lives as long as the process.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # looked up before the fork: nothing may be loaded after it
    parent = os.getpid()

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # we died before the call
            os._exit(1)

    return set_signal


async def exit_status(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process, cancellably. Returns its status, or minus the number of the signal that ended it."""
    while process.poll() is None:
        with _exit_descriptor(process) as descriptor:
            if descriptor is None:
                await trio.sleep(0.05)
            else:
                await trio.lowlevel.wait_readable(descriptor)
    return process.returncode


@contextlib.contextmanager
def _exit_descriptor(process: subprocess.Popen[bytes]) -> Iterator[int | None]:
    """A descriptor that turns readable when the process ends, where the system has such a thing."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
