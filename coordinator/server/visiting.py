"""Reaching a coordinator's store from a command, whether the coordinator serves or not."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from coordinator.server.bootstrap import layout_of
from coordinator.server.doctor import holder_of, socket_of
from coordinator.settings import Settings
from coordinator.storage.embedded import EmbeddedValkey
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.topology import Topology
from coordinator.storage.visit import CannotTransfer, VisitedStore

__all__ = ["visited_store"]

CONNECT_TIMEOUT: Final = 10.0  # seconds


@asynccontextmanager
async def visited_store(settings: Settings, *, makes_data: bool) -> AsyncIterator[VisitedStore]:
    """The store that `serve` with these settings uses. The embedded one of a data directory that no coordinator uses is
    started for the time.

    Args:
        makes_data: a data directory that is not there is made.

    Raises: CannotTransfer; DataDirectoryInUse or EmbeddedFailed, as the embedded store is started.
    """
    external = settings.external_store()
    directory = settings.data_dir.absolute()
    if external is not None:
        yield _store(settings, external)
    elif holder_of(directory / "lock") is not None:
        yield _store(settings, Endpoint(path=socket_of(directory)))
    elif not makes_data and not (directory / "appendonlydir").exists():
        raise CannotTransfer(f"there is no data in {directory}")
    else:
        async with EmbeddedValkey(directory, settings.fsync) as embedded, trio.open_nursery() as nursery:
            nursery.start_soon(embedded.supervise)
            yield _store(settings, embedded.endpoint)
            nursery.cancel_scope.cancel()


def _store(settings: Settings, topology: Topology) -> VisitedStore:
    layout = layout_of(settings, topology, f"import-{secrets.token_hex(6)}")
    return VisitedStore(topology, layout, connect_timeout=CONNECT_TIMEOUT)
