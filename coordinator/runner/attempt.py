"""One attempt as the coordinator sees it: runs the script, sends its log lines, reports its outcome."""

from __future__ import annotations

import dataclasses
import random
from typing import Final

import structlog
import trio

from coordinator.client import (
    ClientError,
    InternalError,
    NoReply,
    NotFound,
    Overloaded,
    RunnerSubscription,
    StaleToken,
    StorageError,
)
from coordinator.models import Assignment, LogStream
from coordinator.runner.execute import Executor, Outcome
from coordinator.runner.output import Output, last_lines_fitting

__all__ = ["GONE", "TRANSIENT", "Attempt", "Backoff"]

log = structlog.get_logger("coordinator.runner")

GATHER: Final = 0.1
"""Seconds for which lines are gathered before they are sent."""
TRANSIENT: Final = (StorageError, Overloaded, InternalError, NoReply)
"""What a call may be answered with that is worth calling again."""
GONE: Final = (StaleToken, NotFound)
"""The attempt counts no more, or the job is there no more."""

_ERROR_CHARACTERS: Final = 10_000  # of job.fail's `error`
_REDUCED_JSON: Final = 2000  # bytes kept of each value of a result that was refused
_ABANDON_TIMEOUT: Final = 1.0  # seconds to tell the coordinator about an attempt given up


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
        output_limit: bytes of output that are logged.
    """

    def __init__(
        self, assignment: Assignment, work: RunnerSubscription, executor: Executor, *, output_limit: int
    ) -> None:
        self.assignment = assignment
        self._work = work
        self._executor = executor
        self._output = Output(output_limit)
        self._stop = trio.Event()
        self._is_unwanted = False
        job = assignment.job
        self._log = log.bind(
            context=assignment.context_id, caller=job.caller_id, job=job.id, attempt=assignment.attempt
        )

    @property
    def name(self) -> dict[str, int | str]:
        """The params that name it in a call."""
        assignment = self.assignment
        return {
            "context_id": assignment.context_id,
            "caller_id": assignment.job.caller_id,
            "id": assignment.job.id,
            "token": assignment.token,
        }

    def cancel(self, reason: str) -> None:
        """Its outcome is no longer wanted: stop the script, report nothing. Too late while that is being reported."""
        if not self._is_unwanted and not self._output.closed:
            self._log.info("told to stop a job", reason=reason)
        self._is_unwanted = True
        self._stop.set()

    async def run(self) -> None:
        """Returns when the coordinator has answered for the outcome, or does not want it.

        Cancelled, it kills the script and says that the attempt is lost, as far as that is quick.
        """
        outcome = Outcome({}, "the runner was stopped", lost=True)
        is_done = False
        try:
            outcome = await self._execute()
            if not self._is_unwanted:
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
                began = trio.current_time()
                self._log.debug("job started", script_type=self.assignment.job.script_type)
                outcome = await self._executor.execute(self.assignment, self._output, self._stop)
                self._log.debug("job ended", error=outcome.error, seconds=round(trio.current_time() - began, 3))
        except Exception:
            # What is wrong with one job must not end the others.
            self._log.exception("running a job failed")
        return outcome or Outcome({}, "the runner failed; its log says why")

    async def _report(self, outcome: Outcome) -> None:
        """Report until it is answered."""
        backoff = Backoff()
        may_reduce = True
        while True:
            try:
                if outcome.error is None:
                    await self._work.finish(self.assignment, outcome.result)
                else:
                    error = outcome.error[:_ERROR_CHARACTERS]
                    result = outcome.result
                    await self._work.fail(self.assignment, error, result=result, retry=outcome.retry, lost=outcome.lost)
                return
            except GONE as error:
                self._log.info("a job's outcome came too late", error=str(error))
                return
            except TRANSIENT as error:
                self._log.warning("a job's outcome is not reported yet; trying again", error=str(error))
                await backoff.pause()
            except ClientError as error:
                # It does not fit the coordinator's limits: at least say how it ended.
                self._log.error("a job's outcome was refused", error=str(error))
                if not may_reduce:
                    return
                may_reduce = False
                result = {key[:100]: last_lines_fitting(text, _REDUCED_JSON) for key, text in outcome.result.items()}
                outcome = dataclasses.replace(outcome, result=dict(list(result.items())[:100]))

    async def _send_logs(self) -> None:
        """Until the output has ended and all of it is sent."""
        output = self._output
        while True:
            await output.wait()
            with trio.move_on_after(GATHER):
                await output.pressing.wait()
            taken = output.take()
            if not taken and output.closed:
                return
            for stream, lines in taken:
                await self._send(stream, lines)

    async def _send(self, stream: LogStream, lines: list[str]) -> None:
        """Send them until it is answered, so that some may come twice, or nobody wants them."""
        backoff = Backoff()
        while not self._is_unwanted:
            try:
                await self._work.log(self.assignment, lines, stream)
                return
            except GONE as error:
                self.cancel(str(error))
            except TRANSIENT as error:
                self._log.warning("log lines are not sent yet; trying again", error=str(error))
                await backoff.pause()
            except ClientError as error:
                self._log.error("log lines were refused", error=str(error), lines=len(lines))
                return
