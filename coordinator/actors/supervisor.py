"""The one task that owns a context's connection and runs its operations in rounds."""

from __future__ import annotations

import contextlib
import enum
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import structlog
import trio

from coordinator.actors.joining import join, part
from coordinator.actors.mailbox import Mailbox
from coordinator.actors.request import ORDINARY_BYTES, Compute, Further, Park, Request, WithEffects
from coordinator.actors.stepping import advance
from coordinator.actors.writer import Writer, applied
from coordinator.backoff import Backoff
from coordinator.errors import CoordinatorError, StorageError
from coordinator.storage import functions
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.faults import (
    OUT_OF_MEMORY,
    ReplyError,
    ReplyNotKept,
    StoreMisconfigured,
    StoreUnavailable,
    is_library_fault,
    is_moving,
    is_write_refusal,
)
from coordinator.storage.keys import ContextKey, Transition
from coordinator.supervision import report

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

    remember: int  # commands that note the context as known
    registers: int  # commands that make the store know who writes on the connection
    sizes: int  # commands about the sizes of its records
    requests: list[Request]
    counts: list[int]  # for each command sent after the preamble, for how many of the requests' it stands
    numbers: list[int]  # of those commands, 0 for one that has none; nothing if none has
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
        register: registers the context as known, where that cannot be done on its own connection, or, given False, as
            ours if it is known. Returns whether it is, and why not if it could not be.
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
        register: Callable[[bool], Awaitable[tuple[bool, str | None]]] | None = None,
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
        self._writer = Writer(store, mailbox.address)
        self._sent: deque[_Slice] = deque()  # and not answered; their requests come first in `running`
        self._failures = 0
        self._backoff = Backoff(cap=BACKOFF_CAP, base=BACKOFF_BASE)
        self._register = register
        self._must_register = register is not None
        self._must_remember = mailbox.address is not None and register is None  # GLOBAL is no context
        self._is_remembered = not self._must_remember  # registered as a known context on this connection
        self._is_unknown = False  # the context was not known when something was last written to it
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
                if self._sent or self._mailbox.doubts:
                    self._doubt_sent()
                    await self._give_up()
                else:
                    await self._disconnect()

    async def _gather(self) -> bool:
        """See that there is something in `running`; park while there is nothing to do. False: retire."""
        mailbox = self._mailbox
        running = mailbox.running
        if self._wanted_elsewhere():
            return False
        while not running:
            if mailbox.is_quiet and mailbox.doubts:
                # Nobody waits for it any more, but what was sent may be applied until the store is told otherwise.
                if not await self._connect() and self._wanted_elsewhere():
                    return False
                continue
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
        if (
            self._connection is None
            or mailbox.doubts
            or (self._must_register and any(request.writes for request in ready))
        ):
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
            layout = self._store.layout
            creates = any(request.creates for request in ready)
            commands += layout.register_context(mailbox.address) if creates else layout.own_context(mailbox.address)
        remember = len(commands)
        slices = [(requests, _commands_of(requests)) for requests in _slices(ready, self._slice_calls())]
        numbered = [self._writer.is_needed(of_slice) for _, of_slice in slices]
        if any(numbered) and not self._writer.is_registered:
            commands.append(self._writer.register())
        registers = len(commands) - remember
        commands += self._about_sizes(_load(ready))
        sizes = len(commands) - remember - registers
        for (requests, of_slice), is_numbered in zip(slices, numbered, strict=True):
            joined, counts = join(of_slice, apart=self._store.is_out_of_memory)
            numbers = self._writer.number(joined, counts, of_slice) if is_numbered else []
            commands += joined
            writes = any(request.writes for request in requests)
            is_last = requests[-1] is ready[-1]
            self._sent.append(_Slice(remember, registers, sizes, requests, counts, numbers, writes, is_last))
            remember = registers = sizes = 0
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
                preamble = sent.remember + sent.registers + sent.sizes
                await connection.collect(preamble + len(sent.counts), replies)
        except trio.TooSlowError:
            lost = f"the store did not answer within {self._round_timeout:g} s"
        except StoreUnavailable as error:
            lost = str(error)
        if sent.remember:
            lost = lost or self._check_remembered(replies[: sent.remember])
            del replies[: sent.remember]
        if sent.registers:
            lost = lost or self._check_registered(replies[: sent.registers])
            del replies[: sent.registers]
        if sent.sizes:
            self._learn_sizes(replies[: sent.sizes])
            del replies[: sent.sizes]
        lost = self._without_memory(sent, replies) or lost
        self._mailbox.doubts.add(sent.requests, sent.counts, sent.numbers, len(replies))
        self._sent.popleft()
        self._writer.answered(sent.numbers)
        parted, effects = part(replies, sent.counts)
        fault = self._deliver(sent.requests, parted) or lost
        if effects:
            # Only now: a runner that was given a job has to know of it before that is cancelled.
            self._apply_effects(self._mailbox.address, effects)
        if fault is None:
            self._failures = 0
            self._mailbox.fault = None
            if not sent.is_last:
                await trio.lowlevel.checkpoint()
            if self._is_unknown and not self._sent:
                await self._leave_nothing()
        else:
            await self._lose(fault, writes=sent.writes)

    async def _leave_nothing(self) -> None:
        """What was written to a context that nobody knows came to nothing: the store need not know who wrote it."""
        self._is_unknown = False
        release = self._writer.release()
        if release is None or self._connection is None or self._mailbox.doubts:
            return
        self._writer.forgotten()
        try:
            with trio.fail_after(self._round_timeout):
                await self._connection.exchange([release], [])
        except trio.TooSlowError:
            await self._lose(f"the store did not answer within {self._round_timeout:g} s")
        except StoreUnavailable as error:
            await self._lose(str(error))

    def _without_memory(self, sent: _Slice, replies: list[Reply]) -> str | None:
        """Learn whether the store is out of memory. If it has refused transitions only because others, which it must
        refuse, were joined with them, the reason to send all from there on again, apart from each other."""
        for at, reply in enumerate(replies):
            if type(reply) is ReplyError and str(reply).startswith(OUT_OF_MEMORY):
                was_known = self._store.is_out_of_memory
                self._store.ran_out_of_memory()
                if not was_known and sent.counts[at] > 1:
                    del replies[at:]
                    return str(reply)
        return None

    async def _lose(self, fault: str, *, writes: bool = False) -> None:
        """Give up the connection: what was sent, and was not applied, is sent again on another one."""
        log.debug("lost the connection", context=self._mailbox.address, reason=fault)
        self._mailbox.fault = fault
        self._effects_unknown(self._mailbox.address, writes or any(sent.writes for sent in self._sent))
        self._doubt_sent()
        await self._give_up()
        if is_moving(fault):
            await trio.sleep(MOVING_PAUSE)
        else:
            self._store.lost(self._mailbox.address, fault)
            await self._pause()

    def _doubt_sent(self) -> None:
        """What is on the wire is in doubt."""
        for sent in self._sent:
            self._mailbox.doubts.add(sent.requests, sent.counts, sent.numbers, 0)
        self._sent.clear()

    def _check_remembered(self, replies: list[Reply]) -> str | None:
        """Why the connection cannot be used any more, if so: it may be left in another database."""
        errors = [reply for reply in replies if isinstance(reply, ReplyError)]
        for error in errors:
            if not is_write_refusal(error) or self._store.is_transient(error):
                return f"noting the context as known failed: {error}"
        if any(map(functions.is_unknown_context, replies)):
            self._is_unknown = True
            return None  # what is written to it next may create something
        self._is_remembered = not errors  # refused, like the writes that follow: those that come later try it again
        return None

    def _check_registered(self, replies: list[Reply]) -> str | None:
        """Why the store does not know who writes on the connection, if so."""
        for reply in replies:
            if not isinstance(reply, ReplyError):
                self._writer.registered()
            elif self._store.is_transient(reply):
                return str(reply)
            elif not is_write_refusal(reply):  # such a one the writes that follow are given, too
                return f"beginning to write failed: {reply}"
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
            begin, end = end, end + len(request.commands) - len(request.known or ())
            answers = replies[begin:end]
            if is_plain and end <= len(replies) and request.known is None:
                request.unanswered -= 1
                request.commands = None
                request.resume_with = answers
                if self._has_commands(request):
                    remaining.append(request)
                continue
            has_all = end <= len(replies)
            refusal = next((str(answer) for answer in answers if self._asks_again(answer)), None)
            _learn(request, answers, self._asks_again, of_all=has_all and transient is None and refusal is None)
            if has_all and (transient is None or all(type(answer) is ReplyError for answer in answers)):
                request.unanswered -= 1  # after another's refusal only if this one was refused as well
            if has_all:
                transient = transient or refusal
            if not _is_known(request) or self._resume(request):
                remaining.append(request)
        running = self._mailbox.running
        if transient is None and end == len(replies):
            # What goes on comes after what was sent meanwhile.
            in_flight = sum(len(sent.requests) for sent in self._sent)
            running[: len(ready) + in_flight] = running[len(ready) : len(ready) + in_flight] + remaining
        else:
            running[: len(ready)] = remaining
        return transient

    def _asks_again(self, answer: Reply) -> bool:
        """Whether it is an error after which the command is to be sent again, on a new connection."""
        return type(answer) is ReplyError and self._store.is_transient(answer)

    def _resume(self, request: Request) -> bool:
        """Hand a request the replies to its step, all of which are known. False when it left the round."""
        assert request.known is not None
        answers = [request.known[at] for at in range(len(request.known))]
        errors = [answer for answer in answers if isinstance(answer, ReplyError)]
        if errors:
            if request.calls == 1:
                request.operation.close()
                request.finish(self._refusal(errors[0], request))
                return False
            answers = [
                self._refusal(answer, request) if isinstance(answer, ReplyError) else answer for answer in answers
            ]
        request.commands = request.known = None
        request.resume_with = answers
        return self._has_commands(request)

    def _refusal(self, error: ReplyError, request: Request) -> CoordinatorError:
        if isinstance(error, ReplyNotKept):
            return StorageError(str(error), may_have_been_applied=True)
        if request.writes and not is_write_refusal(error):
            self._effects_unknown(self._mailbox.address, True)  # it may have come half way
        if is_library_fault(error):
            return report("the function library", error, context=self._mailbox.address)
        return StorageError(self._store.refusal(error), may_have_been_applied=request.is_in_doubt)

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
            if type(step) is Further and step.effects:
                self._apply_effects(self._mailbox.address, step.effects)
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
            is_registered, fault = await self._register(any(request.creates for request in ready))
            if fault is not None:
                self._mailbox.fault = f"noting the context as known failed: {fault}"
                await self._pause()
                return False
            self._must_register = not is_registered  # what is written next may create something
            self._is_unknown = not is_registered
        return True

    async def _connect(self) -> bool:
        """See to a connection. False if there is none: either `running` was answered, or try again."""
        if self._connection is not None and not self._mailbox.doubts:
            return True
        self.state = State.CONNECTING
        try:
            if self._connection is None:
                self._connection = await self._store.open(self._mailbox.address)
                self._writer.connected()
            await self._settle(self._connection)
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
            log.warning("the store will not serve this context", context=self._mailbox.address, reason=str(error))
            for request in self._mailbox.running:
                request.operation.close()
                request.finish(StorageError(str(error), may_have_been_applied=request.is_in_doubt))
            self._mailbox.running = []
            if self._mailbox.doubts:
                await self._pause()
            return False
        return True

    async def _settle(self, connection: Connection) -> None:
        """See that connections given up before can write no more, and find out what was applied of what they were sent.

        Raises:
            StoreUnavailable: the store has not said.
        """
        doubts = self._mailbox.doubts
        replies: list[Reply] = []
        try:
            with trio.fail_after(self._round_timeout):
                while doubts.connections:
                    await connection.close_other(*doubts.connections[-1])
                    doubts.connections.pop()
                if not doubts:
                    return
                await connection.exchange([self._writer.settle(doubts)], replies)
        except trio.TooSlowError:
            raise StoreUnavailable(f"the store did not answer within {self._round_timeout:g} s") from None
        if isinstance(replies[0], ReplyError):
            fault = str(replies[0])
            raise StoreUnavailable(fault if is_moving(fault) else f"ending earlier connections failed: {fault}")
        self._writer.registered()
        effects: list[bytes] = []
        kept_replies = applied(doubts, replies[0])
        doubts.calls.clear()
        for places, reply in kept_replies:
            parted, told = part([reply], [len(places)])
            effects += told
            for (request, at), own in zip(places, parted, strict=True):
                kept = functions.read_kept(own)
                if kept is not None:
                    request.known = {**(request.known or {}), at: kept}
        running = self._mailbox.running
        running[:] = [request for request in running if not _is_known(request) or self._resume(request)]
        if effects:
            self._apply_effects(self._mailbox.address, effects)

    async def _pause(self) -> None:
        """Before the next attempt: nothing after the first failure, for a connection may just have been idle."""
        if self._failures:
            await trio.sleep(self._backoff.compute(self._failures))
        self._failures += 1

    async def _give_up(self) -> None:
        """End a connection that may have more to send to the store."""
        # The store may come back without its data.
        self._is_remembered = not self._must_remember
        self._largest_told = ORDINARY_BYTES
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


def _commands_of(requests: Iterable[Request]) -> list[Command]:
    """What is to be sent for them now."""
    commands: list[Command] = []
    for request in requests:
        assert request.commands is not None
        if request.known is None:
            commands += request.commands
        else:
            commands += [command for at, command in enumerate(request.commands) if at not in request.known]
        request.unanswered += 1
    return commands


def _learn(
    request: Request, answers: list[Reply], asks_again: Callable[[Reply], bool], *, of_all: bool = False
) -> None:
    """Keep those of a request's replies that stand: what a transition has done is done. `of_all`: all of them do."""
    assert request.commands is not None
    known = request.known or {}
    unknown = [at for at in range(len(request.commands)) if at not in known]
    learned = {
        at: answer
        for at, answer in zip(unknown, answers, strict=False)
        if of_all or (type(request.commands[at]) is Transition and not asks_again(answer))
    }
    if learned:
        request.known = {**known, **learned}


def _is_known(request: Request) -> bool:
    """Whether all replies to a request's step are."""
    return request.known is not None and request.commands is not None and len(request.known) == len(request.commands)


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
