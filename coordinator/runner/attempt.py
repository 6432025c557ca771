"""One attempt as the coordinator sees it: runs the script, sends its log lines, reports its outcome."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import structlog
import trio

from coordinator.client import (
    Client,
    ClientError,
    InternalError,
    NoReply,
    NotFound,
    Overloaded,
    RunnerSubscription,
    StaleToken,
    StorageError,
)
from coordinator.client.errors import TRANSIENT
from coordinator.client.runners import attempt_named
from coordinator.models import Assignment, LogStream
from coordinator.runner.execute import Executor
from coordinator.runner.fence import Fence
from coordinator.runner.outcome import Outcome
from coordinator.runner.output import Output, last_lines_fitting

__all__ = ["Attempt", "Backoff"]

log = structlog.get_logger("coordinator.runner")

GATHER: Final = 0.1
"""Seconds for which lines are gathered before they are sent."""
GONE: Final = (StaleToken, NotFound)
"""The attempt counts no more, or the job is there no more."""

_ERROR_CHARACTERS: Final = 10_000  # of job.fail's `error`
_REDUCED_JSON: Final = 2000  # bytes kept of each value of a result that was refused
_ABANDON_TIMEOUT: Final = 1.0  # seconds to tell the coordinator about an attempt given up
_CONFIRM_AFTER: Final = 0.25  # seconds, at most, after which a script that still runs is told of to keep its lease
_LAST_WORDS: Final = 30.0  # seconds in which we tell of an attempt that was cancelled or given up


class Backoff:
    """Pauses of 0.1, 0.2, 0.4, … at most 5 seconds, times 0.5 to 1 at random."""

    def __init__(self) -> None:
        self._failures = 0

    async def pause(self) -> None:
        await trio.sleep(min(5.0, 0.1 * 2**self._failures) * random.uniform(0.5, 1))
        self._failures = min(self._failures + 1, 10)


class Attempt:
    """`run` it once.

    Args:
        work: the subscription it came from, through which it is answered.
        client: what `work` is on.
        output_limit: bytes of output that are logged.
        is_outage: whether the coordinator is known to be away.
        on_unfit: called with why this runner could not run it, before that is reported.
    """

    def __init__(
        self,
        assignment: Assignment,
        work: RunnerSubscription,
        client: Client,
        executor: Executor,
        *,
        output_limit: int,
        is_outage: Callable[[], bool],
        on_unfit: Callable[[str], Awaitable[None]],
    ) -> None:
        self.assignment = assignment
        self._work = work
        self._client = client
        self._executor = executor
        self._on_unfit = on_unfit
        self._output = Output(output_limit)
        self._stop = trio.Event()
        self._why_stopped: str | None = None
        self._gives_up_at = math.inf  # what is not answered by then is not told again; see `_give_up_before_long`
        self._sending = trio.CancelScope()  # log lines
        self._is_unwanted = False
        self._fence = Fence(assignment.lease, executor.grace, is_outage)
        job = assignment.job
        self._log = log.bind(
            context=assignment.context_id, caller=job.caller_id, job=job.id, attempt=assignment.attempt
        )

    @property
    def name(self) -> dict[str, Any]:
        """The params that name it in a call."""
        return attempt_named(self.assignment)

    @property
    def is_stopped(self) -> bool:
        """It was cancelled or lost, so it has no lease any more."""
        return self._stop.is_set()

    def cancel(self, reason: str) -> None:
        """It was cancelled or lost: stop the script. What it has written, and its result, is told as far as it is still
        wanted. Too late while its outcome is being reported."""
        if self._stop.is_set():
            return
        if not self._output.closed:
            self._log.info("told to stop a job", reason=reason)
        self._why_stopped = reason
        self._give_up_before_long()
        self._stop.set()

    def _give_up_before_long(self) -> None:
        """From now on there is little time to tell of it, also for a call that is under way on a silent connection."""
        self._gives_up_at = self._sending.deadline = trio.current_time() + _LAST_WORDS

    def renewed(self, sent_at: float) -> None:
        """A call sent then has renewed its lease."""
        self._fence.renewed(sent_at)

    async def run(self) -> None:
        """Returns when the coordinator has answered for the outcome, or does not want it.

        Cancelled, it kills the script and says that the attempt is lost, as far as that is quick.
        """
        outcome = Outcome({}, "the runner was stopped", is_lost=True)
        is_done = False
        try:
            outcome = await self._execute()
            if outcome.is_unfit:
                await self._on_unfit(str(outcome.error))
            if not self._is_unwanted:
                with trio.CancelScope(deadline=self._gives_up_at):
                    await self._report(outcome)
            is_done = True
        finally:
            if not is_done and not self._is_unwanted:
                with trio.move_on_after(_ABANDON_TIMEOUT, shield=True):
                    await self._report(outcome)
            self._work.release(self.assignment.token)

    async def _execute(self) -> Outcome:
        """Run the script to its end, and return when every line is sent."""
        outcome: Outcome | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_logs)
                nursery.start_soon(self._confirm)
                began = trio.current_time()
                self._log.debug("job started", script_type=self.assignment.job.script_type)
                more = self._more_inputs() if self.assignment.inputs_from else None
                outcome = await self._executor.execute(
                    self.assignment, self._output, self._stop, self._fence, more_inputs=more
                )
                if outcome.is_lost and not outcome.is_unfit:  # mostly given to another when there is a connection again
                    self._log.error(str(outcome.error), lease=self.assignment.lease)
                    self._give_up_before_long()
                self._log.debug("job ended", error=outcome.error, seconds=round(trio.current_time() - began, 3))
        except Exception:
            # What is wrong with one job must not end the others.
            self._log.exception("running a job failed")
        return outcome or Outcome({}, "the runner failed; its log says why")

    async def _more_inputs(self) -> AsyncIterator[dict[str, dict[str, str]]]:
        """The results that are not in the assignment, page by page, each asked for until it comes."""
        backoff = Backoff()
        after: str | None = None
        while True:
            try:
                async for page in self._work.more_inputs(self.assignment, after):
                    yield page
                    after = next(reversed(page), after)
                    if self._is_unwanted:
                        return
                return
            except GONE as error:
                self.cancel(str(error))
                return
            except TRANSIENT as error:
                self._log.warning("a job's inputs are not there yet; trying again", error=str(error))
                await backoff.pause()

    async def _confirm(self) -> None:
        """Renew the lease soon after it has begun: how long the assignment was on its way to us nobody knows."""
        with trio.move_on_after(min(_CONFIRM_AFTER, self.assignment.lease / 10)):
            await self._output.ended.wait()
        if self._output.closed or self._fence.is_confirmed:
            return
        sent_at = trio.current_time()
        try:
            await self._work.heartbeat(self.assignment)
        except GONE as error:
            self.cancel(str(error))
        except ClientError:
            pass  # the next heartbeat is on its way before long
        else:
            self._fence.renewed(sent_at)

    async def _report(self, outcome: Outcome) -> None:
        """Report until it is answered."""
        if self._why_stopped is not None:
            outcome = dataclasses.replace(outcome, error=f"stopped: {self._why_stopped}")
        backoff = Backoff()
        shortened = [_with_short_output, _without_values, _without_result]
        while True:
            try:
                await self._tell(outcome)
                return
            except GONE as error:
                self._log.info("a job's outcome came too late", error=str(error))
                if outcome.error is not None or not isinstance(error, StaleToken):
                    return
                # If it was cancelled just now, its result may still be seen.
                outcome = dataclasses.replace(outcome, error="it succeeded, but the attempt had ended before")
            except TRANSIENT as error:
                self._log.warning("a job's outcome is not reported yet; trying again", error=str(error))
                await backoff.pause()
            except ClientError as error:
                # It does not fit the coordinator's limits: at least say how it ended.
                self._log.error("a job's outcome was refused", error=str(error))
                if not shortened:
                    return
                outcome = shortened.pop(0)(outcome, str(error))

    async def _tell(self, outcome: Outcome) -> None:
        if outcome.error is None:
            await self._work.finish(self.assignment, outcome.result)
        else:
            error = outcome.error[:_ERROR_CHARACTERS]
            await self._work.fail(
                self.assignment, error, result=outcome.result, retry=outcome.retry, lost=outcome.is_lost
            )

    async def _send_logs(self) -> None:
        """Until the output has ended and all of it is sent, or there is no more time for it."""
        output = self._output
        with self._sending:
            while True:
                await output.wait()
                with trio.move_on_after(GATHER):
                    await output.pressing.wait()
                taken = output.take()
                if not taken and output.closed:
                    return
                if taken and not self._is_unwanted:
                    await self._send(taken)

    async def _send(self, batch: list[tuple[LogStream, list[str]]]) -> None:
        """Send these lines until they are answered, so that some may come twice, or nobody wants them."""
        calls = [("job.log", {**self.name, "lines": lines, "stream": stream}) for stream, lines in batch]
        backoff = Backoff()
        while calls and not self._is_unwanted:
            sent_at = trio.current_time()
            try:
                outcomes = await self._client.call_many(calls)
            except ClientError as error:
                outcomes = [error] * len(calls)
            again = []
            for call, outcome in zip(calls, outcomes, strict=True):
                match outcome:
                    case StaleToken() | NotFound():
                        self.cancel(str(outcome))
                        self._is_unwanted = True
                        return
                    case StorageError() | Overloaded() | InternalError() | NoReply():
                        again.append((call, outcome))
                    case ClientError():
                        self._log.error("log lines were refused", error=str(outcome), lines=len(call[1]["lines"]))
                    case {"over": True}:
                        self.cancel("the attempt was cancelled or has timed out")
                    case _:
                        self._fence.renewed(sent_at)
            calls = [call for call, _ in again]
            if again:
                self._log.warning("log lines are not sent yet; trying again", error=str(again[0][1]))
                await backoff.pause()


def _with_short_output(outcome: Outcome, _: str) -> Outcome:
    """What is kept of the output anyway is only its end."""
    captured = {key: last_lines_fitting(text, _REDUCED_JSON) for key, text in outcome.captured.items()}
    return dataclasses.replace(outcome, captured=captured)


def _without_values(outcome: Outcome, why: str) -> Outcome:
    """A result is taken as it is or not at all."""
    error = outcome.error or f"the coordinator has refused the result in HERO_RESULT: {why}"
    return dataclasses.replace(outcome, values={}, error=error)


def _without_result(outcome: Outcome, _: str) -> Outcome:
    return dataclasses.replace(outcome, captured={})
