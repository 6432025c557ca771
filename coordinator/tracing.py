"""What a trace is to everybody: the header `traceparent` of W3C Trace Context, and who is told of spans.

Whoever exports them is in `server.telemetry`, which is imported only where tracing is on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["CallSpan", "Spans", "StoreTime", "is_traceparent", "span_of_attempt", "traceparent_of_attempt"]

_SPAN: Final = r"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT: Final = re.compile(rf"00-{_SPAN}|(?!00|ff)[0-9a-f]{{2}}-{_SPAN}(?:-[!-~]{{0,256}})?")
"""A later version than 00 may have more members, of which nobody here knows."""


def is_traceparent(text: object) -> bool:
    """Whether this names a span."""
    return type(text) is str and _TRACEPARENT.fullmatch(text) is not None


def span_of_attempt(token: str) -> str:
    """The id of an attempt's span. It is made of the token, so that the coordinator which hands the attempt out and the
    one that learns of its end, perhaps after a restart, name the same; a token cannot be told from it."""
    return hashlib.sha256(b"span " + token.encode()).hexdigest()[:16]


def traceparent_of_attempt(traceparent: str, token: str) -> str:
    """That of an attempt's span in the trace of the call that has started its run."""
    version, trace, _, flags = traceparent.split("-")
    return f"{version}-{trace}-{span_of_attempt(token)}-{flags}"


class StoreTime:
    """Adds up the seconds that the store takes over what some calls have in common.

    Args:
        then: is told of them, too.
    """

    __slots__ = ("_then", "seconds")

    def __init__(self, then: Callable[[float], None] | None) -> None:
        self.seconds = 0.0
        self._then = then

    def __call__(self, seconds: float) -> None:
        self.seconds += seconds
        if self._then is not None:
            self._then(seconds)


class CallSpan(Protocol):
    """The span of one call.

    Attributes:
        traceparent: names it.
    """

    traceparent: str

    def end(self, outcome: str, attributes: dict[str, str | int | float]) -> None:
        """It is over. `outcome`: `ok`, or the code of an error. Never blocks or raises."""


class Spans(Protocol):
    """Who is told of them."""

    def begin(self, method: str, transport: str, traceparent: str) -> CallSpan:
        """The span of a call that begins now, in the trace that this names; '' for one of its own."""

    def attempt(self, context: int | None, ended: Any) -> None:
        """An attempt has ended that belongs to a trace: an `AttemptEnded` of the function library. Never blocks."""
