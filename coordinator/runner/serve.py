"""The runner's work for the coordinator: registers, takes assignments, keeps them alive, stops when told."""

from __future__ import annotations

import contextlib
import math
import secrets
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio

from coordinator.client import (
    Client,
    ClientError,
    InternalError,
    NotFound,
    Overloaded,
    RpcError,
    RunnerSubscription,
    StaleToken,
    StorageError,
    connect,
)
from coordinator.client.errors import TRANSIENT
from coordinator.client.runners import UNSUBSCRIBE_TIMEOUT
from coordinator.models import Assignment, CancelNotice, RunnerCreate, ScriptType
from coordinator.runner.attempt import Attempt, Backoff
from coordinator.runner.execute import Executor
from coordinator.runner.fitness import Fitness
from coordinator.runner.settings import RunnerSettings
from coordinator.runner.spawn import open_spawner

__all__ = ["Service"]

log = structlog.get_logger("coordinator.runner")

_HEARTBEATS_A_LEASE: Final = 3
_KEEPALIVE: Final = (5.0, 20.0)  # seconds of silence, at least and at most, after which the coordinator is pinged


class Service:
    """A runner in all its contexts. `stop` it once to have it finish what it holds, twice to have it leave at once."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._contexts: list[_ContextService] = []
        self._is_stopping = False
        self._leaving = trio.CancelScope()

    def stop(self) -> None:
        if self._is_stopping:
            self._leaving.cancel()
        self._is_stopping = True
        for context in self._contexts:
            context.stop()

    async def run(self) -> None:
        """Returns when stopped.

        Raises, possibly in a group:
            RpcError: the coordinator does not accept us.
            OSError: there is no process to be had at the start.
            CannotIsolate: there is no sandbox to be had.
        """
        settings = self._settings
        session = secrets.token_hex(16)
        isolation = await trio.to_thread.run_sync(settings.isolation)
        async with contextlib.AsyncExitStack() as stack:
            spawner = await stack.enter_async_context(open_spawner())
            clients = await self._connect(stack)
            executor = Executor(
                spawner,
                settings.interpreters,
                memory_limit=settings.memory_limit,
                grace=settings.kill_grace,
                isolation=isolation,
            )
            await executor.check()
            fitness = Fitness([*settings.interpreters], executor.try_out)
            self._contexts = [
                _ContextService(context, session, clients[context], executor, fitness, settings)
                for context in settings.context
            ]
            with self._leaving:
                async with trio.open_nursery() as trying:
                    trying.start_soon(fitness.keep_trying)
                    async with trio.open_nursery() as nursery:
                        for service in self._contexts:
                            nursery.start_soon(service.run)
                            if self._is_stopping:
                                service.stop()
                    trying.cancel_scope.cancel()

    async def _connect(self, stack: contextlib.AsyncExitStack) -> dict[int, Client]:
        """A client for each context: one for all, unless we log in, as another one in each."""
        settings = self._settings
        client: Client | None = None
        clients: dict[int, Client] = {}
        for context in settings.context:
            if client is None or settings.key is not None:
                client = await stack.enter_async_context(
                    connect(
                        settings.url,
                        ca=settings.ca,
                        on_connect=self._connected,
                        keepalive=min(max(settings.lease, _KEEPALIVE[0]), _KEEPALIVE[1]),
                        credentials=settings.credentials(context),
                    )
                )
            clients[context] = client
        return clients

    def _connected(self) -> None:
        log.info("connected", url=self._settings.url)


@dataclass
class _Taken:
    """What came by one subscription: attempts by token. `no_more` is set when no more will come."""

    work: RunnerSubscription
    no_more: trio.Event
    attempts: dict[str, Attempt] = field(default_factory=dict)


class _ContextService:
    """A runner in one context."""

    def __init__(
        self,
        context: int,
        session: str,
        client: Client,
        executor: Executor,
        fitness: Fitness,
        settings: RunnerSettings,
    ) -> None:
        self._context = context
        self._session = session
        self._client = client
        self._executor = executor
        self._fitness = fitness
        self._settings = settings
        self._refused_until = -math.inf  # the coordinator has answered that it cannot renew leases, which holds so long
        self._joining = trio.CancelScope()
        self._stopping = trio.Event()
        self._log = log.bind(context=context)

    def stop(self) -> None:
        """Take no more."""
        self._stopping.set()
        self._joining.cancel()

    async def run(self) -> None:
        """Until told to stop and everything held is reported."""
        backoff = Backoff()
        async with trio.open_nursery() as nursery:
            while not self._stopping.is_set():
                with trio.CancelScope() as self._joining:
                    types, doubted = await self._fitness.until_fit()
                if self._stopping.is_set():
                    return
                takes_no_more = trio.Event()
                nursery.start_soon(self._serve_until, takes_no_more, types, doubted)
                await takes_no_more.wait()
                with trio.CancelScope() as self._joining:
                    if not self._stopping.is_set() and not doubted.is_set():
                        await backoff.pause()

    async def _serve_until(self, takes_no_more: trio.Event, types: list[ScriptType], doubted: trio.Event) -> None:
        """One subscription, and all attempts that came by it. Those that run when it takes no more jobs go on, also
        beside the next subscription."""
        try:
            await self._serve(takes_no_more, types, doubted)
        except NotFound:
            # It has lost its data or was given another store, so what ran is nobody's any more.
            self._log.warning("the coordinator does not know this runner any more; registering again")
        except (OSError, *TRANSIENT) as error:
            self._log.warning("cannot subscribe yet; trying again", error=str(error))
        finally:
            takes_no_more.set()

    async def _serve(self, takes_no_more: trio.Event, types: list[ScriptType], doubted: trio.Event) -> None:
        """Register, subscribe, and work until told to stop, or it is in doubt whether scripts of these types can be run
        here. Raises RpcError, NoReply or OSError."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            with trio.CancelScope() as self._joining:
                if settings.credentials(self._context) is None:  # who logs in was registered by an admin
                    await self._register()
                work = await stack.enter_async_context(
                    self._client.subscribe_runner(
                        context_id=self._context,
                        runner_id=settings.id,
                        script_types=types,
                        capacity=settings.capacity,
                        lease=settings.lease,
                        session=self._session,
                    )
                )
            if self._joining.cancelled_caught:
                return
            self._log.info("waiting for jobs", script_types=types)
            taken = _Taken(work, takes_no_more)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_heartbeats, taken)
                nursery.start_soon(self._unsubscribe_when_stopping, taken)
                nursery.start_soon(self._unsubscribe_when_unfit, taken, doubted)
                refused = await self._work(taken)
                nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused

    async def _register(self) -> None:
        settings = self._settings
        runner = RunnerCreate(
            id=settings.id,
            pubkey=settings.pubkey,
            address=await trio.to_thread.run_sync(settings.own_address, abandon_on_cancel=True),
            topic=settings.topic or f"runner{settings.id}",
            local=settings.is_local,
        )
        await self._client.runner_create(context_id=self._context, runner=runner)

    async def _work(self, taken: _Taken) -> RpcError | None:
        """Run what comes, until there will be no more and all of it is reported, or the coordinator refuses us."""
        async with trio.open_nursery() as nursery:
            try:
                async for item in taken.work:
                    if isinstance(item, CancelNotice):
                        if item.token in taken.attempts:
                            taken.attempts[item.token].cancel(item.reason)
                    else:
                        nursery.start_soon(self._attempt, item, taken)
            except RpcError as error:
                nursery.cancel_scope.cancel()
                return error
        return None

    async def _attempt(self, assignment: Assignment, taken: _Taken) -> None:
        async def is_unfit(why: str) -> None:
            """Take no more before a place is free again."""
            self._fitness.doubt(why)
            with trio.move_on_after(UNSUBSCRIBE_TIMEOUT):
                await taken.no_more.wait()

        attempt = Attempt(
            assignment,
            taken.work,
            self._client,
            self._executor,
            output_limit=self._settings.output_limit,
            is_outage=self._is_outage,
            on_unfit=is_unfit,
        )
        taken.attempts[assignment.token] = attempt
        try:
            await attempt.run()
        finally:
            del taken.attempts[assignment.token]

    async def _unsubscribe_when_stopping(self, taken: _Taken) -> None:
        await self._stopping.wait()
        self._log.info("taking no more jobs", running=len(taken.attempts))
        await taken.work.unsubscribe()
        self._log.debug("unsubscribed")

    async def _unsubscribe_when_unfit(self, taken: _Taken, doubted: trio.Event) -> None:
        await doubted.wait()
        self._session = secrets.token_hex(16)  # the next subscription answers for none of what this one has
        await taken.work.unsubscribe()
        taken.no_more.set()

    def _is_outage(self) -> bool:
        """Whether the coordinator is known to be away, or its store: nothing listens at its address, or it says so
        itself. Silence may as well mean that only we are cut off."""
        return self._client.is_refused or trio.current_time() < self._refused_until

    async def _send_heartbeats(self, taken: _Taken) -> None:
        """Keep the leases of all attempts; learn which of them count no more."""
        while True:
            pause = taken.work.lease / _HEARTBEATS_A_LEASE
            await trio.sleep(pause)
            attempts = [attempt for attempt in taken.attempts.values() if not attempt.is_stopped]
            sent_at = trio.current_time()
            outcomes = await self._client.call_many(
                [("job.heartbeat", attempt.name) for attempt in attempts], timeout=pause
            )
            for attempt, outcome in zip(attempts, outcomes, strict=True):
                match outcome:
                    case StaleToken() | NotFound():
                        attempt.cancel(str(outcome))
                    case StorageError() | Overloaded() | InternalError():
                        self._refused_until = trio.current_time() + 2 * pause
                    case ClientError():
                        pass  # no answer
                    case _:
                        attempt.renewed(sent_at)
