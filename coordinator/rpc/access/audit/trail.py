"""What the logs tell of one client."""

from __future__ import annotations

from json import dumps
from typing import Final, NamedTuple

from coordinator.actors.request import Outcome
from coordinator.errors import CoordinatorError, NotLoggedIn
from coordinator.rpc.access.audit.lines import masked, naming, shown_id, shown_method, shown_outcome
from coordinator.rpc.access.audit.writer import LogWriter
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.rights import Right
from coordinator.storage.keys import ContextKey
from coordinator.tracing import Spans

__all__ = ["NO_LOGS", "Logs", "Trail"]

MAX_REASON: Final = 200  # characters

CONNECT: Final = "connect"  # in place of a method: a WebSocket's handshake with a token
SESSION: Final = "session"  # a browser's, begun or ended
ENDED: Final = "auth.ended"  # what a login or a subscription has ended with
DISCOVER: Final = "rpc.discover"


class Logs(NamedTuple):
    """The logs that a process keeps, and where its spans go."""

    audit: LogWriter | None = None
    access: LogWriter | None = None
    spans: Spans | None = None

    @property
    def is_written(self) -> bool:
        """Whether there is a log that names calls."""
        return self.audit is not None or self.access is not None

    def client(self) -> str:
        """A new client's name, which no other one has."""
        written = self.audit or self.access
        assert written is not None, "one of them is kept"
        return written.client()


NO_LOGS: Final = Logs()


class Trail:
    """One client's: a WebSocket connection, or an HTTP message.

    Args:
        address: where it is.
        access: who it is; None where nobody logs in.
        client: its name, if it has one already.
        request_id: that of the HTTP message.
        traceparent: its span, as it says; '' if it names none.

    Attributes:
        logs, transport, traceparent: those.
        number: of its last call.
    """

    __slots__ = (
        "_access",
        "_address",
        "_client",
        "_end",
        "_request_id",
        "logs",
        "number",
        "traceparent",
        "transport",
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
        self.logs = logs
        self.transport = transport
        self._address = address
        self._access = access
        self._client = client
        self._request_id = masked(request_id)
        self.traceparent = traceparent
        self.number = 0
        self._end = ""  # of its lines in the audit log: what they have in common

    @property
    def principal(self) -> str:
        """Whom a line is about."""
        if self._access is None:
            return "anybody"
        principal = self._access.principal
        return "nobody" if principal is None else principal.name

    def request_id(self, number: int) -> str:
        """What the logs call the call of this number: all of an HTTP message have one. '' if nobody would know it."""
        if self._request_id or not self.logs.is_written:
            return self._request_id
        client = self._name()
        return client if self.transport == "http" else f"{client}.{number}"

    def known(self, id: bytes | None, outcome: Outcome) -> None:
        """The outcome of a call was known at once, for it is none, or none that may be made."""
        self.number += 1
        if self.logs.access is not None:
            name = DISCOVER if type(outcome) is bytes else getattr(outcome, "method", None)
            self.write_access(shown_method(name), self.principal, None, shown_outcome(outcome), 0.0, id, self.number)

    def write_access(
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
        log = self.logs.access
        if log is None:
            return
        client = self._name()
        log.add(
            f'{{"at":"{log.now()}","principal":"{principal}{named}{"null" if context is None else context},'
            f'"outcome":{outcome},"duration":{seconds:.6f},"address":{dumps(self._address)},'
            f'"transport":"{self.transport}","client":"{client}","request_id":'
            f'{dumps(self.request_id(number))},"id":{shown_id(id)}}}\n'
        )

    def _name(self) -> str:
        if not self._client:
            self._client = self.logs.client()
        return self._client

    def connected(self) -> None:
        """A token was shown as the connection was opened; it was good if the client is somebody now."""
        self._logged_in(CONNECT, is_good=self._access is not None and self._access.principal is not None)

    def session_begun(self, *, is_good: bool) -> None:
        """A browser has asked for a session, and has one now if what it has shown was good."""
        self._logged_in(SESSION, is_good=is_good)

    def _logged_in(self, by: str, *, is_good: bool) -> None:
        outcome, reason = ('"ok"', None) if is_good else (str(NotLoggedIn.code), Right.SIGNED_IN.value)
        self.write_audit(naming(by), self.principal, None, outcome, reason, None)

    def session_ended(self, principal: str) -> None:
        """A browser has ended its session."""
        self.write_audit(naming(SESSION), principal, None, '"ok"', "ended", None)

    def page_denied(self, path: str) -> None:
        """A page was asked for by somebody who may not see it."""
        self.write_audit(naming(path), self.principal, None, str(NotLoggedIn.code), Right.SIGNED_IN.value, None)

    def ended(self, principal: str, context: ContextKey, error: CoordinatorError, reason: str) -> None:
        """A login, or a subscription in a context, was ended by us."""
        self.write_audit(naming(ENDED), principal, context, str(error.code), reason, None)

    def write_audit(
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
        audit = self.logs.audit
        if audit is None:
            return
        if not self._end:
            self._end = f',"address":{dumps(self._address)},"transport":"{self.transport}","request_id":'
        if number is None:
            self.number = number = self.number + 1
        why = "" if reason is None else f',"reason":{dumps(reason[:MAX_REASON])}'
        about = "null" if context is None else context
        audit.add(
            f'{{"at":"{audit.now()}","principal":"{principal}{named}{about},"outcome":{outcome}{why}{self._end}'
            f'{dumps(self.request_id(number))},"id":{shown_id(id)}}}\n'
        )

    def who_logged_in(self) -> str:
        """Whom the login that has just succeeded is of."""
        proven = None if self._access is None else self._access.proven
        return self.principal if proven is None else proven.name

    @property
    def has_logins(self) -> bool:
        return self._access is not None
