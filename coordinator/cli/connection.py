"""A command's connection to the coordinator, and what becomes of it when that fails."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

import trio
from pydantic import ValidationError

from coordinator.cli.exit_codes import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_NO_CONNECTION,
    EXIT_USAGE,
    fail,
    first_leaf,
)
from coordinator.client import CannotConnect, Client, ClientError, ConnectionLost, NoReply, connect

__all__ = ["DEFAULT_CONTEXT", "DEFAULT_URL", "Place", "connected", "run", "run_connected"]

DEFAULT_URL: Final = "ws://127.0.0.1:9653"
DEFAULT_CONTEXT: Final = 1
RECONNECT_FOR: Final = 60.0
"""Seconds without a coordinator after which a command that had one gives up."""


@dataclass(frozen=True)
class Place:
    """Where flows are: a coordinator and a context."""

    url: str
    context: int

    def command(self, name: str, *arguments: object) -> str:
        """A command line that does this here."""
        words = ["herocoordinator", *name.split(), *map(str, arguments)]
        if self.context != DEFAULT_CONTEXT or name == "runner":
            words += ["--context", str(self.context)]
        if self.url != DEFAULT_URL:
            words += ["--url", self.url]
        return shlex.join(words)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client that has been connected, and gets over a coordinator that is started anew.

    Raises:
        CannotConnect: there is no coordinator.
        ValueError: the URL is not one.
    """
    # The client cannot tell the first connection from later ones; one attempt must do here.
    async with connect(url, give_up_after=0) as attempt:
        await attempt.wait_connected()
    async with connect(url, give_up_after=RECONNECT_FOR) as client:
        yield client


def run_connected(url: str, work: Callable[[Client], Awaitable[int]]) -> NoReturn:
    """Exit with what `work` returns, or as suits the error it ended with."""

    async def main() -> int:
        async with connected(url) as client:
            return await work(client)

    run(main)


def run(main: Callable[[], Awaitable[int]]) -> NoReturn:
    """`run_connected` for work that makes its own connection."""
    try:
        sys.exit(trio.run(main))
    except SystemExit:
        raise
    except BaseException as raised:
        error = first_leaf(raised)
        status = _status_of(error)
        if status is None:
            raise error from raised
        fail(_words(error), status)


def _status_of(error: BaseException) -> int | None:
    if isinstance(error, CannotConnect | ConnectionLost | NoReply):
        return EXIT_NO_CONNECTION
    if isinstance(error, ClientError):
        return EXIT_ERROR
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_USAGE if isinstance(error, ValidationError) else None


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return str(error) or type(error).__name__
