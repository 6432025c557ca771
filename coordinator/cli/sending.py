"""How the sending of a large flow is shown."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

import click

from coordinator.cli.exit_codes import complain

__all__ = ["Sending"]

SAY_EVERY: Final = 5.0  # seconds, where there is no terminal
DRAW_EVERY: Final = 0.1


class Sending:
    """Shows on standard error how far a large flow is sent: one line that is kept up to date on a terminal, elsewhere a
    line now and then. Of one that is sent at once it says nothing."""

    def __init__(self, flow: int, jobs: int) -> None:
        self._flow = flow
        self._jobs = jobs
        self._done: int | None = None  # jobs sent; None: it is no large flow
        self._is_terminal = sys.stderr.isatty()
        self._is_drawn = False
        self._next = time.monotonic() + (0 if self._is_terminal else SAY_EVERY)

    def show(self, done: int, total: int) -> None:
        self._done = done
        now = time.monotonic()
        if now < self._next and not (self._is_drawn and done == total):
            return
        self._next = now + (DRAW_EVERY if self._is_terminal else SAY_EVERY)
        text = f"sending flow {self._flow}: {done:,} of {total:,} jobs"
        if self._is_terminal:
            click.echo(f"\r{text}", err=True, nl=False)
            self._is_drawn = True
        else:
            complain(text)

    def explain(self, *, is_interrupted: bool) -> None:
        """Say what becomes of a flow that could not be sent."""
        if self._done == self._jobs or self._done is None:
            complain(f"flow {self._flow} may have been started; `herocoordinator flow show {self._flow}` tells")
        elif is_interrupted:
            complain(f"flow {self._flow} was not started, and what was sent of it is deleted")
        else:
            complain(f"flow {self._flow} was not started; the coordinator will delete what was sent of it")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
