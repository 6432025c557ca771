"""HTTP/1: one connection from its first byte to its last.

Its task reads a request, has it answered, and reads the next. The common one, a POST whose head was seen before and
which is there as a whole, takes no detour, whatever came before it on the connection. All that is remembered from one
request to the next is who makes them, as long as each shows the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Final

import trio

from coordinator.budget import AHEAD_BYTES, SLOWEST_BODY, Budget
from coordinator.readiness import WatchedSocket
from coordinator.rpc.access.certificates import certified_by
from coordinator.rpc.head_limits import MAX_HEAD
from coordinator.rpc.http.answers import JSON, TOO_LARGE, Answers
from coordinator.rpc.http.bodies import TooLarge
from coordinator.rpc.http.chunked import ChunkedBody, MalformedChunk
from coordinator.rpc.http.decisions import Answer, Call, Headers, ShowPage, WebSocketUpgrade
from coordinator.rpc.http.heads import (
    CHUNKED,
    PREFACE,
    REMEMBERED_BYTES,
    Head,
    HeadReader,
)
from coordinator.rpc.http.lifetime import GRACE, Handover, Limits, Waiting, end
from coordinator.rpc.http.replying import Reply, replying
from coordinator.rpc.http.sending import Outgoing
from coordinator.rpc.http.sessions import ChangeSession
from coordinator.rpc.jsonrpc.calls import Intake
from coordinator.rpc.jsonrpc.replies import Response
from coordinator.rpc.work import Rest, Work, begin, carry_out
from coordinator.socketio import has_hung_up, peer_host, receive_next
from coordinator.standby import Standby

__all__ = ["Connection"]

LOOK_EVERY: Final = 0.5  # seconds between two looks whether it is, once no more may be read ahead
FIRST_PART_TIMEOUT: Final = 0.25  # seconds for the beginning of a body that is too large
REQUESTS_A_SLICE: Final = 8  # answered of what one read has brought, before other tasks get on
HEAD_BYTES: Final = 512  # of heads that are as much work as a request: a header may be as short as four bytes

_END: Final = b"\r\n\r\n"
_LINE_END: Final = b"\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_TO_HTTP2: Final = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
_FIRST_LETTER: Final = b"!"  # of a request line; anything below begins none


_Left = bytes | Rest[Reply] | Reply | None
"""What only a task can go on with: the beginning of a request, a call that has to wait, a reply to wait for, or what
is unsent or unread."""


class _Refused(Exception):
    """The request cannot be read to its end. The answer to it, if there is any, is the connection's last."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer


