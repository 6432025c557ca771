"""Who may call what: decided for each call before anything of it is done.

A `Gate` is one for each process that has its callers log in, an `Access` one for each client: a WebSocket connection,
or an HTTP message. What is decided on was read from the store at most FRESH_FOR seconds before; what lasts longer than
a call (subscriptions, calls that wait for a job, open connections) is looked at again as often, and ended.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import structlog
import trio
from pydantic_core import from_json, to_json

from coordinator.actors.directory import Directory
from coordinator.actors.request import Request
from coordinator.engine.subscriptions import FlowSubscription, RunnerSubscription, Subscription
from coordinator.errors import Conflict, CoordinatorError, Forbidden, NotFound, NotLoggedIn, Overloaded
from coordinator.operations.listing import list_contexts
from coordinator.rpc.access import restricted
from coordinator.rpc.access.failures import Failures
from coordinator.rpc.access.fresh import FRESH_FOR, Known
from coordinator.rpc.access.login import Nonces
from coordinator.rpc.access.operator import TokenFile
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.registry import Actor, Members, Registry, Token
from coordinator.rpc.access.rights import TABLE, Cell, Right, Role
from coordinator.rpc.access.tokens import NO_TOKEN, id_of
from coordinator.rpc.methods.method import Method
from coordinator.storage import functions
from coordinator.storage.functions import Guard
from coordinator.storage.keys import GLOBAL, ContextKey, Layout, flow_name, job_name, message_name
from coordinator.supervision import contain

__all__ = ["Access", "Conversation", "Gate", "Rules", "Witness", "is_about_no_context"]

log = structlog.get_logger("coordinator.access")

FETCH_TIMEOUT: Final = 10.0  # seconds for what a decision needs of the store
SWEEP_EVERY: Final = FRESH_FOR / 2  # seconds between looks at what lasts
IDLE_EVERY: Final = 2  # of those looks, one is also at connections that have nothing
SWEEP_TIMEOUT: Final = 2.0  # seconds for one look
LOOKED_AT_ONCE: Final = 256  # clients, before others get on
VARIANTS: Final = 4096  # methods as somebody may call them, remembered
GRANTED: Final = 1024  # calls somebody may make, remembered
LOGINS: Final = 4096  # tokens shown over HTTP, remembered
USED_EVERY: Final = 60  # seconds between two notes that a token is in use

LOGIN_EVERY: Final = 0.005  # seconds between two signatures that are looked at, which take a tenth of that
OPENED_EVERY: Final = 0.05  # seconds between two logins that need a context of which nobody else asks anything now
LOGINS_WAITING: Final = 200
FAILED_EVERY: Final = 0.005  # seconds between two messages that are read of those who were not let in, of all together
LONGEST_PAUSE: Final = 2.0  # seconds until one of them is read again

HOW: Final = "log in first: send `Authorization: Bearer hc_…`, or call auth.login on a WebSocket; see SECURITY.md"

_ABOUT_NO_CONTEXT: Final = frozenset(
    {
        *(Right.PUBLIC, Right.SIGNED_IN, Right.ACTOR_CREATE, Right.KEY_ROTATE, Right.ACTOR_REVOKE),
        *(Right.CONTEXT_LIST, Right.ACTOR_LOAD),
    }
)
# What may be called depends on more than the context, for some roles.
_BY_PARAMS: Final = frozenset(
    {
        *_ABOUT_NO_CONTEXT,
        *(Right.CONTEXT_WRITE, Right.RUNNER_READ, Right.RUNNERS_CONNECTED, Right.WORK, Right.RECORD_WRITE),
        *(Right.RUN, Right.DELETE, Right.PREREQUISITE_WRITE),
    }
)
_READING: Final = frozenset(
    {
        *(Right.PUBLIC, Right.SIGNED_IN, Right.ACTOR_LOAD, Right.CONTEXT_READ, Right.CONTEXT_LIST, Right.RUNNER_READ),
        *(Right.RUNNERS_CONNECTED, Right.RECORD_READ, Right.FLOW_READ, Right.LOG_READ, Right.PREREQUISITE_READ),
    }
)


def is_about_no_context(right: Right | None) -> bool:
    """Whether a call that takes this is about no context, or about another than the one it goes to."""
    return right is None or right in _ABOUT_NO_CONTEXT or right in (Right.CONTEXT_WRITE, Right.CONTEXT_READ)


_Waiting = tuple[Request, Method, Any]
"""A call that may take long, its method as it may be called, and its params."""


class Rules(NamedTuple):
    """What the settings say.

    Attributes:
        registration: whether anybody may create actors that are new, and actors new contexts of their own.
        executors_submit: executors may create and delete what is their own; if not, they run what is there.
        readers_see_logs: so they do.
    """

    registration: bool = False
    executors_submit: bool = True
    readers_see_logs: bool = False


class Conversation(Protocol):
    """A connection that stays open."""

    def log_out(self, reason: str) -> None:
        """End it: who it belongs to is not known any more. Never blocks."""

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """By id."""

    def end_subscription(self, subscription: Subscription, reason: str) -> None:
        """End one, and say so. Never blocks."""


class Witness(Protocol):
    """Writes down what a client loses while nobody calls."""

    def ended(self, principal: str, context: ContextKey, error: CoordinatorError, reason: str) -> None:
        """A login, or a subscription in a context, was ended by us. Never blocks."""


class _Turns:
    """Who wants a signature looked at waits for a turn, so that a flood of logins costs others little."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = 0.0
        self._waiting = 0

    async def take(self) -> None:
        """Raises Overloaded."""
        if self._waiting >= LOGINS_WAITING:
            raise Overloaded("too many log in at once; try again in a second", LOGINS_WAITING, "logins")
        now = trio.current_time()
        at = self._next = max(now, self._next) + self._every
        self._waiting += 1
        try:
            await trio.sleep_until(at - self._every)
        finally:
            self._waiting -= 1


