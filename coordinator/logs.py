"""Structured logs: readable on a terminal, a JSON object a line elsewhere; libraries' logs in the same form."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import structlog
import trio

__all__ = ["Seldom", "configure"]

SELDOM: Final = 60.0  # seconds


class Seldom:
    """Whether to log now what may go on all the time: once, and then once a minute while it does."""

    def __init__(self) -> None:
        self._last: float | None = None

    def is_due(self) -> bool:
        """Whether nothing was logged in the last minute. If so, the caller logs now."""
        now = trio.current_time()
        if self._last is not None and now - self._last < SELDOM:
            return False
        self._last = now
        return True


def configure(level: str, form: Literal["auto", "console", "json"], worker: int | None = None) -> None:
    """Send everything at `level` and above to standard error. Each entry says which worker we are, if any."""

    def say_who(_: object, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return entry if worker is None else {**entry, "worker": worker}

    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        say_who,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso" if not console else "%H:%M:%S", utc=not console),
    ]
    final: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if console:
        plain = structlog.dev.plain_traceback
        final.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain))
    else:
        # Without the frames' variables, which hold clients' data and the store's password.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        final += [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # trio-websocket reports each frame at debug, Hypercorn its own start at info, beside ours.
    logging.getLogger("trio-websocket").setLevel(logging.ERROR)
    logging.getLogger("hypercorn.error").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
