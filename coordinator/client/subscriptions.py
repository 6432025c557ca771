"""What lives on a connection, as the channel of either loop sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Notification", "Subscription"]

Notification = Callable[[str, dict[str, Any]], None]
"""Takes a notification's method and params. Must not block or raise."""


class Subscription(Protocol):
    """Something that lives on a connection and is brought back on the next one."""

    def resume(self) -> None:
        """There is a new connection, on which nothing was sent yet."""

    def suspend(self) -> None:
        """The connection is gone."""

    def end(self, error: Exception) -> None:
        """There will be no other one."""
