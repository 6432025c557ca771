"""What a process that has its callers log in knows, and shares between all of its clients."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coordinator.actors.directory import Directory
from coordinator.rpc.access.failures import Failures
from coordinator.rpc.access.logins import Logins
from coordinator.rpc.access.operator import TokenFile
from coordinator.rpc.access.registry import Registry
from coordinator.rpc.access.rights import Rules
from coordinator.rpc.access.sweep import Sweep
from coordinator.rpc.access.turns import Pauses, Turns
from coordinator.rpc.methods.method import Method
from coordinator.storage.keys import GLOBAL, Layout

if TYPE_CHECKING:
    from coordinator.rpc.access.provider import Provider  # which needs an extra

__all__ = ["Gate"]

FETCH_TIMEOUT: Final = 10.0  # seconds for what a decision needs of the store
VARIANTS: Final = 4096  # methods as somebody may call them, remembered

LOGIN_EVERY: Final = 0.005  # seconds between two signatures that are looked at, which take a tenth of that
OPENED_EVERY: Final = 0.05  # seconds between two logins that need a context of which nobody else asks anything now


class Gate:
    """One for each process, used by all front-ends.

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
        self.verifying = Turns(LOGIN_EVERY)
        self.opening = Turns(OPENED_EVERY)
        self.failing = Pauses()
        self.failures = Failures()
        self.finding_out = Turns(LOGIN_EVERY)  # whose a token is, for those whose address is over its limits
        self._operators = TokenFile(operator_file, "the operator's tokens")
        self._metrics = TokenFile(metrics_file, "--metrics-token-file")
        self._provider = provider
        self.logins = Logins(self.registry, self._operators, provider, self.opening)
        self.sweep = Sweep(self.registry, self.logins, self._look)
        self._variants: dict[tuple[object, ...], Method] = {}
        self._identity: tuple[str, bytes] | None = None

    def _look(self) -> None:
        """Take up what has changed in files, and at the provider's."""
        self._operators.look()
        self._metrics.look()
        if self._provider is not None:
            self._provider.look()

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

    def may_see_metrics(self, digest: str) -> bool:
        return self._operators.has(digest) or self._metrics.has(digest)

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
