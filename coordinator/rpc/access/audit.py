"""The audit log: who wrote what, who was refused what, and who has logged in; and the access log: who called what, and
how long it took. A JSON object a line.

An `Audit` is one for each process and log, a `Trail` one for each client. A line is made when a call's outcome is
known, and holds nothing of its params or its result. Lines are written in another thread, in order, soon after.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from json import dumps
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

import structlog
import trio

from coordinator.actors.request import Outcome
from coordinator.errors import CoordinatorError, Forbidden, NotFound, NotLoggedIn, StaleToken, StorageError
from coordinator.logs import Seldom
from coordinator.rpc.access.appending import AuditFile
from coordinator.rpc.access.client import Access, is_about_no_context
from coordinator.rpc.access.rights import Right
from coordinator.rpc.methods.method import Live, Method, Personal
from coordinator.storage.keys import ContextKey
from coordinator.supervision import supervise
from coordinator.tracing import CallSpan, Spans, StoreTime

__all__ = ["NO_LOGS", "Audit", "Followed", "Logs", "Trail"]

log = structlog.get_logger("coordinator.audit")

WAITING_BYTES: Final = 4 * 1024 * 1024  # of lines that are not written yet
GATHER: Final = 0.05  # seconds in which lines come together: a thread is asked that seldom
RETRY_EVERY: Final = 0.5  # seconds, while they cannot be written
FLUSH_TIMEOUT: Final = 5.0  # seconds for what remains in the end
MAX_ID: Final = 64  # characters of a call's id
MAX_REASON: Final = 200

CONNECT: Final = "connect"  # in place of a method: a WebSocket's handshake with a token
SESSION: Final = "session"  # a browser's, begun or ended
ABANDONED: Final = '"abandoned"'  # an outcome in the access log: the client has left before there was one
DISCOVER: Final = "rpc.discover"
ENDED: Final = "auth.ended"  # what a login or a subscription has ended with
_LOGINS: Final = frozenset({"auth.login", "auth.renew"})
_DENIALS: Final = (Forbidden, NotLoggedIn)
_REFUSALS: Final = (*_DENIALS, NotFound)  # before it was begun; a stranger is told that there is no context
_TOKEN: Final = re.compile(r"hc_[\w-]+")

ReplyTo = Callable[[int, bytes | None, Outcome], None]
"""Takes a call's outcome; see `replies`."""