class _Pauses:
    """Who was refused for want of a login is read again after a pause, the longer the more of them there are: a flood
    of bad tokens costs others little, and nobody waits who has logged in."""

    def __init__(self) -> None:
        self._next = 0.0

    async def take(self) -> None:
        now = trio.current_time()
        at = max(now, self._next)
        self._next = min(at + FAILED_EVERY, now + LONGEST_PAUSE)
        await trio.sleep_until(at)


class Gate:
    """Shared by all front-ends of a process. `run` it beside the directory.

    Args:
        operator_file: the operator's tokens.
        metrics_file: those that show the page of metrics, beside the operator's.
        timeout: seconds for what a decision needs of the store, FETCH_TIMEOUT at most.
    """

    def __init__(
        self,
        directory: Directory,
        layout: Layout,
        rules: Rules,
        *,
        operator_file: Path | None,
        metrics_file: Path | None = None,
        timeout: float = FETCH_TIMEOUT,
    ) -> None:
        self.registry = Registry(directory, layout, min(timeout, FETCH_TIMEOUT))
        self.keyspace = layout.keyspace
        self.rules = rules
        self.operators = TokenFile(operator_file)
        self._metrics = TokenFile(metrics_file)
        self._variants: dict[tuple[object, ...], Method] = {}
        self._open: set[Access] = set()  # of connections
        self._waiting: dict[Request, tuple[Access, Method, Any]] = {}  # calls that may take long
        self._looking: set[Access] = set()  # clients that are being looked at
        self._logins: dict[str, _Login] = {}
        self._noted: dict[str, float] = {}  # tokens, and when the store was last told of their use
        self.denied = 0
        self.verifying = _Turns(LOGIN_EVERY)
        self.opening = _Turns(OPENED_EVERY)
        self.failing = _Pauses()
        self.failures = Failures()
        self.finding_out = _Turns(LOGIN_EVERY)  # whose a token is, for those whose address is over its limits
        self._identity: tuple[str, bytes] | None = None

    async def identity(self) -> tuple[str, bytes]:
        """What signatures call the coordinators of this store, and the secret they share. Raises StorageError."""
        if self._identity is None:
            key = self.keyspace(GLOBAL).auth()
            *_, (name, secret) = await self.registry.write(
                GLOBAL,
                ("HSETNX", key, "server", secrets.token_hex(16)),
                ("HSETNX", key, "secret", secrets.token_hex(32)),
                ("HMGET", key, "server", "secret"),
            )
            self._identity = name.decode(), bytes.fromhex(secret.decode())
        return self._identity

    # -- principals

    def login_of(self, digest: str) -> _Login:
        """What is known of who shows this token over HTTP."""
        login = self._logins.get(digest)
        if login is None:
            if len(self._logins) >= LOGINS:
                self._logins.clear()
            login = self._logins[digest] = _Login()
        return login

    def operator_of(self, digest: str) -> Principal | None:
        """The operator, if it has a token of this digest."""
        return Principal("operator", token=id_of(digest), key=digest) if self.operators.has(digest) else None

    async def principal_of(self, digest: str) -> Principal | None:
        """Who has shown a token of this digest; None if it is not good. Raises StorageError."""
        if not digest:
            return None
        operator = self.operator_of(digest)
        if operator is not None:
            return operator
        token = (await self.registry.tokens.get(id_of(digest))).value
        if token is None or token.digest != digest or not await self.good_until(token.principal):
            return None
        return token.principal

    def fresh_until(self, principal: Principal) -> float | None:
        """Until when (time.monotonic) it is known that who has logged in still may; 0: it may not any more; None: the
        store has to be asked. Never blocks."""
        if principal.kind == "operator":
            return time.monotonic() + FRESH_FOR if self.operators.has(principal.key) else 0.0
        tokens = [self.registry.tokens.known(id) for id in (principal.token, principal.parent) if id]
        record = self.registry.record_known(principal)
        if record is None or None in tokens:
            return None
        return _good_until(principal, [token for token in tokens if token is not None], record)

    async def good_until(self, principal: Principal) -> float:
        """The same, having asked: 0 if it may not any more. Raises StorageError."""
        until = self.fresh_until(principal)
        if until is not None:
            return until
        tokens = [await self.registry.tokens.get(id) for id in (principal.token, principal.parent) if id]
        return _good_until(principal, tokens, await self.registry.record_of(principal))

    def note_use(self, token: str) -> bool:
        """Whether the store should be told that a token is used."""
        now = time.monotonic()
        if now - self._noted.get(token, -USED_EVERY) < USED_EVERY:
            return False
        if len(self._noted) >= VARIANTS:
            self._noted.clear()
        self._noted[token] = now
        return True

    def may_see_metrics(self, digest: str) -> bool:
        return self.operators.has(digest) or self._metrics.has(digest)

    # -- methods

    def variant(self, key: tuple[object, ...], make: Callable[[], Method]) -> Method:
        """A method as somebody may call it, made once."""
        method = self._variants.get(key)
        if method is None:
            if len(self._variants) >= VARIANTS:
                self._variants.clear()
            method = self._variants[key] = make()
        return method

    def members_changed(self, params: Any) -> None:
        """Who is what in a context was written here, so whoever did that need not wait until it is looked at again."""
        self.registry.members.forget(params.context.id)

    # -- what lasts

    def opened(self, access: Access) -> None:
        self._open.add(access)

    def closed(self, access: Access) -> None:
        self._open.discard(access)

    def watch(self, call: Request, access: Access, method: Method, params: Any) -> None:
        """A call that may take long is on its way."""
        self._waiting[call] = access, method, params

    async def run(self) -> None:
        """Look at what lasts, again and again. Never returns."""
        async with trio.open_nursery() as nursery:
            for number in count():
                await trio.sleep(SWEEP_EVERY)
                self.operators.look()
                self._metrics.look()
                with trio.move_on_after(SWEEP_TIMEOUT), contain("looking at who is logged in"):
                    await self._sweep(nursery, with_idle=number % IDLE_EVERY == 0)

    async def _sweep(self, nursery: trio.Nursery, *, with_idle: bool) -> None:
        """Look at each client that has something that lasts, and `with_idle` at each open connection.

        Logins are looked at for all together. What else takes the store is asked in tasks, one a client at the most, so
        that a context which is slow keeps nobody else's from being ended.
        """
        calls = self._calls_that_wait()
        busy = {access for access in self._open if access.conversation and access.conversation.subscriptions}
        busy |= calls.keys()
        looked_at = busy | self._open if with_idle else busy
        known = [(access, access.principal) for access in looked_at if access.principal is not None]
        with suppress(CoordinatorError):  # while the store is away it hands out nothing either
            await self._ask_about(principal for _, principal in known)
        for number, (access, principal) in enumerate(known, 1):
            if self.fresh_until(principal) == 0:
                self._end(access, calls.get(access, ()))
            elif access not in self._looking and (access in busy or principal.kind == "runner"):
                self._looking.add(access)
                nursery.start_soon(self._look_at, access, principal, calls.get(access, ()))
            if number % LOOKED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _calls_that_wait(self) -> dict[Access, list[_Waiting]]:
        """By whose they are."""
        waiting: dict[Access, list[_Waiting]] = {}
        for call, (access, method, params) in [*self._waiting.items()]:
            if access.principal is None:  # another request with the same token has found that it is good no longer
                call.end(NotLoggedIn("the login has ended meanwhile"))
            if call.done:
                del self._waiting[call]
            else:
                waiting.setdefault(access, []).append((call, method, params))
        return waiting

    async def _ask_about(self, principals: Iterable[Principal]) -> None:
        """Have the store say what `fresh_until` needs of actors, and of tokens. Raises StorageError."""
        unknown = [principal for principal in principals if self.fresh_until(principal) is None]
        actors = {principal.id for principal in unknown if principal.kind == "actor"}
        tokens = {id for principal in unknown for id in (principal.token, principal.parent) if id}
        await self.registry.refresh(actors, tokens)

    def _end(self, access: Access, calls: Iterable[_Waiting]) -> None:
        """Its login is over."""
        access.log_out("its login is over: the token or key has expired, was revoked or was replaced")
        for call, _, _ in calls:
            call.end(NotLoggedIn("the login has ended meanwhile"))

    async def _look_at(self, access: Access, principal: Principal, calls: Iterable[_Waiting]) -> None:
        """End what a client may not have any more. What cannot be looked at now is looked at the next time."""
        try:
            with trio.move_on_after(SWEEP_TIMEOUT), contain("looking at what a client has"), suppress(CoordinatorError):
                if not await self.good_until(principal):
                    self._end(access, calls)
                    return
                for call, method, params in calls:
                    outcome = await access.judge(method, params)
                    if isinstance(outcome, CoordinatorError):
                        call.end(outcome)
                if access.conversation is not None:
                    await self._look_at_subscriptions(access, access.conversation)
        finally:
            self._looking.discard(access)

    async def _look_at_subscriptions(self, access: Access, conversation: Conversation) -> None:
        for subscription in [*conversation.subscriptions.values()]:
            right = Right.WORK if isinstance(subscription, RunnerSubscription) else Right.FLOW_READ
            cell = TABLE[right].of(await access.role_in(subscription.keys.context_key or 0))
            sees_too_much = (
                isinstance(subscription, FlowSubscription)
                and subscription.sees_logs
                and cell is Cell.LOGS_BY_SETTING
                and not self.rules.readers_see_logs
            )
            if cell is Cell.NO or sees_too_much or access.is_out_of_scope(right):
                conversation.end_subscription(subscription, f"you have no longer the right to {right.value}")
                access.tell_ended(subscription.keys.context_key, _denied(right, Role.READER, None), right.value)


