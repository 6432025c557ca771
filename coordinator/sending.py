"""Sending at once what the kernel takes at once.

trio's `send_all` lets every other task have its turn once the data is on its way, also when it never had to wait. Under
load that is as long as all of them take together, each time.
"""

from __future__ import annotations

import os

import trio

__all__ = ["send_now"]


def send_now(stream: trio.abc.SendStream, data: bytes) -> bytes:
    """Send what the kernel takes at once. Returns what is left for `stream.send_all`: everything unless it is a socket.

    Raises:
        OSError: the connection broke.
    """
    if not isinstance(stream, trio.SocketStream):
        return data
    try:
        return data[os.write(stream.socket.fileno(), data) :]
    except BlockingIOError:
        return data
