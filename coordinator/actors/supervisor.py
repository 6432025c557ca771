"""The one task that owns a context's connection: connect, fence, send rounds, retire."""

from __future__ import annotations

import contextlib
import enum
from functools import partial
from time import perf_counter
from typing import Final

import structlog
import trio

from coordinator.actors.host import Host
from coordinator.actors.mailbox import Mailbox
from coordinator.actors.request import Request
from coordinator.actors.rounds import Lost, Rounds, load_of
from coordinator.actors.writer import Writer, applied
from coordinator.backoff import Backoff
from coordinator.errors import StorageError
from coordinator.standby import Standby
from coordinator.storage.connection import Connection, Reply, Store
from coordinator.storage.faults import (
    ReplyError,
    StoreMisconfigured,
    StoreUnavailable,
    is_moving,
    is_write_refusal,
)
from coordinator.storage.keys import GLOBAL

__all__ = ["State", "Supervisor"]

log = structlog.get_logger("coordinator.supervisor")

ROUNDS_SENT: Final = 2  # at once
FEW_CALLS: Final = 64  # of a round that is sent without the supervisor's task; fewer if others wait for it
BACKOFF: Final = Backoff(cap=2.0, base=0.02)  # before the second attempt to connect, and those that follow
MOVING_PAUSE: Final = 0.05  # seconds before a cluster that moves the keys is asked again
REFUSED_PAUSE: Final = 0.5  # seconds before a store that takes no writes is asked again what it has applied


class State(enum.Enum):
    """
    IDLE ──request──► SERVING ──answered──► IDLE ──told, or wanted elsewhere──► RETIRED
                       │   ▲
         connection lost   connected
                       ▼   │
                     CONNECTING
    """

    IDLE = "idle"
    SERVING = "serving"
    CONNECTING = "connecting"
    RETIRED = "retired"


