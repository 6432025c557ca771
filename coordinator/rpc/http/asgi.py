"""The answers as an ASGI app, for Hypercorn: one app a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

import trio

from coordinator.budget import SLOWEST_BODY, Budget
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.tokens import NOTHING, Shown
from coordinator.rpc.http.answers import Answers
from coordinator.rpc.http.decisions import Answer, Call, Decision, Request, ShowPage
from coordinator.rpc.http.lifetime import Limits
from coordinator.rpc.http.replying import replying
from coordinator.rpc.http.sessions import ChangeSession
from coordinator.rpc.jsonrpc.replies import Response
from coordinator.rpc.work import carry_out

__all__ = ["AsgiApp"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PIECE_BYTES: Final = 32 * 1024  # of a response that Hypercorn gets at a time
_HOP_BY_HOP: Final = (b"connection", b"upgrade")  # HTTP/2 has none


class _ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class AsgiApp:
    """Answers the requests of one connection.

    What it holds for them is bounded: bodies that are arriving, by `max_unsent_bytes`; replies, by a budget of as much.

    Args:
        stalled: called when the client has accepted nothing of a response for the write time-out.
        host: tells where the client is.
        certified: what its certificate says.

    Attributes:
        budget: the client's.
    """

    def __init__(
        self,
        answers: Answers,
        limits: Limits,
        stalled: Callable[[], None],
        host: Callable[[], str] = lambda: "",
        certified: Shown = NOTHING,
    ) -> None:
        self._certified = certified
        self._answers = answers
        self._limits = limits
        self._stalled = stalled
        self.budget = Budget(limits.max_unsent_bytes, host)
        self._arriving = 0  # bytes of bodies held
        self._owed: set[_Exchange] = set()  # requests that are whole, and have no whole response yet
        self._access: Access | None = None  # of who has called last of those who have logged in

    @property
    def owes(self) -> bool:
        """Whether a request is being answered, rather than waited for."""
        return bool(self._owed)

    @property
    def identity(self) -> Hashable:
        """Access.identity of whoever was logged in and has called last; None if nobody was."""
        return None if self._access is None else self._access.identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange = _Exchange(receive)
            try:
                answer = await self._answer(scope, exchange)
                await self._respond(scope, exchange, answer, send)
            except _ClientLeft:
                return
            finally:
                self._owed.discard(exchange)
        elif scope["type"] == "websocket":  # HTTP/2 has none here, and over HTTP/1 Hypercorn is not asked for one
            await receive()
            await send({"type": "websocket.close"})

    async def _answer(self, scope: Scope, exchange: _Exchange) -> Answer:
        decision = self._answers.decide(_request(scope))
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if isinstance(decision, Answer) and (not length.isdigit() or int(length) > self._answers.max_body_bytes):
            return decision
        body = bytearray()
        try:
            refused = await self._read(exchange, body)
            self._owed.add(exchange)
            return refused or await self._answer_to(decision, body, exchange)
        finally:
            self._arriving -= len(body)

    async def _read(self, exchange: _Exchange, body: bytearray) -> Answer | None:
        """Read a request's body. Returns the answer to it if it is not to be carried out."""
        limit = self._limits.request_timeout
        begun = trio.current_time()
        while not exchange.is_whole:
            with trio.move_on_at(begun + limit + len(body) / SLOWEST_BODY) as scope:
                part = await exchange.part()
            if scope.cancelled_caught:
                return self._answers.refusal(408, f"no whole body within {limit:g} s, and too little of it for more")
            self._arriving += len(part)
            body += part
            if len(body) > self._answers.max_body_bytes:
                return self._answers.too_large(begun=body)
            if self._arriving > self._limits.max_unsent_bytes:
                return self._answers.refusal(503, "too many bodies at once on this connection", (b"retry-after", b"1"))
        return None

    async def _answer_to(self, decision: Decision, body: bytearray, exchange: _Exchange) -> Answer:
        if isinstance(decision, Answer):
            return decision
        if isinstance(decision, ShowPage | ChangeSession):
            return await self._answers.show(decision, self.budget)
        if not isinstance(decision, Call):
            return self._answers.refusal(404, "no WebSocket over HTTP/2; it is at /ws over HTTP/1.1")
        message = self._answers.message(decision, body)
        if isinstance(message, Answer):
            return message
        replies: list[tuple[Response | None, Answer | None]] = []

        def respond(reply: Response | None, instead: Answer | None) -> None:
            replies.append((reply, instead))

        client = self._answers.new_client() if self._answers.makes_request_ids else ""
        intake = self._answers.intake(decision, self.budget, self._certified, client)
        on_its_way = await carry_out(replying(decision, message, intake, respond))
        if not await on_its_way.wait(exchange.hung_up):
            raise _ClientLeft
        if intake.access is not None and intake.access.principal is not None:
            self._access = intake.access
        reply, instead = replies[0]
        begun = instead or (decision.silent if reply is None else decision.replied)
        headers = begun.headers
        if client and not decision.request_id:
            headers = (*headers, (b"x-request-id", client.encode()))
        return Answer(begun.status, headers, b"".join(reply) if isinstance(reply, list) else reply or b"")

    async def _respond(self, scope: Scope, exchange: _Exchange, answer: Answer, send: Send) -> None:
        headers = [header for header in answer.headers if scope["http_version"] != "2" or header[0] not in _HOP_BY_HOP]
        if answer.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(answer.body)))
        self.budget.take(len(answer.body))
        unsent = memoryview(answer.body)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange.hung_up)  # drops what still arrives of a body nobody wants
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                while True:
                    piece, more = unsent[:PIECE_BYTES], len(unsent) > PIECE_BYTES
                    with trio.move_on_after(self._limits.write_timeout) as waiting:
                        await send({"type": "http.response.body", "body": bytes(piece), "more_body": more})
                    if waiting.cancelled_caught:
                        self._stalled()
                        break
                    unsent = unsent[len(piece) :]
                    self.budget.give_back(len(piece))
                    if not more:
                        break
                nursery.cancel_scope.cancel()
        finally:
            self.budget.give_back(len(unsent))


class _Exchange:
    """A request as it arrives.

    Attributes:
        is_whole: all of it has.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_whole = False

    async def part(self) -> bytes:
        """The next part of the body. Raises _ClientLeft."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        self.is_whole = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    async def hung_up(self) -> None:
        """Return once the client is gone. Unread messages would keep Hypercorn from reading the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _request(scope: Scope) -> Request:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = b"%b, %b" % (headers[name], value) if name in headers else value
    if scope["http_version"] == "2" and not headers.get(b"host"):
        headers.pop(b"host", None)  # Hypercorn's own, of a request that names none
    return Request(scope["method"].encode(), scope["raw_path"], headers)
