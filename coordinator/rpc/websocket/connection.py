"""One open WebSocket: the task that reads it, what its client is sent and subscribed to, and how it ends.

Messages go from the decoder to the dispatcher, none in a task of its own. Replies are framed straight into the outbox,
in the order they become ready.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Hashable, Sequence
from enum import Enum
from functools import partial
from typing import Final

import trio

from coordinator.actors.request import Request
from coordinator.budget import AHEAD_BYTES, SLOWEST_BODY, Budget
from coordinator.engine.sessions import Session, Subscription
from coordinator.errors import ClientLeft, NotLoggedIn
from coordinator.readiness import WatchedSocket
from coordinator.rpc.access.audit.trail import Trail
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.gate import Gate
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.calls import Intake
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.jsonrpc.replies import Response, Sink
from coordinator.rpc.websocket.frames import (
    GOING_AWAY,
    POLICY_VIOLATION,
    Close,
    Event,
    Failure,
    FrameDecoder,
    Ping,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
    text_head,
)
from coordinator.rpc.websocket.handshake import UpgradeRequest
from coordinator.rpc.websocket.outbox import HIGH_WATER, LARGE, Outbox
from coordinator.rpc.work import Rest, Work, begin
from coordinator.socketio import acknowledged, has_hung_up, linger, receive_next
from coordinator.standby import Standby

__all__ = ["CLOSE_TIMEOUT", "Connection"]

CLOSE_TIMEOUT: Final = 2.0  # seconds for the calls in flight when the client closes, and then for the closing itself
LINGER_BYTES: Final = 64 * 1024 * 1024  # read and dropped at most of a client that was told that we close
LOGIN_GRACE: Final = 2.0  # seconds that a client may take to log in though another has no room
PONG_TIMEOUT: Final = 20.0  # seconds without a byte after a ping
RECEIVE_BYTES: Final = 16 * 1024  # whoever sends more at once lets others get on in between
BATCH_BYTES: Final = 512 * 1024  # of notifications sent as one message
SLICE_FRAMES: Final = 64  # frames that lead to no call before others get on
ANSWERED: Final = 4  # of those, what a message takes that is answered at once, as one that cannot be read


_GONE: Final = b""
"""That the client sends no more, in place of what to close with."""

_Left = bytes | Rest[bytes | None] | None
"""What a conversation is closed with, or what is left to do of what was received, or nothing of that."""


class _Reader(Enum):
    """What the reader is at.

    READING: it waits for bytes. HELD: it waits because the client is at one of its bounds. Both may be cancelled and
    nothing is lost. BUSY: it is in the middle of a message.
    """

    READING = "reading"
    HELD = "held"
    BUSY = "busy"


class Connection(Session, Sink):
    """Serves one client by one call of `run`.

    Args:
        max_frame_bytes: size of a message; a larger one closes the connection with 1009.
        max_in_flight: unanswered calls it may have before we stop reading.
        write_timeout: seconds without progress after which a client that does not read is given up.
        message_timeout: seconds for a message to arrive in all, and a second more for each SLOWEST_BODY bytes of it.
        login_timeout: seconds after which the client is dismissed if it has to log in and has not.
        shown: the request it has begun with, which may say who it is.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        dispatcher: Dispatcher,
        budget: Budget,
        *,
        max_frame_bytes: int,
        max_in_flight: int,
        write_timeout: float,
        message_timeout: float = math.inf,
        login_timeout: float = math.inf,
        shown: UpgradeRequest | None = None,
        check_room: Callable[[Principal], None] = lambda principal: None,
    ) -> None:
        super().__init__(budget)
        self._check_room = check_room
        self._message_timeout = message_timeout
        self._opened_at = trio.current_time()
        self._login_by = self._opened_at + login_timeout
        self._is_whole = False  # a message was completed since that was looked at last
        self._begun_at: float | None = None  # when one was first seen that is not
        self._stream = stream
        self._readiness = dispatcher.directory.readiness
        self._outbox = Outbox(
            stream, budget, write_timeout=write_timeout, on_relief=self.relieved, on_broken=self.give_up
        )
        self._access = self._access_of(dispatcher.gate, shown)
        trail = None if dispatcher.logs is None else Trail(dispatcher.logs, "ws", budget.address, self._access)
        if self._access is not None:
            self._access.trail = trail
        limits = dispatcher.limits
        self._account = None if limits is None else limits.account(self._access, budget.address)
        self._intake = Intake(dispatcher, budget, self, self._access, trail, self._account)
        self._decoder = FrameDecoder(max_frame_bytes)
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._few_enough: tuple[int, trio.Event] | None = None  # the reader waits for fewer than so many in flight
        self._at_once = 0  # messages and frames of this slice that cost others nothing but time
        self._is_taking = False  # messages, and there may be more
        self._ahead = bytearray()  # read while the client was at its bound
        self._says_no_more = False
        self._long_calls: weakref.WeakSet[Request] = weakref.WeakSet()
        self._state = _Reader.BUSY
        self._incoming: WatchedSocket | None = None  # while it is watched
        self._standby = Standby[_Left]()  # of the task that reads
        self._reading = trio.CancelScope()
        self._whole = trio.CancelScope()
        self._is_stopping = False
        self._farewell: bytes | None = None  # what it is closed with at once
        self._grace_ends = math.inf
        self._has_heard = False  # something has come since that was looked at last
        self._heard_at = trio.current_time()
        self._pinged_at: float | None = None  # while that is unanswered
        self._acknowledged = -1

    # -- what calls are answered with, and what subscriptions send

    def reply(self, response: Response | None, calls: int = 1) -> None:
        self._in_flight -= calls
        if self._few_enough is not None and self._in_flight < self._few_enough[0]:
            self._few_enough[1].set()
        if response is None or self._says_no_more:
            return
        if self._account is not None:
            self._account.spend(sum(map(len, response)) if isinstance(response, list) else len(response))
        if isinstance(response, list):
            self._outbox.write_payload(text_head(sum(map(len, response))), *response)
        elif len(response) < LARGE:
            self._outbox.write(text_frame(response), is_last=self._in_flight == 0 and not self._is_taking)
        else:
            self._outbox.write_payload(text_head(len(response)), response)

    def waits_for(self, call: Request) -> None:
        self._long_calls.add(call)

    def close(self) -> None:
        super().close()
        for call in [*self._long_calls]:
            call.abandon()

    @property
    def is_congested(self) -> bool:
        return self._outbox.waiting > HIGH_WATER

    def notify(self, notifications: Sequence[bytes], *, in_batches: bool, is_last: bool = False) -> None:
        if self._says_no_more or self.is_closed:
            return
        is_last = is_last and len(notifications) == 1 and self._in_flight == 0 and not self._is_taking
        for message in _batches(notifications) if in_batches else notifications:
            if len(message) < LARGE:
                self._outbox.write(text_frame(message), is_last=is_last)
            else:
                self._outbox.write_payload(text_head(len(message)), message)

    # -- who it is

    def _access_of(self, gate: Gate | None, shown: UpgradeRequest | None) -> Access | None:
        if gate is None:
            return None
        if shown is None:
            return Access(gate, conversation=self)
        access = Access(gate, host=(shown.host or "").lower(), shown=shown.shown._replace(jwt=""), conversation=self)
        if shown.principal is not None:
            access.login.become(shown.principal)  # so that it ends with its login though it never calls
        return access

    @property
    def identity(self) -> Hashable:
        """See Access.identity."""
        return None if self._access is None else self._access.identity

    def check_room(self, principal: Principal) -> None:
        self._check_room(principal)

    def log_out(self, reason: str) -> None:
        """Say that its login is over, and close. Never blocks."""
        if self._farewell is None:
            self.notify([protocol.render_notification("auth.ended", {"reason": reason})], in_batches=False)
            self._farewell = close_frame(POLICY_VIOLATION, reason)
            for call in [*self._long_calls]:
                call.end(NotLoggedIn(reason))
            self.close()
            self._reading.cancel()

    def end_subscription(self, subscription: Subscription, reason: str) -> None:
        params = {"subscription": subscription.id, "reason": reason}
        self.notify([protocol.render_notification("auth.ended", params)], in_batches=False)
        subscription.close()

    # -- running

    async def run(self, received: bytes) -> None:
        """Serve the client until it leaves, breaks the protocol or is told that we stop.

        Args:
            received: what was read of it behind its handshake.
        """
        if self._access is not None:
            self._access.gate.sweep.opened(self._access)
        try:
            self._watch()
            with self._whole:
                async with trio.open_nursery() as writers:
                    self._outbox.open(writers)
                    try:
                        last = await self._converse(received)
                        if last is not None:
                            await self._say_goodbye(last)
                    finally:
                        # Replies to what is still in flight would start a writer in a nursery that is closed.
                        self._outbox.close()
                        writers.cancel_scope.cancel()
        finally:
            if self._incoming is not None:
                self._incoming.forget()
            self.close()
            if self._access is not None:
                self._access.gate.sweep.closed(self._access)

    def _watch(self) -> None:
        """Be told of what comes, where that can be: not over TLS, where what arrives is not what can be read."""
        if self._readiness is not None and isinstance(self._stream, trio.SocketStream):
            with contextlib.suppress(OSError):  # it is gone, or there is no room: it is waited for as over TLS
                on_arrival = partial(self._standby.instead, self._receive_now)
                self._incoming = WatchedSocket(self._readiness, self._stream, on_arrival)
                self._outbox.send_now = self._incoming.write_now

    def stop(self, grace_ends: float) -> None:
        """Read no more, answer what is in flight until then, close with 1001. Never blocks."""
        self._is_stopping = True
        self._grace_ends = grace_ends
        if self._state is _Reader.BUSY:
            # A message that is begun must be finished, or its calls would count as in flight for ever.
            self._reading.deadline = grace_ends
        else:
            self._reading.cancel()

    def give_up(self) -> None:
        """The client is gone. Never blocks."""
        self._whole.cancel()

    async def _converse(self, received: bytes) -> bytes | None:
        """Answer the client. Returns the Close frame that is our last word, or None if it would not hear that."""
        with self._reading:
            end = await self._read(received)
            if end is None:
                return None
            for call in [*self._long_calls]:  # nobody should wait for a job on behalf of a client that is gone
                call.end(ClientLeft())
            self.close()
            with trio.move_on_after(CLOSE_TIMEOUT):  # but what it sent before gets its answer
                await self._fewer_than(1)
                await self._outbox.drained()
            return end or None
        if self._farewell is not None:
            return self._farewell
        with trio.move_on_at(self._grace_ends):
            await self._fewer_than(1)
        self.close()
        return close_frame(GOING_AWAY, "the coordinator is shutting down")

    async def _read(self, data: bytes) -> bytes | None:
        """Submit what the client sends until it closes or breaks the protocol. Returns what to close with: _GONE if it
        has ended without a word, but may still read; None if its connection broke. Cancelled when we stop."""
        left = begin(self._submit(data)) if data else None
        while True:
            end = await left.carry_out() if isinstance(left, Rest) else left
            if end is not None:
                return end
            if self._is_stopping:
                self._reading.cancel()
            elif self._ahead:
                data = bytes(self._ahead[:RECEIVE_BYTES])
                del self._ahead[:RECEIVE_BYTES]
                left = begin(self._submit(data))
                continue
            self._state = _Reader.READING
            try:
                left = await self._receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None

    async def _receive(self) -> _Left:
        """Wait for what comes next, and begin with it."""
        incoming = self._incoming
        if incoming is None:
            return self._received(await receive_next(self._stream, RECEIVE_BYTES))
        if incoming.has_arrived:
            await trio.lowlevel.checkpoint()
            data = incoming.read_now(RECEIVE_BYTES)
            if data is not None:
                return self._received(data)
        return await self._standby.wait()

    def _received(self, data: bytes) -> _Left:
        """Begin with what has come."""
        self._state = _Reader.BUSY
        if not data:
            return _GONE
        self._has_heard = True
        return begin(self._submit(data))

    def _receive_now(self) -> None:
        """Submit what has come in place of the task, which goes on if that has to wait, or if there may be more: others
        get on before."""
        assert self._incoming is not None, "nobody else tells of it"
        data = self._incoming.read_now(RECEIVE_BYTES)
        if data is None:
            return
        left = self._received(data)
        if not self._standby.is_taken:  # it was cancelled
            if isinstance(left, Rest):
                left.close()
        elif left is not None or self._incoming.has_arrived:
            self._standby.leave(left)
        else:
            self._state = _Reader.READING

    def _submit(self, data: bytes) -> Work[bytes | None]:
        """Submit the messages that these bytes complete. The result is what to close with if they end the
        conversation."""
        end: bytes | None = None
        event: Event | None = None
        self._is_taking = True
        for event in self._decoder.receive(data):
            if type(event) is str or type(event) is bytes:
                before = self._in_flight
                self._in_flight += 1  # while it waits for room it is in flight, too
                calls = yield from self._intake.take(event, self)
                self._in_flight += calls - 1
                if self._in_flight >= self._max_in_flight or self._outbox.waiting > HIGH_WATER:
                    yield self._hold()
                    if self._is_stopping:
                        break
                elif self._in_flight <= before:
                    self._at_once += ANSWERED
            elif isinstance(event, Ping):
                self._at_once += 1
                self._outbox.write_pong(pong_frame(event.payload))
            elif isinstance(event, Close | Failure):
                end = close_frame(event.code, event.reason)
            else:
                self._at_once += 1
            if self._at_once >= SLICE_FRAMES:
                self._at_once = 0
                yield trio.lowlevel.checkpoint()  # noqa: ASYNC105 - who goes on awaits it
        self._is_taking = False
        if type(event) is str or type(event) is bytes:
            self._is_whole = True
        full = self._intake.flush_now()
        if full is not None:
            yield full
        return end

    async def _hold(self) -> None:
        """Wait until the client is within its bounds. Meanwhile it is held by TCP itself."""
        await self._intake.flush()
        if self._is_stopping:
            return
        self._state = _Reader.HELD
        if self._waits_for_long():
            async with trio.open_nursery() as watching:
                watching.start_soon(self._read_ahead)
                await self._within_bounds()
                watching.cancel_scope.cancel()
        else:
            await self._within_bounds()
        self._state = _Reader.BUSY

    async def _within_bounds(self) -> None:
        await self._fewer_than(self._max_in_flight)
        await self._outbox.relieved()

    async def _read_ahead(self) -> None:
        """Read on although the client is at its bound. Its end is behind what it has sent, and a job must not be handed
        to a client that is gone."""
        try:
            while len(self._ahead) < AHEAD_BYTES:
                data = await receive_next(self._stream, RECEIVE_BYTES)
                if not data:
                    self.give_up()
                    return
                self._ahead += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.give_up()

    def _waits_for_long(self) -> bool:
        return any(not call.done for call in self._long_calls)

    async def _fewer_than(self, calls: int) -> None:
        """Wait until fewer than `calls` calls are unanswered. One task waits at a time: the one that reads."""
        if self._in_flight >= calls:
            few_enough = trio.Event()
            self._few_enough = calls, few_enough
            try:
                await few_enough.wait()
            finally:
                self._few_enough = None

    # -- ending

    async def _say_goodbye(self, last: bytes) -> None:
        """Send our last frame and have the connection end so that the client gets to read it."""
        self._outbox.write(last, is_last=True)
        self._says_no_more = True
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._outbox.drained()
            if not self._decoder.is_over:
                await self._until_closed()
            await linger(self._stream, LINGER_BYTES)

    async def _until_closed(self) -> None:
        """Wait for the Close frame that answers ours."""
        dropped = 0
        try:
            while dropped < LINGER_BYTES:
                data = await receive_next(self._stream, RECEIVE_BYTES)
                if not data:
                    return
                dropped += len(data)
                for _ in self._decoder.receive(data):
                    pass
                if self._decoder.is_over:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    # -- looking whether the client is there

    def look(self, now: float, ping_interval: float) -> None:
        """Ping the client if it was silent for `ping_interval` seconds (0: never), give it up if it does not answer.

        To be called every now and then. Never blocks.
        """
        self._look_at_pace(now)
        if self._has_heard:
            self._has_heard = False
            self._heard_at = now
        if self._state is not _Reader.READING or self.is_closed:
            # Its answer would not be read. But nobody should wait for a job on behalf of a client that is gone.
            self._heard_at = now
            if self._waits_for_long() and has_hung_up(self._stream):
                self.give_up()
        elif not ping_interval or now - self._heard_at < ping_interval:
            self._pinged_at = None
        elif self._pinged_at is None:
            self._pinged_at = now
            self._is_getting_there()
            self._outbox.write(ping_frame(), is_last=True)
        elif self._is_getting_there():
            self._pinged_at = now
        elif now - self._pinged_at >= PONG_TIMEOUT:
            self.give_up()

    def _look_at_pace(self, now: float) -> None:
        """Dismiss a client that takes too long to log in, or to send a message."""
        if self.is_closed or self._farewell is not None:
            return
        if now > self._login_by and self._is_nobody():
            self._dismiss("nobody has logged in on this connection in time; see --keep-alive-timeout")
            return
        begun = self._decoder.begun
        if begun is None or self._state is not _Reader.READING:
            self._begun_at = None
        elif self._begun_at is None or self._is_whole:
            self._begun_at = now
            self._is_whole = False
        elif now - self._begun_at > self._message_timeout + begun / SLOWEST_BODY:
            self._dismiss("a message took too long to arrive; see --request-timeout")

    def give_way(self) -> bool:
        """End, if nobody has logged in for a while who has to. Returns whether it does. Never blocks."""
        return trio.current_time() - self._opened_at >= LOGIN_GRACE and self.make_room()

    def make_room(self) -> bool:
        """End, if nobody has logged in who has to and it is not ending already. Returns whether it does. Never
        blocks."""
        if not self._is_nobody() or self._whole.cancel_called:
            return False
        self.give_up()
        return True

    @property
    def address(self) -> str:
        """Where the client is."""
        return self.budget.address

    @property
    def idle_since(self) -> float:
        """When it was opened, on trio's clock."""
        return self._opened_at

    def _is_nobody(self) -> bool:
        """Whether nobody has logged in who has to; a token that was shown with the handshake was good then."""
        access = self._access
        return access is not None and access.principal is None and not access.may_be_somebody

    def _dismiss(self, reason: str) -> None:
        """Close with this reason. Never blocks."""
        self._farewell = close_frame(POLICY_VIOLATION, reason)
        self.close()
        self._reading.cancel()

    def _is_getting_there(self) -> bool:
        """Whether the ping has not reached the client yet because it is reading what was sent before."""
        now = acknowledged(self._stream)
        if now is None:
            return False
        before, self._acknowledged = self._acknowledged, now.size
        return now.size > before and (not now.is_all or self._outbox.waiting > 0)


def _batches(notifications: Sequence[bytes]) -> list[bytes]:
    """The notifications as batches of about `BATCH_BYTES`: clients bound the size of what they accept."""
    messages: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for notification in notifications:
        if batch and size + len(notification) > BATCH_BYTES:
            messages.append(_joined(batch))
            batch, size = [], 0
        batch.append(notification)
        size += len(notification)
    if batch:
        messages.append(_joined(batch))
    return messages


def _joined(messages: list[bytes]) -> bytes:
    return messages[0] if len(messages) == 1 else protocol.render_batch(messages)
