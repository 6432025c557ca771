"""Running out of file descriptors, on purpose."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

__all__ = ["connect_idly", "descriptors_of", "limited", "no_descriptors"]


def descriptors_of(pid: int) -> set[int]:
    """The descriptors that a process has open."""
    return {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}


@contextlib.contextmanager
def limited(pid: int, spare: int = 0) -> Iterator[None]:
    """That running process may open only so many more descriptors (of its soft limit), until this ends; without a
    spare one none at all, not even in place of those it closes."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = 3  # with fewer, poll(2) refuses to wait for one
    if spare:
        used = descriptors_of(pid)
        free = (number for number in range(before[0]) if number not in used)
        limit = next(number for count, number in enumerate(free) if count == spare)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process gets no new descriptor."""
    with contextlib.ExitStack() as stack:
        lowest = os.dup(0)
        os.close(lowest)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        yield


def connect_idly(url: str, count: int, stack: ExitStack) -> list[socket.socket]:
    """So many connections to where the URL points, over which nothing is said; closed with the stack."""
    address = "127.0.0.1", int(url.rpartition(":")[2])
    clients = []
    for _ in range(count):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(address)
        clients.append(client)
    return clients