class Connection:
    """A client's connection; `serve` it once.

    Args:
        answers: what is answered.
        heads: reads heads; shared by all connections.
        waiting: shared by all connections.
    """

    __slots__ = (
        "_answering",
        "_answers",
        "_at",
        "_budget",
        "_call",
        "_certified",
        "_data",
        "_gives_way",
        "_head",
        "_heads",
        "_idle_since",
        "_in_slice",
        "_incoming",
        "_intake",
        "_limits",
        "_now",
        "_opened_at",
        "_outgoing",
        "_request_id",
        "_standby",
        "_start",
        "_stream",
        "_waiting",
        "_waits_in",
    )

    def __init__(
        self, stream: trio.abc.Stream, answers: Answers, heads: HeadReader, limits: Limits, waiting: Waiting
    ) -> None:
        self._stream = stream
        self._answers = answers
        self._heads = heads
        self._limits = limits
        self._waiting = waiting
        self._certified = certified_by(stream)
        self._budget = Budget(limits.max_unsent_bytes, partial(peer_host, stream))
        self._outgoing = Outgoing(stream, self._budget, limits.write_timeout)
        self._data = b""  # what was read
        self._start = 0  # where the last request begins there
        self._at = 0  # how much of it was dealt with
        self._in_slice = 0  # requests answered of what one read has brought
        self._head: Head  # of the call that is being answered
        self._call: Call  # that it is
        self._intake: Intake | None = None  # which has taken it
        self._request_id = b""  # a line of the response to it: the id it has been given
        self._incoming: WatchedSocket | None = None  # while it is watched
        self._standby = Standby[_Left]()
        self._answering: Reply | None = None  # a request that was taken in place of the task, and has no reply yet
        self._idle_since = 0.0  # when one had, or the task began to wait for what the client sends
        self._opened_at = trio.current_time()
        self._waits_in: trio.CancelScope | None = None  # for that
        self._gives_way = False  # to another client
        self._now = trio.lowlevel.current_clock().current_time

    async def serve(self) -> Handover | None:
        """Answer requests until the connection ends, or goes on in another protocol.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: it is gone.
            trio.TooSlowError: the client has not accepted any of its response in time.
        """
        self._watch()
        try:
            is_first = True
            while True:
                head = await self._next_head()
                if head is None:
                    return None
                if type(head.decision) is not Call or head.http2 is not None:
                    handover = await self._handover(head, is_first=is_first)
                    if handover is not None:
                        return handover
                is_first = False
                if not await self._serve_request(head):
                    return None
        finally:
            if self._incoming is not None:
                self._incoming.forget()
            self._intake = None  # which knows us, as it knows where its last reply goes

    async def _handover(self, head: Head, *, is_first: bool) -> Handover | None:
        """How the connection goes on, if this is its last request over HTTP/1."""
        if type(head.decision) is WebSocketUpgrade:
            return Handover(self._data[self._start :], is_websocket=True)
        if head.http2 is not None:
            await self._outgoing.send(_TO_HTTP2)
            return Handover(self._data[self._at :], head.http2)
        if is_first and head.is_broken and self._data.startswith(PREFACE, self._start):
            return Handover(self._data[self._start :])
        return None

    async def _serve_request(self, head: Head) -> bool:
        """Answer a request. Returns whether the connection goes on."""
        decision = head.decision
        try:
            if type(decision) is Call:
                if not await self._carry_out(head, decision):
                    return False
            else:
                assert isinstance(decision, Answer | ShowPage | ChangeSession)
                await self._answer(head, decision)
        except _Refused as refused:
            if refused.answer is not None:
                await self._outgoing.respond(head, refused.answer, closes=True)
                await end(self._stream, self._waiting)
            return False
        if head.closes or self._outgoing.is_over:
            await end(self._stream, self._waiting)
            return False
        return True

    # -- reading

    async def _next_head(self) -> Head | None:
        """The next request's head, what was read of it or none; None if the client sends no further request."""
        data, at = self._data, self._at
        if at < len(data):
            self._in_slice += 1
            if self._in_slice >= REQUESTS_A_SLICE:
                self._in_slice = 0
                await trio.lowlevel.checkpoint()
        while True:
            while data.startswith(_LINE_END, at):  # RFC 9112, 2.2: before a request line it is to be ignored
                at += 2
            if at < len(data):
                break
            data, at = await self._await_request(), 0
            if not data:
                return None
        end = data.find(_END, at, at + REMEMBERED_BYTES) + len(_END)
        if end < len(_END):
            return await self._large_head(data[at:])
        self._data, self._start, self._at = data, at, end
        self._in_slice += (end - at) // HEAD_BYTES
        return self._heads.remembered(data[at:end])

    async def _await_request(self) -> bytes:
        """The beginning of a request; nothing if none comes."""
        self._in_slice = 0
        if self._incoming is not None:
            return await self._stand_by(self._incoming)
        self._idle_since = trio.current_time()
        with self._idle_scope(self._idle_since):
            return await receive_next(self._stream)
        return b""

    async def _stand_by(self, incoming: WatchedSocket) -> bytes:
        """As `_await_request`, while requests that are like most are answered in place of the task."""
        self._idle_since = trio.current_time()
        left: _Left = None
        while True:
            with self._idle_scope(self._idle_since) as waiting:
                left = await self._next_left(incoming)
            if waiting.cancelled_caught:
                if self._answering is None and self._is_over():
                    return b""
                self._gives_way = False
                left, self._answering = self._answering, None
            elif not isinstance(left, bytes):
                self._idle_since = trio.current_time()
            if isinstance(left, bytes):
                return left
            if not await self._finish(left):
                return b""
            if self._outgoing.is_over:
                await end(self._stream, self._waiting)
                return b""
            if self._at < len(self._data):  # it was read while the client was looked after
                return self._data[self._at :]

    async def _next_left(self, incoming: WatchedSocket) -> _Left:
        """What has come, or what only a task can go on with."""
        if incoming.has_arrived:
            await trio.lowlevel.checkpoint()
            data = incoming.read_now()
            if data is not None:
                return data
        return await self._standby.wait()

    async def _finish(self, left: Rest[Reply] | Reply | None) -> bool:
        """Go on with a call that was taken in place of the task, until its response is sent. Returns whether the client
        is still there."""
        if isinstance(left, Rest):
            left = await left.carry_out()
        if left is not None and not await left.wait(self._hung_up):
            return False
        if self._outgoing.unsent:
            await self._outgoing.flush()
        return True

    @contextlib.contextmanager
    def _awaiting(self, scope: trio.CancelScope) -> Iterator[None]:
        """A wait in this scope for what the client has begun to send."""
        self._waits_in = scope
        try:
            yield
        finally:
            self._waits_in = None

    @contextlib.contextmanager
    def _idle_scope(self, since: float) -> Iterator[trio.CancelScope]:
        """A wait that ends when the client has sent no request for too long, or soon after the server stops."""
        scope = trio.CancelScope(deadline=min(since + self._limits.idle_timeout, self._waiting.ends_at))
        self._waiting.scopes.add(scope)
        self._waits_in = scope
        try:
            with scope:
                yield scope
        finally:
            self._waits_in = None
            self._waiting.scopes.discard(scope)

    def _is_over(self) -> bool:
        """Whether a wait for a request ends; it may have been answered meanwhile."""
        idle_until = min(self._idle_since + self._limits.idle_timeout, self._waiting.ends_at)
        return self._gives_way or trio.current_time() >= idle_until

    def give_way(self) -> bool:
        """End, if nobody is served who has logged in, and the client has kept us waiting for a while; where it has to
        log in, if it has not done so for a while. Returns whether it does. Never blocks."""
        since = self._opened_at if self._answers.has_logins else self._idle_since
        return self.identity is None and self._now() - since >= GRACE and self.make_room()

    @property
    def identity(self) -> Hashable:
        """See Access.identity."""
        access = None if self._intake is None else self._intake.access
        return None if access is None else access.identity

    @property
    def address(self) -> str:
        """Where the client is."""
        return self._budget.address

    @property
    def idle_since(self) -> float:
        """When it was last answered, on trio's clock."""
        return self._idle_since

    def make_room(self) -> bool:
        """End, if we wait for the client and it is not ending already. Returns whether it does. Never blocks."""
        if self._waits_in is None or self._answering is not None or self._gives_way:
            return False
        self._gives_way = True
        self._waits_in.cancel()
        return True

    # -- requests that are answered without a switch to the task

    def _watch(self) -> None:
        """Be told of what comes, where that can be: not over TLS, where what arrives is not what can be read."""
        readiness = self._answers.readiness
        if readiness is not None and isinstance(self._stream, trio.SocketStream):
            with contextlib.suppress(OSError):  # it is gone, or there is no room: it is waited for as over TLS
                self._incoming = WatchedSocket(readiness, self._stream, self._arrived)

    def _arrived(self) -> None:
        """Something has come. Never blocks and never raises."""
        if self._answering is None:  # else it is read afterwards
            self._standby.instead(self._serve_now)

    def _serve_now(self) -> None:
        """Take a request that has come as a whole, and is like most, in place of the task. Anything else is the
        task's."""
        assert self._incoming is not None, "nobody else tells of it"
        try:
            data = self._incoming.read_now()
        except trio.BrokenResourceError:
            data = b""  # it is gone
        if data is None:
            return
        end = data.find(_END, 0, REMEMBERED_BYTES) + len(_END)
        if end < len(_END) or data[:1] < _FIRST_LETTER:
            self._standby.leave(data)
            return
        head = self._heads.remembered(data[:end])
        call = head.decision
        is_whole = head.length == len(data) - end
        is_last = head.closes or self._waiting.is_stopping
        if type(call) is not Call or not is_whole or is_last or head.http2 is not None or call.coding:
            self._standby.leave(data)
            return
        begun = begin(self._begin(head, call, data[end:]))
        if not self._standby.is_taken:  # it was cancelled
            if isinstance(begun, Rest):
                begun.close()
        elif isinstance(begun, Rest) or begun.takes_long:
            self._standby.leave(begun)
        elif begun.has_arrived:
            self._answered()
        else:
            self._answering = begun

    def _answered(self) -> None:
        """A request that was taken in place of the task has its reply."""
        self._answering = None
        self._idle_since = self._now()
        assert self._incoming is not None, "it has come that way"
        if self._outgoing.unsent or self._incoming.has_arrived or self._outgoing.is_over:
            self._standby.leave(None)

    async def _large_head(self, data: bytes) -> Head | None:
        """As `_next_head`, for a head that is large or not there as a whole."""
        self._idle_since = trio.current_time()
        with trio.move_on_after(self._limits.request_timeout) as scope, self._awaiting(scope):
            searched = 0
            while True:
                end = data.find(_END, max(0, searched - len(_END)), MAX_HEAD) + len(_END)
                if end >= len(_END):
                    self._data, self._start, self._at = data, 0, end
                    self._in_slice += end // HEAD_BYTES
                    return (self._heads.remembered if end <= REMEMBERED_BYTES else self._heads.read)(data[:end])
                searched = self._at = len(data)
                self._data, self._start = data, 0
                if len(data) >= MAX_HEAD:
                    return self._heads.broken(431, f"a head of over {MAX_HEAD} bytes")
                if _is_hopeless(data):
                    return self._heads.broken(400, "this is no request")
                more = await receive_next(self._stream)
                if not more:
                    return None
                data += more
                while data.startswith(_LINE_END):
                    data, searched = data[2:], 0
        assert scope.cancelled_caught
        if self._gives_way:
            return None
        return self._heads.broken(408, f"no whole head within {self._limits.request_timeout:g} s")

    async def _body(self, head: Head) -> bytes | bytearray:
        """The request's body.

        Raises:
            _Refused: it does not come, is too large or is none.
        """
        data, at, length = self._data, self._at, head.length
        if length >= 0 and len(data) - at >= length:
            self._at = at + length
            return data[at : self._at]
        if length > self._answers.max_body_bytes:
            raise _Refused(await self._too_large(head))
        if head.expects_continue and at == len(data):
            await self._outgoing.send(_CONTINUE)
        return await (self._chunked_body() if length == CHUNKED else self._sized_body(length))

    async def _sized_body(self, length: int) -> bytearray:
        body = bytearray(memoryview(self._data)[self._at :])
        begun = trio.current_time()
        while len(body) < length:
            body += await self._part(begun, len(body))
        self._data, self._at = bytes(memoryview(body)[length:]), 0
        del body[length:]
        return body

    async def _chunked_body(self) -> bytearray:
        chunked = ChunkedBody(self._answers.max_body_bytes)
        begun = trio.current_time()
        try:
            is_whole = chunked.feed(self._data[self._at :])
            while not is_whole:
                if chunked.is_behind:
                    await trio.lowlevel.checkpoint()
                    is_whole = chunked.feed(b"")
                else:
                    is_whole = chunked.feed(await self._part(begun, len(chunked.body)))
        except MalformedChunk as malformed:
            raise _Refused(self._answers.refusal(400, str(malformed))) from None
        except TooLarge:
            raise _Refused(self._answers.too_large(begun=chunked.body)) from None
        self._data, self._at = chunked.unparsed, 0
        return chunked.body

    async def _part(self, begun: float, arrived: int) -> bytes:
        """What comes next of a body that has begun at this time and of which so much has arrived."""
        limit = self._limits.request_timeout
        self._idle_since = begun
        with trio.move_on_at(begun + limit + arrived / SLOWEST_BODY) as scope, self._awaiting(scope):
            part = await receive_next(self._stream)
            if not part:
                raise _Refused
            return part
        if self._gives_way:
            raise _Refused
        raise _Refused(self._answers.refusal(408, f"no whole body within {limit:g} s, and too little of it for more"))

    # -- answering

    async def _carry_out(self, head: Head, call: Call) -> bool:
        """Answer a call. Returns whether the client is still there."""
        body = await self._body(head)
        message = self._answers.message(call, body)
        if isinstance(message, Answer):
            await self._outgoing.respond(head, message, closes=self._waiting.is_stopping)
            return True
        return await self._finish(await carry_out(self._begin(head, call, message)))

    def _begin(self, head: Head, call: Call, message: bytes | bytearray) -> Work[Reply]:
        """Put a call on its way."""
        self._head = head
        client = ""
        if self._answers.makes_request_ids:
            client = self._answers.new_client()
            self._request_id = b"" if call.request_id else b"x-request-id: %b\r\n" % client.encode()
        intake = self._intake
        if intake is None or not intake.takes_more or not (call is self._call or call.is_by_whom(self._call)):
            intake = self._intake = self._answers.intake(call, self._budget, self._certified, client)
        self._call = call
        return replying(call, message, intake, self._reply)

    def _reply(self, reply: Response | None, instead: Answer | None) -> None:
        """Send the response to a call at the moment its reply is there, for that needs no task's slice."""
        self._outgoing.reply(self._head, reply, instead, closes=self._waiting.is_stopping, more=self._request_id)
        if self._answering is not None and self._standby.is_taken:
            self._answered()

    async def _answer(self, head: Head, decision: Answer | ShowPage | ChangeSession) -> None:
        """Answer what is no call, once its body is there, or at once if that is not worth reading."""
        is_hopeless = head.is_broken or head.length > self._answers.max_body_bytes
        if isinstance(decision, Answer) and (is_hopeless or head.expects_continue):
            raise _Refused(await self._too_large(head, decision.headers) if decision.status == TOO_LARGE else decision)
        if head.length:
            await self._body(head)
        answer = decision if isinstance(decision, Answer) else await self._answers.show(decision, self._budget)
        await self._outgoing.respond(head, answer, closes=self._waiting.is_stopping)

    async def _too_large(self, head: Head, headers: Headers = ()) -> Answer:
        """The answer to a body over the limit. The first call's id is in it if that arrives soon."""
        if self._at == len(self._data) and not head.expects_continue:
            with trio.move_on_after(FIRST_PART_TIMEOUT):
                self._data, self._at = await receive_next(self._stream), 0
        return self._answers.too_large(tuple(line for line in headers if line != JSON), self._data[self._at :])

    async def _hung_up(self) -> None:
        """Return once the client is gone. Reads on to see that, up to a bound; then the system is asked."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while len(self._data) - self._at < AHEAD_BYTES:
                more = await receive_next(self._stream)
                if not more:
                    return
                self._data = self._data[self._at :] + more
                self._at = 0
            while not has_hung_up(self._stream):  # noqa: ASYNC110 # the system tells of it only when asked
                await trio.sleep(LOOK_EVERY)


def _is_hopeless(data: bytes) -> bool:
    """Whether the beginning of a head cannot become one, however it goes on."""
    if data[:1] < _FIRST_LETTER and data not in (b"", b"\r"):
        return True
    return data.count(b"\n") != data.count(b"\r\n")
