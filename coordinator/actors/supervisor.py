"""The one task that owns a context's connection and runs its operations in rounds."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import structlog
import trio

from coordinator.actors.joining import join, part
from coordinator.actors.mailbox import Mailbox
from coordinator.actors.request import ORDINARY_BYTES, Compute, Park, Request, WithEffects
from coordinator.actors.stepping import advance
from coordinator.backoff import Backoff
from coordinator.errors import StorageError
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.faults import ReplyError, StoreMisconfigured, StoreUnavailable, is_moving, is_transient
from coordinator.storage.keys import ContextKey

__all__ = ["ROUND_CALLS", "State", "Supervisor"]

log = structlog.get_logger("coordinator.supervisor")

ROUND_CALLS: Final = 256  # about, of a round
ROUND_SLICES: Final = 2  # at most in a round while others want theirs
ROUNDS_SENT: Final = 2  # at once
ASKING_LOAD: Final = 32  # calls of a round from which on it asks how large records have become
LARGE_ROUND: Final = 4  # calls from which on another round is soon sent after it
BACKOFF_BASE: Final = 0.02  # seconds before the second attempt to connect
BACKOFF_CAP: Final = 2.0
MOVING_PAUSE: Final = 0.05  # seconds before a cluster that moves the keys is asked again


class _Slice(NamedTuple):
    """A part of what was sent in one write: our own commands, then those of the requests, joined."""

    remember: int  # commands that register the context as known
    sizes: int  # commands about the sizes of its records
    requests: list[Request]
    counts: list[int]  # for each command sent after the preamble, for how many of the requests' it stands
    writes: bool
    is_last: bool  # of its round


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

    A round: take what is pending, join the commands of every operation into one pipeline, send it once, hand each
    operation its replies, deliver the answers that are ready. So batches form by themselves under load, an idle
    context answers in one round trip, and requests to a context are served in the order they came. While a round is
    on the wire, what has arrived since is sent as the next one: the store works on it while we see to the replies.

    Args:
        round_timeout: seconds the store may take over a round before the connection counts as lost.
        compute: starts a worker thread for an operation, and puts its request back when it has the result.
        park: takes a request out of the mailbox until what its operation waits for has happened.
        apply_effects: is told the effects of each transition.
        effects_unknown: is told when it may not have been told some; see Directory.
        wanted_elsewhere: whether this one's slot should be given up as soon as nothing is half done.
        slice_calls: of how many calls the replies are dealt with before other tasks get on.
        register: registers the context as known, where that cannot be done on its own connection. Returns why not,
            if it could not be.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        store: Store,
        *,
        round_timeout: float,
        compute: Callable[[Request, Compute], None],
        park: Callable[[Request, Park], None],
        apply_effects: Callable[[ContextKey, Sequence[bytes]], None],
        effects_unknown: Callable[[ContextKey, bool], None],
        wanted_elsewhere: Callable[[], bool],
        slice_calls: Callable[[], int],
        register: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self.state = State.IDLE
        self._mailbox = mailbox
        self._store = store
        self._round_timeout = round_timeout
        self._compute = compute
        self._park = park
        self._apply_effects = apply_effects
        self._effects_unknown = effects_unknown
        self._wanted_elsewhere = wanted_elsewhere
        self._slice_calls = slice_calls
        self._connection: Connection | None = None
        self._sent: deque[_Slice] = deque()  # and not answered; their requests come first in `running`
        self._failures = 0
        self._backoff = Backoff(cap=BACKOFF_CAP, base=BACKOFF_BASE)
        self._register = register
        self._must_register = register is not None
        self._must_remember = mailbox.address is not None and register is None  # GLOBAL is no context
        self._is_remembered = not self._must_remember  # registered as a known context on this connection
        self._sizes_key = store.layout.keyspace(mailbox.address).sizes()
        self._largest_told = ORDINARY_BYTES
        self._told_to_retire = False

    @property
    def is_free(self) -> bool:
        """Idle, with nothing on its way to it, and not retiring yet."""
        return self.state is State.IDLE and self._mailbox.is_quiet and not self._told_to_retire

    @property
    def is_registered(self) -> bool:
        """Whether its context was registered as known, because something was written to it."""
        return not self._must_register if self._register is not None else self._must_remember and self._is_remembered

    def retire(self) -> None:
        """Ask it to end once nothing is pending."""
        self._told_to_retire = True
        self._mailbox.wake()

    async def run(self) -> None:
        """Serve until retired. Whatever is left in the mailbox then is for the next supervisor."""
        try:
            while self._sent or await self._gather():
                rounds = sum(sent.is_last for sent in self._sent)
                may_send = rounds < ROUNDS_SENT and not (rounds and self._wanted_elsewhere())
                sent = may_send and await self._send()
                if self._sent and (not sent or rounds + 1 == ROUNDS_SENT):
                    await self._receive()
        finally:
            self.state = State.RETIRED
            with trio.CancelScope(shield=True):  # closing at once does not wait for the peer
                await self._disconnect()

    async def _gather(self) -> bool:
        """See that there is something in `running`; park while there is nothing to do. False: retire."""
        mailbox = self._mailbox
        running = mailbox.running
        if self._wanted_elsewhere():
            return False
        while not running:
            if mailbox.is_quiet:
                if self._told_to_retire:
                    return False
                mailbox.idle_since = trio.current_time()
                self.state = State.IDLE
            request = await mailbox.take()
            if request is not None:
                running.append(request)
            elif self._wanted_elsewhere():
                return False
        return True

    def _take_pending(self, in_flight: int) -> list[Request]:
        """The requests of `running` that have something to send, after those in flight, and what is in the mailbox."""
        mailbox = self._mailbox
        waiting = mailbox.running[in_flight:]
        room = min(ROUND_CALLS, ROUND_SLICES * self._slice_calls()) - _load(waiting)
        try:
            while room > 0:
                request = mailbox.take_nowait()
                if request is not None:
                    waiting.append(request)
                    room -= request.load
        except trio.WouldBlock:
            pass
        mailbox.running[in_flight:] = waiting
        ready = [request for request in waiting if self._has_commands(request)]
        mailbox.running[in_flight:] = ready
        return ready

    async def _send(self) -> bool:
        """Send the next round, if there is one."""
        mailbox = self._mailbox
        ready = self._take_pending(sum(len(sent.requests) for sent in self._sent))
        if not ready:
            return False
        if self._connection is None or (self._must_register and any(request.writes for request in ready)):
            if self._sent or not await self._prepare(ready):
                return False
            # Those answered meanwhile must not be sent any more.
            mailbox.running[:] = ready = [request for request in ready if self._has_commands(request)]
            if not ready:
                return False
        connection = self._connection
        assert connection is not None
        commands: list[Command] = []
        if not self._is_remembered and any(request.writes for request in ready):
            assert mailbox.address is not None
            commands += self._store.layout.register_context(mailbox.address)
        remember = len(commands)
        commands += self._about_sizes(_load(ready))
        sizes = len(commands) - remember
        for requests in _slices(ready, self._slice_calls()):
            of_slice: list[Command] = []
            for request in requests:
                assert request.commands is not None
                of_slice += request.commands
                request.unanswered += 1
            joined, counts = join(of_slice)
            commands += joined
            writes = any(request.writes for request in requests)
            self._sent.append(_Slice(remember, sizes, requests, counts, writes, requests[-1] is ready[-1]))
            remember = sizes = 0
        self.state = State.SERVING
        try:
            left = connection.send_now(commands)
            if left:
                with trio.fail_after(self._round_timeout):
                    await connection.send_rest(left)
            elif _load(ready) >= LARGE_ROUND:
                await trio.lowlevel.checkpoint()  # what arrives meanwhile makes the next one
        except trio.TooSlowError:
            await self._lose(f"the store accepted nothing for {self._round_timeout:g} s")
        except StoreUnavailable as error:
            await self._lose(str(error))
        return True

    async def _receive(self) -> None:
        """Wait for the replies to the slice that was sent first, and hand them out."""
        connection = self._connection
        assert connection is not None
        sent = self._sent[0]
        replies: list[Reply] = []
        lost: str | None = None
        try:
            with trio.fail_after(self._round_timeout):
                await connection.collect(sent.remember + sent.sizes + len(sent.counts), replies)
        except trio.TooSlowError:
            lost = f"the store did not answer within {self._round_timeout:g} s"
        except StoreUnavailable as error:
            lost = str(error)
        if sent.remember:
            lost = lost or self._check_remembered(replies[: sent.remember])
            del replies[: sent.remember]
        if sent.sizes:
            self._learn_sizes(replies[: sent.sizes])
            del replies[: sent.sizes]
        parted, effects = part(replies, sent.counts)
        fault = self._deliver(sent.requests, parted) or lost
        if effects:
            # Only now: a runner that was given a job has to know of it before that is cancelled.
            self._apply_effects(self._mailbox.address, effects)
        if fault is None:
            self._sent.popleft()
            self._failures = 0
            self._mailbox.fault = None
            if not sent.is_last:
                await trio.lowlevel.checkpoint()
        else:
            await self._lose(fault)

    async def _lose(self, fault: str) -> None:
        """Give up the connection: what was sent is sent again on another one."""
        log.debug("lost the connection", context=self._mailbox.address, reason=fault)
        self._mailbox.fault = fault
        self._effects_unknown(self._mailbox.address, any(sent.writes for sent in self._sent))
        self._sent.clear()
        await self._disconnect()
        if is_moving(fault):
            await trio.sleep(MOVING_PAUSE)
        else:
            self._store.lost(self._mailbox.address, fault)
            await self._pause()

    def _check_remembered(self, replies: list[Reply]) -> str | None:
        """Why the connection cannot be used any more, if so: it may be left in another database."""
        for reply in replies:
            if isinstance(reply, ReplyError):
                return f"noting the context as known failed: {reply}"
        self._is_remembered = True
        return None

    def _about_sizes(self, load: int) -> list[Command]:
        """Commands that ask how large records here are, and tell what we have seen, for all who use this store.

        They come before those of a round, so what is written in it is not larger than has been told.
        """
        mailbox, key = self._mailbox, self._sizes_key
        commands: list[Command] = []
        if mailbox.largest > self._largest_told:
            commands.append(("ZADD", key, "GT", mailbox.largest, "record"))
            self._largest_told = mailbox.largest
        if not mailbox.has_asked or load >= ASKING_LOAD:
            commands.append(("ZSCORE", key, "record"))
        return commands

    def _learn_sizes(self, replies: list[Reply]) -> None:
        mailbox = self._mailbox
        for reply in replies:
            if reply is None or type(reply) is float:  # that to ZSCORE
                mailbox.has_asked = True
                if reply is not None and reply > mailbox.largest:
                    mailbox.largest = self._largest_told = int(reply)

    def _deliver(self, ready: list[Request], replies: list[Reply]) -> str | None:
        """Hand each request its replies; those without keep their step for the next round.

        Returns the error reply that asks for a new connection, if there was one. What came after the request that
        got it is sent again as well: nothing may overtake it.
        """
        transient: str | None = None
        remaining: list[Request] = []
        is_plain = ReplyError not in map(type, replies)  # seen at once for all of them
        end = 0
        for request in ready:
            assert request.commands is not None
            begin, end = end, end + len(request.commands)
            answers = replies[begin:end]
            if end > len(replies) or transient is not None:
                if end <= len(replies) and all(type(answer) is ReplyError for answer in answers):
                    request.unanswered -= 1  # it was refused as well
                remaining.append(request)
                continue
            request.unanswered -= 1
            errors = () if is_plain else [answer for answer in answers if type(answer) is ReplyError]
            if errors:
                transient = next((str(error) for error in errors if is_transient(error)), None)
                if transient is not None:
                    remaining.append(request)
                    continue
                if request.calls == 1:
                    request.operation.close()
                    request.finish(_refusal(errors[0], request))
                    continue
                answers = [_refusal(answer, request) if type(answer) is ReplyError else answer for answer in answers]
            request.commands = None
            request.resume_with = answers
            if self._has_commands(request):
                remaining.append(request)
        running = self._mailbox.running
        if transient is None and end == len(replies):
            # What goes on comes after what was sent meanwhile.
            in_flight = sum(len(sent.requests) for sent in self._sent) - len(ready)
            running[: len(ready) + in_flight] = running[len(ready) : len(ready) + in_flight] + remaining
        else:
            running[: len(ready)] = remaining
        return transient

    def _has_commands(self, request: Request) -> bool:
        """Advance a request to its next step if it has none. False when it left the round."""
        if request.done:
            if request.resume_with is not None and request.writes:
                self._effects_unknown(self._mailbox.address, True)
            request.operation.close()
            return False
        if request.commands is not None:
            return True
        step = advance(request.operation, request.resume_with, self._mailbox.address)
        request.resume_with = None
        if isinstance(step, list):
            request.commands = step
            return True
        if isinstance(step, Park):
            self._park(request, step)
        elif isinstance(step, Compute):
            self._compute(request, step)
        else:
            if isinstance(step, WithEffects):
                if step.effects:
                    self._apply_effects(self._mailbox.address, step.effects)
                step = step.answer
            request.finish(step)
        return False

    async def _prepare(self, ready: list[Request]) -> bool:
        """See to a connection, and that the context is registered before its first write. False as `_connect`."""
        if not await self._connect():
            return False
        if self._must_register and any(request.writes for request in ready):
            assert self._register is not None
            fault = await self._register()
            if fault is not None:
                self._mailbox.fault = f"noting the context as known failed: {fault}"
                await self._pause()
                return False
            self._must_register = False
        return True

    async def _connect(self) -> bool:
        """See to a connection. False if there is none: either `running` was answered, or try again."""
        if self._connection is not None:
            return True
        self.state = State.CONNECTING
        try:
            self._connection = await self._store.open(self._mailbox.address)
        except StoreUnavailable as error:
            self._mailbox.fault = str(error)
            await self._pause()
            return False
        except StoreMisconfigured as error:
            log.warning("the store will not serve this context", context=self._mailbox.address, reason=str(error))
            for request in self._mailbox.running:
                request.operation.close()
                request.finish(StorageError(str(error), may_have_been_applied=request.is_in_doubt))
            self._mailbox.running = []
            return False
        return True

    async def _pause(self) -> None:
        """Before the next attempt: nothing after the first failure, for a connection may just have been idle."""
        if self._failures:
            await trio.sleep(self._backoff.compute(self._failures))
        self._failures += 1

    async def _disconnect(self) -> None:
        # The store may come back without its data.
        self._is_remembered = not self._must_remember
        self._largest_told = ORDINARY_BYTES
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.aclose()


def _load(requests: Iterable[Request]) -> int:
    """As how many calls they count."""
    return sum(request.load for request in requests)


def _slices(requests: Iterable[Request], most: int) -> Iterator[list[Request]]:
    """Requests by slices of about `most` calls."""
    turn: list[Request] = []
    room = most
    for request in requests:
        turn.append(request)
        room -= request.load
        if room <= 0:
            yield turn
            turn, room = [], most
    if turn:
        yield turn


def _refusal(error: ReplyError, request: Request) -> StorageError:
    return StorageError(f"the store refused: {error}", may_have_been_applied=request.is_in_doubt)
