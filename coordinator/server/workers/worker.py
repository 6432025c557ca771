"""A worker: a service whose clients, store and end its parent decides on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Final

import structlog
import trio

from coordinator import logs
from coordinator.osprocess import collect_garbage_less_often
from coordinator.server.app import Service
from coordinator.server.bootstrap import FRONT_ENDS, FrontEnd
from coordinator.server.workers.channel import (
    MOST_UNTAKEN,
    AskMetrics,
    Channel,
    Clients,
    Failed,
    Gone,
    Leaving,
    MetricsPage,
    ReportMetrics,
    Serving,
    Snapshot,
    Start,
    Stop,
    Take,
    UseCertificate,
)
from coordinator.storage.faults import StoreMisconfigured

__all__ = ["main"]

log = structlog.get_logger("coordinator.worker")

PAGE_TIMEOUT: Final = 5.0  # seconds the parent may take to add up everybody's metrics


def main(descriptor: int) -> int:
    """Serve until told to stop, by the parent or by SIGTERM. Returns the exit status.

    Args:
        descriptor: our end of the channel.
    """
    # Ours is a session of its own, so Ctrl-C does not reach us; should anything else send this, the parent decides too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return trio.run(_main, socket.socket(fileno=descriptor))


async def _main(end: socket.socket) -> int:
    channel = Channel(end)
    start = await channel.receive()
    if not isinstance(start, Start):
        return 1  # the parent has gone
    logs.configure(start.settings.log_level, start.settings.log_format, start.number)
    collect_garbage_less_often()
    return await _Worker(channel, start).run()


class _Arrivals(trio.abc.Listener[trio.SocketStream]):
    """A listener of the connections that the parent has accepted for one front-end.

    Attributes:
        taken: connections the front-end has accepted. What it has not, the parent may still give to another worker.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.taken = 0
        self._changed = changed
        self._hand, self._handed = trio.open_memory_channel[trio.SocketStream](MOST_UNTAKEN)
        self._is_open = True

    def hand(self, connection: socket.socket) -> None:
        """A connection has come. If no more are accepted, our copy of it is closed. Never blocks."""
        if self._is_open:
            self._hand.send_nowait(trio.SocketStream(trio.socket.from_stdlib_socket(connection)))
        else:
            connection.close()

    def refuse(self) -> None:
        """Accept no more: `taken` is final."""
        self._is_open = False

    async def accept(self) -> trio.SocketStream:
        stream = await self._handed.receive()
        if not self._is_open:
            stream.socket.close()
            await trio.sleep_forever()  # refusing comes with stopping, which cancels this
        self.taken += 1
        self._changed()
        return stream

    async def aclose(self) -> None:
        self.refuse()
        while self._handed.statistics().current_buffer_used:
            self._handed.receive_nowait().socket.close()
        await trio.lowlevel.checkpoint()


class _Worker:
    def __init__(self, channel: Channel, start: Start) -> None:
        self._channel = channel
        self._stop = trio.Event()
        self._changed = trio.Event()  # the clients we have, since the parent was last told
        self._arrivals = {front_end: _Arrivals(self._note_change) for front_end in FRONT_ENDS}
        self._left = dict.fromkeys(FRONT_ENDS, 0)
        self._asking = trio.Lock()
        self._asked = 0
        self._page: tuple[bytes, str] = b"", ""
        self._page_came = trio.Event()
        topology = start.embedded or start.settings.external_store()
        assert topology is not None  # or the parent would have an embedded one
        self._service = Service(
            start.settings,
            topology,
            start.addresses,
            start.tls,
            name=start.name,
            max_connections=start.max_connections,
            left=self._client_left,
            page=self._page_of_all,
        )

    async def run(self) -> int:
        """Serve. Returns the exit status."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey)
            nursery.start_soon(self._tell_of_clients)
            nursery.start_soon(self._stop_on_signal)
            try:
                await self._service.check()
            except StoreMisconfigured as error:
                await self._channel.send(Failed(str(error)))
                nursery.cancel_scope.cancel()
                return 1

            def started() -> None:
                log.debug("the worker serves")
                nursery.start_soon(self._channel.send, Serving())

            await self._service.run(self._arrivals["http"], self._arrivals["ws"], self._stop, started)
            await self._channel.send(self._snapshot())  # what was counted last
            nursery.cancel_scope.cancel()
        return 0

    async def _obey(self) -> None:
        while True:
            match await self._channel.receive():
                case Take(front_end):
                    self._arrivals[front_end].hand(self._channel.connection())
                case Gone(coordinator):
                    if not self._stop.is_set():
                        self._service.gone(coordinator)
                case UseCertificate(material):
                    self._service.use_certificate(material)
                case ReportMetrics():
                    await self._channel.send(self._snapshot())
                case MetricsPage(number, body, kind):
                    if number == self._asked:
                        self._page = body, kind
                        self._page_came.set()
                case Stop():
                    self._stop.set()
                case None:
                    log.warning("the parent process is gone; leaving now")
                    os._exit(1)

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                if not self._stop.is_set():
                    for arrivals in self._arrivals.values():
                        arrivals.refuse()
                    self._stop.set()
                    await self._channel.send(Leaving(self._clients()))

    # -- clients

    def _client_left(self, front_end: FrontEnd) -> None:
        self._left[front_end] += 1
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()

    def _clients(self) -> Clients:
        return Clients({name: arrivals.taken for name, arrivals in self._arrivals.items()}, {**self._left})

    async def _tell_of_clients(self) -> None:
        """However many come and go while a message is under way, the next tells of all of them."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            await self._channel.send(self._clients())

    # -- metrics

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._service.metrics.families())

    async def _page_of_all(self) -> tuple[bytes, str]:
        """Raises trio.TooSlowError."""
        with trio.fail_after(PAGE_TIMEOUT):
            async with self._asking:
                self._asked += 1
                self._page_came = trio.Event()
                await self._channel.send(AskMetrics(self._asked))
                await self._page_came.wait()
                return self._page
