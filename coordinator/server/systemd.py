"""What systemd is told of a service of Type=notify: that it serves, reloads, stops, and is alive. See sd_notify(3)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

import structlog
import trio

__all__ = ["Notifier"]

log = structlog.get_logger("coordinator")

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells whoever has started us, if that is systemd; else it does nothing.

    Args:
        environment: the variables that say so are taken out, for they are not meant for our children.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address, microseconds, pid = (environment.pop(name, "") for name in _VARIABLES)
        self._address = "\0" + address[1:] if address.startswith("@") else address  # an abstract socket
        is_watched = bool(address) and microseconds.isdecimal() and pid in ("", str(os.getpid()))
        self._alive_every = int(microseconds) / 2e6 if is_watched else 0.0  # seconds

    def ready(self) -> None:
        """We serve, at first or again."""
        self._tell("READY=1\nSTATUS=serving")

    def reloading(self) -> None:
        """We read the settings and the certificate again; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """We are about to stop."""
        self._tell(f"STOPPING=1\nSTATUS={status}")

    async def say_alive(self) -> None:
        """As long as this runs say often enough that we are alive. Returns at once if nobody wants to know."""
        while self._alive_every:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._alive_every)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as end:
                end.connect(self._address)
                end.send(state.encode())
        except (OSError, ValueError) as error:
            log.warning("cannot tell systemd", state=state.partition("\n")[0], reason=str(error))