class Supervisor:
    """Serves one mailbox until it should retire.

    It connects when there is something to send, fences off what earlier connections may still bring, and sends round
    after round, two of which may be on the wire. With nothing left to do its task is parked. Then the first calls that
    come are sent, and their replies handed out, by `serve_now` and `_receive_now`, which the directory and the
    connection call in tasks that all contexts share: as long as those are few at a time, and nothing has to be waited
    for, a round costs no switch to this task. For anything else the task is unparked, and goes on where they end.

    Attributes:
        standby: where its task is parked.
        rounds: what it has sent.
    """

    def __init__(self, mailbox: Mailbox, store: Store, host: Host) -> None:
        self.state = State.IDLE
        self._mailbox = mailbox
        self._store = store
        self._host = host
        self._since = trio.current_time()
        self._connection: Connection | None = None
        self._writer = Writer(store, mailbox.context)
        self._failures = 0
        is_context = mailbox.context is not GLOBAL
        self._registers_elsewhere = is_context and store.layout.is_spread
        self._must_register = self._registers_elsewhere
        self.rounds = Rounds(
            mailbox, store, self._writer, host, registers_context=is_context and not store.layout.is_spread
        )
        self._told_to_retire = False
        self.standby = Standby[None]()
        self._serve_soon = partial(host.serve_soon, self)
        self._remaining: Lost | bytes | None = None  # of a round, for the task: to be sent, or why that cannot be

    @property
    def is_free(self) -> bool:
        """Idle, with nothing on its way to it, and not retiring yet."""
        return self.state is State.IDLE and self._mailbox.is_quiet and not self._told_to_retire

    @property
    def is_registered(self) -> bool:
        """Whether its context was registered as known, because something was written to it."""
        return not self._must_register if self._registers_elsewhere else self.rounds.has_registered

    def retire(self) -> None:
        """Ask it to end once nothing is pending."""
        self._told_to_retire = True
        self._mailbox.wake()

    async def run(self) -> None:
        """Serve until retired. Whatever remains in the mailbox then is for the next supervisor."""
        try:
            while self.rounds or await self._gather():
                sent_before = self.rounds.on_the_wire
                may_send = sent_before < ROUNDS_SENT and not (sent_before and self._is_wanted_elsewhere())
                sent = may_send and await self._send()
                if self.rounds and (not sent or sent_before + 1 == ROUNDS_SENT):
                    await self._receive()
        finally:
            self.state = State.RETIRED
            del self._serve_soon  # it knows us: what is in a cycle stays until the garbage collector comes by
            with trio.CancelScope(shield=True):  # closing at once does not wait for the peer
                if self.rounds or self._mailbox.doubts:
                    await self._give_up()
                else:
                    await self._disconnect()

    async def _gather(self) -> bool:
        """Pop a request if `running` is empty; park while there is nothing to do. False: retire."""
        mailbox = self._mailbox
        running = mailbox.running
        if self._is_wanted_elsewhere():
            return False
        while not running:
            if mailbox.ahead:
                running.append(mailbox.ahead.pop(0))
                break
            if mailbox.is_quiet and not mailbox.doubts:
                if self._told_to_retire:
                    return False
                self._become_idle()
            request: Request | None = None
            if mailbox.is_quiet and mailbox.doubts:
                request = await self._settle()
            elif mailbox.queued > 0:
                request = mailbox.pop_nowait()
            elif self._connection is None or not self._connection.is_watched:
                request = await mailbox.pop()
            else:
                await self._park()
            if request is not None:
                running.append(request)
            elif self._is_wanted_elsewhere() and not self.rounds:
                return False
        return True

    def _become_idle(self) -> None:
        self.state = State.IDLE
        self._mailbox.was_used = True

    async def _settle(self) -> Request | None:
        """Nobody waits for what is in doubt any more, but it may be applied until the store is told otherwise. Returns
        the next request if one comes while the store cannot be told, as it takes no writes now, and this is one."""
        if await self._connect() and self._mailbox.doubts:
            with trio.move_on_after(REFUSED_PAUSE):
                return await self._mailbox.pop()
        return None

    def _is_wanted_elsewhere(self) -> bool:
        return self._host.is_wanted_elsewhere(self._mailbox, self._since)

    # -- rounds of a few calls, while the task is parked

    async def _park(self) -> None:
        """Wait until there is more to do than what others can do meanwhile, and do what they have left undone."""
        mailbox = self._mailbox
        mailbox.on_post, mailbox.on_wake = self._serve_soon, self._unpark
        try:
            await self.standby.wait()
        finally:
            mailbox.on_post = mailbox.on_wake = None
        remaining, self._remaining = self._remaining, None
        if isinstance(remaining, bytes):
            assert self._connection is not None, "part of a round was sent on it"
            remaining = await self.rounds.send_rest(self._connection, remaining)
        if isinstance(remaining, Lost):
            await self._lose(remaining)
        elif self.rounds.is_unknown and not self.rounds:
            await self._leave_nothing()

    def _unpark(self, remaining: Lost | bytes | None = None) -> None:
        """Have the task go on. It may have been unparked already: whoever is given a reply may wake this mailbox."""
        self._remaining = remaining or self._remaining
        if self.standby.is_taken:
            self.standby.leave(None)
        # Nobody else is to go on with what the task takes over, though it is not running yet.
        self._mailbox.on_post = self._mailbox.on_wake = None

    def serve_now(self) -> None:
        """Send what has come since the task was parked. Called in its place. Never blocks."""
        mailbox, rounds = self._mailbox, self.rounds
        if rounds.on_the_wire >= ROUNDS_SENT:  # what comes next is sent when replies have come
            return
        if mailbox.doubts.calls or (self._host.waiting and self._is_wanted_elsewhere()):
            self._unpark()
            return
        mailbox.on_post = self._serve_soon  # before operations are advanced, as those may post another request here
        ready = rounds.next_requests()
        if not ready:
            self._rest()
            return
        load = load_of(ready)
        if (
            load > FEW_CALLS
            or load > self._host.round_slice
            or (self._must_register and any(request.writes for request in ready))
        ):
            self._unpark()
            return
        assert self._connection is not None, "the task is not parked without one"
        self.state = State.SERVING
        sent = rounds.send_now(self._connection, ready, load)
        if sent:
            self._unpark(sent)
        elif rounds.on_the_wire >= ROUNDS_SENT:
            mailbox.on_post = None

    def _rest(self) -> None:
        """There is nothing to send now."""
        mailbox = self._mailbox
        if self._host.waiting and self._is_wanted_elsewhere():
            self._unpark()
        elif mailbox.is_quiet:
            self._become_idle()

    def _receive_now(self) -> None:
        """Hand out what has come from the store, and send what is next. Called in place of the task. Never blocks."""
        mailbox, rounds, connection = self._mailbox, self.rounds, self._connection
        assert connection is not None, "the task is not parked without one"
        has_received = False
        while rounds.on_the_wire and (received := rounds.receive_now(connection)):
            if type(received) is Lost:
                self._unpark(received)
                return
            has_received = True
        if not has_received:
            return
        self._failures = 0
        mailbox.fault = None
        if rounds.is_unknown and not rounds.on_the_wire:
            self._unpark()
        elif rounds.on_the_wire or self._host.waiting or not mailbox.is_quiet:
            self.serve_now()
        else:
            mailbox.on_post = self._serve_soon
            self._become_idle()

    def look(self) -> None:
        """Give up a connection on which no reply has come in time, if the task does not look for itself. Never blocks
        and never raises."""
        if self.rounds.on_the_wire:
            self.standby.instead(self._look)

    def _look(self) -> None:
        lost = self.rounds.overdue(perf_counter())
        if lost is not None:
            self._unpark(lost)

    async def _send(self) -> bool:
        """Send the next round, if there is one."""
        rounds = self.rounds
        ready = rounds.next_requests()
        if not ready:
            return False
        if (
            self._connection is None
            or self._mailbox.doubts
            or (self._must_register and any(request.writes for request in ready))
        ):
            if rounds or not await self._prepare(ready):
                return False
            ready = rounds.without_answered(ready)
            if not ready:
                return False
        assert self._connection is not None
        self.state = State.SERVING
        lost = await rounds.send(self._connection, ready)
        if lost is not None:
            await self._lose(lost)
        return True

    async def _receive(self) -> None:
        """Wait for the next replies."""
        assert self._connection is not None
        lost = await self.rounds.receive(self._connection)
        if lost is None:
            self._failures = 0
            self._mailbox.fault = None
            if self.rounds.is_unknown and not self.rounds:
                await self._leave_nothing()
        else:
            await self._lose(lost)

    async def _leave_nothing(self) -> None:
        """What was written to a context that nobody knows came to nothing: the store need not know who wrote it."""
        self.rounds.is_unknown = False
        release = self._writer.release()
        if release is None or self._connection is None or self._mailbox.doubts:
            return
        self._writer.forgotten()
        try:
            with trio.fail_after(self._host.round_timeout):
                await self._connection.exchange([release], [])
        except trio.TooSlowError:
            await self._lose(Lost(f"the store did not answer within {self._host.round_timeout:g} s", writes=False))
        except StoreUnavailable as error:
            await self._lose(Lost(str(error), writes=False))

    async def _lose(self, lost: Lost) -> None:
        """Give up the connection: what was sent, and was not applied, is sent again on another one."""
        fault = lost.fault
        log.debug("lost the connection", context=self._mailbox.context, reason=fault)
        self._mailbox.fault = fault
        self._host.lost_effects(self._mailbox.context, lost.writes)
        await self._give_up()
        if is_moving(fault):
            await trio.sleep(MOVING_PAUSE)
        else:
            self._store.lost(self._mailbox.context, fault)
            await self._pause()

    async def _prepare(self, ready: list[Request]) -> bool:
        """Connect, and register the context before its first write. False as `_connect`."""
        if not await self._connect():
            return False
        context = self._mailbox.context
        if context is not None and self._must_register and any(request.writes for request in ready):
            try:
                is_registered = await self._host.register(context, any(request.creates for request in ready))
            except StoreUnavailable as error:
                self._mailbox.fault = f"registering the context as known failed: {error}"
                await self._pause()
                return False
            except ReplyError as error:
                self.rounds.refuse_writes(error)
                return True
            self._must_register = not is_registered  # what is written next may create something
            self.rounds.is_unknown = not is_registered
        return True

    async def _connect(self) -> bool:
        """Connect, unless that is done. False if it failed: either `running` was answered, or try again. While the
        store takes no writes, those of `running` are refused, doubts remain, and the connection serves to read."""
        if self._connection is not None and not self._mailbox.doubts:
            return True
        self.state = State.CONNECTING
        try:
            if self._connection is None:
                self._connection = await self._store.open(self._mailbox.context)
                self._writer.connected()
                if self._host.readiness is not None:
                    self._connection.watch(self._host.readiness, partial(self.standby.instead, self._receive_now))
            await self._fence(self._connection)
        except StoreUnavailable as error:
            self._mailbox.fault = str(error)
            if self._connection is not None:
                await self._give_up()
            if is_moving(str(error)):
                await trio.sleep(MOVING_PAUSE)
            else:
                await self._pause()
            return False
        except StoreMisconfigured as error:
            if self._store.refusals.is_due():
                log.warning("the store will not serve this context", context=self._mailbox.context, reason=str(error))
            for request in self._mailbox.running:
                request.operation.close()
                request.finish(StorageError(str(error), may_have_been_applied=request.is_in_doubt))
            self._mailbox.running.clear()  # the list stays: who waits for more to do has it in hand
            if self._mailbox.doubts:
                await self._pause()
            return False
        return True

    async def _fence(self, connection: Connection) -> None:
        """Make sure that connections given up write no more, and find out what was applied of what they were sent.

        Raises:
            StoreUnavailable: the store has not said.
        """
        doubts = self._mailbox.doubts
        replies: list[Reply] = []
        try:
            with trio.fail_after(self._host.round_timeout):
                while doubts.connections:
                    await connection.close_other(*doubts.connections[-1])
                    doubts.connections.pop()
                if not doubts:
                    return
                await connection.exchange([self._writer.fence(doubts)], replies)
        except trio.TooSlowError:
            raise StoreUnavailable(f"the store did not answer within {self._host.round_timeout:g} s") from None
        refusal = replies[0]
        if isinstance(refusal, ReplyError):
            if is_write_refusal(refusal) and not self._store.is_transient(refusal):
                self.rounds.refuse_writes(refusal)
                return
            fault = str(refusal)
            raise StoreUnavailable(fault if is_moving(fault) else f"ending earlier connections failed: {fault}")
        self._writer.fenced()
        kept_replies = applied(doubts, replies[0])
        doubts.calls.clear()
        self.rounds.hand_out_kept(kept_replies)

    async def _pause(self) -> None:
        """Before the next attempt: nothing after the first failure, for a connection may just have been idle."""
        if self._failures:
            await trio.sleep(BACKOFF.compute(self._failures))
        self._failures += 1

    async def _give_up(self) -> None:
        """End a connection that may have more to send to the store."""
        self.rounds.disconnected()
        self._must_register = self._registers_elsewhere  # it may have been deleted, and is another then
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._mailbox.doubts.gave_up(connection)
            await connection.give_up()

    async def _disconnect(self) -> None:
        """End a connection on which nothing is on its way."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            release = self._writer.release()
            if release is not None:
                with contextlib.suppress(StoreUnavailable):  # then the store forgets it by itself
                    connection.send_now([release])
            await connection.aclose()
