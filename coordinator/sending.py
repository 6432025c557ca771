"""Sending at once what the kernel takes at once.

trio's `send_all` lets every other task have its turn once the data is on its way, also when it never had to wait. Under
load that is as long as all of them take together, each time.
"""

from __future__ import annotations

import os

import trio

__all__ = ["send_all"]


async def send_all(stream: trio.abc.SendStream, data: bytes) -> None:
    """As `stream.send_all(data)`, but not a checkpoint if the kernel takes everything. For one task at a time.

    Raises:
        OSError: the connection broke; or as `stream.send_all`.
    """
    if isinstance(stream, trio.SocketStream):
        try:
            sent = os.write(stream.socket.fileno(), data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    await stream.send_all(data)
