"""A master with replicas, watched over by Sentinels, who say which one is the master at the moment.

Source: the guidelines for Sentinel clients, https://valkey.io/topics/sentinel-clients/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.storage.discovery import Finding, first_answer, query, shown
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import StoreMisconfigured, StoreUnavailable
from coordinator.storage.keys import Command, ContextKey

__all__ = ["SentinelService"]


class SentinelService:
    """The topology of a master that may be replaced by one of its replicas.

    Args:
        sentinels: with the credentials for Sentinel itself.
        service: the name the Sentinels know the master by.
        server: the master's credentials, TLS and database; its host and port are not used.
    """

    def __init__(self, sentinels: Sequence[Endpoint], service: str, server: Endpoint) -> None:
        self._sentinels = [*sentinels]
        self._shown = f"{shown('sentinel', sentinels)}/{service}"
        self._service = service
        self._server = server
        self._master: Finding[Endpoint] = Finding(self._ask)

    @property
    def database(self) -> int:
        return self._server.database

    def __str__(self) -> str:
        return self._shown

    async def where(self, context_key: ContextKey) -> Endpoint:
        return await self._master.get()

    def invalidate(self, context_key: ContextKey, reason: str) -> None:
        self._master.invalidate()

    def check(self, endpoint: Endpoint, greeting: Mapping[bytes, Any]) -> None:
        if greeting.get(b"role") != b"master":
            raise StoreUnavailable(f"{endpoint} is not the master {self._service!r}")

    async def _ask(self) -> Endpoint:
        # Each time another one is asked first: one that is behind the others must not be believed again and again.
        self._sentinels.append(self._sentinels.pop(0))
        return await first_answer(self._sentinels, self._ask_sentinel)

    async def _ask_sentinel(self, sentinel: Endpoint) -> Endpoint:
        commands: list[Command] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)]
        if sentinel.password is not None:
            user = () if sentinel.username is None else (sentinel.username,)
            commands.insert(0, ("AUTH", *user, sentinel.password))
        address = (await query(sentinel, commands))[-1]
        if address is None:
            raise StoreMisconfigured(f"the Sentinel at {sentinel} knows no master {self._service!r}")
        host, port = address
        return self._server.at(host.decode(), int(port))