class _Login:
    """What is known of somebody: of a connection, or of all requests that show the same token.

    Attributes:
        principal: who it is; None: it is not known, or nobody any more.
        good_until: until when (time.monotonic) that may be believed.
        granted: by method and context, until when it may be called, and as what, whatever its other params are.
    """

    __slots__ = ("good_until", "granted", "principal")

    def __init__(self) -> None:
        self.become(None)

    def become(self, principal: Principal | None) -> None:
        self.principal = principal
        self.good_until = 0.0
        self.granted: dict[tuple[str, ContextKey], tuple[float, Method]] = {}


class Access:
    """One client.

    Args:
        host: the Host it has called us by.
        digest: of the token it has shown with its request.
        conversation: its connection, if that stays open.

    Attributes:
        nonces: the challenges of its connection; None if it has none.
        refused: calls refused because nobody has logged in.
        proven: who has logged in last, over HTTP too.
        trail: writes its lines of the audit log, if that is kept.
    """

    __slots__ = (
        "_digest",
        "_logged_out",
        "_login",
        "conversation",
        "gate",
        "host",
        "nonces",
        "proven",
        "refused",
        "trail",
    )

    def __init__(
        self, gate: Gate, *, host: str = "", digest: str = "", conversation: Conversation | None = None
    ) -> None:
        self.gate = gate
        self.host = host
        self.conversation = conversation
        self.nonces = None if conversation is None else Nonces()
        self.refused = 0
        self.proven: Principal | None = None
        self.trail: Witness | None = None
        self._digest = digest
        self._login = gate.login_of(digest) if conversation is None and digest else _Login()
        self._logged_out: str | None = None
        if digest == NO_TOKEN:
            self._digest, self._logged_out = "", "the Authorization header holds no token: it is `Bearer hc_…`"

    @property
    def principal(self) -> Principal | None:
        """Who has logged in."""
        return self._login.principal

    def log_out(self, reason: str) -> None:
        """It is nobody from now on."""
        if self.conversation is not None:
            self.tell_ended(None, NotLoggedIn(reason), reason)
        self._login.become(None)
        self._logged_out = reason
        if self.conversation is not None:
            self.conversation.log_out(reason)

    def tell_ended(self, context: ContextKey, error: CoordinatorError, reason: str) -> None:
        """Have the audit log tell of what was ended of what it has."""
        if self.trail is not None and self.principal is not None:
            self.trail.ended(self.principal.name, context, error, reason)

    def become(self, principal: Principal) -> None:
        """It has logged in. Raises Conflict if its connection belongs to somebody else."""
        if self.principal is not None and self.principal.identity != principal.identity:
            raise Conflict(f"this connection is {self.principal.name}; open another one", principal=self.principal.name)
        self._login.become(principal)
        self.proven = principal
        self._logged_out = None

    @property
    def may_be_somebody(self) -> bool:
        """It has shown a token of which it is not known whose it is."""
        return bool(self._digest) and self.principal is None and self._logged_out is None

    @property
    def is_refused(self) -> bool:
        """What it has shown is not good."""
        return self._logged_out is not None

    # -- calls

    def admit(self, method: Method, params: Any) -> Method | CoordinatorError | None:
        """The method as this client may call it with these params, or why it may not; None: the store has to be asked,
        see `judge`. Never blocks."""
        login = self._login
        granted = login.granted.get((method.name, method.context(params)))
        if granted is not None and time.monotonic() < granted[0]:
            return granted[1]
        right, principal = method.right, login.principal
        if right is Right.PUBLIC:
            return method
        if principal is None:
            return None if self._digest else self.decide(method, params, None, None)
        if time.monotonic() >= login.good_until:
            until = self.gate.fresh_until(principal)
            if not until:
                return None
            login.good_until = until
        context = self.context_of(right, params)
        until, members = login.good_until, None
        if context is not None and principal.kind == "actor":
            known = self.gate.registry.members.known(context)
            if known is None:
                return None
            until, members = min(until, known.until), known.value
        allowed = self.decide(method, params, context, members)
        if isinstance(allowed, Method) and self._holds_for_all(method, params, context, members):
            if len(login.granted) >= GRANTED:
                login.granted.clear()
            login.granted[method.name, context] = until, allowed
        return allowed

    def _holds_for_all(self, method: Method, params: Any, context: ContextKey, members: Members | None) -> bool:
        """Whether what was allowed is whatever the other params are, as long as the context is this one."""
        right, principal = method.right, self.principal
        if context is None or principal is None or right is None or method.context(params) != context:
            return False
        return right not in _BY_PARAMS or TABLE[right].of(_role(principal, context, members)) is Cell.YES

    async def judge(self, method: Method, params: Any) -> Method | CoordinatorError:
        """As `admit`, having asked the store. If that does not answer, nothing is allowed."""
        try:
            await self.identify()
            principal, context, members = self.principal, None, None
            if principal is not None:
                context = self.context_of(method.right, params)
                if context is not None and principal.kind == "actor":
                    members = (await self.gate.registry.members.get(context)).value
        except CoordinatorError as error:
            return error
        return self.decide(method, params, context, members)

    async def identify(self) -> None:
        """Find out who it is, by the token it has shown, or whether it still is. Raises StorageError."""
        gate = self.gate
        if self.principal is None:
            if not self._digest:
                return
            principal = await gate.principal_of(self._digest)
            if principal is None:
                self._logged_out = "the token is none of this coordinator, or has expired, or was revoked"
                return
            self._login.become(principal)
            if principal.token and principal.kind != "operator" and gate.note_use(principal.token):
                await gate.registry.write(GLOBAL, functions.token_used(gate.keyspace(GLOBAL), principal.token))
        elif not await gate.good_until(self.principal):
            self.log_out("the login is over: the token or key has expired, was revoked or was replaced")

    async def role_in(self, context: int) -> Role:
        """What the client is in a context. Raises StorageError."""
        principal = self.principal
        if principal is None:
            return Role.STRANGER
        members = (await self.gate.registry.members.get(context)).value if principal.kind == "actor" else None
        return _role(principal, context, members)

    def is_out_of_scope(self, right: Right) -> bool:
        """Whether its token is not good for this, whoever it is."""
        return self.principal is not None and self.principal.scope.is_reading and right not in _READING

    @staticmethod
    def context_of(right: Right | None, params: Any) -> ContextKey:
        """The context that a call is about."""
        if right is Right.CONTEXT_WRITE:
            written: int = params.context.id
            return written
        if right is Right.CONTEXT_READ:
            read: int = params.id
            return read
        if right is Right.ACTOR_LOAD:
            named: int | None = params.context_id
            return named
        if right is None or right in _ABOUT_NO_CONTEXT:
            return None
        context: int = params.context_id
        return context

    def decide(
        self, method: Method, params: Any, context: ContextKey, members: Members | None
    ) -> Method | CoordinatorError:
        """What `admit` returns, by who is what in the context."""
        try:
            return self._allowed(method, params, context, members)
        except CoordinatorError as error:
            self.gate.denied += 1
            if isinstance(error, NotLoggedIn):
                self.refused += 1
            return error

    def _allowed(self, method: Method, params: Any, context: ContextKey, members: Members | None) -> Method:
        """The method as the client may call it. Raises what it is answered if it may not."""
        right, principal = method.right, self.principal
        if right is None:
            raise Forbidden(f"nobody may call {method.name} here", "nothing")
        if right is Right.PUBLIC:
            return method
        if principal is None and not (right is Right.ACTOR_CREATE and self.gate.rules.registration):
            raise NotLoggedIn(HOW if self._logged_out is None else f"{self._logged_out}; {HOW}")
        role = Role.STRANGER if principal is None else _role(principal, context, members)
        cell = TABLE[right].of(role)
        if self.is_out_of_scope(right):
            cell = Cell.NO
        if context is not None and right is not Right.RUNNERS_CONNECTED and right is not Right.ACTOR_LOAD:
            assert method.context(params) == context, f"{method.name} is decided on for the context it goes to"
        if right is Right.CONTEXT_WRITE and cell is not Cell.NO:
            method = self.gate.variant(
                (method.name, "told"), lambda: restricted.then(method, self.gate.members_changed)
            )
        if cell is Cell.YES:
            return method
        if cell is not Cell.NO:
            return _Judge(self, method, right, role, cell, context, members).variant(params)
        raise _denied(right, role, context)


