"""Real runners, and flows for them."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import trio

from coordinator.client import Client
from coordinator.models import FlowCreate, FlowEvent, FlowReport, Job, JobCreate
from tests.support.server import LoggingProcess

__all__ = ["FlowOfTest", "RunnerProcess", "job", "new_context", "runner", "submit"]

_contexts = itertools.count(5000)


def new_context() -> int:
    """A context no other test uses."""
    return next(_contexts)


class RunnerProcess(LoggingProcess):
    """`herocoordinator runner`, waiting for jobs of these contexts."""

    def __init__(self, url: str, *contexts: int, arguments: tuple[str, ...] = (), wait: bool = True) -> None:
        given = [text for context in contexts for text in ("--context", str(context))]
        if len(contexts) > 1 and "--isolate" not in arguments:
            given.append("--shared")
        super().__init__("runner", "--url", url, "--log-format", "json", "--log-level", "debug", *given, *arguments)
        if wait:
            self.wait_for_contexts(len(contexts))

    def wait_for_contexts(self, count: int) -> None:
        """Until it waits for jobs in so many contexts."""
        seen = 0
        for _ in range(count):
            self.wait_for("waiting for jobs", after=seen)
            seen = 1 + next(at for at in range(seen, len(self.logs)) if self.logs[at]["event"] == "waiting for jobs")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextlib.contextmanager
def runner(url: str, *contexts: int, arguments: tuple[str, ...] = (), wait: bool = True) -> Iterator[RunnerProcess]:
    """A running runner, stopped in the end if it still runs."""
    process = RunnerProcess(url, *contexts, arguments=arguments, wait=wait)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.terminate()
            try:
                process.process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def job(id: int, script: str, **more: Any) -> dict[str, Any]:
    """Fields of a job, without those the flow decides."""
    defaults = {"script_type": "Python", "timeout": 60, "retries": 0, "env_vars": {}, "prerequisites": []}
    return {**defaults, "id": id, "script": script, "depends": [], **more}


class FlowOfTest:
    """A flow under way, as a test looks at it; its caller is 7, its id 1 unless told otherwise."""

    def __init__(self, client: Client, context: int, id: int) -> None:
        self.client = client
        self.context = context
        self.id = id

    async def ended(self, within: float = 60.0) -> list[FlowEvent]:
        """All its events, when it has ended."""
        with trio.fail_after(within):
            return [event async for event in self.client.follow_flow(self.context, self.id)]

    async def report(self) -> FlowReport:
        return await self.client.flow_status(context_id=self.context, id=self.id)

    async def job(self, id: int) -> Job:
        return await self.client.job_load(context_id=self.context, caller_id=7, id=id)

    async def results(self) -> dict[str, dict[str, str]]:
        """Those of its leaves."""
        flow = await self.client.flow_load(context_id=self.context, id=self.id)
        assert flow.status == "Finished", flow
        return {id: json.loads(text) for id, text in flow.result.items()}

    async def until_job(self, status: str, attempt: int = 1) -> FlowEvent:
        """Wait for this status of job 1 in that attempt or a later one."""
        with trio.fail_after(30):
            async for event in self.client.follow_flow(self.context, self.id, forever=True):
                is_it = event.kind == "job" and (event.job_id, event.status) == (1, status)
                if is_it and (event.attempt or 0) >= attempt:
                    return event
        raise AssertionError

    async def first_line(self) -> str:
        """Wait for the first line that job 1 logs in its first attempt."""
        with trio.fail_after(30):
            async for event in self.client.follow_flow(self.context, self.id, forever=True):
                if event.kind == "log" and event.job_id == 1 and event.attempt == 1:
                    return (event.lines or [""])[0]
        raise AssertionError


async def submit(client: Client, context: int, *jobs: dict[str, Any], id: int = 1, **more: Any) -> FlowOfTest:
    """Submit a flow of these jobs."""
    common = {"caller_id": 7, "context_id": context}
    flow = FlowCreate.model_validate(
        {"id": id, **common, "jobs": [fields["id"] for fields in jobs], "env_vars": {}, **more}
    )
    await client.flow_submit(
        context_id=context, flow=flow, jobs=[JobCreate.model_validate({**common, **fields}) for fields in jobs]
    )
    return FlowOfTest(client, context, id)
