"""What a request is and what the answer to it is: the one place that decides it, free of sockets and versions of HTTP.

A request's head is enough to tell whether it is a call, a page or refused (`Answers.decide`), and that is remembered by
whoever sees the same head again. HTTP/1 (`connection`) and Hypercorn's HTTP/2 (`asgi`) do what it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from coordinator.budget import Budget
from coordinator.dashboard import Site
from coordinator.errors import InvalidRequest
from coordinator.readiness import Readiness
from coordinator.rpc.access.audit.trail import NO_LOGS, Trail
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.cookies import shown_by_cookie
from coordinator.rpc.access.forwarded import Proxies
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.access.tokens import NOTHING, Shown, bearer_of, shown_by
from coordinator.rpc.http.bodies import ACCEPTED_CODINGS, DamagedBody, TooLarge, coding_of, decoded, type_fault
from coordinator.rpc.http.decisions import Answer, Call, Decision, Headers, Request, ShowPage, WebSocketUpgrade
from coordinator.rpc.http.pages import Pages
from coordinator.rpc.http.sessions import METHODS as SESSION_METHODS
from coordinator.rpc.http.sessions import PATH as SESSION_PATH
from coordinator.rpc.http.sessions import ChangeSession, Refusal, Sessions, decide_session
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.calls import Intake
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.tracing import is_traceparent

__all__ = ["JSON", "TOO_LARGE", "Answers", "has_token"]

JSON: Final = (b"content-type", b"application/json")
TOO_LARGE: Final = 413
NOT_STORED: Final = (b"cache-control", b"no-store")
CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="herocoordinator"')

_RPC_METHODS: Final = b"GET, HEAD, POST, OPTIONS"
_PAGE_METHODS: Final = b"GET, HEAD, OPTIONS"
_WEBSOCKET_PATHS: Final = ("/", "/ws")
_MAX_LENGTH_DIGITS: Final = 19
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")  # one that is shown, and told back
_PREFLIGHT_SECONDS: Final = b"600"  # for which a browser may remember the answer


class _Target(NamedTuple):
    path: str
    authority: bytes | None  # if it names one


class Answers:
    """The rules.

    Args:
        pages: what GET shows.
        max_body_bytes: size of a body, with its coding and without; a larger one gets 413.
        has_websocket: connections that are to be WebSockets are served.
        proxies: those that are believed where a request is from.
        site: the dashboard.

    Attributes:
        makes_request_ids: calls that have none get one, for there is a log that shows it.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: AccessPolicy,
        pages: Pages,
        *,
        max_body_bytes: int,
        has_websocket: bool,
        proxies: Proxies | None = None,
        site: Site | None = None,
    ) -> None:
        self._proxies = proxies or Proxies()
        self._site = site or Site({})
        self._dispatcher = dispatcher
        self._policy = policy
        self._sessions = Sessions(dispatcher, policy, self._proxies)
        self._pages = pages
        self.max_body_bytes = max_body_bytes
        logs = dispatcher.logs
        self._is_traced = logs is not None and logs.spans is not None
        self.makes_request_ids = logs is not None and logs.access is not None
        self._has_websocket = has_websocket

    @property
    def has_logins(self) -> bool:
        """Whether callers have to log in."""
        return self._dispatcher.gate is not None

    @property
    def readiness(self) -> Readiness | None:
        """Tells of what arrives from clients; None where the system has nothing for that."""
        return self._dispatcher.directory.readiness

    def decide(self, request: Request) -> Decision:
        """What is to be done, as far as the head tells."""
        target = _target(request)
        if target is None:
            return self.refusal(400, "the request's target is none")
        if request.headers.get(b"expect", b"100-continue").lower() != b"100-continue":
            return self.refusal(417, "of Expect, 100-continue is met")
        path, authority = target
        host = request.headers.get(b"host") if authority is None else authority
        if _asks_for_websocket(request):
            if self._has_websocket and path in _WEBSOCKET_PATHS:
                return WebSocketUpgrade()
            hint = "it is at /ws" if self._has_websocket else "it has a port of its own"
            return self.refusal(404, f"no WebSocket at {path[:100]}; {hint}")
        origin = request.headers.get(b"origin")
        refused = self._policy.refusal(
            None if origin is None else origin.decode("latin-1"),
            None if host is None else host.decode("latin-1"),
        )
        always: Headers = ((b"vary", b"Origin"),) if origin is not None or request.method != b"POST" else ()
        if b"x-request-id" in request.headers and _REQUEST_ID.fullmatch(request.headers[b"x-request-id"]):
            always = (*always, (b"x-request-id", request.headers[b"x-request-id"]))
        if refused is not None:
            return self.refusal(403, refused, *always)
        is_foreign = origin is not None and self._policy.is_allowed(origin.decode("latin-1"))
        shared: Headers = ((b"access-control-allow-origin", origin), *always) if is_foreign and origin else always
        return self._of_the_dashboard(request, path, shared) or self._decide_path(
            request, path, host, shared, is_foreign=is_foreign
        )

    def _of_the_dashboard(self, request: Request, path: str, shared: Headers) -> Answer | None:
        """The answer if the dashboard is what it asks for."""
        shown = self._site.reply(path, request.headers) if request.method in (b"GET", b"HEAD") else None
        if shown is None:
            return None
        return self._too_long(request, shared) or Answer(shown.status, (*shared, *shown.headers), shown.body)

    def _decide_path(
        self, request: Request, path: str, host: bytes | None, shared: Headers, *, is_foreign: bool
    ) -> Decision:
        page = self._pages.by_path.get(path)
        is_rpc = path in ("/", "*")
        if path == SESSION_PATH or (page is None and path not in ("*", "/ws")):
            return self._decide_elsewhere(request, path, host, shared)
        allowed = _RPC_METHODS if is_rpc else _PAGE_METHODS
        method = request.method
        if method == b"OPTIONS":
            return Answer(204, (*shared, (b"allow", allowed), *_preflight(request, allowed, is_foreign=is_foreign)))
        if method == b"POST" and path == "/":
            return self._decide_call(request, host, shared)
        if method not in (b"GET", b"HEAD"):
            named = method[:20].decode("latin-1")
            return self.refusal(405, f"{named} is not for {path}", *shared, (b"allow", allowed))
        if page is None:
            upgrade = (b"connection", b"upgrade"), (b"upgrade", b"websocket")
            return self.refusal(426, "a WebSocket is here: ask for an upgrade to it", *shared, *upgrade)
        secret = self._dispatcher.gate is not None and path == "/metrics"
        return self._too_long(request, shared) or ShowPage(
            page,
            shared,
            None if host is None else host.decode("latin-1"),
            request.headers.get(b"authorization", b"") if secret else None,
            self._proxies.told(request.headers) if secret else "",
        )

    def _decide_call(self, request: Request, host: bytes | None, shared: Headers) -> Decision:
        fault = type_fault(request.headers.get(b"content-type", b""))
        if fault is not None:
            return self.refusal(415, fault, *shared)
        coding = coding_of(request.headers.get(b"content-encoding", b""))
        if coding is None:
            accepted = b"accept-encoding", ACCEPTED_CODINGS
            return self.refusal(415, f"of Content-Encoding, {ACCEPTED_CODINGS.decode()} are read", *shared, accepted)
        silent = Answer(204, shared)
        too_long = self._too_long(request, shared)
        told = self._proxies.told(request.headers)
        named = (host or b"").decode("latin-1").lower()
        request_id = _request_id(shared)
        traceparent = request.headers.get(b"traceparent", b"").decode("latin-1") if self._is_traced else ""
        traceparent = traceparent if is_traceparent(traceparent) else ""
        if too_long is not None or self._dispatcher.gate is None:
            replied = Answer(200, (*shared, JSON))
            return too_long or Call(coding, replied, silent, told=told, request_id=request_id, traceparent=traceparent)
        return Call(
            coding,
            Answer(200, (*shared, JSON)),
            silent,
            Answer(401, (*shared, JSON, CHALLENGE)),
            named,
            self._shown_by(request, named),
            told,
            request_id,
            traceparent,
        )

    def _shown_by(self, request: Request, host: str) -> Shown:
        """What a call shows to say who makes it: a token, or else a cookie."""
        shown = shown_by(request.headers.get(b"authorization"))
        return shown if shown.digest else shown_by_cookie(self._policy, request.headers, host)

    def _decide_elsewhere(self, request: Request, path: str, host: bytes | None, shared: Headers) -> Decision:
        """What is to be done where there is neither a page nor JSON-RPC."""
        if path != SESSION_PATH:
            return self.refusal(404, f"nothing at {path[:100]}; JSON-RPC is at /", *shared)
        if self._dispatcher.gate is None:
            return self.refusal(404, "nobody logs in here: --auth none", *shared)
        allowed = b"allow", SESSION_METHODS
        if request.method == b"OPTIONS":
            return Answer(204, (*shared, allowed))
        if request.method not in (b"POST", b"DELETE"):
            named = request.method[:20].decode("latin-1")
            return self.refusal(405, f"{named} is not for {SESSION_PATH}", *shared, allowed)
        decided = decide_session(
            self._policy,
            request.method,
            request.headers,
            None if host is None else host.decode("latin-1"),
            self._proxies.told(request.headers),
        )
        if isinstance(decided, Refusal):
            return self._refusal_of(decided, shared)
        return self._too_long(request, shared) or replace(decided, headers=shared, request_id=_request_id(shared))

    def _refusal_of(self, refusal: Refusal, shared: Headers) -> Answer:
        challenge: Headers = (CHALLENGE,) if refusal.is_challenge else ()
        retry: Headers = ((b"retry-after", b"%d" % refusal.retry_after),) if refusal.retry_after else ()
        return self.refusal(refusal.status, refusal.detail, *shared, *challenge, *retry, NOT_STORED)

    def _too_long(self, request: Request, shared: Headers) -> Answer | None:
        length = request.headers.get(b"content-length", b"0")
        if length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS and int(length) <= self.max_body_bytes:
            return None
        return self.too_large(shared)

    def too_large(self, shared: Headers = (), begun: bytes | bytearray = b"") -> Answer:
        """The answer to a body over the limit, of which this has arrived: the id of its first call, if it is there."""
        limit = self.max_body_bytes
        error = InvalidRequest(f"a body of over {limit} bytes", limit=limit, setting="max_body_bytes")
        id = protocol.first_id(bytes(begun[: protocol.MAX_HEAD]))
        return Answer(TOO_LARGE, (*shared, JSON), protocol.render_error(id, error))

    def refusal(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> Answer:
        """An answer that is an error of HTTP, with the JSON-RPC error that says why."""
        return Answer(status, (*headers, JSON), protocol.render_error(protocol.NULL_ID, InvalidRequest(detail)))

    def message(self, call: Call, body: bytes | bytearray) -> bytes | bytearray | Answer:
        """The JSON-RPC message of a call's body, or the answer to it if it is none."""
        if not call.coding:
            return body
        try:
            return decoded(body, call.coding, self.max_body_bytes)
        except TooLarge:
            return self.too_large(call.silent.headers)
        except DamagedBody as damaged:
            return self.refusal(400, str(damaged), *call.silent.headers)

    def new_client(self) -> str:
        """What the logs call the client that has sent a message, which is the request id of one that has none. Only if
        `makes_request_ids`."""
        assert self._dispatcher.logs is not None, "a log is kept"
        return self._dispatcher.logs.client()

    def intake(self, call: Call, budget: Budget, certified: Shown = NOTHING, client: str = "") -> Intake:
        """What puts the message of this call on its way.

        Args:
            budget: the client's.
            certified: what the client's certificate says, which counts if the request shows nothing.
            client: what the logs call it, of `new_client`.
        """
        gate = self._dispatcher.gate
        shown = call.shown if call.shown.digest else certified
        access = None if gate is None else Access(gate, host=call.host, shown=shown)
        logs, limits = self._dispatcher.logs, self._dispatcher.limits
        account = trail = None
        address = self._proxies.address(budget.address, call.told) if call.told else ""
        request_id = call.request_id
        if logs is not None or limits is not None or request_id:
            address = address or budget.address
            if logs is not None or request_id:
                trail = Trail(
                    logs or NO_LOGS,
                    "http",
                    address,
                    access,
                    client=client,
                    request_id=request_id,
                    traceparent=call.traceparent,
                )
            account = None if limits is None else limits.account(access, address)
        return Intake(self._dispatcher, budget, access=access, trail=trail, account=account, address=address)

    async def show(self, shown: ShowPage | ChangeSession, budget: Budget) -> Answer:
        """Make a page, or begin or end a session. `budget`: the client's."""
        if type(shown) is ChangeSession:
            return await self._change(shown, budget)
        assert isinstance(shown, ShowPage)
        gate, authorization = self._dispatcher.gate, shown.authorization
        if gate is not None and authorization is not None and not gate.may_see_metrics(bearer_of(authorization)):
            if self._dispatcher.logs is not None:
                address = self._proxies.address(budget.address, shown.told)
                trail = Trail(
                    self._dispatcher.logs, "http", address, Access(gate), request_id=_request_id(shown.headers)
                )
                trail.page_denied("/metrics")
            return self.refusal(401, "this page is for the operator, or who has --metrics-token-file", CHALLENGE)
        status, kind, body = await shown.page(shown.host)
        return Answer(status, (*shown.headers, (b"content-type", kind)), body)

    async def _change(self, change: ChangeSession, budget: Budget) -> Answer:
        gate = self._dispatcher.gate
        assert gate is not None, "without it there are no sessions"
        changed = await self._sessions.change(change, gate, budget)
        if isinstance(changed, Refusal):
            return self._refusal_of(changed, change.headers)
        cookie, body = changed
        headers: Headers = (*change.headers, NOT_STORED, (b"set-cookie", cookie))
        return Answer(200, (*headers, JSON), body) if body else Answer(204, headers)


def _target(request: Request) -> _Target | None:
    """Where a request goes; None if that is no place."""
    raw = request.target.decode("latin-1")
    if raw == "*":
        return _Target(raw, None) if request.method == b"OPTIONS" else None
    if raw.startswith("/"):
        return _Target(unquote(raw.partition("?")[0]), None)
    try:
        split = urlsplit(raw)
    except ValueError:
        return None
    if split.scheme.lower() not in ("http", "https") or not split.netloc:
        return None
    return _Target(unquote(split.path or "/"), split.netloc.rpartition("@")[2].encode("latin-1"))


def _request_id(headers: Headers) -> str:
    """The one that a request has, as its response tells it."""
    return next((value.decode() for name, value in headers if name == b"x-request-id"), "")


def _asks_for_websocket(request: Request) -> bool:
    return (
        request.method == b"GET"
        and has_token(request.headers, b"upgrade", b"websocket")
        and has_token(request.headers, b"connection", b"upgrade")
    )


def has_token(headers: Mapping[bytes, bytes], name: bytes, token: bytes) -> bool:
    """Whether a header that is a list has this member, in whatever case."""
    value = headers.get(name)
    return value is not None and any(part.strip().lower() == token for part in value.split(b","))


def _preflight(request: Request, allowed: bytes, *, is_foreign: bool) -> Headers:
    """What a browser is told that asks whether a page of an origin on the allow-list may call."""
    if not is_foreign:
        return ()
    headers: Headers = (
        (b"access-control-allow-methods", allowed),
        (b"access-control-allow-headers", b"authorization, content-encoding, content-type"),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    )
    if request.headers.get(b"access-control-request-private-network", b"").lower() == b"true":
        headers += ((b"access-control-allow-private-network", b"true"),)
    return headers