def _good_until(principal: Principal, tokens: Iterable[Known[Token | None]], record: Known[Actor]) -> float:
    """Until when that is known to be good, 0 if it is not."""
    if principal.expires_at <= time.time() or not record.value.may_use(principal.key):
        return 0.0
    until = record.until
    for token in tokens:
        if token.value is None or token.value.principal.identity != principal.identity:
            return 0.0
        until = min(until, token.until)
    return until


def _role(principal: Principal, context: ContextKey, members: Members | None) -> Role:
    if principal.kind == "operator":
        return Role.OPERATOR
    contexts = principal.scope.contexts
    if context is not None and contexts is not None and context not in contexts:
        return Role.STRANGER
    if principal.kind == "runner":
        return Role.RUNNER if context is None or context == principal.context_id else Role.STRANGER
    if members is None:
        return Role.STRANGER
    role = members.role_of(principal.id)
    return Role.READER if principal.scope.is_reading and role in (Role.ADMIN, Role.EXECUTOR) else role


def _denied(right: Right, role: Role, context: ContextKey, detail: str = "") -> CoordinatorError:
    """What a call that is not allowed is answered. A stranger does not learn whether the context is there."""
    if role is Role.STRANGER and context is not None:
        return NotFound("context", id=context)
    whose = "your token is" if role is Role.OPERATOR else f"a {role.value} is"
    return Forbidden(detail or f"{whose} not allowed to {right.value}", right.value)


