"""Which server a context lives on: one server, the nodes of a cluster, or the master that Sentinels name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import ContextKey

__all__ = ["Topology"]


class Topology(Protocol):
    """An `Endpoint` is the simplest one. Printed, it is an address for logs, without credentials.

    Attributes:
        database: the number of the database, in the `prefix` layout.
    """

    @property
    def database(self) -> int: ...

    async def where(self, context_key: ContextKey) -> Endpoint:
        """The server that has the keys of a context, or of GLOBAL, as far as is known. Has no deadline of its own.

        Raises:
            StoreUnavailable: nobody says where, or not yet.
            StoreMisconfigured: nobody ever will.
        """

    def invalidate(self, context_key: ContextKey, reason: str) -> None:
        """The connection for this context broke, could not be made, or was told to go elsewhere, for this reason."""

    def check(self, endpoint: Endpoint, greeting: Mapping[bytes, Any]) -> None:
        """Look at a server's reply to HELLO before it is used.

        Raises:
            StoreUnavailable: it is not, or not any more, the one to use.
            StoreMisconfigured: it never will be.
        """
