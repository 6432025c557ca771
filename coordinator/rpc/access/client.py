"""One client: who it is, and what it may call. That is decided for each call before anything of it is done."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from time import monotonic
from typing import Any, Final, Protocol

from coordinator.engine.following import FlowSubscription
from coordinator.engine.sessions import Subscription
from coordinator.engine.supplying import RunnerSubscription
from coordinator.errors import Conflict, CoordinatorError, Forbidden, NotLoggedIn
from coordinator.rpc.access import restricted
from coordinator.rpc.access.fresh import FRESH_FOR
from coordinator.rpc.access.gate import Gate
from coordinator.rpc.access.judge import Judge, denied, role_of
from coordinator.rpc.access.login import Nonces
from coordinator.rpc.access.logins import Login
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.registry import Members
from coordinator.rpc.access.rights import TABLE, Cell, Right, Role
from coordinator.rpc.access.tokens import NO_TOKEN, NOTHING, Shown
from coordinator.rpc.methods.method import Method
from coordinator.storage.functions import credentials
from coordinator.storage.keys import GLOBAL, ContextKey

__all__ = ["Access", "Conversation", "Witness", "is_about_no_context"]

RELIED_ON: Final = FRESH_FOR / 4  # seconds for which a call that was allowed is, without a look at what is known
GRANTED: Final = 1024  # calls somebody may make, remembered

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
        *(Right.CONTEXT_WRITE, Right.RUNNER_READ, Right.WORK, Right.RECORD_WRITE),
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


class Conversation(Protocol):
    """A connection that stays open."""

    def check_room(self, principal: Principal) -> None:
        """Raises Overloaded if this principal may not have one more of the connections. Never blocks."""

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
        "_last_look",
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
        self.login = gate.logins.of(shown.digest) if conversation is None and shown.digest else Login()
        self._logged_out: str | None = None
        self._last_look = ""  # the subscription that was looked at last
        if shown.digest == NO_TOKEN:
            self._shown, self._logged_out = NOTHING, "the Authorization header holds no token: it is `Bearer hc_…`"

    @property
    def principal(self) -> Principal | None:
        """Who has logged in."""
        return self.login.principal

    @property
    def identity(self) -> Hashable:
        """What all logins of who has logged in have in common; None if nobody has."""
        return None if self.principal is None else self.principal.identity

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

    @property
    def followed(self) -> Collection[int]:
        """The contexts in which it has subscriptions."""
        if self.conversation is None or not self.conversation.subscriptions:
            return ()
        return {subscription.keys.context_key or 0 for subscription in self.conversation.subscriptions.values()}

    async def end_subscriptions(self) -> None:
        """End those that it may not have any more.

        Who has no time for all, because each is in a context of its own, goes on the next time where it has stopped.

        Raises:
            StorageError: the store does not say.
        """
        if self.conversation is None:
            return
        ids = [*self.conversation.subscriptions]
        at = ids.index(self._last_look) + 1 if self._last_look in ids else 0
        for id in (*ids[at:], *ids[:at]):
            subscription = self.conversation.subscriptions.get(id)
            if subscription is None:
                continue
            right = Right.WORK if isinstance(subscription, RunnerSubscription) else Right.FLOW_READ
            cell = TABLE[right].of(await self.role_in(subscription.keys.context_key or 0))
            sees_too_much = (
                isinstance(subscription, FlowSubscription)
                and subscription.sees_logs
                and cell is Cell.LOGS_BY_SETTING
                and not self.gate.rules.readers_see_logs
            )
            self._last_look = id
            if cell is Cell.NO or sees_too_much or self.is_out_of_scope(right):
                self.conversation.end_subscription(subscription, f"you have no longer the right to {right.value}")
                self.tell_ended(subscription.keys.context_key, denied(right, Role.READER, None), right.value)

    def become(self, principal: Principal) -> None:
        """It has logged in.

        Raises:
            Conflict: its connection belongs to somebody else.
            Overloaded: this principal may not have one more.
        """
        if self.principal is not None and self.principal.identity != principal.identity:
            raise Conflict(f"this connection is {self.principal.name}; open another one", principal=self.principal.name)
        if self.principal is None and self.conversation is not None:
            self.conversation.check_room(principal)
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
            good_until = gate.logins.fresh_until(principal)
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
                principal = await gate.logins.principal_of(self._shown)
            except NotLoggedIn as refused:
                self._logged_out = refused.data["detail"]
                return
            if self.conversation is not None:
                self._shown = self._shown._replace(jwt="")  # it may be large, and is not needed any more
            self.login.become(principal)
            if principal.token and principal.kind != "operator" and gate.logins.note_use(principal.token):
                await gate.registry.write(GLOBAL, credentials.token_used(gate.keyspace(GLOBAL), principal.token))
        elif not await gate.logins.good_until(self.principal):
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
        if context is not None and right is not Right.ACTOR_LOAD:
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
