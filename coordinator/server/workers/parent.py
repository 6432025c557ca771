"""The parent: starts workers and others in their place, accepts connections and deals them out, adds up metrics."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog
import trio
from prometheus_client.core import Metric
from redis.backoff import ExponentialWithJitterBackoff

from coordinator.engine.membership import left_behind
from coordinator.metrics import Metrics
from coordinator.osprocess import die_with_parent, exit_status
from coordinator.server import bootstrap
from coordinator.server.app import STOP_MARGIN, new_name, reread
from coordinator.server.bootstrap import FRONT_ENDS, FrontEnd, Resources
from coordinator.server.tls import Material
from coordinator.server.workers.channel import (
    MOST_UNTAKEN,
    AskMetrics,
    Channel,
    Clients,
    Failed,
    Gone,
    Leaving,
    Message,
    MetricsPage,
    ReportMetrics,
    Serving,
    Snapshot,
    Start,
    Stop,
    Take,
    UseCertificate,
)
from coordinator.server.workers.metrics_sum import Totals
from coordinator.settings import Settings
from coordinator.storage.connection import Store

__all__ = ["Parent", "WorkerFailed"]

log = structlog.get_logger("coordinator.parent")

START_TIMEOUT: Final = 60.0  # seconds a worker may take to serve
SHORT_LIFE: Final = 10.0  # seconds; whoever dies sooner makes its successor wait
BACKOFF_BASE: Final = 0.1  # seconds
BACKOFF_CAP: Final = 5.0
CHANNEL_BYTES: Final = 256 * 1024  # of messages on their way to a worker; one with a certificate is the largest
SNAPSHOT_TIMEOUT: Final = 1.0  # seconds a worker may take to report its metrics; what it reported last counts then
UNRESPONSIVE: Final = 1.0  # seconds a connection may wait to be taken before its worker gets no others
KILL_AFTER: Final = STOP_MARGIN + 3.0  # seconds after the grace period


class WorkerFailed(Exception):
    """A worker ended before it served; the text says why, as far as is known."""


class _Handover:
    """A connection on its way to a worker.

    Attributes:
        since: when it was sent, on trio's clock.
        settled: set when the worker has taken it, or will not any more: `is_taken`.
    """

    def __init__(self) -> None:
        self.since = trio.current_time()
        self.settled = trio.Event()
        self.is_taken = False

    def settle(self, *, is_taken: bool) -> None:
        self.is_taken = is_taken
        self.settled.set()


class _Worker:
    """One worker process as the parent knows it.

    Attributes:
        given: connections it was given so far, and `clients` what has become of them as far as it has told.
        untaken: those it has not taken yet, oldest first: they may still be given to another.
        last_given: the number of the last connection given to anybody that went to it.
        families: its metrics as last reported.
        reported: set when they next are.
        failure: why it cannot serve, if it said so.
    """

    def __init__(self, number: int, process: subprocess.Popen[bytes], channel: Channel, max_connections: int) -> None:
        self.number = number
        self.name = new_name()
        self.process = process
        self.channel = channel
        self.max_connections = max_connections
        self.is_serving = False
        self.is_leaving = False
        self.given = dict.fromkeys(FRONT_ENDS, 0)
        self.clients = Clients(dict.fromkeys(FRONT_ENDS, 0), dict.fromkeys(FRONT_ENDS, 0))
        self.untaken: dict[FrontEnd, deque[_Handover]] = {name: deque() for name in FRONT_ENDS}
        self.last_given = 0
        self.families: list[Metric] = []
        self.is_asked = False
        self.reported = trio.Event()
        self.failure: str | None = None

    def room(self, front_end: FrontEnd) -> int:
        """Connections it may still be given."""
        return self.max_connections - (self.given[front_end] - self.clients.left[front_end])

    @property
    def accepts(self) -> bool:
        waiting = sum(map(len, self.untaken.values()))
        return self.is_serving and not self.is_leaving and waiting < MOST_UNTAKEN

    def is_responsive(self, now: float) -> bool:
        return all(not waiting or now - waiting[0].since < UNRESPONSIVE for waiting in self.untaken.values())

    def give(self, front_end: FrontEnd, order: int) -> _Handover:
        handover = _Handover()
        self.given[front_end] += 1
        self.untaken[front_end].append(handover)
        self.last_given = order
        return handover

    def learn(self, clients: Clients) -> None:
        """It has told of its clients."""
        for name in FRONT_ENDS:
            for _ in range(clients.taken[name] - self.clients.taken[name]):
                self.untaken[name].popleft().settle(is_taken=True)
        self.clients = clients

    def reports(self, families: list[Metric]) -> None:
        self.families = families
        self.is_asked = False
        self.reported.set()
        self.reported = trio.Event()

    def take_back(self) -> None:
        """It takes none of the connections any more that are on their way."""
        for waiting in self.untaken.values():
            while waiting:
                waiting.popleft().settle(is_taken=False)


class Parent:
    """A coordinator of several processes. `run` it; `stop` it from another task of the same trio loop.

    Attributes:
        http_address, ws_address: (host, port) actually listened on, once `run` has started.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http_address = (settings.api_http_ip, settings.api_http_port)
        self.ws_address = (settings.api_ws_ip, settings.api_ws_port)
        self._stop = trio.Event()
        self._material: Material | None = None
        self._workers: dict[int, _Worker] = {}
        self._has_started = False
        self._changed = trio.Event()  # who accepts
        self._given = 0
        self._orphaned: deque[str] = deque()  # coordinators that are gone and whose contexts nobody was told to see to
        self._replaced = 0
        self._totals = Totals()
        self._metrics = Metrics(
            {
                "workers": ("Processes that serve.", lambda: sum(w.is_serving for w in self._workers.values())),
                "worker_restarts_total": ("Workers started in place of one that ended.", lambda: self._replaced),
            }
        )
        self._background: trio.Nursery

    def stop(self) -> None:
        """Have the workers stop as one process would, then end `run`."""
        self._stop.set()
        self._note_change()

    def reload(self) -> None:
        """Have the workers serve new connections with the certificate that is in the files now."""
        if (material := reread(self.settings)) is not None:
            self._material = material
            for worker in self._workers.values():
                self._post(worker, UseCertificate(material))

    async def run(self, *, task_status: trio.TaskStatus[Parent] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped.

        Raises, before it has started: CannotListen, CannotUseTls, DataDirectoryInUse, EmbeddedFailed,
            StoreMisconfigured, WorkerFailed.
        """
        async with bootstrap.acquire(self.settings) as acquired:
            self._material = acquired.tls
            self.http_address, self.ws_address = acquired.addresses.http, acquired.addresses.ws
            layout = bootstrap.layout_of(self.settings, acquired.topology, new_name())
            store = Store(acquired.topology, layout, connect_timeout=self.settings.store_timeout)
            await bootstrap.check(store)
            async with trio.open_nursery() as self._background:
                if acquired.embedded is not None:
                    self._background.start_soon(acquired.embedded.supervise)
                    self._orphaned.extend(await left_behind(store))
                async with trio.open_nursery() as keeping:
                    for number in range(1, self.settings.workers + 1):
                        keeping.start_soon(self._keep, number, acquired)
                    await self._until(lambda: self._stop.is_set() or len(self._serving()) == self.settings.workers)
                    if not self._stop.is_set():
                        self._has_started = True
                        self._assign_orphans()
                        accepting = trio.CancelScope()
                        keeping.start_soon(self._accept, acquired, accepting)
                        log.info("serving", **acquired.described, workers=self.settings.workers)
                        task_status.started(self)
                        await self._stop.wait()
                        accepting.cancel()
                    log.info("stopping", grace_s=self.settings.shutdown_grace)
                    self._background.start_soon(self._stop_workers)
                self._background.cancel_scope.cancel()
        log.info("stopped")

    def _serving(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.is_serving and not worker.is_leaving]

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something about the workers. Its owner is whoever cancels it."""
        while not condition():
            await self._changed.wait()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _post(self, worker: _Worker, message: Message, connection: int | None = None) -> None:
        try:
            worker.channel.post(message, connection)
        except trio.WouldBlock:
            log.error("a worker does not listen any more; killing it", worker=worker.number)
            worker.process.kill()

    # -- the workers' lives

    async def _keep(self, number: int, acquired: Resources) -> None:
        """Keep one worker running until all are to stop. Raises WorkerFailed if that fails before we have started."""
        backoff = ExponentialWithJitterBackoff(cap=BACKOFF_CAP, base=BACKOFF_BASE)
        failures = 0
        while not self._stop.is_set():
            begun = trio.current_time()
            status, reason = await self._live(number, acquired)
            if self._stop.is_set():
                return
            if not self._has_started:
                raise WorkerFailed(f"worker {number} does not start: {reason}")
            self._replaced += 1
            report = log.info if status == 0 else log.warning
            report("a worker ended; starting another", worker=number, reason=reason)
            failures = failures + 1 if trio.current_time() - begun < SHORT_LIFE else 0
            with trio.move_on_after(backoff.compute(failures) if failures > 1 else 0.0):
                await self._stop.wait()

    async def _live(self, number: int, acquired: Resources) -> tuple[int, str]:
        """Start a worker and do as it asks until it ends. Returns its exit status, and why it ended."""
        try:
            worker = self._start(number, acquired)
        except OSError as error:
            return -1, f"cannot start a process: {error.strerror}"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._kill_if_late, worker)
                await self._attend_to(worker)
                status = await exit_status(worker.process)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):  # nobody survives SIGKILL for long
                worker.process.kill()
                await exit_status(worker.process)
            self._reap(worker)
        return status, worker.failure or (f"killed by signal {-status}" if status < 0 else f"exit status {status}")

    def _start(self, number: int, acquired: Resources) -> _Worker:
        """A new interpreter, not a fork of this one, which has a trio loop with its descriptors and maybe threads.

        In a session of its own, so that Ctrl-C reaches us alone. Raises OSError.
        """
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BYTES)
        with theirs:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "coordinator.server.workers", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # it finds what we found
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - only a system call
                )
            except BaseException:
                ours.close()
                raise
        whole, rest = divmod(self.settings.max_connections, self.settings.workers)
        worker = _Worker(number, process, Channel(ours), whole + (number <= rest))
        self._workers[number] = worker
        embedded = None if acquired.embedded is None else acquired.embedded.endpoint
        limit = worker.max_connections
        self._post(
            worker, Start(self.settings, acquired.addresses, self._material, embedded, number, worker.name, limit)
        )
        return worker

    async def _kill_if_late(self, worker: _Worker) -> None:
        with trio.move_on_after(START_TIMEOUT):
            await self._until(lambda: worker.is_serving)
            return
        worker.failure = f"it did not serve within {START_TIMEOUT:g} s"
        worker.process.kill()

    async def _attend_to(self, worker: _Worker) -> None:
        """Act on what the worker says until it is gone."""
        while True:
            match await worker.channel.receive():
                case Serving():
                    worker.is_serving = True
                    self._assign_orphans()
                case Failed(reason):
                    worker.failure = reason
                case Clients() as clients:
                    worker.learn(clients)
                case Leaving(clients):
                    worker.learn(clients)
                    worker.is_leaving = True
                    worker.take_back()
                case AskMetrics(number):
                    self._background.start_soon(self._answer, worker, number)
                case Snapshot(families):
                    worker.reports(families)
                case None:
                    return
            self._note_change()

    def _reap(self, worker: _Worker) -> None:
        """The process is gone: what was its own goes to others."""
        del self._workers[worker.number]
        worker.channel.close()
        worker.reports(worker.families)  # nobody needs to wait for news
        self._totals.retire(worker.families)
        worker.take_back()
        self._orphaned.append(worker.name)
        self._assign_orphans()
        self._note_change()

    def _assign_orphans(self) -> None:
        """Each coordinator that is gone gets one worker that sees to its contexts."""
        heirs = self._serving()
        if self._has_started and heirs and not self._stop.is_set():
            for heir in itertools.cycle(heirs):
                if not self._orphaned:
                    return
                self._post(heir, Gone(self._orphaned.popleft()))

    async def _stop_workers(self) -> None:
        for worker in self._workers.values():
            self._post(worker, Stop())
        await trio.sleep(self.settings.shutdown_grace + KILL_AFTER)
        for worker in self._workers.values():
            log.warning("a worker does not stop; killing it", worker=worker.number)
            worker.process.kill()

    # -- clients

    async def _accept(self, acquired: Resources, accepting: trio.CancelScope) -> None:
        with accepting:
            async with trio.open_nursery() as nursery:
                for front_end in FRONT_ENDS:
                    gated = _Gated(acquired.listener(front_end), self._until_somebody_accepts)
                    nursery.start_soon(trio.serve_listeners, partial(self._give, front_end), [gated])

    async def _until_somebody_accepts(self) -> None:
        await self._until(lambda: any(worker.accepts for worker in self._workers.values()))

    async def _give(self, front_end: FrontEnd, stream: trio.SocketStream) -> None:
        """Hand a client's connection to the worker that has fewest of them, to another should that one not take it.

        Our own copy is closed when this returns, so not before the worker has taken its own.
        """
        is_taken = False
        while not is_taken:
            await self._until_somebody_accepts()
            worker = self._least_busy(front_end)
            self._given += 1
            handover = worker.give(front_end, self._given)
            self._post(worker, Take(front_end), stream.socket.fileno())
            await handover.settled.wait()
            is_taken = handover.is_taken

    def _least_busy(self, front_end: FrontEnd) -> _Worker:
        """Of those that accept; there must be one."""
        accepting = [worker for worker in self._workers.values() if worker.accepts]
        now = trio.current_time()
        responsive = [worker for worker in accepting if worker.is_responsive(now)]
        return max(responsive or accepting, key=lambda worker: (worker.room(front_end), -worker.last_given))

    # -- metrics

    async def _answer(self, worker: _Worker, number: int) -> None:
        """Collect everybody's metrics and send the page to the worker that asked."""
        with trio.move_on_after(SNAPSHOT_TIMEOUT):
            async with trio.open_nursery() as asking:
                for each in self._workers.values():
                    if each.is_serving:
                        asking.start_soon(self._refresh, each)
        workers = sorted(self._workers.items())
        processes = {"parent": self._metrics.families()} | {str(key): each.families for key, each in workers}
        self._post(worker, MetricsPage(number, *self._totals.render(processes)))

    async def _refresh(self, worker: _Worker) -> None:
        if not worker.is_asked:
            worker.is_asked = True
            self._post(worker, ReportMetrics())
        await worker.reported.wait()


class _Gated(trio.abc.Listener[trio.SocketStream]):
    """A listener that leaves connections to the kernel's queue while there is nobody to give them to."""

    def __init__(self, listener: trio.SocketListener, gate: Callable[[], Awaitable[None]]) -> None:
        self._listener = listener
        self._gate = gate

    async def accept(self) -> trio.SocketStream:
        await self._gate()
        return await self._listener.accept()

    async def aclose(self) -> None:
        await self._listener.aclose()
