"""One context as clients and runners know it: every method of running flows, called on the store itself."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from coordinator import models
from coordinator.actors.request import Operation, Pause, WithEffects
from coordinator.engine.assignments import take
from coordinator.operations import (
    attempts,
    bulk,
    control,
    events,
    flows,
    listing,
    messages,
    prerequisites,
    records,
    views,
)
from coordinator.storage import codec
from coordinator.storage.functions import runners, upkeep
from coordinator.storage.functions.attempts import read_resume, resume, untake
from coordinator.storage.keys import Command, Layout
from tests.execution.wire import Wire
from tests.support.exchanges import alone

__all__ = ["CALLER", "RUNNER", "Attempt", "Begun", "Context", "Runner", "job", "message"]

CALLER: Final = 7
TICK_LIMIT: Final = 200


@dataclass(frozen=True)
class Runner:
    """Who takes jobs, in the words of `subscriptions.take`."""

    runner_id: int = 3
    runner_session: str = ""
    lease: float = 30.0
    script_types: tuple[str, ...] = ("Python",)

    @property
    def topic(self) -> str:
        return f"runner{self.runner_id}"


RUNNER: Final = Runner()


@dataclass(frozen=True)
class Attempt:
    """An assignment, and how its job is named."""

    caller_id: int
    id: int
    token: str
    assignment: Mapping[str, Any]

    @property
    def number(self) -> int:
        return int(self.assignment["attempt"])


def job(id: int, depends: Collection[int] = (), **members: Any) -> dict[str, Any]:
    """A job as clients create it."""
    return {
        "id": id,
        "caller_id": CALLER,
        "context_id": 1,
        "script": f"print({id})",
        "script_type": "Python",
        "timeout": 0,
        "retries": 0,
        "env_vars": {},
        "prerequisites": [],
        "depends": list(depends),
        **members,
    }


def message(id: int, jobs: Iterable[Mapping[str, Any]], **members: Any) -> dict[str, Any]:
    """A message as clients create it."""
    return {
        "id": id,
        "caller_id": CALLER,
        "context_id": 1,
        "message": "please",
        "message_type": "Python",
        "message_format_type": "Text",
        "timeout": 0,
        "timeout_ack": 0,
        "timeout_result": 0,
        "job": list(jobs),
        **members,
    }


class Context:
    """A context, seen to by one coordinator."""

    def __init__(self, wire: Wire, layout: Layout, address: int) -> None:
        self.wire = wire
        self.id = address
        self.keys = layout.keyspace(address)
        self._takes = itertools.count(1)

    # -- records

    def create_job(self, id: int, depends: Collection[int] = (), **members: Any) -> Any:
        return self._call(records.create_job, models.JobCreateParams, job=job(id, depends, **members))

    def create_jobs(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        """Many, in one step."""
        commands: list[Command] = []
        for spec in jobs:
            params = models.JobCreateParams.model_validate({"context_id": self.id, "job": spec})
            commands.append(records.create_job(self.keys, params)[0])
        self.wire.ask(*commands)

    def load_job(self, id: int, caller_id: int = CALLER) -> Any:
        return self._call(records.load_job, models.JobLoadParams, caller_id=caller_id, id=id)

    def create_flow(self, id: int, jobs: Collection[int], **members: Any) -> Any:
        return self._call(records.create_flow, models.FlowCreateParams, flow=self._flow(id, jobs, **members))

    def draft_flow(self, id: int, jobs: Collection[int], *, abandon_after: float) -> Any:
        flow = self._flow(id, jobs)
        return self._call(records.create_flow, models.FlowCreateParams, flow=flow, abandon_after=abandon_after)

    def load_flow(self, id: int) -> Any:
        return self._call(records.load_flow, models.FlowLoadParams, id=id)

    def create_message(self, id: int, jobs: Iterable[Mapping[str, Any]], **members: Any) -> Any:
        return self._call(records.create_message, models.MessageCreateParams, message=message(id, jobs, **members))

    def load_message(self, id: int) -> Any:
        return self._call(records.load_message, models.MessageLoadParams, caller_id=CALLER, id=id)

    def create_runner(self, id: int) -> Any:
        runner = {"id": id, "pubkey": "", "address": "127.0.0.1", "topic": f"runner{id}", "local": True}
        return self._call(records.create_runner, models.RunnerCreateParams, runner=runner)

    def create_context(self, *admins: int) -> Any:
        context = {"id": self.id, "admins": list(admins), "readers": [], "executors": []}
        params = models.ContextCreateParams.model_validate({"context": context})
        return self.wire.run(alone(records.create_context(self.keys, params)))

    def load_context(self) -> Any:
        return self.wire.run(alone(records.load_context(self.keys, models.ContextLoadParams(id=self.id))))

    def load_runner(self, id: int) -> Any:
        return self._call(records.load_runner, models.RunnerLoadParams, id=id)

    def delete_flow(self, id: int) -> int:
        return int(self._call(listing.delete_flow, models.FlowParams, id=id)["deleted"])

    def delete_job(self, id: int) -> int:
        return int(self._call(listing.delete_job, models.JobLoadParams, caller_id=CALLER, id=id)["deleted"])

    def delete_message(self, id: int) -> int:
        return int(self._call(listing.delete_message, models.MessageLoadParams, caller_id=CALLER, id=id)["deleted"])

    def delete_runner(self, id: int) -> int:
        return int(self._call(listing.delete_runner, models.RunnerLoadParams, id=id)["deleted"])

    def list_flows(self, **params: Any) -> Any:
        return self._call(listing.page_of(codec.FLOW), models.FlowListParams, **params)

    def list_jobs(self, **params: Any) -> Any:
        return self._call(listing.page_of(codec.JOB), models.JobListParams, **params)

    def stats(self) -> Any:
        return self._call(views.context_stats, models.ContextStatsParams)

    def attempts(self, id: int) -> list[Any]:
        """How the attempts at a job went."""
        answer = self._call(attempts.job_attempts, models.JobLoadParams, caller_id=CALLER, id=id)
        ended: list[Any] = answer["attempts"]
        return ended

    # -- flows

    def submit(self, id: int, jobs: Sequence[Mapping[str, Any]], **members: Any) -> Any:
        flow = self._flow(id, [job["id"] for job in jobs], **members)
        return self._call(flows.submit_flow, models.FlowSubmitParams, flow=flow, jobs=list(jobs))

    def start(self, id: int) -> Any:
        return self._call(flows.start_flow, models.FlowParams, id=id)

    def retry(self, id: int) -> Any:
        return self._call(flows.retry_flow, models.FlowParams, id=id)

    def cancel(self, id: int, reason: str = "") -> Any:
        return self._call(flows.cancel_flow, models.FlowCancelParams, id=id, reason=reason)

    def status(self, id: int) -> Any:
        return self._call(views.flow_status, models.FlowParams, id=id)

    def statuses(self, id: int) -> dict[int, str]:
        """The statuses of the jobs of a flow."""
        return {progress["id"]: progress["status"] for progress in self.status(id)["jobs"]}

    def progress(self, flow_id: int, job_id: int) -> Any:
        return next(progress for progress in self.status(flow_id)["jobs"] if progress["id"] == job_id)

    def events_page(self, id: int, after: str = "0-0", limit: int = 1000) -> Any:
        return self._call(events.flow_events, models.FlowEventsParams, id=id, after=after, limit=limit)

    def events(self, id: int, after: str = "0-0", limit: int = 1000) -> list[Any]:
        """Every event kept, a page at a time."""
        found: list[Any] = []
        while page := self.events_page(id, after, limit)["events"]:
            found += page
            after = page[-1]["event_id"]
        return found

    def tail(self, id: int) -> list[Any]:
        """The newest log reports of a job."""
        reports: list[Any] = self._call(attempts.job_tail, models.JobLoadParams, caller_id=CALLER, id=id)["reports"]
        return reports

    # -- what people decide

    def cancel_job(self, id: int, reason: str = "") -> Any:
        return self._call(control.cancel_job, models.JobCancelParams, caller_id=CALLER, id=id, reason=reason)

    def pause_flow(self, id: int) -> Any:
        return self._call(control.pause_flow, models.FlowParams, id=id)

    def resume_flow(self, id: int) -> Any:
        return self._call(control.resume_flow, models.FlowParams, id=id)

    def pause(self, script_type: str | None = None) -> Any:
        """The whole context, or one type."""
        return self._call(control.pause_context, models.ContextPauseParams, script_type=script_type)

    def unpause(self, script_type: str | None = None) -> Any:
        return self._call(control.resume_context, models.ContextPauseParams, script_type=script_type)

    def drain(self, id: int) -> Any:
        return self._call(control.drain_runner, models.RunnerLoadParams, id=id)

    def undrain(self, id: int) -> Any:
        return self._call(control.undrain_runner, models.RunnerLoadParams, id=id)

    def cancel_many(self, filter: Mapping[str, Any], **members: Any) -> Any:
        return self._call(bulk.cancel_flows, models.FlowsCancelParams, filter=dict(filter), **members)

    def retry_many(self, filter: Mapping[str, Any], **members: Any) -> Any:
        return self._call(bulk.retry_flows, models.FlowsParams, filter=dict(filter), **members)

    def delete_many(self, filter: Mapping[str, Any], **members: Any) -> Any:
        return self._call(bulk.delete_flows, models.FlowsParams, filter=dict(filter), **members)

    def rerun(self, id: int, **members: Any) -> Any:
        return self._call(control.rerun_flow, models.FlowRerunParams, id=id, **members)

    # -- attempts

    def take(
        self, count: int = 1, runner: Runner = RUNNER, *, holder: str = "", number: int | None = None
    ) -> list[Attempt]:
        """Jobs for a runner, at most so many. `holder` and `number` say which take it is."""
        which = next(self._takes) if number is None else number
        taken = self.wire.run(self._take(runner, count, holder, str(which)))
        return [Attempt(given["job"]["caller_id"], given["job"]["id"], given["token"], given) for given in taken]

    def _take(self, runner: Runner, count: int, holder: str, number: str) -> Operation:
        _, assignments, effects = yield from take(self.keys, runner, count=count, holder=holder, number=number)
        return WithEffects(b"[" + b",".join(b"{" + members for _, members in assignments) + b"]", effects)

    def take_one(self, runner: Runner = RUNNER) -> Attempt:
        (attempt,) = self.take(1, runner)
        return attempt

    def heartbeat(self, attempt: Attempt) -> Any:
        return self._report(attempts.heartbeat, models.JobHeartbeatParams, attempt)

    def log(self, attempt: Attempt, *lines: str, stream: str = "stdout") -> Any:
        return self._report(attempts.log_lines, models.JobLogParams, attempt, lines=list(lines), stream=stream)

    def finish(self, attempt: Attempt, **result: str) -> Any:
        return self._report(attempts.finish_job, models.JobFinishParams, attempt, result=result)

    def fail(self, attempt: Attempt, error: str = "broken", **more: Any) -> Any:
        return self._report(attempts.fail_job, models.JobFailParams, attempt, error=error, **more)

    def resume(self, runner: Runner, *holding: str) -> list[str]:
        """A runner has reconnected; those of the tokens that are no longer valid."""
        gone: set[str] | None = None
        while gone is None:
            (reply,) = self.wire.ask(resume(self.keys, runner.runner_id, runner.runner_session, holding))
            gone, effects = read_resume(reply)
        self.wire.effects = [effect.decode() for effect in effects]
        return sorted(gone)

    def untake(self, holder: str, number: int) -> None:
        """Nobody will be told of what was taken."""
        self.wire.transition(untake(self.keys, holder, str(number)))

    def there(self, script_types: Sequence[str], ids: Collection[int], seconds: float = 1e9) -> None:
        """These runners wait for jobs of these types, for so long."""
        self.wire.transition(runners.runners_there(self.keys, seconds, script_types, ids))

    def run_all(self, runner: Runner | None = None) -> list[Attempt]:
        """A runner of all types takes and finishes until nothing is left; the attempts in their order."""
        everything = runner or Runner(script_types=("Osis", "Sal", "V", "Python"))
        done: list[Attempt] = []
        while taken := self.take(100, everything) or self.settle() or self.take(100, everything):
            for attempt in taken:
                self.finish(attempt)
            done += taken
        return done

    def settle(self) -> list[Attempt]:
        """Have everything done that is under way in slices. Returns nothing that was taken, so `or` may follow."""
        while self.under_way():
            self.tick()
        return []

    def under_way(self) -> list[str]:
        """The timers of what is under way in slices."""
        (names,) = self.wire.ask(("ZRANGE", f"{self.keys.prefix}timers", 0, -1))
        return [name.decode() for name in names if name.startswith((b"step:", b"ready:", b"free:"))]

    # -- messages and prerequisites

    def send(self, id: int) -> Any:
        return self._call(messages.send_message, models.MessageParams, caller_id=CALLER, id=id)

    def satisfy(self, name: str, flow_id: int | None = None, **more: Any) -> Any:
        scope = {} if flow_id is None else {"flow_id": flow_id}
        return self._call(
            prerequisites.satisfy_prerequisite, models.PrerequisiteSatisfyParams, name=name, **scope, **more
        )

    def revoke(self, name: str, flow_id: int | None = None) -> Any:
        scope = {} if flow_id is None else {"flow_id": flow_id}
        return self._call(prerequisites.revoke_prerequisite, models.PrerequisiteRevokeParams, name=name, **scope)

    def prerequisites(self, **page: Any) -> Any:
        return self._call(prerequisites.list_prerequisites, models.PrerequisiteListParams, **page)

    # -- time

    def tick(self) -> None:
        """See to the timers that are due."""
        self.wire.transition(upkeep.tick(self.keys, TICK_LIMIT))

    def later(self, seconds: float) -> None:
        """Let time pass, in which the coordinator sees to its timers."""
        self.pass_time(seconds)
        self.tick()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, unseen by the coordinator."""
        self.wire.ask(("HINCRBY", f"{self.keys.prefix}engine", "skew", int(seconds * 1000)))

    # -- how methods are called

    def _call(self, operation: Any, params: type[models.Model], **members: Any) -> Any:
        begun = operation(self.keys, params.model_validate({"context_id": self.id, **members}))
        return self.wire.run(alone(begun) if isinstance(begun, tuple) else begun)

    def _report(self, operation: Any, params: type[models.Model], attempt: Attempt, **members: Any) -> Any:
        return self._call(operation, params, caller_id=attempt.caller_id, id=attempt.id, token=attempt.token, **members)

    def _flow(self, id: int, jobs: Collection[int], **members: Any) -> dict[str, Any]:
        return {
            "id": id,
            "caller_id": CALLER,
            "context_id": self.id,
            "jobs": list(jobs),
            "env_vars": {},
            **members,
        }


class Begun:
    """A method that was called, and is done slice by slice."""

    def __init__(self, context: Context, operation: Operation) -> None:
        self._context = context
        self._operation = operation
        self._given: Any = None
        self.answer: Any = None
        self.pauses = 0

    def go_on(self) -> bool:
        """Do a slice. False: that was the last one, and there is an answer."""
        try:
            step = self._operation.send(self._given)
        except StopIteration as finished:
            ended = finished.value
            self.answer = from_json(ended.answer if isinstance(ended, WithEffects) else ended)
            return False
        if isinstance(step, Pause):
            self.pauses += 1
            self._given = None
        else:
            assert isinstance(step, list)
            self._given = self._context.wire.ask(*step)
        return True

    def do(self, slices: int) -> bool:
        """Do so many, or all there are. Whether there may be more."""
        return all(self.go_on() for _ in range(slices))

    def finish(self) -> Any:
        while self.go_on():
            pass
        return self.answer
