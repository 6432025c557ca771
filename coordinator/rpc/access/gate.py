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
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
import trio

from coordinator.actors.directory import Directory
from coordinator.actors.request import Request
from coordinator.engine.subscriptions import FlowSubscription, RunnerSubscription, Subscription
from coordinator.errors import Conflict, CoordinatorError, Forbidden, NotLoggedIn
from coordinator.rpc.access import restricted
from coordinator.rpc.access.failures import Failures
from coordinator.rpc.access.fresh import FRESH_FOR, Known
from coordinator.rpc.access.judge import Judge, Rules, denied, role_of
from coordinator.rpc.access.login import Nonces
from coordinator.rpc.access.operator import TokenFile
from coordinator.rpc.access.principals import BY_JWT, Principal
from coordinator.rpc.access.registry import Actor, Members, Registry, Token
from coordinator.rpc.access.rights import TABLE, Cell, Right, Role
from coordinator.rpc.access.tokens import NO_TOKEN, NOTHING, Shown, id_of
from coordinator.rpc.access.turns import Pauses, Turns
from coordinator.rpc.methods.method import Method
from coordinator.storage.functions import credentials
from coordinator.storage.keys import GLOBAL, ContextKey, Layout
from coordinator.supervision import contain

if TYPE_CHECKING:
    from coordinator.rpc.access.provider import Provider  # which needs an extra

__all__ = ["NOT_GOOD", "Access", "Conversation", "Gate", "Rules", "Witness", "is_about_no_context"]

log = structlog.get_logger("coordinator.access")

FETCH_TIMEOUT: Final = 10.0  # seconds for what a decision needs of the store
RELIED_ON: Final = FRESH_FOR / 4  # seconds for which a call that was allowed is, without a look at what is known
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

NOT_GOOD: Final = "the token is none of this coordinator, or has expired, or was revoked"
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
        *(Right.RUNNERS_CONNECTED, Right.STATS_READ, Right.RECORD_READ, Right.FLOW_READ, Right.LOG_READ),
        Right.PREREQUISITE_READ,
    }
)


def is_about_no_context(right: Right | None) -> bool:
    """Whether a call that takes this is about no context, or about another than the one it goes to."""
    return right is None or right in _ABOUT_NO_CONTEXT or right in (Right.CONTEXT_WRITE, Right.CONTEXT_READ)


_Waiting = tuple[Request, Method, Any]
"""A call that may take long, its method as it may be called, and its params."""


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