class _Judge(NamedTuple):
    """Decides on a call of somebody who has a right in part."""

    access: Access
    method: Method
    right: Right
    role: Role
    cell: Cell
    context: ContextKey
    members: Members | None

    def variant(self, params: Any) -> Method:
        """The method as it may be called with these params. Raises what it is answered if it may not."""
        judge = _JUDGES.get(self.cell)
        if judge is None:
            raise self._denied("")
        return judge(self, params)

    def _if_executors_submit(self, params: Any) -> Method:
        if not self.access.gate.rules.executors_submit:
            raise self._denied("executors run what admins have created here, and neither create nor delete")
        return self._of_caller(params)

    def _for_own_flows(self, params: Any) -> Method:
        if params.flow_id is None:
            raise self._denied("for the whole context that is for its admins; name a flow of yours by flow_id")
        return self._guarded()

    def _of_members(self, params: Any) -> Method:
        if params.id != self.id and (self.members is None or params.id not in self.members):
            raise self._denied(f"actor {params.id} is no member of context {self.context}")
        return self.method

    def _without_foreign_env(self, params: Any) -> Method:
        return self._telling("env", self.id, restricted.hidden_env(self.id))

    def _without_admins(self, params: Any) -> Method:
        return self._telling("admins", 0, restricted.hidden_admins)

    def _without_address(self, params: Any) -> Method:
        return self._telling("address", 0, restricted.hidden_addresses)

    @property
    def id(self) -> int:
        principal = self.access.principal
        assert principal is not None
        return principal.id

    def _denied(self, detail: str) -> CoordinatorError:
        return _denied(self.right, self.role, self.context, detail)

    def _telling(self, what: str, id: int, hide: restricted.Hide) -> Method:
        method = self.method
        if method.name in _LIVE:
            return method  # events have no env_vars
        return self.access.gate.variant((method.name, what, id), lambda: restricted.telling(method, hide))

    def _of_itself(self, params: Any) -> Method:
        method, id = self.method, self.id
        match self.right:
            case Right.WORK:
                if params.runner_id != id:
                    raise self._denied(f"runner {id} cannot work as runner {params.runner_id}")
                if method.name != "job.take":
                    return method
                # What was taken under a name is told again to who asks under that name.
                return self.access.gate.variant(
                    (method.name, id), lambda: restricted.called_with(method, params=lambda given: _own_take(given, id))
                )
            case Right.RUNNER_READ if method.name == "runner.list":
                return self._telling("self", id, restricted.only_runner(id))
            case Right.ACTOR_LOAD | Right.KEY_ROTATE if self.role is Role.RUNNER:
                raise self._denied("")
            case _:
                if params.id != id:
                    raise self._denied("")
                return method

    def _of_its_own(self, params: Any) -> Method:
        method, id = self.method, self.id
        match self.right:
            case Right.ATTEMPT:
                return self.access.gate.variant((method.name, id), lambda: restricted.own_attempt(method, id))
            case Right.CONTEXT_LIST:
                return self.access.gate.variant(
                    (method.name, "own"), lambda: restricted.personal(method, _own_contexts)
                )
            case _:
                return self._of_caller(params)

    def _of_caller(self, params: Any) -> Method:
        """For records whose caller_id is the client's."""
        for caller in _callers(params):
            if caller != self.id:
                raise self._denied(f"its caller_id is {caller}, and yours is {self.id}: it would be another's")
        return self._guarded()

    def _guarded(self) -> Method:
        method, id, right = self.method, self.id, self.right

        def refusal(guard: Guard, _: Any) -> CoordinatorError:
            if guard.kind == "idle":
                return Forbidden("it is running, and only an admin may change what is", right.value)
            return Forbidden(f"it is another's: its caller_id, or a job's in it, is not {id}", right.value)

        guards = _GUARDS[method.name]
        return self.access.gate.variant(
            (method.name, id), lambda: restricted.guarded(method, lambda params: guards(id, params), refusal)
        )

    def _created_actor(self, params: Any) -> Method:
        guard = Guard("key", f"actor:{params.actor.id}", params.actor.pubkey)

        def refusal(guard: Guard, _: Any) -> CoordinatorError:
            detail = f"{guard.record.replace(':', ' ')} is there with another key, or was revoked: see actor.rotate_key"
            return Forbidden(detail, self.right.value)

        return restricted.guarded(self.method, lambda params: [guard], refusal)

    def _by_setting(self, params: Any) -> Method:
        access, principal = self.access, self.access.principal
        is_open = access.gate.rules.registration
        if self.right is Right.ACTOR_CREATE:
            if not is_open:
                raise self._denied("this coordinator lets its operator create actors, see --registration")
            guard = Guard("absent", f"actor:{params.actor.id}")
        else:
            is_its_own = principal is not None and principal.kind == "actor" and principal.id in params.context.admins
            if not is_open or not is_its_own or principal is None or not principal.scope.is_whole:
                raise self._denied("")
            guard = Guard("absent", f"context:{params.context.id}")

        def refusal(guard: Guard, _: Any) -> CoordinatorError:
            if self.right is Right.ACTOR_CREATE:
                return Forbidden(f"there is {guard.record.replace(':', ' ')} already", self.right.value)
            return self._denied("")

        return restricted.guarded(self.method, lambda params: [guard], refusal)

    def _with_logs_by_setting(self, params: Any) -> Method:
        if self.right is Right.LOG_READ:
            if not self.access.gate.rules.readers_see_logs:
                raise self._denied("readers do not see logs here, see --reader-logs")
            return self.method
        return self._of_reader(params)

    def _of_reader(self, params: Any) -> Method:
        """Without env_vars, and without logs unless the setting says otherwise."""
        method, hides = self.method, [restricted.hidden_env(None)]
        sees_logs = self.access.gate.rules.readers_see_logs
        if method.name in _LIVE:
            if sees_logs:
                return method
            return self.access.gate.variant(
                (method.name, "reader"),
                lambda: restricted.called_with(method, caller=lambda caller: caller._replace(sees_logs=False)),
            )
        if not sees_logs:
            hides.append(restricted.hidden_logs)

        def hide(reply: Any) -> None:
            for one in hides:
                one(reply)

        return self.access.gate.variant((method.name, "reader"), lambda: restricted.telling(method, hide))


