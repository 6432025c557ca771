"""The parent: starts workers and others in their place, accepts connections and deals them out, adds up metrics."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import structlog
import trio

from coordinator import logs
from coordinator.accepting import Tally, serve_listener
from coordinator.backoff import Backoff
from coordinator.engine.membership import left_behind
from coordinator.logs import Seldom
from coordinator.metrics import Metrics
from coordinator.osprocess import die_with_parent, exit_status, file_limit
from coordinator.server import bootstrap
from coordinator.server.bootstrap import FRONT_ENDS, FrontEnd, Resources
from coordinator.server.descriptors import most_held
from coordinator.server.service import STOP_MARGIN
from coordinator.server.tls import Material, reread
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
    ParentChannel,
    ReportMetrics,
    Serving,
    Snapshot,
    Start,
    Stop,
    StoreFault,
    UseCertificate,
    UseSettings,
)
from coordinator.server.workers.handing import Gated, HeldClient, Worker
from coordinator.server.workers.liveness import HUNG_AFTER, LOOK_EVERY, process_state, stacks_of
from coordinator.server.workers.metrics_sum import Totals
from coordinator.settings import Settings
from coordinator.storage.connection import Store
from coordinator.supervision import FAULTS, contain, faults, supervise

__all__ = ["Parent", "WorkerFailed"]

log = structlog.get_logger("coordinator.parent")

START_TIMEOUT: Final = 60.0  # seconds a worker may take to serve
SHORT_LIFE: Final = 10.0  # seconds; whoever dies sooner makes its successor wait
BACKOFF_BASE: Final = 0.1  # seconds
BACKOFF_CAP: Final = 5.0
CHANNEL_BYTES: Final = 256 * 1024  # of messages on their way to a worker; one with a certificate is the largest
SNAPSHOT_TIMEOUT: Final = 1.0  # seconds a worker may take to report its metrics; what it reported last counts then
NO_DESCRIPTORS: Final = 1.0  # seconds a worker gets no connections after it had no descriptor for one
LOOK_FOR_CLIENTS_EVERY: Final = 0.25  # seconds between looks whether those that wait to be handed over are still there
KILL_AFTER: Final = STOP_MARGIN + 3.0  # seconds after the grace period


class WorkerFailed(Exception):
    """A worker ended before it served; the text says why, as far as is known."""


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
        self._workers: dict[int, Worker] = {}
        self._has_started = False
        self._is_draining = False
        self._changed = trio.Event()  # who accepts
        self._last_number = 0  # of a connection
        self._tally = Tally()  # of connections that are not handed over yet
        self._held: set[HeldClient] = set()
        self._most_held = most_held(settings.workers, file_limit())
        self._not_received = 0
        self._says_no_descriptors = Seldom()
        self._orphaned: deque[str] = deque()  # coordinators that are gone and that nobody was told to take over from
        self._replaced = 0
        self._totals = Totals()
        self._metrics = Metrics(
            {
                "workers": ("Processes that serve.", lambda: sum(w.is_serving for w in self._workers.values())),
                "worker_restarts_total": ("Workers started in place of one that ended.", lambda: self._replaced),
                "internal_faults_total": (FAULTS, faults),
                "accept_failures_total": (
                    "Times a client could not be accepted for want of descriptors or memory.",
                    lambda: self._tally.failures,
                ),
                "connections_returned_total": (
                    "Connections a worker had no descriptor for, and that went to another.",
                    lambda: self._not_received,
                ),
            }
        )
        self._background: trio.Nursery

    def stop(self) -> None:
        """Have the workers stop as one process would, then end `run`."""
        self._stop.set()
        self._note_change()

    def drain(self) -> None:
        """Have the workers serve on, and say that they are not ready, so that nobody is sent here any more."""
        self._is_draining = True
        for worker in self._workers.values():
            self._post(worker, Drain())

    def reload(self, changes: Mapping[str, Any]) -> None:
        """Change settings of RELOADED, and have the workers do so and serve new connections with the certificate that
        is in the files now."""
        self.settings = self.settings.model_copy(update=changes)
        logs.set_level(self.settings.log_level)
        if changes:
            for worker in self._workers.values():
                self._post(worker, UseSettings(self.settings))
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
            layout = bootstrap.layout_of(self.settings, acquired.topology, bootstrap.new_name())
            store = Store(
                acquired.topology,
                layout,
                connect_timeout=self.settings.store_timeout,
                is_embedded=acquired.embedded is not None,
            )
            await bootstrap.check(store, warn=True)
            if acquired.embedded is not None:
                acquired.embedded.on_fault = self._tell_of_fault
            async with trio.open_nursery() as self._background:
                if acquired.embedded is not None:
                    self._background.start_soon(supervise, "keeping the embedded Valkey", acquired.embedded.supervise)
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
                        bootstrap.say_who_may_call(self.settings)
                        task_status.started(self)
                        await self._stop.wait()
                        accepting.cancel()
                    log.info("stopping", grace_s=self.settings.shutdown_grace)
                    self._background.start_soon(self._stop_workers)
                self._background.cancel_scope.cancel()
        log.info("stopped")

    def _serving(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.is_serving and not worker.is_leaving]

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something about the workers. Its owner is whoever cancels it."""
        while not condition():
            await self._changed.wait()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _post(self, worker: Worker, message: Message, connection: int | None = None) -> None:
        try:
            worker.channel.post(message, connection)
        except trio.WouldBlock:
            log.error("a worker does not listen any more; killing it", worker=worker.number)
            worker.process.kill()
        except OSError as error:
            if connection is not None:  # nothing was sent: another may have it
                raise
            log.error("cannot send to a worker; killing it", worker=worker.number, reason=error.strerror)
            worker.process.kill()

    # -- the workers' lives

    async def _keep(self, number: int, acquired: Resources) -> None:
        """Keep one worker running until all are to stop. Raises WorkerFailed if that fails before we have started."""
        backoff = Backoff(cap=BACKOFF_CAP, base=BACKOFF_BASE)
        failures = 0
        while not self._stop.is_set():
            begun = trio.current_time()
            status, reason = -1, "what the parent does for it failed"
            with contain("keeping a worker", worker=number):
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
                nursery.start_soon(self._kill_if_hung, worker)
                await self._attend_to(worker)
                status = await exit_status(worker.process)
                nursery.cancel_scope.cancel()
        finally:
            try:
                with trio.CancelScope(shield=True):  # nobody survives SIGKILL for long
                    worker.process.kill()
                    await exit_status(worker.process)
            finally:
                self._reap(worker)
        return status, worker.failure or (f"killed by signal {-status}" if status < 0 else f"exit status {status}")

    def _start(self, number: int, acquired: Resources) -> Worker:
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
        worker = Worker(number, process, ParentChannel(ours), whole + (number <= rest))
        self._workers[number] = worker
        embedded = None if acquired.embedded is None else acquired.embedded.endpoint
        limit = worker.max_connections
        self._post(
            worker, Start(self.settings, acquired.addresses, self._material, embedded, number, worker.name, limit)
        )
        if acquired.embedded is not None and acquired.embedded.fault is not None:
            self._post(worker, StoreFault(acquired.embedded.fault))
        if self._is_draining:
            self._post(worker, Drain())
        return worker

    async def _kill_if_late(self, worker: Worker) -> None:
        with trio.move_on_after(START_TIMEOUT):
            await self._until(lambda: worker.is_serving)
            return
        worker.failure = f"it did not serve within {START_TIMEOUT:g} s"
        worker.process.kill()

    async def _kill_if_hung(self, worker: Worker) -> None:
        """Its clients would wait for ever: killed, they learn of it, and those it has not accepted go to others."""
        await self._until(lambda: worker.is_serving)
        while worker.silent < HUNG_AFTER:
            await trio.sleep(LOOK_EVERY)
            worker.silent += 1
        pid = worker.process.pid
        state = process_state(pid)
        stacks = await stacks_of(pid, worker.stacks)
        worker.failure = f"it gave no sign of life for {HUNG_AFTER * LOOK_EVERY:g} s ({state})"
        log.error("a worker hangs; killing it", worker=worker.number, pid=pid, state=state, stacks=stacks)
        worker.process.kill()

    def _tell_of_fault(self, reason: str | None) -> None:
        for worker in self._workers.values():
            self._post(worker, StoreFault(reason))

    async def _attend_to(self, worker: Worker) -> None:
        """Act on what the worker says until it is gone."""
        while (message := await worker.channel.receive()) is not None:
            worker.silent = 0
            with contain("a worker's message", worker=worker.number, message=type(message).__name__):
                self._act_on(worker, message)
            if not isinstance(message, Alive):
                self._note_change()

    def _act_on(self, worker: Worker, message: Message) -> None:
        match message:
            case Alive():
                pass  # that it came is all
            case Serving(stacks):
                worker.is_serving = True
                worker.stacks = stacks
                self._assign_orphans()
            case Failed(reason):
                worker.failure = reason
            case Clients() as clients:
                worker.learn(clients)
            case Leaving(clients):
                worker.learn(clients)
                worker.is_leaving = True
                worker.withdraw()
            case NotReceived(front_end, connection):
                self._not_received += 1
                self._short(worker, front_end, connection, "too many open files: raise ulimit -n")
            case AskMetrics(number):
                self._background.start_soon(self._answer, worker, number)
            case Snapshot(families):
                worker.reports(families)

    def _reap(self, worker: Worker) -> None:
        """The process is gone: what was its own goes to others."""
        del self._workers[worker.number]
        worker.channel.close()
        worker.reports(worker.families)  # nobody needs to wait for more
        self._totals.retire(worker.families)
        worker.withdraw()
        self._orphaned.append(worker.name)
        self._assign_orphans()
        self._note_change()

    def _assign_orphans(self) -> None:
        """Each coordinator that is gone gets one worker that takes over from it."""
        heirs = self._serving()
        if self._has_started and heirs and not self._stop.is_set():
            for heir in itertools.cycle(heirs):
                if not self._orphaned:
                    return
                self._post(heir, Gone(self._orphaned[0]))
                self._orphaned.popleft()

    async def _stop_workers(self) -> None:
        for worker in self._workers.values():
            with contain("telling a worker to stop", worker=worker.number):
                self._post(worker, Stop())
        await trio.sleep(self.settings.shutdown_grace + KILL_AFTER)
        for worker in self._workers.values():
            log.warning("a worker does not stop; killing it", worker=worker.number)
            worker.process.kill()

    # -- clients

    async def _accept(self, acquired: Resources, accepting: trio.CancelScope) -> None:
        with accepting:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._release_clients_that_left)
                for front_end in FRONT_ENDS:
                    accept = partial(
                        serve_listener,
                        Gated(acquired.listener(front_end), self._until_one_more_may_come, self._stop),
                        partial(self._hand_over, front_end),
                        nursery,
                        name=front_end,
                        on_disconnect=self._note_change,
                        tally=self._tally,
                    )
                    nursery.start_soon(supervise, f"accepting {front_end} clients", accept)

    async def _until_one_more_may_come(self) -> None:
        """A connection costs us a descriptor until a worker has it: until then others wait in the kernel's queue."""
        await self._until(lambda: self._tally.open < self._most_held and self._somebody_accepts())

    def _somebody_accepts(self) -> bool:
        return any(worker.accepts for worker in self._workers.values())

    async def _hand_over(self, front_end: FrontEnd, stream: trio.SocketStream) -> None:
        """Hand a client's connection to the worker that has fewest of them, to another should that one not accept it.

        Our own copy is closed when this returns, so not before the worker has its own, unless the client has gone or
        has waited for too long.
        """
        client = HeldClient(stream.socket, trio.current_time() + self.settings.request_timeout)
        self._held.add(client)
        try:
            with contain("handing a client to a worker"), client.scope:
                is_accepted = False
                while not is_accepted:
                    await self._until(self._somebody_accepts)
                    is_accepted = await self._offer(front_end, stream)
        finally:
            self._held.discard(client)

    async def _offer(self, front_end: FrontEnd, stream: trio.SocketStream) -> bool:
        """Send a connection to a worker; there must be one that accepts. Returns whether it has accepted it."""
        worker = self._least_busy(front_end)
        self._last_number += 1
        number = self._last_number
        in_flight = worker.expect(front_end, number)
        try:
            self._post(worker, HandOver(front_end, number), stream.socket.fileno())
        except OSError as error:
            self._short(worker, front_end, number, error.strerror)
        await in_flight.settled.wait()
        return in_flight.is_accepted

    def _short(self, worker: Worker, front_end: FrontEnd, number: int, reason: str | None) -> None:
        """A worker could not be sent this connection. For a moment others get those that come."""
        worker.not_received(front_end, number)
        if self._says_no_descriptors.is_due():
            log.error("a worker cannot receive a connection", worker=worker.number, reason=reason)
        if not worker.is_short:
            worker.is_short = True
            self._background.start_soon(self._end_shortage, worker)

    async def _end_shortage(self, worker: Worker) -> None:
        await trio.sleep(NO_DESCRIPTORS)
        worker.is_short = False
        self._note_change()

    async def _release_clients_that_left(self) -> None:
        """One task looks at all that wait, who are few, rather than each of them waiting for its client's end."""
        while True:
            await trio.sleep(LOOK_FOR_CLIENTS_EVERY)
            now = trio.current_time()
            for client in self._held:
                if client.deadline <= now or client.has_left():
                    client.scope.cancel()

    def _least_busy(self, front_end: FrontEnd) -> Worker:
        """The worker with the most room among those that accept; there must be one."""
        accepting = [worker for worker in self._workers.values() if worker.accepts]
        now = trio.current_time()
        responsive = [worker for worker in accepting if worker.is_responsive(now)]
        return max(responsive or accepting, key=lambda worker: (worker.room(front_end), -worker.last_number))

    # -- metrics

    async def _answer(self, worker: Worker, number: int) -> None:
        """Collect everybody's metrics and send the page to the worker that asked, which may be gone by then."""
        with contain("adding up metrics"):
            with trio.move_on_after(SNAPSHOT_TIMEOUT):
                async with trio.open_nursery() as asking:
                    for each in self._workers.values():
                        if each.is_serving:
                            asking.start_soon(self._refresh, each)
            workers = sorted(self._workers.items())
            processes = {"parent": self._metrics.families()} | {str(key): each.families for key, each in workers}
            self._post(worker, MetricsPage(number, *self._totals.render(processes)))

    async def _refresh(self, worker: Worker) -> None:
        if not worker.is_asked:
            worker.is_asked = True
            self._post(worker, ReportMetrics())
        await worker.reported.wait()