class Gate:
    """Shared by all front-ends of a process. `run` it beside the directory.

    Args:
        operator_file: the operator's tokens.
        metrics_file: those that show the page of metrics, beside the operator's.
        provider: verifies JWTs, if any are taken.
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
        provider: Provider | None = None,
        timeout: float = FETCH_TIMEOUT,
    ) -> None:
        self.registry = Registry(directory, layout, min(timeout, FETCH_TIMEOUT))
        self.keyspace = layout.keyspace
        self.rules = rules
        self.operators = TokenFile(operator_file)
        self._metrics = TokenFile(metrics_file)
        self._provider = provider
        self._variants: dict[tuple[object, ...], Method] = {}
        self._open: set[Access] = set()  # of connections
        self._waiting: dict[Request, tuple[Access, Method, Any]] = {}  # calls that may take long
        self._looking: set[Access] = set()  # clients that are being looked at
        self._logins: dict[str, Login] = {}
        self._noted: dict[str, float] = {}  # tokens, and when the store was last told of their use
        self.denied = 0
        self.verifying = Turns(LOGIN_EVERY)
        self.opening = Turns(OPENED_EVERY)
        self.failing = Pauses()
        self.failures = Failures()
        self.finding_out = Turns(LOGIN_EVERY)  # whose a token is, for those whose address is over its limits
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

    def login_of(self, digest: str) -> Login:
        """What is known of who shows this token over HTTP."""
        login = self._logins.get(digest)
        if login is None:
            if len(self._logins) >= LOGINS:
                self._logins.clear()
            login = self._logins[digest] = Login()
        return login

    def operator_of(self, digest: str) -> Principal | None:
        """The operator, if it has a token of this digest."""
        return Principal("operator", token=id_of(digest), key=digest) if self.operators.has(digest) else None

    async def principal_of(self, shown: Shown) -> Principal:
        """Who has shown this. Raises NotLoggedIn if it is not good; Overloaded, StorageError."""
        if shown.jwt or shown.certified is not None:
            return await self._known_elsewhere(shown)
        digest = shown.digest
        operator = self.operator_of(digest)
        if operator is not None:
            return operator
        token = None if digest == NO_TOKEN else (await self.registry.tokens.get(id_of(digest))).value
        if token is None or token.digest != digest or not await self.good_until(token.principal):
            raise NotLoggedIn(NOT_GOOD)
        return token.principal

    async def _known_elsewhere(self, shown: Shown) -> Principal:
        """Whom an identity provider, or who has signed a certificate, vouches for."""
        principal = shown.certified
        if principal is None:
            if self._provider is None:
                raise NotLoggedIn("this coordinator takes no JWT, only tokens hc_…; see --jwt-keys")
            principal = await self._provider.principal_of(shown.digest, shown.jwt)
        if not self.registry.is_at_hand(principal):
            await self.opening.take()
        if not await self.good_until(principal):
            what = "the JWT" if shown.certified is None else "the certificate"
            detail = f"{what} names {principal.name}, which is not there or was revoked; or it has just expired"
            raise NotLoggedIn(detail)
        return principal

    def fresh_until(self, principal: Principal) -> float | None:
        """Until when (time.monotonic) it is known that who has logged in still may; 0: it may not any more; None: the
        store has to be asked. Never blocks."""
        if principal.kind == "operator":
            return time.monotonic() + FRESH_FOR if self.operators.has(principal.key) else 0.0
        if not self._is_vouched_for(principal):
            return 0.0
        tokens = [self.registry.tokens.known(id) for id in principal.tokens]
        record = self.registry.record_known(principal)
        if record is None or None in tokens:
            return None
        return _good_until(principal, [token for token in tokens if token is not None], record)

    async def good_until(self, principal: Principal) -> float:
        """The same, having asked: 0 if it may not any more. Raises StorageError."""
        until = self.fresh_until(principal)
        if until is not None:
            return until
        tokens = [await self.registry.tokens.get(id) for id in principal.tokens]
        return _good_until(principal, tokens, await self.registry.record_of(principal))

    def _is_vouched_for(self, principal: Principal) -> bool:
        """Whether the key by which an identity provider has said who it is, if one has, is still the provider's."""
        if not principal.key.startswith(BY_JWT):
            return True
        return self._provider is not None and self._provider.has_key(principal.key)

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
            with self.registry.asking_ahead(nursery):
                for number in count():
                    await trio.sleep(SWEEP_EVERY)
                    self.operators.look()
                    self._metrics.look()
                    if self._provider is not None:
                        self._provider.look()
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
        tokens = {id for principal in unknown for id in principal.tokens}
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
                access.tell_ended(subscription.keys.context_key, denied(right, Role.READER, None), right.value)


class Login:
    """What is known of somebody: of a connection, or of all requests that show the same token.

    Attributes:
        principal: who it is; None: it is not known, or nobody any more.
        good_until: until when (time.monotonic) that may be believed.
        granted: by method and context, until when it may be called, and as what, whatever its other params are.
        latest: the one of those that was used last, as method, context, until when, and as what. Who calls often calls
            the same again, and to look that up takes a tenth of the time that a call of a batch takes.
    """

    __slots__ = ("good_until", "granted", "latest", "principal")

    def __init__(self) -> None:
        self.become(None)

    def become(self, principal: Principal | None) -> None:
        self.principal = principal
        self.good_until = 0.0
        self.granted: dict[tuple[str, ContextKey], tuple[float, Method]] = {}
        self.latest: tuple[Method, ContextKey, float, Method] | tuple[None, None, float, None] = (None, None, 0.0, None)


