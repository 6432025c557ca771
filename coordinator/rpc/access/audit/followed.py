"""What takes the outcome of one call on its way, so that the logs and its span tell of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple

from coordinator.actors.request import Outcome
from coordinator.errors import ClientLeft, CoordinatorError, Forbidden, NotFound, NotLoggedIn, StaleToken
from coordinator.rpc.access.audit.lines import naming, shown_id, shown_outcome
from coordinator.rpc.access.audit.trail import Trail
from coordinator.rpc.access.client import Access, is_about_no_context
from coordinator.rpc.access.rights import Right
from coordinator.rpc.methods.method import Live, Method, Personal
from coordinator.storage.keys import ContextKey
from coordinator.tracing import CallSpan, StoreTime

__all__ = ["Followed", "follow"]

ABANDONED: Final = "abandoned"  # an outcome: the client has left before there was one
_LOGINS: Final = frozenset({"auth.login", "auth.renew"})
_DENIALS: Final = (Forbidden, NotLoggedIn)
_REFUSALS: Final = (*_DENIALS, NotFound)  # before it was begun; a stranger is told that there is no context

ReplyTo = Callable[[int, bytes | None, Outcome], None]
"""Takes a call's outcome; see `replies`."""


def follow(
    trail: Trail,
    method: Method,
    params: Any,
    allowed: Method | CoordinatorError,
    reply_to: ReplyTo,
    traceparent: str = "",
) -> ReplyTo:
    """What takes the outcome of a call: a `Followed` if there is to be a line or a span of it, or if it starts a run
    and what has asked for that is known; else `reply_to` itself.

    Args:
        allowed: what was decided on it.
        traceparent: the caller's span, if the call itself names one.
    """
    kind = _kinds.get(method.name) or _kind_of(method)
    is_denied = type(allowed) is not Method and isinstance(allowed, _REFUSALS)
    is_audited = trail.logs.audit is not None and (kind.is_written or kind.is_watched or is_denied)
    begun = perf_counter() if trail.logs.access is not None else 0.0
    trail.number += 1
    spans = trail.logs.spans
    if not is_audited and not begun and spans is None and not (method.starts_run and trail.request_id(trail.number)):
        return reply_to
    followed = Followed(
        trail,
        kind,
        kind.about(params),
        reply_to,
        trail.number,
        is_denied=is_denied,
        is_audited=is_audited,
        begun=begun,
    )
    if spans is not None:
        followed.span = spans.begin(method.name, trail.transport, traceparent or trail.traceparent)
    return followed


class _Kind(NamedTuple):
    """What there is to know of a method.

    Attributes:
        is_written: all its calls have a line.
        is_watched: one may be denied after it was begun.
        is_login: it may make the client somebody.
        about: from its params to the context they are about.
        named: the part of a line that names it.
    """

    method: Method
    is_written: bool
    is_watched: bool
    is_login: bool
    about: Callable[[Any], ContextKey]
    named: str


_kinds: Final[dict[str, _Kind]] = {}  # by name, as they are asked for


def _kind_of(method: Method) -> _Kind:
    right, is_login = method.right, method.name in _LOGINS
    kind = _kinds[method.name] = _Kind(
        method,
        is_written=method.writes or is_login,
        is_watched=isinstance(method.does, Personal | Live) or right is Right.ATTEMPT,
        is_login=is_login,
        about=partial(Access.context_of, right) if is_about_no_context(right) else method.context,
        named=naming(method.name),
    )
    return kind


