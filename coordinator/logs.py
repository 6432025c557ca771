"""Structured logs: readable on a terminal, a JSON object a line elsewhere; libraries' logs in the same form."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import trio

from coordinator.importing import without
from coordinator.printable import visible, visible_lines
from coordinator.redaction import redact, redact_values

# structlog imports rich wherever it is installed, for tracebacks that nobody asks it for here; that would be a tenth of
# the time of a start. It is imported here before anywhere else.
with without("rich"):
    import structlog

__all__ = ["Seldom", "configure", "configure_plain", "set_level"]

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


class _Shown:
    """A value as the console renderer has it, which takes the `repr` of what is no text."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        value = self._value
        is_word = isinstance(value, str) and not set(value) & set(" \t=\r\n\"'")
        return visible(value if is_word else repr(value))


def _show(_: object, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Make what an entry says fit for a terminal: much of it came from clients and runners."""
    shown: structlog.typing.EventDict = {}
    for name, value in entry.items():
        if name in ("stack", "exception"):
            shown[name] = visible_lines(str(value))
        elif name in ("exc_info", "level", "logger", "timestamp"):
            shown[name] = value
        else:
            shown[name] = visible(str(value)) if name == "event" else _Shown(value)
    return shown


def _hide_secrets(_: object, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What is no text is shown by its `repr`, so that becomes one if there is a secret in it."""
    return {name: _without_secrets(name, value) for name, value in entry.items()}


def _without_secrets(name: str, value: Any) -> Any:
    if name in ("exc_info", "level", "logger", "timestamp", "worker") or value is None:
        return value
    if isinstance(value, str | dict | list | tuple):
        return redact_values(value)
    shown = repr(value)
    return value if redact(shown) == shown else redact(shown)


def _write_traceback(stream: TextIO, exc_info: Any) -> None:
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    stream.write(visible_lines(redact(plain.getvalue())))


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(redact(super().format(record)))


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(visible_lines(redact("".join(traceback.format_exception(kind, error, trace)))))


def configure_plain() -> None:
    """Send warnings, and what ends the process, to standard error as they are but fit for a terminal: for commands that
    keep no log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    sys.excepthook = _print_uncaught


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
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback)
        final += [_hide_secrets, _show, renderer]
    else:
        # Without the frames' variables, which hold clients' data and the store's password.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        final += [
            structlog.processors.ExceptionRenderer(tracebacks),
            _hide_secrets,
            structlog.processors.JSONRenderer(),
        ]
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


def set_level(level: str) -> None:
    """From now on log everything at `level` and above."""
    logging.getLogger().setLevel(level.upper())
