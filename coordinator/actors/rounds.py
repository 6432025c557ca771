"""The rounds of one context: what goes together on the wire, who gets the replies, and what remains of a lost one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter
from typing import Final, NamedTuple

import trio

from coordinator.actors.host import Host
from coordinator.actors.mailbox import Mailbox
from coordinator.actors.metering import Meter, metered
from coordinator.actors.pipeline import join, part
from coordinator.actors.progress import Progress, is_known, learn
from coordinator.actors.request import ORDINARY_BYTES, Request
from coordinator.actors.writer import Place, Writer
from coordinator.measures import count_round
from coordinator.storage.connection import Command, Connection, Reply, Store
from coordinator.storage.faults import OUT_OF_MEMORY, ReplyError, StoreUnavailable, is_write_refusal
from coordinator.storage.functions import once, registration
from coordinator.storage.keys import Transition

__all__ = ["ROUND_CALLS", "Lost", "Rounds", "load_of"]

ROUND_CALLS: Final = 256  # about, of a round
ROUND_SLICES: Final = 2  # at most in a round while others want theirs
ASKING_LOAD: Final = 32  # calls of a round from which on it asks how large records have become
LARGE_ROUND: Final = 4  # calls from which on another round is soon sent after it


class Lost(NamedTuple):
    """The connection cannot be used any more."""

    fault: str
    writes: bool  # whether something may have been changed of which no reply tells


class _Slice(NamedTuple):
    """A part of what was sent in one write: our own commands, then those of the requests, joined."""

    registers: int  # commands that register the context as known
    fences: int  # commands that make the store know who writes on the connection
    sizes: int  # commands about the layout and the sizes of its records
    requests: list[Request]
    counts: list[int]  # for each command sent after the preamble, for how many of the requests' it stands
    numbers: list[int]  # of those commands, 0 for one that has none; nothing if none has
    writes: bool
    meter: Meter | None  # of what the store takes over the requests' commands, if that is measured
    begun: float  # when that was sent, by perf_counter
    due: int  # replies to it
    ends: tuple[int, float | None] | None  # of the last of its round: how many commands that has, and what it waited


class Rounds:
    """What a supervisor has sent of a mailbox's requests, and what is to be sent next.

    A round: pop what is pending, join the commands of every operation into one pipeline, send it once, hand each
    operation its replies, reply to the calls that have ended. So batches form by themselves under load, an idle
    context answers in one round trip, and requests to a context are served in the order they came. While a round is
    on the wire, what has arrived since is sent as the next one: the store works on it while we handle the replies.

    Args:
        registers_context: whether the context is registered as known on its own connection, by what is written to it.

    Attributes:
        is_unknown: the context was not known when something was last written to it.
        on_the_wire: how many rounds are.
    """

    def __init__(self, mailbox: Mailbox, store: Store, writer: Writer, host: Host, *, registers_context: bool) -> None:
        self._mailbox = mailbox
        self._store = store
        self._writer = writer
        self._host = host
        self._progress = Progress(mailbox.context, store, host)
        self._sent: list[_Slice] = []  # and not answered, first what was sent first; their requests begin `running`
        self._requests_sent = 0  # in all of those
        self.on_the_wire = 0
        self._replies: list[Reply] = []  # that have come to the first of them
        self._registers_context = registers_context
        self._is_registered = not registers_context  # the context, on this connection
        self.is_unknown = False
        self._largest_told = ORDINARY_BYTES

    def __bool__(self) -> bool:
        """Whether something is on the wire."""
        return self.on_the_wire > 0

    @property
    def has_registered(self) -> bool:
        """Whether the context was registered as known here, because something was written to it."""
        return self._registers_context and self._is_registered

    # -- what goes together

    def next_requests(self) -> list[Request]:
        """The requests of `running` that have something to send, after those in flight, and what is in the mailbox."""
        mailbox, in_flight = self._mailbox, self._requests_sent
        waiting = mailbox.running[in_flight:]
        if mailbox.ahead:
            waiting[:0] = mailbox.ahead
            mailbox.ahead.clear()
        room = min(ROUND_CALLS, ROUND_SLICES * self._host.round_slice) - (load_of(waiting) if waiting else 0)
        while room > 0 and mailbox.queued > 0:
            request = mailbox.pop_nowait()
            if request is not None:
                waiting.append(request)
                room -= request.load
        if not waiting:
            return waiting
        mailbox.running[in_flight:] = waiting
        ready = []
        for request in waiting:  # a list comprehension costs more, as most rounds have one
            if self._progress.has_commands(request):
                ready.append(request)
        mailbox.running[in_flight:] = ready
        return ready

    def without_answered(self, ready: list[Request]) -> list[Request]:
        """Those of the next requests that were not answered meanwhile. Nothing is on the wire."""
        self._mailbox.running[:] = remaining = [request for request in ready if self._progress.has_commands(request)]
        return remaining

    async def send(self, connection: Connection, ready: list[Request]) -> Lost | None:
        """Send the next round, with these requests. Returns why the connection is lost, if it is."""
        load = load_of(ready)
        sent = self.send_now(connection, ready, load)
        if isinstance(sent, Lost):
            return sent
        if sent:
            return await self.send_rest(connection, sent)
        if load >= LARGE_ROUND:
            await trio.lowlevel.checkpoint()  # what arrives meanwhile makes the next one
        return None

    async def send_rest(self, connection: Connection, unsent: bytes) -> Lost | None:
        """Send what remained of `send_now`. Returns as `send`."""
        try:
            await connection.send_rest(unsent, self._host.round_timeout)
        except trio.TooSlowError:
            return self._lost(f"the store accepted nothing for {self._host.round_timeout:g} s")
        except StoreUnavailable as error:
            return self._lost(str(error))
        return None

    def send_now(self, connection: Connection, ready: list[Request], load: int) -> bytes | Lost:
        """Send the next round, with these requests of so much load, as far as that needs no waiting. Returns what
        remains for `send_rest`, or why the connection is lost."""
        begun, first = perf_counter(), ready[0]
        waited = begun - first.begun if first.begun and not first.unanswered else None
        commands = [] if self._is_registered else self._registration(ready)
        registers = len(commands)
        most = self._host.round_slice
        slices: list[tuple[list[Request], list[Command], bool, bool]] = []
        must_be_fenced = False
        for requests in [ready] if load <= most else _slices(ready, most):
            of_slice, writes = _commands_of(requests)
            is_numbered = Transition in map(type, of_slice)
            must_be_fenced = must_be_fenced or is_numbered
            slices.append((requests, of_slice, writes, is_numbered))
        if must_be_fenced and not self._writer.is_fenced:
            commands.append(self._writer.fence())
        fences = len(commands) - registers
        if connection.lacks_layout and any(request.creates for request in ready):
            commands.append(registration.tell_layout(self._writer.keys))
            connection.lacks_layout = False
        # A round that only reads tells nothing: its context may have been deleted, and keeps no key then.
        tells = must_be_fenced and self._mailbox.largest > self._largest_told
        if load >= ASKING_LOAD or tells or not self._mailbox.has_asked:
            commands += self._about_sizes(load, tells)
        sizes = len(commands) - registers - fences
        calls = 0
        for requests, of_slice, writes, is_numbered in slices:
            calls += len(of_slice)
            joined, counts = of_slice, [1] * len(of_slice)
            numbers: list[int] = []
            if is_numbered:
                joined, counts = join(of_slice, apart=self._store.is_out_of_memory)
                numbers = self._writer.number(joined, counts, of_slice)
            meter = None
            due = registers + fences + sizes + len(counts)
            if self._host.measures:
                joined, meter = metered(joined, counts, of_slice, requests)
                due += 0 if meter is None else len(meter.asked)
            commands += joined
            ends = (calls, waited) if requests[-1] is ready[-1] else None
            self._sent.append(
                _Slice(registers, fences, sizes, requests, counts, numbers, writes, meter, begun, due, ends)
            )
            registers = fences = sizes = 0
        self._requests_sent += len(ready)
        self.on_the_wire += 1
        try:
            return connection.send_now(commands)
        except StoreUnavailable as error:
            return self._lost(str(error))

    def _registration(self, ready: list[Request]) -> list[Command]:
        """Commands that register the context as known, if that was not done and something is written to it."""
        context = self._mailbox.context
        if context is None or not any(request.writes for request in ready):
            return []
        layout = self._store.layout
        creates = any(request.creates for request in ready)
        return layout.in_global(registration.register(layout, context, creates=creates), context)

    def _about_sizes(self, load: int, tells: bool) -> list[Command]:
        """Commands that ask how large records here are, and tell what we have seen, for all who use this store.

        They come before those of a round, so what is written in it is not larger than has been told.
        """
        mailbox = self._mailbox
        commands: list[Command] = []
        if tells:
            commands.append(("ZADD", self._writer.keys.sizes(), "GT", mailbox.largest, "record"))
            self._largest_told = mailbox.largest
        if not mailbox.has_asked or load >= ASKING_LOAD:
            commands.append(("ZSCORE", self._writer.keys.sizes(), "record"))
        return commands

    # -- who gets the replies

    async def receive(self, connection: Connection) -> Lost | None:
        """Wait for the replies to the slice that was sent first, and hand them out. Returns as `send` does."""
        sent = self._sent[0]
        fault: str | None = None
        try:
            with trio.fail_after(self._host.round_timeout):
                await connection.collect(sent.due - len(self._replies), self._replies)
        except trio.TooSlowError:
            fault = self._too_slow
        except StoreUnavailable as error:
            fault = str(error)
        lost = self._received(fault)
        if lost is None and sent.ends is None:
            await trio.lowlevel.checkpoint()
        return lost

    def receive_now(self, connection: Connection) -> bool | Lost:
        """The same if it needs no waiting. Returns whether it was done."""
        fault: str | None = None
        try:
            if not connection.collect_now(self._sent[0].due - len(self._replies), self._replies):
                return False
        except StoreUnavailable as error:
            fault = str(error)
        return self._received(fault) or True

    def overdue(self, now: float) -> Lost | None:
        """Why the connection is lost if the store has not answered in time, as it is `now` by perf_counter."""
        if not self._sent or now - self._sent[0].begun <= self._host.round_timeout:
            return None
        return self._received(self._too_slow)

    @property
    def _too_slow(self) -> str:
        return f"the store did not answer within {self._host.round_timeout:g} s"

    def _received(self, fault: str | None) -> Lost | None:
        """Hand out the replies that have come to the slice that was sent first: all of them, unless there was a fault.
        Returns as `send` does."""
        sent = self._sent[0]
        replies, self._replies = self._replies, []
        if sent.ends is not None and fault is None:
            count_round(*sent.ends, perf_counter() - sent.begun)
        if sent.registers:
            fault = fault or self._check_registered(replies[: sent.registers])
            del replies[: sent.registers]
        if sent.fences:
            fault = fault or self._check_fenced(replies[: sent.fences])
            del replies[: sent.fences]
        if sent.sizes:
            self._learn_sizes(replies[: sent.sizes])
            del replies[: sent.sizes]
        if sent.meter is not None:
            replies = sent.meter.read(replies)
        if ReplyError in map(type, replies):
            fault = self._without_memory(sent, replies) or fault
        if sent.numbers:
            self._mailbox.doubts.add(sent.requests, sent.counts, sent.numbers, len(replies))
            self._writer.answered(sent.numbers)
        del self._sent[0]
        self._requests_sent -= len(sent.requests)
        self.on_the_wire -= sent.ends is not None
        effects: list[bytes] = []
        if sent.numbers:  # nothing else is joined
            replies, effects = part(replies, sent.counts)
        fault = self._hand_out(sent.requests, replies) or fault
        if effects:
            # Only now: a runner that was given a job has to know of it before that is cancelled.
            self._host.apply_effects(self._mailbox.context, effects)
        return None if fault is None else self._lost(fault, writes=sent.writes)

    def _check_registered(self, replies: list[Reply]) -> str | None:
        """Why the connection cannot be used any more, if so: it may be left in another database."""
        errors = [reply for reply in replies if isinstance(reply, ReplyError)]
        for error in errors:
            if not is_write_refusal(error) or self._store.is_transient(error):
                return f"registering the context as known failed: {error}"
        if any(map(registration.is_unknown_context, replies)):
            self.is_unknown = True
            return None  # what is written to it next may create something
        self._is_registered = not errors  # refused, like the writes that follow: those that come later try it again
        return None

    def _check_fenced(self, replies: list[Reply]) -> str | None:
        """Why the store does not know who writes on the connection, if so."""
        for reply in replies:
            if not isinstance(reply, ReplyError):
                self._writer.fenced()
            elif self._store.is_transient(reply):
                return str(reply)
            elif not is_write_refusal(reply):  # such a one the writes that follow are given, too
                return f"beginning to write failed: {reply}"
        return None

    def _learn_sizes(self, replies: list[Reply]) -> None:
        mailbox = self._mailbox
        for reply in replies:
            if reply is None or type(reply) is float:  # that to ZSCORE
                largest = 0 if reply is None else int(reply)
                if largest > mailbox.largest:
                    self._largest_told = largest
                mailbox.was_told(largest)

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

    def _hand_out(self, ready: list[Request], replies: list[Reply]) -> str | None:
        """Hand each request its replies; those without keep their step for the next round.

        Returns the error reply that asks for a new connection, if there was one. What came after the request that
        got it is sent again as well: nothing may overtake it.
        """
        transient: str | None = None
        remaining: list[Request] = []
        is_without_errors = ReplyError not in map(type, replies)  # seen at once for all of them
        end = 0
        for request in ready:
            assert request.commands is not None
            begin, end = end, end + len(request.commands) - (0 if request.known is None else len(request.known))
            own = replies[begin:end]
            if is_without_errors and end <= len(replies) and request.known is None:
                request.unanswered -= 1
                request.commands = None
                request.resume_with = own
                if self._progress.has_commands(request):
                    remaining.append(request)
                continue
            has_all = end <= len(replies)
            refusal = next((str(reply) for reply in own if self._progress.asks_again(reply)), None)
            learn(request, own, self._progress.asks_again, of_all=has_all and transient is None and refusal is None)
            if has_all and (transient is None or all(type(reply) is ReplyError for reply in own)):
                request.unanswered -= 1  # after another's refusal only if this one was refused as well
            if has_all:
                transient = transient or refusal
            if not is_known(request) or self._progress.resume(request):
                remaining.append(request)
        running = self._mailbox.running
        if transient is None and end == len(replies):
            # What goes on comes after what was sent meanwhile.
            in_flight = self._requests_sent
            running[: len(ready) + in_flight] = running[len(ready) : len(ready) + in_flight] + remaining
        else:
            running[: len(ready)] = remaining
        return transient

    # -- what remains of a lost connection

    def refuse_writes(self, error: ReplyError) -> None:
        """The store takes no writes now: give this reply to all that `running` has to send, and keep what reads.
        Nothing is on the wire."""
        for request in self._mailbox.running:
            commands = request.commands or []
            refused: dict[int, Reply] = {
                at: error for at, command in enumerate(commands) if self._writer.is_needed([command])
            }
            if refused:
                request.known = {**refused, **(request.known or {})}
        self._advance_known()

    def _advance_known(self) -> None:
        """Advance the requests of `running` that need nothing more for their step."""
        running = self._mailbox.running
        running[:] = [request for request in running if not is_known(request) or self._progress.resume(request)]

    def _lost(self, fault: str, *, writes: bool = False) -> Lost:
        return Lost(fault, writes or any(sent.writes for sent in self._sent))

    def disconnected(self) -> None:
        """The connection was given up: what is on the wire is in doubt."""
        for sent in self._sent:
            self._mailbox.doubts.add(sent.requests, sent.counts, sent.numbers, 0)
        self._sent.clear()
        self._requests_sent = self.on_the_wire = 0
        self._replies = []
        # The store may come back without its data.
        self._is_registered = not self._registers_context
        self._largest_told = ORDINARY_BYTES

    def hand_out_kept(self, kept_replies: Iterable[tuple[list[Place], Reply]]) -> None:
        """Hand out the replies to calls that were in doubt: the store has applied them, and kept those."""
        effects: list[bytes] = []
        for places, reply in kept_replies:
            parted, of_all = part([reply], [len(places)])
            effects += of_all
            for (request, at), own in zip(places, parted, strict=True):
                kept = once.read_kept(own)
                if kept is not None:
                    request.known = {**(request.known or {}), at: kept}
        self._advance_known()
        if effects:
            self._host.apply_effects(self._mailbox.context, effects)


def _commands_of(requests: Iterable[Request]) -> tuple[list[Command], bool]:
    """What is to be sent for them now, and whether one of them writes."""
    commands: list[Command] = []
    writes = False
    for request in requests:
        writes = writes or request.writes
        assert request.commands is not None
        if request.known is None:
            commands += request.commands
        else:
            commands += [command for at, command in enumerate(request.commands) if at not in request.known]
        request.unanswered += 1
    return commands, writes


def load_of(requests: Sequence[Request]) -> int:
    """As how many calls they count."""
    if len(requests) == 1:  # as most rounds have, when many contexts are in use
        return requests[0].load
    return sum([request.load for request in requests])  # a generator would cost as much as what it does


def _slices(requests: Iterable[Request], most: int) -> Iterator[list[Request]]:
    """Requests by slices of about `most` calls."""
    in_slice: list[Request] = []
    room = most
    for request in requests:
        in_slice.append(request)
        room -= request.load
        if room <= 0:
            yield in_slice
            in_slice, room = [], most
    if in_slice:
        yield in_slice
