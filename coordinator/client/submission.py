"""Submitting a flow of any size. What fits is one call of flow.submit; what does not is sent in parts: the flow as a
draft, its jobs in batches, then flow.start, before which nothing runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from coordinator import errors, models
from coordinator.client.errors import TRANSIENT, CallTooLarge, Conflict, InvalidParams, NotFound, RpcError
from coordinator.client.ledger import encode
from coordinator.client.link import pause_after
from coordinator.client.loop import Loop

__all__ = ["ABANDON_AFTER", "Progress", "submit_flow"]

ABANDON_AFTER: Final = 180.0
"""Seconds without a word from us after which the server deletes a flow that is not complete."""

ONE_STEP: Final = 500  # jobs of a flow that the store takes in one step without others noticing
BATCH: Final = 500  # jobs
BATCH_BYTES: Final = 4 * 1024 * 1024
AT_ONCE: Final = 2  # batches under way: while the store works at one, the coordinator reads the next
ROOM: Final = 200  # bytes a call has around its params, at most
CLEAN_UP: Final = 10.0  # seconds that deleting what was sent may take

Progress = Callable[[int, int], None]
"""Is given how many jobs were sent, and how many there are. Must not block or raise."""


class _Client(Protocol):
    loop: Loop
    timeout: float
    max_frame_bytes: int

    async def call(self, method: str, params: Any = None) -> Any: ...
    async def call_many(self, calls: Sequence[tuple[str, Any]]) -> list[Any]: ...


async def submit_flow(
    client: _Client, params: models.FlowSubmitParams, *, abandon_after: float, on_progress: Progress | None
) -> models.Flow:
    """See `Client.submit_flow`."""
    sizes = [len(encode(job)) for job in params.jobs]
    flow_size = len(encode(params.flow))
    if len(sizes) <= ONE_STEP and flow_size + sum(sizes) + len(sizes) + ROOM <= client.max_frame_bytes:
        return _flow(await client.call("flow.submit", params))
    _check(params, sizes, client.max_frame_bytes)
    return await _Parts(client, params, sizes, abandon_after, on_progress).submit()


def _flow(result: Any) -> models.Flow:
    return models.Flow.model_validate(result, strict=False)


def _check(params: models.FlowSubmitParams, sizes: Sequence[int], max_frame_bytes: int) -> None:
    """What flow.submit checks before it changes anything, and whether each part fits a frame."""
    ids = {job.id for job in params.jobs}
    if ids != set(params.flow.jobs) or len(ids) != len(params.jobs):
        raise _mismatch("must be the jobs that flow.jobs lists, each once")
    if any(job.caller_id != params.flow.caller_id for job in params.jobs):
        raise _mismatch("must have the flow's caller_id")
    if any(job.context_id != params.context_id for job in params.jobs):
        raise _mismatch("must have the params' context_id")
    for job, size in zip(params.jobs, sizes, strict=True):
        if size + ROOM > max_frame_bytes:
            raise CallTooLarge(f"job {job.id} takes {size} bytes; max_frame_bytes is {max_frame_bytes}")


def _mismatch(msg: str) -> InvalidParams:
    fault = {"loc": ["jobs"], "msg": msg, "type": "jobs_mismatch"}
    return InvalidParams(errors.InvalidParams.code, errors.InvalidParams.message, [fault])


class _Parts:
    def __init__(
        self,
        client: _Client,
        params: models.FlowSubmitParams,
        sizes: Sequence[int],
        abandon_after: float,
        on_progress: Progress | None,
    ) -> None:
        self._client = client
        self._loop = client.loop
        self._context = params.context_id
        self._flow = params.flow
        self._jobs = params.jobs
        self._sizes = sizes
        self._abandon_after = abandon_after
        self._progress = on_progress or (lambda done, total: None)
        self._renew_at = 0.0
        self._params = models.FlowParams(context_id=self._context, id=self._flow.id)

    async def submit(self) -> models.Flow:
        found = await self._found()
        if found is not None and found.status != "Dispatched":
            return found
        try:
            await self._send()
        except BaseException:
            if found is None:
                await self._delete()
            raise
        try:
            return _flow(await self._all([("flow.start", self._params)]))
        except TRANSIENT:
            raise  # it may have been started; if it was not, the server deletes it
        except RpcError as error:
            if found is None:
                # If the server has deleted it, because we were silent, the jobs sent since are in no flow.
                await self._delete(anew=isinstance(error, NotFound))
            raise

    async def _found(self) -> models.Flow | None:
        """The flow as it is there already. Raises Conflict if it is another one that was started."""
        try:
            found = _flow(await self._client.call("flow.load", self._params))
        except NotFound:
            return None
        is_same = found.jobs == self._flow.jobs and found.env_vars == self._flow.env_vars
        if found.status != "Dispatched" and not is_same:
            detail = f"flow {found.id} is there already with other jobs or env_vars, it is {found.status}"
            data = {"detail": detail, "status": found.status}
            raise Conflict(errors.Conflict.code, errors.Conflict.message, data)
        return found

    async def _send(self) -> None:
        """Send the flow and its jobs."""
        done, total = 0, len(self._jobs)
        await self._keep()
        self._progress(0, total)
        batches = self._batches()

        async def send() -> None:
            nonlocal done
            for batch in batches:
                await self._create(batch)
                done += len(batch)
                self._progress(done, total)
                if self._loop.now() >= self._renew_at:
                    await self._keep()

        await self._loop.together(send, AT_ONCE)

    async def _keep(self) -> None:
        """Create the flow as a draft, or begin anew the time after which the server deletes it."""
        self._renew_at = self._loop.now() + self._abandon_after / 4  # before the call: one task is enough
        create = models.FlowCreateParams(context_id=self._context, flow=self._flow, abandon_after=self._abandon_after)
        await self._all([("flow.create", create)])

    def _batches(self) -> Iterator[Sequence[models.JobCreate]]:
        batch: list[models.JobCreate] = []
        size = 0
        for job, job_size in zip(self._jobs, self._sizes, strict=True):
            if batch and (len(batch) >= BATCH or size + job_size > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(job)
            size += job_size
        if batch:
            yield batch

    async def _create(self, jobs: Sequence[models.JobCreate]) -> None:
        await self._all([("job.create", models.JobCreateParams(context_id=self._context, job=job)) for job in jobs])

    async def _all(self, calls: Sequence[tuple[str, Any]]) -> Any:
        """Have all of these carried out. What fails for a while, as when the store restarts, is tried again. Returns
        the result of the last one."""
        ends = self._loop.now() + self._client.timeout
        failures = 0
        while True:
            outcomes = await self._client.call_many(calls)
            failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            for error in failed:
                if not isinstance(error, TRANSIENT) or self._loop.now() >= ends:
                    raise error
            calls = [call for call, outcome in zip(calls, outcomes, strict=True) if isinstance(outcome, Exception)]
            if not calls:
                return outcomes[-1]
            await self._loop.sleep(pause_after(failures))
            failures += 1

    async def _delete(self, *, anew: bool = False) -> None:
        """Delete what was sent, as far as that is quick; what remains the server deletes.

        Args:
            anew: create the flow again first, with which its jobs are deleted.
        """

        async def delete() -> None:
            if anew:
                await self._keep()
            await self._client.call("flow.delete", self._params)

        await self._loop.last_words(delete, CLEAN_UP)