class Access:
    """One client.

    Args:
        host: the Host it has called us by.
        shown: what it has shown with its request.
        conversation: its connection, if that stays open.

    Attributes:
        login: what is known of who it is.
        nonces: the challenges of its connection; None if it has none.
        refused: calls refused because nobody has logged in.
        proven: who has logged in last, over HTTP too.
        trail: writes its lines of the audit log, if that is kept.
    """

    __slots__ = (
        "_logged_out",
        "_shown",
        "conversation",
        "gate",
        "host",
        "login",
        "nonces",
        "proven",
        "refused",
        "trail",
    )

    def __init__(
        self, gate: Gate, *, host: str = "", shown: Shown = NOTHING, conversation: Conversation | None = None
    ) -> None:
        self.gate = gate
        self.host = host
        self.conversation = conversation
        self.nonces = None if conversation is None else Nonces()
        self.refused = 0
        self.proven: Principal | None = None
        self.trail: Witness | None = None
        self._shown = shown
        self.login = gate.login_of(shown.digest) if conversation is None and shown.digest else Login()
        self._logged_out: str | None = None
        if shown.digest == NO_TOKEN:
            self._shown, self._logged_out = NOTHING, "the Authorization header holds no token: it is `Bearer hc_…`"

    @property
    def principal(self) -> Principal | None:
        """Who has logged in."""
        return self.login.principal

    def log_out(self, reason: str) -> None:
        """It is nobody from now on."""
        if self.conversation is not None:
            self.tell_ended(None, NotLoggedIn(reason), reason)
        self.login.become(None)
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
        self.login.become(principal)
        self.proven = principal
        self._logged_out = None

    @property
    def may_be_somebody(self) -> bool:
        """It has shown a token of which it is not known whose it is."""
        return bool(self._shown.digest) and self.principal is None and self._logged_out is None

    @property
    def refusal(self) -> str | None:
        """Why what it has shown is not good, if it is not."""
        return self._logged_out

    # -- calls

    def admit(self, method: Method, params: Any, to: ContextKey) -> Method | CoordinatorError | None:
        """The method as this client may call it with these params, which go `to` this context, or why it may not; None:
        the store has to be asked, see `judge`. Never blocks."""
        login = self.login
        latest, context, until, allowed = login.latest
        if latest is method and context == to and monotonic() < until:
            return allowed
        granted = login.granted.get((method.name, to))
        if granted is not None and monotonic() < granted[0]:
            login.latest = method, to, *granted
            return granted[1]
        return self._admit_by_what_is_known(method, params, login)

    def _admit_by_what_is_known(self, method: Method, params: Any, login: Login) -> Method | CoordinatorError | None:
        """What `admit` returns of a call that was not allowed just before."""
        right, principal = method.right, login.principal
        if right is Right.PUBLIC:
            return method
        if principal is None:
            return None if self._shown.digest else self.decide(method, params, None, None)
        gate, now = self.gate, monotonic()
        if now >= login.good_until:
            good_until = gate.fresh_until(principal)
            if not good_until:
                return None
            gate.registry.keep(principal)
            login.good_until = min(good_until, now + RELIED_ON)
        context = self.context_of(right, params)
        until, members = login.good_until, None
        if context is not None and principal.kind == "actor":
            known = gate.registry.members.known(context)
            if known is None:
                return None
            gate.registry.members.keep(context)
            until, members = min(until, known.until), known.value
        outcome = self.decide(method, params, context, members)
        if isinstance(outcome, Method) and self._holds_for_all(method, params, context, members):
            if len(login.granted) >= GRANTED:
                login.granted.clear()
            login.granted[method.name, context] = until, outcome
        return outcome

    def _holds_for_all(self, method: Method, params: Any, context: ContextKey, members: Members | None) -> bool:
        """Whether what was allowed is whatever the other params are, as long as the context is this one."""
        right, principal = method.right, self.principal
        if context is None or principal is None or right is None or method.context(params) != context:
            return False
        return right not in _BY_PARAMS or TABLE[right].of(role_of(principal, context, members)) is Cell.YES

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
        """Find out who it is, by what it has shown, or whether it still is. Raises Overloaded, StorageError."""
        gate = self.gate
        if self.principal is None:
            if not self._shown.digest:
                return
            try:
                principal = await gate.principal_of(self._shown)
            except NotLoggedIn as refused:
                self._logged_out = refused.data["detail"]
                return
            if self.conversation is not None:
                self._shown = self._shown._replace(jwt="")  # it may be large, and is not needed any more
            self.login.become(principal)
            if principal.token and principal.kind != "operator" and gate.note_use(principal.token):
                await gate.registry.write(GLOBAL, credentials.token_used(gate.keyspace(GLOBAL), principal.token))
        elif not await gate.good_until(self.principal):
            self.log_out("the login is over: the token or key has expired, was revoked or was replaced")

    async def role_in(self, context: int) -> Role:
        """What the client is in a context. Raises StorageError."""
        principal = self.principal
        if principal is None:
            return Role.STRANGER
        members = (await self.gate.registry.members.get(context)).value if principal.kind == "actor" else None
        return role_of(principal, context, members)

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
        role = Role.STRANGER if principal is None else role_of(principal, context, members)
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
            return Judge(self, method, right, role, cell, context, members).variant(params)
        raise denied(right, role, context)


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
