"""A coordinator of one process: what there is once, and what serves with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
import trio

from coordinator.server import bootstrap
from coordinator.server.service import Service
from coordinator.server.tls import reread
from coordinator.settings import Settings
from coordinator.supervision import supervise

__all__ = ["App"]

log = structlog.get_logger("coordinator")


class App:
    """A coordinator of one process. `run` it; `stop` it from another task of the same trio loop.

    Attributes:
        http_address, ws_address: (host, port) actually listened on, once `run` has started.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._service: Service | None = None
        self.http_address = (settings.api_http_ip, settings.api_http_port)
        self.ws_address = (settings.api_ws_ip, settings.api_ws_port)
        self._stop = trio.Event()

    def stop(self) -> None:
        """Stop accepting, answer what is in flight within the grace period, then end `run`."""
        self._stop.set()

    def drain(self) -> None:
        """Serve on, and say that we are not ready, so that nobody is sent here any more."""
        if self._service is not None:
            self._service.drain()

    def reload(self, changes: Mapping[str, Any]) -> None:
        """Change settings of RELOADED, and serve new connections with the certificate that is in the files now."""
        self.settings = self.settings.model_copy(update=changes)
        if self._service is None:
            return
        self._service.use_settings(self.settings)
        if (material := reread(self.settings)) is not None:
            self._service.use_certificate(material)

    async def run(self, *, task_status: trio.TaskStatus[App] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped.

        Raises, before it has started: CannotKeepAudit, CannotListen, CannotUseTls, DataDirectoryInUse, EmbeddedFailed,
            StoreMisconfigured.
        """
        async with bootstrap.acquire(self.settings) as acquired:
            self.http_address, self.ws_address = acquired.addresses.http, acquired.addresses.ws
            service = self._service = Service(
                self.settings,
                acquired.topology,
                acquired.addresses,
                acquired.tls,
                is_alone=bool(acquired.embedded),
                is_embedded=bool(acquired.embedded),
            )
            if acquired.embedded is not None:
                acquired.embedded.on_fault = service.store_fault
                service.store_fault(acquired.embedded.fault)
            await service.check(warn=True)

            def started() -> None:
                log.info("serving", **acquired.described)
                bootstrap.say_who_may_call(self.settings)
                task_status.started(self)

            async with trio.open_nursery() as nursery:
                if acquired.embedded is not None:
                    nursery.start_soon(supervise, "keeping the embedded Valkey", acquired.embedded.supervise)
                await service.run(acquired.listener("http"), acquired.listener("ws"), self._stop, started)
                nursery.cancel_scope.cancel()
        log.info("stopped")
