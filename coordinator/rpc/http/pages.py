"""JSON-RPC over HTTP: an ASGI app for Hypercorn's trio worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, Final

import trio
from pydantic_core import to_json

from coordinator.actors.request import Request
from coordinator.budget import Budget
from coordinator.errors import InvalidRequest
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.http.fast_path import HungUp, Plain, Respond, read_head
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.calls import Dispatcher, Intake, Sink
from coordinator.rpc.openrpc import ServedDocument

__all__ = ["HttpFrontEnd"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON: Final = b"application/json"
_REMEMBERED_HEADS: Final = 1024


class _Reply(Sink):
    """The sink of one POST.

    Attributes:
        long_calls: those that may take long.
    """

    __slots__ = ("_arrived", "_respond", "long_calls")

    def __init__(self, respond: Respond) -> None:
        self.long_calls: list[Request] = []
        self._arrived = trio.Event()
        self._respond = respond

    def deliver(self, response: bytes | None, calls: int = 1) -> None:
        self._respond(response)
        self._arrived.set()

    def waits_for(self, call: Request) -> None:
        self.long_calls.append(call)

    async def wait(self, hung_up: HungUp) -> None:
        """Until there is the reply. If the client leaves before a long call has its answer, that is abandoned."""
        if self.long_calls and not self._arrived.is_set():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, hung_up, nursery.cancel_scope)
                await self._arrived.wait()
                nursery.cancel_scope.cancel()
        else:
            await self._arrived.wait()

    async def _watch(self, hung_up: HungUp, waiting: trio.CancelScope) -> None:
        await hung_up()
        for call in self.long_calls:
            call.abandon()
        waiting.cancel()


class _Refused(Exception):
    """A request answered with an HTTP error instead of a JSON-RPC reply to it."""

    def __init__(self, status: int, detail: str, *headers: tuple[bytes, bytes], **more: Any) -> None:
        self.status = status
        self.headers = headers
        self.error = InvalidRequest(detail, **more)


class HttpFrontEnd:
    """The ASGI app. POST / is JSON-RPC; GET serves the document, health and metrics.

    Args:
        document: the OpenRPC document.
        metrics: renders the Prometheus page: its body and its content type. May raise trio.TooSlowError.
        ready: whether the store answers.
        max_body_bytes: size of a body; a larger one gets 413.
        max_unsent_bytes: see Budget.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: AccessPolicy,
        *,
        document: ServedDocument,
        ready: Callable[[], Awaitable[str | None]],
        metrics: Callable[[], Awaitable[tuple[bytes, str]]],
        max_body_bytes: int,
        max_unsent_bytes: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._policy = policy
        self._document = document
        self._ready = ready
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_unsent_bytes = max_unsent_bytes
        self.admit = lru_cache(_REMEMBERED_HEADS)(self._admit)
        """From a request's head to how PlainPosts answers it. A client's heads are all but the same each time."""
        self._pages: dict[str, Callable[[str | None], Awaitable[tuple[int, bytes, bytes]]]] = {
            "/openrpc.json": self._openrpc_page,
            "/healthz": self._health_page,
            "/readyz": self._ready_page,
            "/metrics": self._metrics_page,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # WebSocket has a port of its own

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        for name in (b"origin", b"host"):
            if name in headers:  # given several times it is none
                headers[name] = b", ".join(value for other, value in scope["headers"] if other == name)
        extra: Headers = []
        try:
            # First, whatever comes of it: a request answered before its end costs the client its connection.
            body = await self._body(headers, receive)
            extra = self._let_in(headers)
            if scope["method"] == "POST" and scope["path"] == "/":
                self._check_kind(headers)
                replies: list[bytes | None] = []
                await self.answer(body, partial(_disconnected, receive), replies.append)
                reply = replies[0] if replies else None
                status, kind = (204, None) if reply is None else (200, _JSON)
            else:
                status, kind, reply = await self._other(scope, extra)
        except _Refused as refused:
            status, kind = refused.status, _JSON
            reply = protocol.render_error(protocol.NULL_ID, refused.error)
            extra += refused.headers
        if kind is not None and reply is not None:
            extra += [(b"content-type", kind), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": reply or b""})

    def _let_in(self, headers: dict[bytes, bytes]) -> Headers:
        """The headers for the page that calls, if it is one. Raises _Refused if it may not."""
        origin = headers.get(b"origin")
        host = headers.get(b"host")
        refusal = self._policy.refusal(
            None if origin is None else origin.decode("latin-1"),
            None if host is None else host.decode("latin-1"),
        )
        if refusal is not None:
            raise _Refused(403, refusal)
        if origin is not None and self._policy.is_allowed(origin.decode("latin-1")):
            return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
        return []

    # -- JSON-RPC

    def _admit(self, head: bytes) -> Plain | None:
        headers = read_head(head)
        if headers is None:
            return None
        try:
            self._check_length(headers)
            self._check_kind(headers)
            lines = self._let_in(headers)
        except _Refused:
            return None  # the long way says why
        return Plain(int(headers[b"content-length"]), b"".join(b"%b: %b\r\n" % line for line in lines))

    async def answer(self, body: bytes, hung_up: HungUp, respond: Respond) -> None:
        """Answer a POST, if its client does not leave before."""
        reply = _Reply(respond)
        intake = Intake(self._dispatcher, reply, Budget(self._max_unsent_bytes))
        await intake.take(body)
        await intake.flush()
        await reply.wait(hung_up)  # the directory answers every request by its deadline

    def _check_kind(self, headers: dict[bytes, bytes]) -> None:
        kind = headers.get(b"content-type", b"")
        if kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
            raise _Refused(415, "Content-Type must be application/json")

    def _check_length(self, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 19 or int(length) > self._max_body_bytes:
            raise self._too_large()

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        self._check_length(headers)
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return body
        parts = [body]
        size = len(body)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Refused(400, "the client left before the end of the body")
            part = message["body"]
            parts.append(part)
            size += len(part)
            if size > self._max_body_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(parts)

    def _too_large(self) -> _Refused:
        limit = self._max_body_bytes
        # What is left of the body is not worth reading.
        close = (b"connection", b"close")
        return _Refused(413, f"a body of over {limit} bytes", close, limit=limit, setting="max_body_bytes")

    # -- everything else

    async def _other(self, scope: Scope, extra: Headers) -> tuple[int, bytes | None, bytes | None]:
        path, method = scope["path"], scope["method"]
        page = self._pages.get(path)
        if page is None and path != "/":
            raise _Refused(404, f"nothing at {path[:100]}; JSON-RPC is at /")
        allowed = b"POST, OPTIONS" if page is None else b"GET, HEAD, OPTIONS"
        if method == "OPTIONS":
            extra.append((b"allow", allowed))
            if any(name == b"access-control-allow-origin" for name, _ in extra):
                extra += [
                    (b"access-control-allow-methods", allowed),
                    (b"access-control-allow-headers", b"content-type"),
                    (b"access-control-max-age", b"600"),
                ]
            return 204, None, None
        if page is None or method not in ("GET", "HEAD"):
            raise _Refused(405, f"{method[:20]} is not for {path}", (b"allow", allowed))
        host = dict(scope["headers"]).get(b"host")
        return await page(None if host is None else host.decode("latin-1"))

    async def _openrpc_page(self, host: str | None) -> tuple[int, bytes, bytes]:
        return 200, _JSON, self._document.json_for(host)

    async def _health_page(self, _: str | None) -> tuple[int, bytes, bytes]:
        return 200, _JSON, b'{"status":"ok"}'

    async def _ready_page(self, _: str | None) -> tuple[int, bytes, bytes]:
        fault = await self._ready()
        if fault is None:
            return 200, _JSON, b'{"status":"ready"}'
        return 503, _JSON, to_json({"status": "not ready", "reason": fault})

    async def _metrics_page(self, _: str | None) -> tuple[int, bytes, bytes]:
        try:
            body, kind = await self._metrics()
        except trio.TooSlowError:
            raise _Refused(503, "the processes that serve did not all answer") from None
        return 200, kind.encode(), body


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    """Both messages must be answered: Hypercorn's trio worker fails at start if the app leaves early."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