class Audit:
    """The lines of this process, on their way to the file.

    They are held in memory while they cannot be written, up to a bound. Beyond that they are lost: calls go on.

    Args:
        log: which one it is.

    Attributes:
        lost: lines.
    """

    def __init__(self, path: Path, log: str = "audit log") -> None:
        self.lost = 0
        self._log = log
        self._file = AuditFile(path)
        self._lines: list[str] = []
        self._unwritten = b""  # of those that were taken from there
        self._size = 0  # of both
        self._gap = 0  # lines lost of which the file does not tell yet
        self._wake = trio.Event()
        self._end = trio.Event()
        self._name = secrets.token_hex(4)
        self._clients = count(1)
        self._now = self._second = (0, "")
        self._failing = Seldom()

    def client(self) -> str:
        """A new client's name, which no other one has."""
        return f"{self._name}-{next(self._clients)}"

    def now(self) -> str:
        """As lines have it."""
        now = int(time.time() * 1000)
        if now != self._now[0]:
            second, milliseconds = divmod(now, 1000)
            if second != self._second[0]:
                self._second = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._now = now, f"{self._second[1]}.{milliseconds:03d}Z"
        return self._now[1]

    def add(self, line: str) -> None:
        """Have a line written, which is ASCII. Never blocks."""
        size = len(line)
        if self._size + size > WAITING_BYTES:
            self.lost += 1
            self._gap += 1
            return
        if self._gap:
            line = self._told_gap() + line
            size = len(line)
        if not self._lines:
            self._wake.set()
        self._size += size
        self._lines.append(line)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While this lasts lines are written, and in the end those that remain."""
        writing, is_over = trio.CancelScope(shield=True), trio.Event()

        async def write() -> None:
            with writing:
                await supervise(f"writing the {self._log}", self._write_lines)
            is_over.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            try:
                yield
            finally:
                self._end.set()
                self._wake.set()
                with trio.move_on_after(FLUSH_TIMEOUT, shield=True):
                    await is_over.wait()
                writing.cancel()
                if is_over.is_set():  # else a thread may still be at it
                    self._file.close()
                self._give_up_the_rest()

    def _told_gap(self) -> str:
        lost, self._gap = self._gap, 0
        return f'{{"at":"{self.now()}","lost":{lost}}}\n'

    async def _write_lines(self) -> None:
        while True:
            if not self._size and not self._gap:
                if self._end.is_set():
                    return
                await self._wake.wait()
            with trio.move_on_after(GATHER):
                await self._end.wait()
            self._wake = trio.Event()
            lines = self._unwritten + "".join(self._lines).encode()
            if self._gap and self._size <= WAITING_BYTES // 2:
                told = self._told_gap()
                lines += told.encode()
                self._size += len(told)
            self._lines.clear()
            self._unwritten = lines
            written, fault = await trio.to_thread.run_sync(self._file.append, lines, abandon_on_cancel=True)
            self._unwritten = lines[written:]
            self._size -= written
            if fault is None:
                continue
            if self._end.is_set():
                return
            if self._failing.is_due():
                log.error(
                    f"the {self._log} cannot be written; calls go on, and lines are lost once too many wait",
                    reason=fault,
                    waiting_bytes=self._size,
                    lost=self.lost,
                )
            with trio.move_on_after(RETRY_EVERY):
                await self._end.wait()

    def _give_up_the_rest(self) -> None:
        rest = self._unwritten.count(b"\n") + sum(line.count("\n") for line in self._lines)
        if rest:
            self.lost += rest
            log.error(f"the {self._log} could not be written to its end", lost=self.lost)


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
        named=_named(method.name),
    )
    return kind


class Logs(NamedTuple):
    """Those that are kept, and who is told of spans."""

    audit: Audit | None = None
    access: Audit | None = None
    spans: Spans | None = None

    @property
    def is_written(self) -> bool:
        """Whether there is a log that names calls."""
        return self.audit is not None or self.access is not None

    def client(self) -> str:
        """A new client's name, which no other one has."""
        audit = self.audit or self.access
        assert audit is not None, "one of them is kept"
        return audit.client()


NO_LOGS: Final = Logs()


