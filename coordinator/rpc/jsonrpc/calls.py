"""From a message's bytes to requests in mailboxes."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, Final, assert_never

import trio

from coordinator.actors.mailbox import UNKNOWN_BYTES, Mailbox
from coordinator.actors.progress import outcome_of
from coordinator.actors.request import ORDINARY_BYTES, First, Outcome
from coordinator.budget import Budget
from coordinator.engine.sessions import Caller, Opening, Session
from coordinator.errors import CoordinatorError, InvalidRequest, NotLoggedIn, Overloaded
from coordinator.measures import BATCHES, OTHER
from coordinator.rpc.access.audit.followed import Followed, follow
from coordinator.rpc.access.audit.trail import Trail
from coordinator.rpc.access.client import Access
from coordinator.rpc.access.limits import Account, whose
from coordinator.rpc.jsonrpc import protocol
from coordinator.rpc.jsonrpc.beginning import NOT_BEGUN, OUTCOME, begun, until_first_commands
from coordinator.rpc.jsonrpc.counting import is_costly
from coordinator.rpc.jsonrpc.decode import DISCOVER, Item, Reader, TracedItem
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher, largest_written
from coordinator.rpc.jsonrpc.posted import Call, Commands, measure
from coordinator.rpc.jsonrpc.replies import Batch, Charge, Place, ReplyTo, Sink
from coordinator.rpc.methods.method import SMALL, Live, Method, OneCommand, Personal, Steps
from coordinator.rpc.openrpc import ServedDocument
from coordinator.rpc.work import Work
from coordinator.storage.keys import GLOBAL, Command, ContextKey, Keyspace
from coordinator.tracing import StoreTime

__all__ = ["Intake"]

TOGETHER: Final = 64  # calls that travel as one request
SHARED_TOGETHER: Final = 16  # if other contexts are active
ADDED_WITHIN: Final = 0.01  # seconds since the first of them was read, of a call that is added to those of others
COSTLY_SLICE: Final = 64  # calls of a costly message after which others get on, though they are in no other context
LARGE_MESSAGE: Final = 64 * 1024  # bytes; what it writes is measured

_NEEDS_REPLY: Final = "nothing is begun of which a reply has to tell, as this is a notification"


class Intake:
    """Puts the calls of one client on their way, in their order.

    Calls to the same context that are one command each, and follow each other, travel as one request.

    Args:
        budget: the client's. While it is spent, `take` waits before the next call goes to the store.
        session: subscriptions are made on it.
        access: says what the client may call; None: everything.
        trail: writes the client's lines of the audit log and the access log, if one is kept.
        account: what the client has used of its limits; None: it has none.
        address: where the client is, if that is not where its connection is from.

    Attributes:
        access, account: those.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        budget: Budget,
        session: Session | None = None,
        access: Access | None = None,
        trail: Trail | None = None,
        account: Account | None = None,
        address: str = "",
    ) -> None:
        self.access = access
        self._address = address
        self._trail = trail
        self._is_judged = access is not None or trail is not None
        self._is_traced = trail is not None and dispatcher.is_traced
        self.account = account
        self._charge: Charge = None if account is None or not account.counts_store_time else account.charge
        self._refused = 0  # calls, for want of a login, that were paused for
        self._dispatcher = dispatcher
        self._budget = budget
        self._session = session
        self._now = trio.lowlevel.current_clock().current_time  # trio.current_time asks it, by two steps more
        self._open: Commands | None = None  # not posted yet
        self._weight = 0  # bytes their replies are expected to have
        self._together = TOGETHER
        self._is_large = False  # the message being taken
        self._largest: int | None = None  # bytes of a record it writes, if that is known already
        self._begun = 0.0  # when it was read, by perf_counter
        self._deadline = 0.0  # of its calls, on trio's clock; 0: to be chosen
        self._taken = 0  # calls since others got on
        self._queued: dict[tuple[ContextKey, str], None] = {}  # where calls that were posted may queue jobs of a type
        self._sink: Sink  # of the message taken last
        self._replies: Sink | Batch  # where replies to its calls go

    @property
    def takes_more(self) -> bool:
        """Whether it may take another request of the same client: nothing of what it has noted is of one alone, and
        the client is somebody if it has to be."""
        access = self.access
        return self._trail is None and (access is None or (access.login.principal is not None and not access.refused))

    def take(  # noqa: PLR0912, PLR0915 - a step more costs all calls
        self, data: str | bytes | bytearray, sink: Sink
    ) -> Work[int]:
        """Take one message, whose replies go to `sink`, possibly before this returns. Its last calls may wait for more,
        until `flush`.

        The result is how many calls it held. It waits only while a mailbox is full, and no longer than until the calls'
        deadline. It lets others on then, and every few calls if other contexts are active (alone, a client has all
        the time there is: yielding costs it a quarter of its calls). Cancelled, calls not yet posted are dropped and
        the sink gets nothing.
        """
        self._begun = perf_counter()
        self._sink = sink
        account, access = self.account, self.access
        if access is not None and access.login.principal is None:
            try:
                yield access.gate.failures.turn(whose(self._address or self._budget.address))
            except Overloaded as overloaded:
                sink.refuse(protocol.render_error(protocol.id_of(data), overloaded), overloaded)
                return 1
        if account is not None and (refused := (yield from self._over_limits(account, data))) is not None:
            yield self._refuse(account, data, refused)
            return 1
        dispatcher = self._dispatcher
        slice_calls = dispatcher.directory.slice_calls
        if is_costly(data):
            length, items, self._largest = yield trio.to_thread.run_sync(
                dispatcher.read_costly, data, limiter=dispatcher.reading
            )
            slice_calls = slice_calls or COSTLY_SLICE
        else:
            self._largest = None
            length, items = dispatcher.reader.read(data, in_parts=slice_calls is not None)
        if account is not None and length and (refused := account.admit_batch(length)) is not None:
            yield self._refuse(account, data, refused)
            return 1
        calls = length or 1
        dispatcher.calls += calls
        self._deadline = 0.0
        self._together = TOGETHER if slice_calls is None else SHARED_TOGETHER
        reply_to, batch, budget = sink.reply_to, None, self._budget
        if length is not None:
            BATCHES.observe(length)
            batch = Batch(length, sink, dispatcher.max_batch_reply, budget)
            reply_to = batch.reply_to
        self._replies = batch or sink
        self._is_large = len(data) > LARGE_MESSAGE
        trail, is_judged = self._trail, self._is_judged
        for at, read in enumerate(items):
            item = read
            context = GLOBAL if item[1] is None else item[1].context(item[2])
            answer_to: ReplyTo = reply_to
            if budget.used >= budget.limit:
                yield self._wait_for_budget()
                self._deadline = 0.0
            if batch is not None and batch.is_full and batch.spares(item):
                item = _as_allowed(item, batch.too_large())
            if is_judged and item[1] is not None:
                allowed = item[1] if access is None else access.admit(item[1], item[2], context)
                if allowed is None:
                    allowed = yield self._judged(item[1], item[2])
                if trail is not None:
                    parent = read.traceparent if type(read) is TracedItem else ""
                    answer_to = follow(trail, item[1], item[2], allowed, reply_to, parent)
                item = item if allowed is item[1] else _as_allowed(item, allowed)
            elif is_judged and trail is not None:
                trail.known(item[0], b"" if type(item[2]) is ServedDocument else item[2])
            full = self._add(item, context, answer_to, at)
            if full is not None:
                yield full
            if slice_calls is not None:
                self._taken += 1
                if self._taken >= slice_calls // 2:  # to take a call is about twice the work of handing out its reply
                    self._taken = 0
                    yield trio.lowlevel.checkpoint()  # noqa: ASYNC105 - who goes on awaits it
        if batch is not None:
            batch.is_on_its_way()
        if access is not None and access.refused != self._refused:
            yield self._pause_for_refused(access)
        return calls

    async def flush(self) -> None:
        """Post what was taken. Waits as `take` does."""
        full = self.flush_now()
        if full is not None:
            await full

    def flush_now(self) -> Awaitable[None] | None:
        """The same as far as that needs no waiting. Returns what to wait for if a mailbox is full."""
        if self._open is not None and (full := self._post()) is not None:
            return self._flush_when_there_is_room(full)
        self._flushed()
        return None

    async def _flush_when_there_is_room(self, full: Awaitable[None]) -> None:
        await full
        self._flushed()

    def _flushed(self) -> None:
        """All that was taken is in mailboxes."""
        if self._session is not None:
            self._session.message_done()
        if self._queued:
            self._expect_jobs()

    def _expect_jobs(self) -> None:
        """Have runners ask for what was posted, behind it."""
        queued, self._queued = self._queued, {}
        for context, script_type in queued:
            self._dispatcher.engine.contexts.expect_job(context, script_type)

    async def _pause_for_refused(self, access: Access) -> None:
        """Read on a little later: calls were refused for want of a login."""
        access.gate.failures.add(whose(self._address or self._budget.address), access.refused - self._refused)
        self._refused = access.refused
        await self.flush()
        await access.gate.failing.take()

    def _over_limits(self, account: Account, data: str | bytes | bytearray) -> Work[Overloaded | None]:
        """Count a message, or say why it may not be. It waits only if the caller has to be found out for that."""
        size = len(data) if type(data) is not str or data.isascii() else len(data.encode("utf-8", "replace"))
        access = self.access
        if access is not None and access.may_be_somebody:
            with suppress(CoordinatorError):  # while the store is away it counts by its address
                if account.is_used_up(size):  # by others, and it may have limits of its own: a few are looked at
                    yield access.gate.finding_out.take()
                yield access.identify()
        refused = account.admit(size)
        if refused is not None and (calls := protocol.about_calls(data)) > 1:
            refused = account.refusal_of(calls, size) or refused
        return refused

    async def _refuse(self, account: Account, data: str | bytes | bytearray, refused: Overloaded) -> None:
        """Answer that a message is not carried out, and wait a little: a client that goes on sending is held by TCP."""
        id = protocol.id_of(data)
        if self._trail is not None:
            self._trail.known(id, refused)
        self._sink.refuse(protocol.render_error(id, refused), refused)
        await self.flush()
        await trio.sleep(account.pause(refused))

    def _tell_sizes(self, method: Method, context: ContextKey, params: Any) -> None:
        """Tell how large the records are that a call of a large message writes, before anybody reads them."""
        largest = largest_written(method, params) if self._largest is None else self._largest
        self._dispatcher.directory.saw(context, largest)

    async def _wait_for_budget(self) -> None:
        """Wait until the client has accepted enough of its replies; what was taken goes on its way before."""
        full = self._post()
        if full is not None:
            await full
        await self._budget.room()

    async def _judged(self, method: Method, params: Any) -> Method | CoordinatorError:
        """Ask whether the client may call this; what was taken goes on its way before."""
        assert self.access is not None, "without it everybody may"
        full = self._post()
        if full is not None:
            await full
        return await self.access.judge(method, params)

    def _add(  # noqa: PLR0912 - a step more costs all calls
        self, item: Item, context: ContextKey, reply_to: ReplyTo, at: int
    ) -> Awaitable[None] | None:
        """Take a call to this context. Returns what to wait for while a mailbox is full: most need no coroutine."""
        id, method, params = item
        if method is None:
            return self._add_known(params, (reply_to, at, id))
        if self._is_large and method.writes:
            self._tell_sizes(method, context, params)
        does = method.does
        if type(does) is not OneCommand:  # most are, and a `match` here costs each of them a tenth of a microsecond
            if type(does) is Personal:
                return self._add_personal(method, does, params, (reply_to, at, id))
            return self._add_alone(method, does, params, context, (reply_to, at, id))
        calls = self._open
        if calls is not None and (calls.keys.context_key != context or calls.writes != method.writes):
            calls = None
        keys = self._dispatcher.keyspace(context) if calls is None else calls.keys
        try:
            answerable = does.begin(keys, params)
        except Exception as error:
            outcome = outcome_of(error, NOT_BEGUN, method=method.name)
            measure(method.name, outcome, self._begun)
            reply_to(at, id, outcome)
            return None
        full = None
        is_posted = False
        if calls is None:
            full = None if self._open is None else self._post()
            mailbox = self._dispatcher.directory.mailboxes.get(context)
            calls = self._posted(mailbox, method, does) if full is None and mailbox is not None else None
            is_posted = calls is not None
            if calls is None:
                calls = self._open = self._new(keys, mailbox, method, reply_to)
        if calls.last is not method:
            calls.last = method
            calls.methods.append((len(calls.places), method.name))
        calls.creates = calls.creates or (method.writes and method.creates(params))
        calls.answerables.append(answerable)
        calls.asked.append(answerable[0])
        if calls.admitted is not None:
            calls.admitted.append((self.access, method, params))
        calls.places.append((reply_to, at, id))
        weight = calls.expected if method.is_record else SMALL
        if is_posted:
            calls.added(self._budget, weight)
            return None
        self._weight += weight
        if self._is_traced:
            _time(reply_to, calls.charge)
        if does.on_accepted is not None and self._session is not None:
            calls.on_posted = [*calls.on_posted, partial(does.on_accepted, self._session, params)]
        if full is None and (len(calls.places) >= self._together or self._weight >= self._together * ORDINARY_BYTES):
            full = self._post()
        return full  # while those before wait for room, these must not overtake them

    def _new(self, keys: Keyspace, mailbox: Mailbox | None, method: Method, reply_to: ReplyTo) -> Commands:
        """What calls to this context, that write as those of this method do, are added to from now on."""
        expected = UNKNOWN_BYTES if mailbox is None else mailbox.expected
        deadline = self._deadline or self._set_deadline()
        calls = Commands(keys, expected, deadline=deadline, writes=method.writes)
        calls.creates = False
        calls.charge = self._charge_of(reply_to) if self._is_traced else self._charge
        calls.admitted = None if self.access is None else []
        calls.begun = self._begun
        return calls

    def _set_deadline(self) -> float:
        """Choose the deadline of all calls of the message; most are added to others, and have theirs."""
        self._deadline = self._now() + self._dispatcher.request_timeout
        return self._deadline

    def _posted(self, mailbox: Mailbox, method: Method, does: OneCommand) -> Commands | None:
        """The calls at the end of this mailbox, of this client or of others, if one of this method may be added to
        them: then all of a request but its own work is done for them once."""
        calls = mailbox.newest
        return (
            calls
            if type(calls) is Commands
            and not calls.done
            and calls.writes == method.writes
            and len(calls.places) < self._together
            and calls.expected <= ORDINARY_BYTES  # else what one of them takes, the others would wait for
            and self._begun - calls.begun < ADDED_WITHIN  # they have one deadline
            and does.on_accepted is None
            and calls.charge is None
            and self._charge is None
            and not self._is_traced
            and (calls.admitted is None) == (self.access is None)
            else None
        )

    def _add_known(self, outcome: Outcome | ServedDocument, place: Place) -> Awaitable[None] | None:
        """Take what has its outcome already, or is a call of rpc.discover."""
        if isinstance(outcome, ServedDocument):
            return self._add_document(outcome, place)
        measure(_method_of(outcome, self._dispatcher.reader), outcome, self._begun)
        reply_to, at, id = place
        reply_to(at, id, outcome)
        return None

    async def _add_document(self, document: ServedDocument, place: Place) -> None:
        """Take a call of rpc.discover."""
        full = self._post()
        if full is not None:
            await full
        reply_to, at, id = place
        outcome: Outcome
        try:
            outcome = await document.fetch()
        except Exception as error:
            outcome = outcome_of(error, "the document", method=DISCOVER)
        measure(DISCOVER, outcome, self._begun)
        reply_to(at, id, outcome)

    async def _add_personal(self, method: Method, does: Personal, params: Any, place: Place) -> None:
        """Take a call that is about who calls, and may be another from then on."""
        full = self._post()
        if full is not None:
            await full
        reply_to, at, id = place
        outcome: Outcome
        try:
            outcome = await does.answer(self.access, params)
        except Exception as error:
            outcome = outcome_of(error, "an answer", method=method.name)
            if isinstance(error, NotLoggedIn) and self.access is not None:
                self.access.refused += 1
        except trio.Cancelled:
            if type(reply_to) is Followed:
                reply_to.abandoned(id)
            raise
        measure(method.name, outcome, self._begun)
        reply_to(at, id, outcome)

    async def _add_alone(
        self, method: Method, does: Steps | Live, params: Any, context: ContextKey, place: Place
    ) -> None:
        """Take a call that does not travel together with others."""
        full = self._post()
        if full is not None:
            await full
        reply_to, at, id = place
        deadline = self._deadline or self._set_deadline()
        keys = self._keys_of(method, context, reply_to)
        commands: list[Command] | None = None
        takes_long = False
        match does:
            case Steps(begin):
                operation = begun(method, begin, keys, params)
                if method.writes and not isinstance(operation, OUTCOME):
                    operation, commands = await until_first_commands(operation, context)
            case Live(begin_live, needs_reply, extra_timeout):
                if id is None and needs_reply:
                    refused = InvalidRequest(_NEEDS_REPLY)
                    measure(method.name, refused, self._begun)
                    reply_to(at, id, refused)
                    return
                opening = None
                if self._session is not None:
                    opening = Opening()
                    reply_to = _instead(reply_to, self._replies.reply_to_opening(opening))
                caller = Caller(self._budget, self._session, opening, address=self._address)
                operation = begun(method, begin_live, self._dispatcher.engine, caller, keys, params)
                if extra_timeout is not None:
                    deadline += extra_timeout(params)
                    takes_long = True
            case _:
                assert_never(does)
        if isinstance(operation, OUTCOME):
            measure(method.name, operation, self._begun)
            reply_to(at, id, operation)
            return
        expected = self._dispatcher.directory.expected(context)
        call = Call(method, operation, (reply_to, at, id), self._budget, expected, deadline=deadline)
        call.begun = self._begun
        call.commands = commands
        call.charge = self._charge_of(reply_to)
        # The gate watches those that take long.
        call.admitted = None if self.access is None or takes_long else [(self.access, method, params)]
        call.creates = method.creates(params)
        call.answered = trio.Event() if isinstance(commands, First) else None
        await self._post_alone(context, call)
        if method.queues is not None and (script_type := method.queues(params)) is not None:
            self._queued[context, script_type] = None
        if takes_long:
            self._waits_for(call, method, params)
        if call.answered is not None:
            self._expect_jobs()
            await call.answered.wait()

    def _keys_of(self, method: Method, context: ContextKey, reply_to: ReplyTo) -> Keyspace:
        """The context's, as a call of this method uses them."""
        keys = self._dispatcher.keyspace(context)
        if method.starts_run and type(reply_to) is Followed and (origin := reply_to.origin):
            return keys.started_by(origin)
        return keys

    async def _post_alone(self, context: ContextKey, call: Call) -> None:
        try:
            self._dispatcher.directory.post_nowait(context, call)
        except trio.WouldBlock:
            await self._dispatcher.directory.post(context, call)

    def _waits_for(self, call: Call, method: Method, params: Any) -> None:
        """A call may take long: it ends with its client, and when that may not make it any more."""
        self._sink.waits_for(call)
        if self.access is not None:
            self.access.gate.sweep.watch(call, self.access, method, params)

    def _charge_of(self, reply_to: ReplyTo) -> Charge:
        """What is given the seconds that the store takes over a request that is made now, and that this call is in."""
        if not self._is_traced:
            return self._charge
        charge = StoreTime(self._charge)
        _time(reply_to, charge)
        return charge

    def _post(self) -> Awaitable[None] | None:
        """Post what is open. Returns what to wait for if the mailbox is full."""
        calls, self._open = self._open, None
        if calls is None:
            return None
        calls.added(self._budget, self._weight)
        self._weight = 0
        try:
            self._dispatcher.directory.post_nowait(calls.keys.context_key, calls)
        except trio.WouldBlock:
            return self._wait_for_room(calls)
        for told in calls.on_posted:
            told()
        return None

    async def _wait_for_room(self, calls: Commands) -> None:
        await self._dispatcher.directory.post(calls.keys.context_key, calls)
        for told in calls.on_posted:
            told()


def _as_allowed(item: Item, allowed: Method | CoordinatorError) -> Item:
    """A call as its client may make it, or its outcome if it may not."""
    id, method, params = item
    if isinstance(allowed, Method):
        return id, allowed, params
    allowed.method = None if method is None else method.name
    return id, None, allowed


def _method_of(outcome: Outcome, reader: Reader) -> str:
    """The method of a call whose outcome was known at once, as a label has it."""
    if type(outcome) is bytes:
        return DISCOVER
    name = getattr(outcome, "method", None)
    return name if name is not None and reader.knows(name) else OTHER


def _instead(reply_to: ReplyTo, other: ReplyTo) -> ReplyTo:
    """What hands the outcome to `other`, and to the logs that are told of this call."""
    if type(reply_to) is not Followed:
        return other
    reply_to.then = other
    return reply_to


def _time(reply_to: ReplyTo, charge: Charge) -> None:
    """Have a call that is traced know what the store takes over its request."""
    if type(reply_to) is Followed and type(charge) is StoreTime:
        reply_to.store_time = charge
