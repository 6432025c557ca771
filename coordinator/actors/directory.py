"""From a context to its mailbox: starts supervisors on first use, restarts crashed ones, retires idle ones.

At most `max_connections` supervisors live at once, each with its own connection. Contexts beyond that wait for a
slot in the order they came; idle supervisors give theirs up, least recently used first, and busy ones after a
quantum. A context nobody uses costs nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from coordinator import readiness
from coordinator.actors.host import Parked
from coordinator.actors.mailbox import UNKNOWN_BYTES, Mailbox
from coordinator.actors.request import Compute, Operation, Outcome, Park, Pause, RawJson, Request
from coordinator.actors.rounds import ROUND_CALLS
from coordinator.actors.supervisor import Supervisor
from coordinator.errors import CoordinatorError, StorageError
from coordinator.readiness import Readiness
from coordinator.storage.connection import Store
from coordinator.storage.faults import ReplyError, StoreUnavailable
from coordinator.storage.functions import registration
from coordinator.storage.keys import GLOBAL, Command, ContextKey
from coordinator.supervision import report, supervise

__all__ = ["CallSoon", "Directory", "one_step"]

CallSoon = Callable[[ContextKey, Operation, Callable[[Outcome], None]], object]
"""Directory.call_soon, or what stands for it."""

HOUSEKEEPING_EVERY: Final = 0.25  # seconds; the precision of request deadlines
LONG_SLICE: Final = 32  # calls of a context whose replies are dealt with at once, if many others are busy
SHORT_SLICE: Final = 16  # if few are, and the others wait for these; it costs them a tenth of their calls
FEW: Final = 4  # contexts
SWEPT_AT_ONCE: Final = 500  # mailboxes, before others get on
SERVED_AT_ONCE: Final = 32  # supervisors, before others get on
QUANTUM: Final = 0.05  # seconds a busy supervisor keeps its slot while others wait
RESTART_DELAY: Final = 0.1  # seconds before a crashed supervisor starts again


class Directory:
    """Where the front-ends post requests.

    Args:
        mailbox_length: requests that may wait in one context's mailbox; a full one makes its posters wait.
        max_connections: contexts' supervisors alive at once.
        idle_timeout: seconds after which an unused supervisor is retired.
        round_timeout, measures: see Host.

    Attributes:
        apply_effects: called with the effects of each transition; the engine sets it.
        effects_unknown: called with a context in which something may have been done whose effects we do not know, and
            whether that was more than looking at queues and events; the engine sets it.
        readiness: tells of what arrives from stores, and from clients as well; None where the system has nothing for
            that, and before `run`.
        waiting: contexts that wait for a slot, longest first.
        mailboxes: those of the contexts that are in use, least recently used first.
        slice_calls: how many calls of a context are dealt with before others get on; None if no other is active.
        round_slice: see Host.
    """

    def __init__(
        self,
        store: Store,
        *,
        mailbox_length: int = 1024,
        max_connections: int = 256,
        idle_timeout: float = 60.0,
        round_timeout: float = 5.0,
        measures: bool = False,
    ) -> None:
        self._store = store
        self._mailbox_length = mailbox_length
        self._max_connections = max_connections
        self._idle_timeout = idle_timeout
        self.round_timeout = round_timeout
        self.measures = measures
        self.mailboxes: OrderedDict[ContextKey, Mailbox] = OrderedDict()
        self._supervisors: dict[ContextKey, Supervisor] = {}
        self.waiting: OrderedDict[ContextKey, Mailbox] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._registering_again: Request | None = None
        self.readiness: Readiness | None = None
        self._to_serve: deque[Parked] = deque()  # parked, with something in their mailboxes
        self._has_to_serve = trio.lowlevel.ParkingLot()
        self._is_crowded = False  # more than a few contexts were busy when that was last looked at
        self.slice_calls: int | None = None
        self.round_slice = ROUND_CALLS
        self.apply_effects: Callable[[ContextKey, Sequence[bytes]], None] = lambda context, effects: None
        self.effects_unknown: Callable[[ContextKey, bool], None] = lambda context, wrote: None
        self.crashes = 0
        self.expired = 0

    # -- posting

    def post_nowait(self, context: ContextKey, request: Request) -> None:
        """Put a request into its context's mailbox. Raises trio.WouldBlock when that is full."""
        mailbox = self.mailboxes.get(context)
        if mailbox is None:
            mailbox = self._open(context)
        else:
            self.mailboxes.move_to_end(context)
        mailbox.post_nowait(request)

    async def post(self, context: ContextKey, request: Request) -> None:
        """Put a request into its context's mailbox, waiting while that is full, until its deadline at most."""
        await (self.mailboxes.get(context) or self._open(context)).post(request)

    def post_soon(self, context: ContextKey, request: Request) -> None:
        """Put a request into its context's mailbox, as soon as there is room."""
        try:
            self.post_nowait(context, request)
        except trio.WouldBlock:
            assert self._nursery is not None
            self._nursery.start_soon(self._post_when_there_is_room, context, request)

    async def _post_when_there_is_room(self, context: ContextKey, request: Request) -> None:
        try:
            await self.post(context, request)
        except Exception as error:
            request.finish(report("posting a request", error, context=context))

    def admitted_until(self, deadline: float) -> list[Any]:
        """The requests that are not answered yet, were admitted, and have this deadline or one before."""
        found = []
        for mailbox in self.mailboxes.values():
            for request in mailbox.pending:
                if request.admitted is not None:
                    if request.deadline > deadline:
                        break  # those behind it came later
                    found.append(request)
        return found

    # -- sizes

    def expected(self, context: ContextKey) -> int:
        """Bytes a record of the context may have, as far as we know."""
        mailbox = self.mailboxes.get(context)
        return UNKNOWN_BYTES if mailbox is None else mailbox.expected

    def saw(self, context: ContextKey, size: int) -> None:
        """A record of so many bytes is about to be written."""
        (self.mailboxes.get(context) or self._open(context)).saw(size)

    # -- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the supervisors. Never returns; cancelled, it ends them all and fails what was pending."""
        self.readiness = Readiness(self._serve_now) if readiness.is_available() else None
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(supervise, "the task that sends few calls", self._serve)
                if self.readiness is not None:
                    self._nursery.start_soon(supervise, "the task that waits for sockets", self.readiness.run)
                task_status.started()
                await supervise("the directory's sweeper", self._sweep_regularly)
        finally:
            if self.readiness is not None:
                self.readiness.close()
            for mailbox in self.mailboxes.values():
                for request in [*mailbox.pending]:
                    request.finish(_given_up(request, "the coordinator is shutting down"))

    @property
    def pending(self) -> int:
        """Calls posted and not yet answered."""
        return sum(request.calls for mailbox in self.mailboxes.values() for request in mailbox.pending)

    @property
    def contexts(self) -> list[ContextKey]:
        """The contexts with a mailbox, and GLOBAL if it has one."""
        return [*self.mailboxes]

    def is_active(self, context: ContextKey) -> bool:
        """Whether the context has a mailbox."""
        return context in self.mailboxes

    @property
    def registered_contexts(self) -> list[int]:
        """The contexts with a supervisor that has registered them as known."""
        supervisors = self._supervisors.items()
        return [context for context, supervisor in supervisors if context is not None and supervisor.is_registered]

    @property
    def active_contexts(self) -> int:
        """Contexts with a mailbox."""
        return len(self.mailboxes)

    @property
    def connections(self) -> int:
        """Supervisors alive."""
        return len(self._supervisors)

    # -- supervisors

    def _open(self, context: ContextKey) -> Mailbox:
        mailbox = self.mailboxes[context] = Mailbox(context, self._mailbox_length)
        self._choose_slices()
        self._want_slot(mailbox)
        return mailbox

    def _choose_slices(self) -> None:
        """The more contexts are active, the more each waits for the others' slices."""
        is_alone = len(self.mailboxes) - (GLOBAL in self.mailboxes) <= 1
        self.slice_calls = None if is_alone else LONG_SLICE if self._is_crowded else SHORT_SLICE
        self.round_slice = self.slice_calls or ROUND_CALLS

    def _want_slot(self, mailbox: Mailbox) -> None:
        if mailbox.context is GLOBAL or self._has_slot():
            self._start(mailbox)
            return
        self.waiting[mailbox.context] = mailbox
        for context in self.mailboxes:
            supervisor = self._supervisors.get(context)
            if supervisor is not None and supervisor.is_free and context is not GLOBAL:
                supervisor.retire()
                break

    def _has_slot(self) -> bool:
        """Whether one more context may have a supervisor; GLOBAL, through which coordinators hear of each other, always
        may."""
        return len(self._supervisors) - (GLOBAL in self._supervisors) < self._max_connections

    def _start(self, mailbox: Mailbox) -> None:
        assert self._nursery is not None, "the directory is not running"
        supervisor = self._supervisors[mailbox.context] = Supervisor(mailbox, self._store, self)
        self._nursery.start_soon(self._oversee, supervisor, mailbox)

    def is_wanted_elsewhere(self, mailbox: Mailbox, since: float) -> bool:
        """See Host."""
        if not self.waiting or mailbox.context is GLOBAL:
            return False
        return mailbox.is_quiet or trio.current_time() - since > QUANTUM

    def serve_soon(self, supervisor: Parked) -> None:
        """See Host."""
        if not self._to_serve and not (self.readiness is not None and self.readiness.is_telling):
            self._has_to_serve.unpark()
        self._to_serve.append(supervisor)

    def _serve_now(self) -> None:
        """Have supervisors send what has just arrived for them, without a switch to the task that does it else.

        One that waits for replies is left to that task: the store is busy with its last round, and what arrives until
        then goes with the next. To send that at once as well makes rounds smaller (a sixth more of the processor with
        20 connections and a call in flight on each).
        """
        to_serve = self._to_serve
        for _ in range(len(to_serve)):  # what these post is for that task, so that others get on
            parked = to_serve.popleft()
            if parked.rounds.on_the_wire:
                to_serve.append(parked)
            else:
                parked.standby.instead(parked.serve_now)
        if to_serve:
            self._has_to_serve.unpark()

    async def _serve(self) -> None:
        """Have supervisors that are parked send what there is: all that came to a context meanwhile in one round."""
        to_serve, served = self._to_serve, 0
        while True:
            while to_serve:
                parked = to_serve.popleft()
                parked.standby.instead(parked.serve_now)
                served += 1
                if served % SERVED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            await self._has_to_serve.park()

    async def _oversee(self, supervisor: Supervisor, mailbox: Mailbox) -> None:
        """Run a supervisor; afterwards pass its slot on, and get another one for what is still pending."""
        try:
            await supervisor.run()
        except Exception as crash:
            self.crashes += 1
            error = report("a supervisor", crash, context=mailbox.context)
            for request in mailbox.running:
                request.finish(error)
            mailbox.running = []
            self.lost_effects(mailbox.context, True)
            await trio.sleep(RESTART_DELAY)
        del self._supervisors[mailbox.context]
        # From here to the end there is no checkpoint, so nothing can be posted to a mailbox about to be forgotten.
        if mailbox.is_quiet:
            del self.mailboxes[mailbox.context]
            self._choose_slices()
        elif mailbox.context is GLOBAL:
            self._start(mailbox)
        else:
            self.waiting[mailbox.context] = mailbox
        if self.waiting and self._has_slot():
            self._start(self.waiting.popitem(last=False)[1])

    # -- calls of our own

    async def call(
        self,
        context: ContextKey,
        operation: Operation,
        *,
        writes: bool = True,
        timeout: float = math.inf,
        ahead: bool = False,
    ) -> RawJson:
        """Carry out an operation in a context within `timeout` seconds, `ahead` of all that waits there or behind it.
        Returns its answer.

        Raises CoordinatorError: it could not be carried out, or the operation has raised that.
        """
        answered = trio.Event()
        outcomes: list[Outcome] = []

        def then(outcome: Outcome) -> None:
            outcomes.append(outcome)
            answered.set()

        self.call_soon(context, operation, then, writes=writes, timeout=timeout, ahead=ahead)
        await answered.wait()
        (outcome,) = outcomes
        if isinstance(outcome, CoordinatorError):
            raise outcome
        return outcome

    def call_soon(
        self,
        context: ContextKey,
        operation: Operation,
        then: Callable[[Outcome], None],
        *,
        writes: bool = True,
        creates: bool = True,
        timeout: float = math.inf,
        ahead: bool = False,
    ) -> Request:
        """The same from where nothing can be awaited: `then` is called with the outcome. It must not block.

        Args:
            creates: see Request.
        """
        request = _InternalRequest(operation, deadline=trio.current_time() + timeout, writes=writes)
        request.creates = writes and creates
        request.then = then
        if ahead:
            (self.mailboxes.get(context) or self._open(context)).post_ahead(request)
        else:
            self.post_soon(context, request)
        return request

    # -- contexts spread over servers

    async def register(self, context: int, creates: bool) -> bool:
        """See Host."""
        command = registration.register(self._store.layout, context, creates=creates)
        is_known = True

        def register() -> Operation:
            nonlocal is_known
            (reply,) = yield [command]
            is_known = not registration.is_unknown_context(reply)
            return b""

        deadline = trio.current_time() + self.round_timeout
        try:
            await self.call(GLOBAL, register(), timeout=self.round_timeout)
        except CoordinatorError as error:
            fault = str(error.data["detail"])
            if trio.current_time() < deadline:  # else it may succeed later
                raise ReplyError(f"registering the context as known failed: {fault}") from error
            raise StoreUnavailable(fault) from error
        return is_known

    def lost_effects(self, context: ContextKey, wrote: bool) -> None:
        """See Host."""
        self.effects_unknown(context, wrote)
        if context is GLOBAL and self._store.layout.is_spread:
            self._register_again()

    def _register_again(self) -> None:
        """GLOBAL may come back without what was registered last, while the contexts, elsewhere, have lost nothing."""
        if self._registering_again is not None and not self._registering_again.done:
            return  # what was registered after that was asked for has not been answered either
        registered = self.registered_contexts
        if registered:
            operation = one_step([registration.own(self._store.layout, *registered)])
            self._registering_again = self.call_soon(GLOBAL, operation, lambda outcome: None)

    def park(self, request: Request, step: Park) -> None:
        """See Host."""
        mailbox = request.mailbox
        assert mailbox is not None
        mailbox.detach(request)
        is_parked = True

        def resume() -> None:
            nonlocal is_parked
            if is_parked and not request.done:
                is_parked = False
                self.post_soon(mailbox.context, request)

        step.on(resume)

    def compute(self, request: Request, step: Compute) -> None:
        """See Host."""
        assert self._nursery is not None
        self._nursery.start_soon(self._compute_in_thread, request, step)

    async def _compute_in_thread(self, request: Request, step: Compute) -> None:
        try:
            request.resume_with = await trio.to_thread.run_sync(step.run)
            if request.mailbox is not None and not request.done:
                await request.mailbox.post_again(request)
        except CoordinatorError as error:
            request.finish(error)
        except Exception as error:
            request.finish(report("a computation", error))

    def pause(self, request: Request, step: Pause) -> None:
        """See Host."""
        assert self._nursery is not None
        self._nursery.start_soon(self._post_after, request, step)

    async def _post_after(self, request: Request, step: Pause) -> None:
        await trio.sleep(step.seconds)
        if request.mailbox is not None and not request.done:
            await request.mailbox.post_again(request)

    # -- housekeeping

    async def _sweep_regularly(self) -> None:
        while True:
            await trio.sleep(HOUSEKEEPING_EVERY)
            busy, now = 0, trio.current_time()
            for at, mailbox in enumerate([*self.mailboxes.values()], 1):
                busy += bool(mailbox.pending)
                try:
                    self._sweep(mailbox, now)
                except Exception as error:  # which must not keep the others from being looked at
                    report("sweeping a mailbox", error, context=mailbox.context)
                if at % SWEPT_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            self._is_crowded = busy > FEW
            self._choose_slices()

    def _sweep(self, mailbox: Mailbox, now: float) -> None:
        """Answer a context's requests whose deadline has passed; give up a connection whose store is silent; retire a
        supervisor that nobody used for long."""
        expired = [request for request in mailbox.pending if request.deadline <= now]
        if expired:
            self._expire(mailbox, expired)
        supervisor = self._supervisors.get(mailbox.context)
        if supervisor is None:
            return
        supervisor.look()
        if mailbox.was_used:
            mailbox.was_used = False
            mailbox.idle_since = now - HOUSEKEEPING_EVERY  # or later: nobody has looked since
        elif now - mailbox.idle_since > self._idle_timeout and supervisor.is_free:
            supervisor.retire()

    def _expire(self, mailbox: Mailbox, expired: list[Request]) -> None:
        self.expired += sum(request.calls for request in expired)
        reason = mailbox.fault or "the context is too busy, or the store too slow"
        for request in expired:
            request.finish(_given_up(request, f"not answered in time: {reason}"))


class _InternalRequest(Request):
    """A call of the coordinator's own."""

    __slots__ = ("then",)

    then: Callable[[Outcome], None]

    def reply(self, outcome: Outcome) -> None:
        self.then(outcome)


def one_step(commands: list[Command]) -> Operation:
    """An operation that sends these commands; its answer is empty."""
    yield commands
    return b""


def _given_up(request: Request, reason: str) -> StorageError:
    return StorageError(reason, may_have_been_applied=request.is_in_doubt)