class Trail:
    """One client's: a WebSocket connection, or an HTTP message.

    Args:
        address: where it is.
        access: who it is; None where nobody logs in.
        client: its name, if it has one already.
        request_id: that of the HTTP message.
        traceparent: its span, as it says; '' if it names none.
    """

    __slots__ = (
        "_access",
        "_address",
        "_client",
        "_end",
        "_logs",
        "_number",
        "_request_id",
        "_traceparent",
        "_transport",
    )

    def __init__(
        self,
        logs: Logs,
        transport: str,
        address: str,
        access: Access | None,
        *,
        client: str = "",
        request_id: str = "",
        traceparent: str = "",
    ) -> None:
        self._logs = logs
        self._transport = transport
        self._address = address
        self._access = access
        self._client = client
        self._request_id = _TOKEN.sub("hc_***", request_id)
        self._traceparent = traceparent
        self._number = 0  # of its last call
        self._end = ""  # of its lines in the audit log: what they have in common

    @property
    def principal(self) -> str:
        """Whom a line is about."""
        if self._access is None:
            return "anybody"
        principal = self._access.principal
        return "nobody" if principal is None else principal.name

    def follow(
        self,
        method: Method,
        params: Any,
        allowed: Method | CoordinatorError,
        reply_to: ReplyTo,
        traceparent: str = "",
    ) -> ReplyTo:
        """What takes the outcome of a call so that there is a line or a span of it, if there is to be one, and knows
        what has asked for the run that it may start.

        Args:
            allowed: what was decided on it.
            traceparent: the caller's span, if the call itself names one.
        """
        kind = _kinds.get(method.name) or _kind_of(method)
        is_denied = type(allowed) is not Method and isinstance(allowed, _REFUSALS)
        is_audited = self._logs.audit is not None and (kind.is_written or kind.is_watched or is_denied)
        begun = perf_counter() if self._logs.access is not None else 0.0
        self._number += 1
        spans = self._logs.spans
        if not is_audited and not begun and spans is None and not (method.starts_run and self._request_id):
            return reply_to
        followed = Followed(
            self,
            kind,
            kind.about(params),
            reply_to,
            self._number,
            is_denied=is_denied,
            is_audited=is_audited,
            begun=begun,
        )
        if spans is not None:
            followed.span = spans.begin(method.name, self._transport, traceparent or self._traceparent)
        return followed

    def request_id(self, number: int) -> str:
        """What the logs call the call of this number: all of an HTTP message have one. '' if nobody would know it."""
        if self._request_id or not self._logs.is_written:
            return self._request_id
        client = self._name()
        return client if self._transport == "http" else f"{client}.{number}"

    def known(self, id: bytes | None, outcome: Outcome) -> None:
        """The outcome of a call was known at once, for it is none, or none that may be made."""
        self._number += 1
        if self._logs.access is not None:
            name = DISCOVER if type(outcome) is bytes else getattr(outcome, "method", None)
            shown = "null" if name is None else dumps(_TOKEN.sub("hc_***", name[: 16 * MAX_ID])[:MAX_ID])
            named = f'","method":{shown},"context":'
            self.tell_call(named, self.principal, None, _outcome(outcome), 0.0, id, self._number)

    def tell_call(
        self,
        named: str,
        principal: str,
        context: ContextKey,
        outcome: str,
        seconds: float,
        id: bytes | None,
        number: int,
    ) -> None:
        """Write a line of the access log, if that is kept."""
        log = self._logs.access
        if log is None:
            return
        client = self._name()
        log.add(
            f'{{"at":"{log.now()}","principal":"{principal}{named}{"null" if context is None else context},'
            f'"outcome":{outcome},"duration":{seconds:.6f},"address":{dumps(self._address)},'
            f'"transport":"{self._transport}","client":"{client}","request_id":'
            f'{dumps(self.request_id(number))},"id":{_shown_id(id)}}}\n'
        )

    def _name(self) -> str:
        if not self._client:
            self._client = self._logs.client()
        return self._client

    def connected(self) -> None:
        """A token was shown as the connection was opened; it was good if the client is somebody now."""
        self._logged_in(CONNECT, is_good=self._access is not None and self._access.principal is not None)

    def session_begun(self, *, is_good: bool) -> None:
        """A browser has asked for a session, and has one now if what it has shown was good."""
        self._logged_in(SESSION, is_good=is_good)

    def _logged_in(self, by: str, *, is_good: bool) -> None:
        outcome, reason = ('"ok"', None) if is_good else (str(NotLoggedIn.code), Right.SIGNED_IN.value)
        self.tell(_named(by), self.principal, None, outcome, reason, None)

    def session_ended(self, principal: str) -> None:
        """A browser has ended its session."""
        self.tell(_named(SESSION), principal, None, '"ok"', "ended", None)

    def page_denied(self, path: str) -> None:
        """A page was asked for by somebody who may not see it."""
        self.tell(_named(path), self.principal, None, str(NotLoggedIn.code), Right.SIGNED_IN.value, None)

    def ended(self, principal: str, context: ContextKey, error: CoordinatorError, reason: str) -> None:
        """A login, or a subscription in a context, was ended by us."""
        self.tell(_named(ENDED), principal, context, str(error.code), reason, None)

    def tell(
        self,
        named: str,
        principal: str,
        context: ContextKey,
        outcome: str,
        reason: str | None,
        id: bytes | None,
        number: int | None = None,
    ) -> None:
        """Write a line of the audit log, if that is kept. `number`: of the call; None: it is about none."""
        audit = self._logs.audit
        if audit is None:
            return
        if not self._end:
            self._end = f',"address":{dumps(self._address)},"transport":"{self._transport}","request_id":'
        if number is None:
            self._number = number = self._number + 1
        why = "" if reason is None else f',"reason":{dumps(reason[:MAX_REASON])}'
        about = "null" if context is None else context
        audit.add(
            f'{{"at":"{audit.now()}","principal":"{principal}{named}{about},"outcome":{outcome}{why}{self._end}'
            f'{dumps(self.request_id(number))},"id":{_shown_id(id)}}}\n'
        )

    def who_logged_in(self) -> str:
        """Whom the login that has just succeeded is of."""
        proven = None if self._access is None else self._access.proven
        return self.principal if proven is None else proven.name

    @property
    def has_logins(self) -> bool:
        return self._access is not None


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
                self._end_span(self.span, _outcome(outcome).strip('"'), id)
            if self._is_audited:
                self._tell(id, outcome)
            if self._begun:
                has_logged_in = self._kind.is_login and type(outcome) is bytes
                principal = self._trail.who_logged_in() if has_logged_in else self._principal
                self._tell_call(principal, _outcome(outcome), id)

    def _tell_call(self, principal: str, outcome: str, id: bytes | None) -> None:
        seconds = perf_counter() - self._begun
        self._trail.tell_call(self._kind.named, principal, self._context, outcome, seconds, id, self._number)

    def _end_span(self, span: CallSpan, outcome: str, id: bytes | None) -> None:
        attributes: dict[str, str | int | float] = {"herocoordinator.principal": self._principal}
        if self._context is not None:
            attributes["herocoordinator.context_id"] = self._context
        if request_id := self._trail.request_id(self._number):
            attributes["herocoordinator.request_id"] = request_id
        if id is not None:
            attributes["jsonrpc.request.id"] = _shown_id(id).strip('"')
        if self.store_time is not None:
            attributes["herocoordinator.store.duration"] = self.store_time.seconds
        span.end(outcome, attributes)

    def abandoned(self, id: bytes | None) -> None:
        """Its client has left before the outcome was known."""
        if self.span is not None:
            self._end_span(self.span, ABANDONED.strip('"'), id)
        if self._begun:
            self._tell_call(self._principal, ABANDONED, id)
        if self._kind.is_written:
            gone = "the client has left; it may have been carried out"
            self._trail.tell(
                self._kind.named, self._principal, self._context, str(StorageError.code), gone, id, self._number
            )

    def _tell(self, id: bytes | None, outcome: Outcome) -> None:
        kind, trail, principal = self._kind, self._trail, self._principal
        if type(outcome) is bytes:
            if kind.is_written:
                if kind.is_login:
                    principal = trail.who_logged_in()
                trail.tell(kind.named, principal, self._context, '"ok"', None, id, self._number)
            return
        assert isinstance(outcome, CoordinatorError)
        is_denied = self._is_denied or isinstance(outcome, _DENIALS)
        if isinstance(outcome, StaleToken) and not kind.is_written:
            is_denied = trail.has_logins
        if is_denied or kind.is_written:
            reason = _right_of(kind.method, outcome) if is_denied else None
            trail.tell(kind.named, principal, self._context, str(outcome.code), reason, id, self._number)


def _named(method: str) -> str:
    """The part of a line that names what is no method of ours."""
    return f'","method":"{method}","context":'


def _right_of(method: Method, error: CoordinatorError) -> str:
    """What a call that was denied would have needed."""
    if isinstance(error, Forbidden):
        return str(error.data["right"])
    if method.right is Right.PUBLIC:
        return Right.SIGNED_IN.value
    return "nothing" if method.right is None else method.right.value


def _outcome(outcome: Outcome) -> str:
    return '"ok"' if type(outcome) is bytes else str(getattr(outcome, "code", StorageError.code))


def _shown_id(id: bytes | None) -> str:
    return f'"{id.decode()}"' if id is not None and id.isdigit() and len(id) <= MAX_ID else _shown(id)


def _shown(id: bytes | None) -> str:
    """A call's id as a text of bounded length, in ASCII, as a terminal may show it. A token is not shown."""
    if id is None:
        return "null"
    text = id[: 16 * MAX_ID].decode(errors="ignore").removeprefix('"').removesuffix('"')
    return dumps(_TOKEN.sub("hc_***", text)[:MAX_ID])
