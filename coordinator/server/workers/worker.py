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
from coordinator.osprocess import collect_garbage_less_often, share_the_interpreter_fairly
from coordinator.server.bootstrap import FRONT_ENDS, FrontEnd
from coordinator.server.descriptors import HANDOVERS
from coordinator.server.service import Service
from coordinator.server.workers.channel import (
    Alive,
    AskMetrics,
    Clients,
    Drain,
    Failed,
    Gone,
    HandOver,
    Leaving,
    Message,
    MetricsPage,
    NotReceived,
    ReportMetrics,
    Serving,
    Snapshot,
    Start,
    Stop,
    StoreFault,
    UseCertificate,
    UseSettings,
    WorkerChannel,
)
from coordinator.server.workers.liveness import LOOK_EVERY, dump_stacks_on_signal
from coordinator.storage.faults import StoreMisconfigured
from coordinator.supervision import contain, supervise

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
    channel = WorkerChannel(end)
    start = await channel.receive()
    if not isinstance(start, Start):
        return 1  # the parent has gone
    logs.configure(start.settings.log_level, start.settings.log_format, start.number)
    collect_garbage_less_often()
    share_the_interpreter_fairly()
    return await _Worker(channel, start).run()


class _Arrivals(trio.abc.Listener[trio.SocketStream]):
    """A listener of the connections that the parent has accepted for one front-end.

    Attributes:
        accepted: connections the front-end has accepted. Any other the parent may still give to another worker.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.accepted = 0
        self._changed = changed
        self._arrived, self._arriving = trio.open_memory_channel[trio.SocketStream](HANDOVERS)
        self._is_open = True

    def add(self, connection: socket.socket) -> None:
        """A connection has come. If no more are accepted, our copy of it is closed. Never blocks."""
        if self._is_open:
            self._arrived.send_nowait(trio.SocketStream(trio.socket.from_stdlib_socket(connection)))
        else:
            connection.close()

    def refuse(self) -> None:
        """Accept no more: `accepted` is final."""
        self._is_open = False

    async def accept(self) -> trio.SocketStream:
        stream = await self._arriving.receive()
        if not self._is_open:
            stream.socket.close()
            await trio.sleep_forever()  # refusing comes with stopping, which cancels this
        self.accepted += 1
        self._changed()
        return stream

    async def aclose(self) -> None:
        self.refuse()
        while self._arriving.statistics().current_buffer_used:
            self._arriving.receive_nowait().socket.close()
        await trio.lowlevel.checkpoint()


class _Worker:
    def __init__(self, channel: WorkerChannel, start: Start) -> None:
        self._channel = channel
        self._stop = trio.Event()
        self._changed = trio.Event()  # the clients we have, since the parent was last told
        self._arrivals = {front_end: _Arrivals(self._note_change) for front_end in FRONT_ENDS}
        self._ended = dict.fromkeys(FRONT_ENDS, 0)
        self._stacks = dump_stacks_on_signal()
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
            is_embedded=start.embedded is not None,
            on_disconnect=self._client_ended,
            page=self._page_of_all,
        )

    async def run(self) -> int:
        """Serve. Returns the exit status."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, "obeying the parent", self._obey)
            nursery.start_soon(supervise, "telling the parent of clients", self._tell_of_clients)
            nursery.start_soon(supervise, "stopping on a signal", self._stop_on_signal)
            nursery.start_soon(supervise, "saying that we are alive", self._say_alive)
            try:
                await self._service.check()
            except StoreMisconfigured as error:
                await self._channel.send(Failed(str(error)))
                nursery.cancel_scope.cancel()
                return 1

            def started() -> None:
                log.debug("the worker serves")
                nursery.start_soon(supervise, "telling the parent that we serve", self._tell_that_we_serve)

            await self._service.run(self._arrivals["http"], self._arrivals["ws"], self._stop, started)
            await self._channel.send(self._snapshot())  # what was counted last
            nursery.cancel_scope.cancel()
        return 0

    async def _tell_that_we_serve(self) -> None:
        await self._channel.send(Serving(self._stacks))

    async def _say_alive(self) -> None:
        while True:
            await self._channel.send(Alive())
            await trio.sleep(LOOK_EVERY)

    async def _obey(self) -> None:
        while True:
            message = await self._channel.receive()
            if message is None:
                log.warning("the parent process is gone; leaving now")
                os._exit(1)
            with contain("a message of the parent", message=type(message).__name__):
                await self._act_on(message)

    async def _act_on(self, message: Message) -> None:  # noqa: PLR0912 - a branch a message
        match message:
            case HandOver(front_end, number):
                connection = self._channel.connection()
                if connection is None:
                    await self._channel.send(NotReceived(front_end, number))
                else:
                    self._arrivals[front_end].add(connection)
            case Gone(coordinator):
                if not self._stop.is_set():
                    self._service.gone(coordinator)
            case UseCertificate(material):
                self._service.use_certificate(material)
            case UseSettings(settings):
                self._service.use_settings(settings)
            case StoreFault(reason):
                self._service.store_fault(reason)
            case ReportMetrics():
                await self._channel.send(self._snapshot())
            case MetricsPage(number, body, kind):
                if number == self._asked:
                    self._page = body, kind
                    self._page_came.set()
            case Drain():
                self._service.drain()
            case Stop():
                self._stop.set()

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                if not self._stop.is_set():
                    for arrivals in self._arrivals.values():
                        arrivals.refuse()
                    self._stop.set()
                    await self._channel.send(Leaving(self._clients()))

    # -- clients

    def _client_ended(self, front_end: FrontEnd) -> None:
        self._ended[front_end] += 1
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()

    def _clients(self) -> Clients:
        return Clients({name: arrivals.accepted for name, arrivals in self._arrivals.items()}, {**self._ended})

    async def _tell_of_clients(self) -> None:
        """However many come and go while a message is under way, the next tells of all of them. Started again, this
        begins with what the parent may have missed."""
        while True:
            await self._channel.send(self._clients())
            await self._changed.wait()
            self._changed = trio.Event()

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