_JUDGES: Final[Mapping[Cell, Callable[[_Judge, Any], Method]]] = {
    Cell.SELF: _Judge._of_itself,
    Cell.OWN: _Judge._of_its_own,
    Cell.OWN_SUBMITTED: _Judge._if_executors_submit,
    Cell.OWN_IDLE: _Judge._if_executors_submit,
    Cell.OWN_FLOWS: _Judge._for_own_flows,
    Cell.MEMBERS: _Judge._of_members,
    Cell.KEEPING_KEYS: _Judge._created_actor,
    Cell.BY_SETTING: _Judge._by_setting,
    Cell.LOGS_BY_SETTING: _Judge._with_logs_by_setting,
    Cell.WITHOUT_FOREIGN_ENV: _Judge._without_foreign_env,
    Cell.WITHOUT_ENV: _Judge._of_reader,
    Cell.WITHOUT_ADMINS: _Judge._without_admins,
    Cell.WITHOUT_ADDRESS: _Judge._without_address,
}
_LIVE: Final = frozenset({"flow.subscribe"})


def _own_take(params: Any, runner: int) -> Any:
    return params.model_copy(update={"take_id": f"{runner}/{params.take_id}"}) if params.take_id else params


def _callers(params: Any) -> Iterable[int]:
    """The caller_id of all that params name, at every depth."""
    callers = {getattr(params, "caller_id", None)}
    for name in ("job", "flow", "message"):
        record = getattr(params, name, None)
        if record is not None:
            callers.add(record.caller_id)
            callers.update(job.caller_id for job in getattr(record, "job", ()))
    callers.update(job.caller_id for job in getattr(params, "jobs", ()))
    return [caller for caller in callers if caller is not None]


