"""Who has logged in: what somebody shows, who that is, and until when it is known to be good.

What is known was read from the store at most FRESH_FOR seconds before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from coordinator.errors import NotLoggedIn
from coordinator.rpc.access.fresh import FRESH_FOR, Known
from coordinator.rpc.access.operator import TokenFile
from coordinator.rpc.access.principals import BY_JWT, Principal
from coordinator.rpc.access.registry import Actor, Registry, Token
from coordinator.rpc.access.tokens import NO_TOKEN, Shown, id_of
from coordinator.rpc.access.turns import Turns
from coordinator.rpc.methods.method import Method
from coordinator.storage.keys import ContextKey

if TYPE_CHECKING:
    from coordinator.rpc.access.provider import Provider  # which needs an extra

__all__ = ["NOT_GOOD", "Login", "Logins"]

LOGINS: Final = 4096  # tokens shown over HTTP, remembered
USED_EVERY: Final = 60  # seconds between two notes that a token is in use
NOTED: Final = 4096  # tokens of which it is remembered when they were last used

NOT_GOOD: Final = "the token is none of this coordinator, or has expired, or was revoked"


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


class Logins:
    """Shared by all clients of a process.

    Args:
        operators: the operator's tokens.
        provider: verifies JWTs, if any are taken.
        opening: turns for those whose login needs a context of which nobody else asks anything now.
    """

    def __init__(self, registry: Registry, operators: TokenFile, provider: Provider | None, opening: Turns) -> None:
        self._registry = registry
        self._operators = operators
        self._provider = provider
        self._opening = opening
        self._shown: dict[str, Login] = {}
        self._noted: dict[str, float] = {}  # tokens, and when the store was last told of their use

    def of(self, digest: str) -> Login:
        """What is known of who shows this token over HTTP."""
        login = self._shown.get(digest)
        if login is None:
            if len(self._shown) >= LOGINS:
                self._shown.clear()
            login = self._shown[digest] = Login()
        return login

    def _operator_of(self, digest: str) -> Principal | None:
        """The operator, if it has a token of this digest."""
        return Principal("operator", token=id_of(digest), key=digest) if self._operators.has(digest) else None

    async def principal_of(self, shown: Shown) -> Principal:
        """Who has shown this. Raises NotLoggedIn if it is not good; Overloaded, StorageError."""
        if shown.jwt or shown.certified is not None:
            return await self._known_elsewhere(shown)
        digest = shown.digest
        operator = self._operator_of(digest)
        if operator is not None:
            return operator
        token = None if digest == NO_TOKEN else (await self._registry.tokens.get(id_of(digest))).value
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
        if not self._registry.is_at_hand(principal):
            await self._opening.take()
        if not await self.good_until(principal):
            what = "the JWT" if shown.certified is None else "the certificate"
            detail = f"{what} names {principal.name}, which is not there or was revoked; or it has just expired"
            raise NotLoggedIn(detail)
        return principal

    def fresh_until(self, principal: Principal) -> float | None:
        """Until when (time.monotonic) it is known that who has logged in still may; 0: it may not any more; None: the
        store has to be asked. Never blocks."""
        if principal.kind == "operator":
            return time.monotonic() + FRESH_FOR if self._operators.has(principal.key) else 0.0
        if not self._is_vouched_for(principal):
            return 0.0
        tokens = [self._registry.tokens.known(id) for id in principal.tokens]
        record = self._registry.record_known(principal)
        if record is None or None in tokens:
            return None
        return _good_until(principal, [token for token in tokens if token is not None], record)

    async def good_until(self, principal: Principal) -> float:
        """The same, having asked: 0 if it may not any more. Raises StorageError."""
        until = self.fresh_until(principal)
        if until is not None:
            return until
        tokens = [await self._registry.tokens.get(id) for id in principal.tokens]
        return _good_until(principal, tokens, await self._registry.record_of(principal))

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
        if len(self._noted) >= NOTED:
            self._noted.clear()
        self._noted[token] = now
        return True

    async def ask_about(self, principals: Iterable[Principal]) -> None:
        """Have the store say what `fresh_until` needs to know of actors, and of tokens. Raises StorageError."""
        unknown = [principal for principal in principals if self.fresh_until(principal) is None]
        actors = {principal.id for principal in unknown if principal.kind == "actor"}
        tokens = {id for principal in unknown for id in principal.tokens}
        await self._registry.refresh(actors, tokens)


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