class Followed:
    """Takes the outcome of one call, passes it on, writes its line and ends its span.

    Attributes:
        then: takes the outcome after it.
        span: its own, if it is traced.
        store_time: what the store has taken over it, and over those it travels with, if it is traced.
    """

    __slots__ = (
        "_begun",
        "_context",
        "_is_audited",
        "_is_denied",
        "_kind",
        "_number",
        "_principal",
        "_trail",
        "span",
        "store_time",
        "then",
    )

    def __init__(
        self,
        trail: Trail,
        kind: _Kind,
        context: ContextKey,
        then: ReplyTo,
        number: int,
        *,
        is_denied: bool,
        is_audited: bool,
        begun: float,
    ) -> None:
        self.then = then
        self._trail = trail
        self._kind = kind
        self._context = context
        self._number = number
        self.span: CallSpan | None = None
        self.store_time: StoreTime | None = None
        self._principal = trail.principal
        self._is_denied = is_denied
        self._is_audited = is_audited
        self._begun = begun

    @property
    def origin(self) -> str:
        """What has asked for the run that it starts, as Keyspace.started_by takes it; '' if nobody would know."""
        request_id = self._trail.request_id(self._number)
        if self.span is None:
            return f",{request_id}" if request_id else ""
        return f"{self.span.traceparent},{request_id}"

    def __call__(self, at: int, id: bytes | None, outcome: Outcome) -> None:
        try:
            self.then(at, id, outcome)
        finally:
            if self.span is not None:
                self._end_span(self.span, shown_outcome(outcome).strip('"'), id)
            if self._is_audited:
                self._write_audit(id, outcome)
            if self._begun:
                has_logged_in = self._kind.is_login and type(outcome) is bytes
                principal = self._trail.who_logged_in() if has_logged_in else self._principal
                self._write_access(principal, shown_outcome(outcome), id)

    def _write_access(self, principal: str, outcome: str, id: bytes | None) -> None:
        seconds = perf_counter() - self._begun
        self._trail.write_access(self._kind.named, principal, self._context, outcome, seconds, id, self._number)

    def _end_span(self, span: CallSpan, outcome: str, id: bytes | None) -> None:
        attributes: dict[str, str | int | float] = {"herocoordinator.principal": self._principal}
        if self._context is not None:
            attributes["herocoordinator.context_id"] = self._context
        if request_id := self._trail.request_id(self._number):
            attributes["herocoordinator.request_id"] = request_id
        if id is not None:
            attributes["jsonrpc.request.id"] = shown_id(id).strip('"')
        if self.store_time is not None:
            attributes["herocoordinator.store.duration"] = self.store_time.seconds
        span.end(outcome, attributes)

    def abandoned(self, id: bytes | None) -> None:
        """Its client has left before the outcome was known."""
        if self.span is not None:
            self._end_span(self.span, ABANDONED, id)
        if self._begun:
            self._write_access(self._principal, f'"{ABANDONED}"', id)
        if self._kind.is_written:
            code, reason = str(ClientLeft.code), ClientLeft.detail
            self._trail.write_audit(self._kind.named, self._principal, self._context, code, reason, id, self._number)

    def _write_audit(self, id: bytes | None, outcome: Outcome) -> None:
        kind, trail, principal = self._kind, self._trail, self._principal
        if type(outcome) is bytes:
            if kind.is_written:
                if kind.is_login:
                    principal = trail.who_logged_in()
                trail.write_audit(kind.named, principal, self._context, '"ok"', None, id, self._number)
            return
        assert isinstance(outcome, CoordinatorError)
        is_denied = self._is_denied or isinstance(outcome, _DENIALS)
        if isinstance(outcome, StaleToken) and not kind.is_written:
            is_denied = trail.has_logins
        if is_denied or kind.is_written:
            reason = None
            if is_denied:
                reason = _right_of(kind.method, outcome)
            elif isinstance(outcome, ClientLeft):
                reason = outcome.detail
            trail.write_audit(kind.named, principal, self._context, str(outcome.code), reason, id, self._number)


def _right_of(method: Method, error: CoordinatorError) -> str:
    """What a call that was denied would have needed."""
    if isinstance(error, Forbidden):
        return str(error.data["right"])
    if method.right is Right.PUBLIC:
        return Right.SIGNED_IN.value
    return "nothing" if method.right is None else method.right.value