_OwnGuards = Callable[[int, Any], list[Guard]]


def _own(
    *,
    flow: Callable[[Any], int] | None = None,
    job: Callable[[Any], Any] | None = None,
    message: Callable[[Any], Any] | None = None,
    idle: bool = False,
    embedded: bool = False,
) -> _OwnGuards:
    """The guards of a call about one record."""

    def guards(id: int, params: Any) -> list[Guard]:
        if flow is not None:
            name = flow_name(flow(params))
        elif job is not None:
            name = job_name(job(params).caller_id, job(params).id)
        else:
            assert message is not None
            name = message_name(message(params).caller_id, message(params).id)
        needed = [Guard("own", name, id)]
        if embedded:
            needed.append(Guard("embedded", name, id))
        if idle:
            needed.append(Guard("idle", name))
        return needed

    return guards


_GUARDS: Final[dict[str, _OwnGuards]] = {
    "flow.create": _own(flow=lambda params: params.flow.id, idle=True),
    "flow.submit": _own(flow=lambda params: params.flow.id),  # one that runs is not changed by it
    "job.create": _own(job=lambda params: params.job, idle=True),
    "message.create": _own(message=lambda params: params.message, idle=True),
    "flow.start": _own(flow=lambda params: params.id),
    "flow.retry": _own(flow=lambda params: params.id),
    "flow.cancel": _own(flow=lambda params: params.id),
    "message.send": _own(message=lambda params: params, embedded=True),
    "flow.delete": _own(flow=lambda params: params.id),  # deletion itself refuses what runs, as the next two
    "job.delete": _own(job=lambda params: params),
    "message.delete": _own(message=lambda params: params, embedded=True),
    "prerequisite.satisfy": _own(flow=lambda params: params.flow_id),
    "prerequisite.revoke": _own(flow=lambda params: params.flow_id),
}


CONTEXTS_LOOKED_AT: Final = 50  # for one page of an actor's contexts, each asked of its own


async def _own_contexts(access: Access | None, params: Any) -> bytes:
    """A page of the contexts in which the client is anybody; it may be empty and have a cursor."""
    assert access is not None
    principal, gate = access.principal, access.gate
    assert principal is not None
    limited = params.model_copy(update={"limit": min(params.limit, CONTEXTS_LOOKED_AT)})
    page = from_json(await gate.registry.ask(GLOBAL, list_contexts(gate.keyspace(GLOBAL), limited)))
    # One after the other: each may need a connection to the store, of which there are so many.
    page["items"] = [id for id in page["items"] if await access.role_in(id) is not Role.STRANGER]
    return to_json(page)
