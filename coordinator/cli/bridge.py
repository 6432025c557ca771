"""`herocoordinator bridge`: gives jobs to runners of the original, which take them from lists in Redis."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any, Final

import click
import structlog
import trio

from coordinator import logs
from coordinator.cli.connection import DEFAULT_URL
from coordinator.cli.exit_codes import CA_VARIABLE, EXIT_ERROR, EXIT_USAGE, URL_VARIABLE, fail, first_leaf
from coordinator.cli.options import UINT32
from coordinator.client import (
    Client,
    ClientError,
    NotFound,
    RpcError,
    RunnerSubscription,
    StaleToken,
    connect,
)
from coordinator.client.credentials import Credentials, Unusable
from coordinator.client.errors import TRANSIENT
from coordinator.client.runners import attempt_named
from coordinator.models import SCRIPT_TYPES, Assignment, CancelNotice, RunnerCreate
from coordinator.osprocess import hide_process, hide_secret_variables
from coordinator.redaction import redact
from coordinator.storage.old_queues import Ended, OldQueues, old_queues
from coordinator.storage.visit import CannotTransfer

__all__ = ["bridge"]

log = structlog.get_logger("coordinator.bridge")

LOOK_EVERY: Final = 0.2  # seconds between two looks at what the old runners have done
AGAIN_AFTER: Final = 1.0  # seconds after which what could not be done is tried again
_DATABASE: Final = re.compile(r"^(?!unix)\w+://.+/([0-9]+)(?:\?.*)?$|[?&]db=([0-9]+)")
_PREFIX: Final = "HEROCOORDINATOR_BRIDGE"
_TAKEN_BACK: Final = "the bridge was told to stop, and no old runner had the job"
_UNKNOWN: Final = (
    "an old runner was given this job before, and what became of it is not known: it may have run, so it is not given "
    "out again"
)


@click.command()
@click.option(
    "--redis-url",
    required=True,
    envvar=f"{_PREFIX}_REDIS_URL",
    show_envvar=True,
    help="The Redis that the old runners use. Without a database in it (/N) that is the context's.",
)
@click.option("--context", type=UINT32, default=1, show_default=True, help="Whose jobs to give.")
@click.option(
    "--id",
    "runner_id",
    type=UINT32,
    default=1,
    show_default=True,
    help="The id of the runner that the bridge is to the coordinator.",
)
@click.option(
    "--type",
    "types",
    type=click.Choice(SCRIPT_TYPES),
    multiple=True,
    default=SCRIPT_TYPES,
    show_default=True,
    help="Scripts of this type; give it once for each.",
)
@click.option(
    "--capacity",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Jobs that the old runners have, or that wait for one of them, at once.",
)
@click.option(
    "--lease",
    type=click.FloatRange(1, 3600),
    default=30.0,
    show_default=True,
    help="Seconds after which what it has is lost if the bridge is not heard of.",
)
@click.option(
    "--url",
    default=DEFAULT_URL,
    show_default=True,
    envvar=URL_VARIABLE,
    show_envvar=True,
    help="The coordinator.",
)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True),
    envvar=CA_VARIABLE,
    show_envvar=True,
    help="File of certificates to trust.",
)
@click.option("--key", type=click.Path(path_type=Path, exists=True), help="Private key of the runner, to log in.")
@click.option("--token-file", type=click.Path(path_type=Path, exists=True), help="File of the runner's token, instead.")
def bridge(
    redis_url: str, context: int, types: tuple[str, ...], key: Path | None, token_file: Path | None, **given: Any
) -> None:
    """Give jobs to runners of the original HeroCoordinator, until SIGINT or SIGTERM.

    To the coordinator it is a runner. A job it is given it writes to the Redis of --redis-url as the original did: a
    hash job:CALLER:ID, whose name it pushes to queue:osis, queue:sal, queue:v or queue:python. An old runner pops that
    with BRPOP, and writes status, result and error into the hash; the bridge reports them.

    Each attempt is pushed once. If the bridge ends, what it had is lost when its lease ends. The next attempt is pushed
    only if no old runner has popped the one before; if one has, and it has ended, its outcome is taken; if nobody
    knows, the job fails, for it may have run. Start one bridge for a context and a Redis.

    \b
    herocoordinator bridge --context 3 --redis-url redis://127.0.0.1:6379

    Told to stop it takes no more jobs, takes back what waits, and waits for what the old runners have; told twice it
    ends at once.
    """
    if key is not None and token_file is not None:
        fail("give one of --key and --token-file", EXIT_USAGE)
    logs.configure("info", "auto")
    hide_process()
    hide_secret_variables()
    credentials = None
    if key is not None:
        credentials = Credentials(f"runner:{context}:{given['runner_id']}", key)
    elif token_file is not None:
        credentials = Credentials(token_file=token_file)
    named = _DATABASE.search(redis_url)
    database = context if named is None else int(named[1] or named[2])
    complaint, status = None, EXIT_ERROR
    try:
        if credentials is not None:
            credentials.check()
        trio.run(_run, redis_url, database, context, types, credentials, given)
    except* (ValueError, Unusable) as group:
        complaint, status = redact(str(first_leaf(group))), EXIT_USAGE
    except* CannotTransfer as group:
        complaint = str(first_leaf(group))
    except* ClientError as group:
        complaint = f"the coordinator at {given['url']} refuses the bridge: {first_leaf(group)}"
    if complaint is not None:
        fail(complaint, status)


async def _run(
    redis_url: str, database: int, context: int, types: tuple[Any, ...], who: Credentials | None, given: dict[str, Any]
) -> None:
    async with (
        old_queues(redis_url, database) as queues,
        connect(given["url"], ca=given["ca"], credentials=who) as client,
    ):
        id = given["runner_id"]
        if who is None:  # who logs in was registered by an admin
            runner = RunnerCreate(id=id, pubkey="", address="127.0.0.1", topic=f"bridge{id}", local=False)
            await client.runner_create(context_id=context, runner=runner)
        async with client.subscribe_runner(
            context_id=context, runner_id=id, script_types=[*types], capacity=given["capacity"], lease=given["lease"]
        ) as work:
            log.info("waiting for jobs", context=context, script_types=[*types], database=database)
            service = _Bridge(client, work, queues)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, service, nursery.cancel_scope)
                await service.run()
                nursery.cancel_scope.cancel()


async def _stop_on_signal(service: _Bridge, leaving: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(signals)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.stop)
            await anext(signals)
            leaving.cancel()


class _Bridge:
    """Attempts between the coordinator and the old runners."""

    def __init__(self, client: Client, work: RunnerSubscription, queues: OldQueues) -> None:
        self._client = client
        self._work = work
        self._queues = queues
        self._held: dict[str, tuple[Assignment, trio.CancelScope]] = {}  # by token: all whose outcome is not told
        self._pushed: dict[str, Assignment] = {}  # by token: those of them that the old runners have
        self._outcomes: dict[str, trio.MemorySendChannel[Ended | None]] = {}

    async def run(self) -> None:
        """Until the subscription has ended and everything is told."""
        async with trio.open_nursery() as others:
            others.start_soon(self._look)
            others.start_soon(self._send_heartbeats)
            async with trio.open_nursery() as nursery:
                async for item in self._work:
                    if isinstance(item, CancelNotice):
                        self._cancel(item.token, item.reason)
                    else:
                        nursery.start_soon(self._attempt, item)
            others.cancel_scope.cancel()

    async def stop(self) -> None:
        """Take no more, and take back what no runner has popped."""
        log.info("taking no more jobs", held=len(self._held))
        await self._work.unsubscribe()
        for token in [*self._pushed]:
            assignment = self._pushed.pop(token, None)  # so that nobody looks at it meanwhile
            if assignment is None:
                continue
            if await self._take_back(assignment):
                self._ended(token, None)
            elif token in self._held:
                self._pushed[token] = assignment

    def _cancel(self, token: str, reason: str) -> None:
        if token in self._held:
            log.info("told to stop a job", reason=reason)
            self._held[token][1].cancel()

    async def _attempt(self, assignment: Assignment) -> None:
        """Give it out once, and tell what becomes of it."""
        token = assignment.token
        with trio.CancelScope() as scope:
            self._held[token] = assignment, scope
            try:
                await self._give(assignment)
            finally:
                self._pushed.pop(token, None)
                self._outcomes.pop(token, None)
                del self._held[token]
        self._work.release(token)

    async def _give(self, assignment: Assignment) -> None:
        token = assignment.token
        sender, outcomes = trio.open_memory_channel[Ended | None](1)
        may_be_queued = True
        try:
            if await self._push(assignment) == "unknown":
                may_be_queued = False
                await self._tell(assignment, Ended({}, _UNKNOWN, is_final=True))
                return
            self._outcomes[token], self._pushed[token] = sender, assignment
            outcome = await outcomes.receive()
            may_be_queued = False
            if outcome is None:
                await self._tell(assignment, Ended({}, _TAKEN_BACK), is_lost=True)
            elif await self._tell(assignment, outcome):
                await self._queues.told(assignment)
        except CannotTransfer as error:  # it was told: another attempt at this run of the job there will not be
            log.warning("the Redis of the old runners does not answer", error=str(error))
        except trio.Cancelled:
            if may_be_queued:
                with trio.move_on_after(AGAIN_AFTER, shield=True):
                    await self._take_back(assignment)
            raise

    def _ended(self, token: str, outcome: Ended | None) -> None:
        """Tell the task of an attempt what became of it; None: it was taken back. It may be gone."""
        if token in self._outcomes:
            self._outcomes[token].send_nowait(outcome)

    async def _push(self, assignment: Assignment) -> str:
        while True:
            try:
                return await self._queues.push(assignment)
            except CannotTransfer as error:
                log.warning("cannot give a job to the old runners yet; trying again", error=str(error))
                await trio.sleep(AGAIN_AFTER)

    async def _take_back(self, assignment: Assignment) -> bool:
        """Returns whether no runner had it."""
        job = assignment.job
        try:
            if await self._queues.withdraw(assignment):
                return True
            log.info("an old runner may have the job, and is not told to stop", caller=job.caller_id, job=job.id)
        except CannotTransfer as error:
            log.warning("a job cannot be taken back", caller=job.caller_id, job=job.id, error=str(error))
        return False

    async def _tell(self, assignment: Assignment, ended: Ended, *, is_lost: bool = False) -> bool:
        """Report an outcome, until it is answered. Returns whether it counts. After what `is_lost` the coordinator may
        give the job out again, whatever else is said, so only what no old runner has had is that."""
        while True:
            try:
                if ended.error is None:
                    await self._work.finish(assignment, ended.result)
                else:
                    await self._work.fail(
                        assignment, ended.error[:10_000], result=ended.result, retry=not ended.is_final, lost=is_lost
                    )
            except (StaleToken, NotFound):
                return False
            except TRANSIENT as error:
                log.warning("the coordinator does not take an outcome yet; trying again", error=str(error))
                await trio.sleep(AGAIN_AFTER)
            except RpcError as error:
                if ended.error is not None and not ended.result:
                    log.error("the coordinator does not take an outcome", error=str(error))
                    return False
                ended = Ended({}, f"the coordinator does not take the result: {error}", is_final=True)
            else:
                return True

    async def _look(self) -> None:
        """See what the old runners have done."""
        while True:
            await trio.sleep(LOOK_EVERY)
            try:
                ended = await self._queues.ended([*self._pushed.values()])
            except CannotTransfer as error:
                log.warning("the Redis of the old runners does not answer; trying again", error=str(error))
                await trio.sleep(AGAIN_AFTER)
                continue
            for token, outcome in ended.items():
                if self._pushed.pop(token, None) is not None:
                    self._ended(token, outcome)

    async def _send_heartbeats(self) -> None:
        """Keep the leases of all that the old runners have."""
        while True:
            pause = self._work.lease / 3
            await trio.sleep(pause)
            held = [assignment for assignment, _ in self._held.values()]
            beats = [("job.heartbeat", attempt_named(assignment)) for assignment in held]
            outcomes = await self._client.call_many(beats, timeout=pause)
            for assignment, outcome in zip(held, outcomes, strict=True):
                if isinstance(outcome, StaleToken | NotFound):
                    self._cancel(assignment.token, str(outcome))
