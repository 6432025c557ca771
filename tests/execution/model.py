"""What specs/execution.md says, as a small program: jobs, runs, attempts and timers in memory, no store.

Time is a number that only `advance` moves. Nothing here is concurrent; each method is one transition.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Attempt", "Job", "Model", "Refused", "Run"]

LONGEST_PAUSE: Final = 60
TIMEOUT_GRACE: Final = 5
LATE: Final = 30
LOST_RETRIES: Final = 3
ELSEWHERE: Final = 5  # seconds a retry is kept for other runners, if there are any
FAILED_IN_A_ROW: Final = 5  # attempts after which a runner gets less, if there are others
LONGEST_HOLD: Final = 60
POLLING: Final = "job.take"  # the session of a runner without a connection
CALLER: Final = 7


class Refused(Exception):
    """A call is answered with this error and changes nothing."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class Attempt:
    """A running attempt. `deadline` is when the job's timeout is up."""

    token: str
    number: int
    runner: int
    session: str
    lease: int
    expires: float
    deadline: float | None


@dataclass
class Job:
    """A job as stored, and as planned by the run it belongs to.

    Attributes:
        owner: the run that has it, or had it last.
        parents: what it depended on when that run was started.
        waits: what of that is not met.
        names: the prerequisites it had then, until it is released.
        most_attempts: as many as it may ever have had in one run.
        last_runner: who had its last attempt; kept: who is not to have the next one, and until when.
        lost: of its attempts in this run, those that were lost.
        is_queued: Dispatched, and not pausing between attempts.
        reports: of the last attempts that finished and failed, their tokens and the answers.
        last_attempt: the token of its last attempt in this run.
        late: an attempt that was cancelled or timed out: until when its runner may hand in output, and its run.
    """

    id: int
    script_type: str
    depends: tuple[int, ...] = ()
    prerequisites: tuple[str, ...] = ()
    retries: int = 0
    lost_retries: int = LOST_RETRIES
    most_attempts: int = 0
    timeout: int = 0
    env_vars: Mapping[str, str] = field(default_factory=dict)
    status: str = "Dispatched"
    result: dict[str, str] = field(default_factory=dict)
    owner: Run | None = None
    parents: frozenset[int] = frozenset()
    waits: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    attempt: int = 0
    lost: int = 0
    live: Attempt | None = None
    is_queued: bool = False
    pause_ends: float | None = None
    last_runner: int = 0
    kept: tuple[int, float] | None = None
    reports: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    last_attempt: str | None = None
    late: tuple[float, Attempt, Run] | None = None

    @property
    def name(self) -> str:
        return f"job:{CALLER}:{self.id}"

    def is_run_with(self, spec: Mapping[str, Any]) -> bool:
        return (self.script_type, self.env_vars) == (spec["script_type"], spec["env_vars"])

    def is_same(self, spec: Mapping[str, Any]) -> bool:
        content = (set(spec["depends"]), set(spec["prerequisites"]), spec["retries"], spec["timeout"])
        own = (set(self.depends), set(self.prerequisites), self.retries, self.timeout)
        return own == content and self.is_run_with(spec)


@dataclass
class Trouble:
    """What is wrong with a runner: how often in a row it failed, or lost, what it had; until when it gets nothing."""

    failed: int = 0
    lost: int = 0
    till: float = 0.0

    def hold_back(self, now: float, first: float, times: int) -> None:
        self.till = now + min(first * 2**times, LONGEST_HOLD)


@dataclass(eq=False)
class Run:
    """A flow, or a message.

    Attributes:
        jobs: what its record lists.
        plan: what it was started with, in order; leaves: of that, what nothing depended on.
        children: a job of the plan → those that wait for it; unfinished: those of the plan it has yet to finish.
        is_active: jobs of it may start. None: it was never started, nor cancelled.
        is_paused: but none of them is handed out.
        limits: of a message: the names of its timers → seconds.
    """

    name: str
    jobs: tuple[int, ...]
    status: str = "Dispatched"
    transport: str | None = None
    result: dict[str, str] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    plan: tuple[int, ...] = ()
    leaves: tuple[int, ...] = ()
    children: dict[int, list[int]] = field(default_factory=dict)
    unfinished: set[int] = field(default_factory=set)
    is_active: bool | None = None
    is_paused: bool = False
    embedded: Sequence[Mapping[str, Any]] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    timers: dict[str, float] = field(default_factory=dict)

    @property
    def is_flow(self) -> bool:
        return self.name.startswith("flow:")


class Model:
    """One context.

    Attributes:
        events: what a flow's stream gained in this step: the flow's name, kind, status, job, attempt, runner, reason.
        stopped: tokens of attempts whose runner is told to stop, in this step.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.jobs: dict[int, Job] = {}
        self.runs: dict[str, Run] = {}
        self.satisfied: set[tuple[str, str]] = set()  # a prerequisite, and the flow it is satisfied for; '': all
        self.there: set[int] = set()  # runners that wait for jobs
        self.troubles: dict[int, Trouble] = {}
        self.events: list[dict[str, Any]] = []
        self.stopped: list[str] = []

    # -- what there is

    def begin(self) -> None:
        """A new step."""
        self.events, self.stopped = [], []

    def ready(self, types: Collection[str], runner: int | None = None) -> set[int]:
        """Jobs a runner of these types, or this one, may be handed."""
        return {
            job.id
            for job in self.jobs.values()
            if job.is_queued
            and job.script_type in types
            and not self._is_kept_from(job, runner)
            and not self._owner(job).is_paused
        }

    def _is_kept_from(self, job: Job, runner: int | None) -> bool:
        if job.kept is None or runner is None or not self.there - {runner}:
            return False
        other, till = job.kept
        return other == runner and till > self.now

    def share(self, runner: int, session: str, count: int) -> int:
        """How many of `count` jobs a runner that asks for them may be handed."""
        trouble = self.troubles.get(runner)
        if trouble is None:
            return count
        is_silent = trouble.lost > 0 and session == POLLING
        is_broken = trouble.failed >= FAILED_IN_A_ROW and bool(self.there - {runner})
        if not is_silent and not is_broken:
            return count
        if trouble.till > self.now:
            return 0
        if is_broken:
            trouble.hold_back(self.now, 1, trouble.failed - FAILED_IN_A_ROW)
        return 1

    def _heard(self, runner: int, *, ended_well: bool = False) -> None:
        trouble = self.troubles.get(runner)
        if trouble is not None:
            trouble.lost = 0
            if ended_well or not trouble.failed:
                del self.troubles[runner]

    def timers(self) -> dict[str, float]:
        """Every timer that is set → when it is due."""
        timers = {f"lease:{job.name}": job.live.expires for job in self.jobs.values() if job.live}
        timers |= {f"retry:{job.name}": job.pause_ends for job in self.jobs.values() if job.pause_ends is not None}
        for run in self.runs.values():
            timers |= {f"{kind}:{run.name}": at for kind, at in run.timers.items()}
        return timers

    def awaiting(self) -> dict[tuple[str, str], set[str]]:
        """Runs and prerequisites → the jobs that were not released yet and name them."""
        awaiting: dict[tuple[str, str], set[str]] = {}
        for job in self.jobs.values():
            for name in job.names:
                awaiting.setdefault((self._owner(job).name, name), set()).add(job.name)
        return awaiting

    def waiting(self) -> dict[str, int]:
        """Prerequisites → how many jobs wait for them."""
        waiting: dict[str, int] = {}
        for (run, name), jobs in self.awaiting().items():
            if not self._is_met(run, name):
                waiting[name] = waiting.get(name, 0) + len(jobs)
        return waiting

    def _is_met(self, run: str, name: str) -> bool:
        return not {(name, ""), (name, run)}.isdisjoint(self.satisfied)

    # -- records

    def create_job(self, spec: Mapping[str, Any]) -> None:
        job = self.jobs.get(spec["id"])
        if job is not None and job.status in ("Started", "Finished", "Error") and not job.is_run_with(spec):
            started = [run for run in self._users(job.id) if job.id in run.plan or job.owner is run]
            # A changed record that lists the job is no use of it before the run starts again.
            if job.live or any(run.is_active for run in started):
                raise Refused("Conflict")
            del self.jobs[job.id]
        self._store(spec)

    def _store(self, spec: Mapping[str, Any]) -> None:
        job = self.jobs.setdefault(spec["id"], Job(spec["id"], spec["script_type"]))
        job.env_vars = spec["env_vars"]
        job.depends, job.prerequisites = tuple(spec["depends"]), tuple(spec["prerequisites"])
        job.retries, job.timeout = spec["retries"], spec["timeout"]
        job.lost_retries = spec.get("lost_retries", job.lost_retries)
        job.most_attempts = max(job.most_attempts, 1 + job.retries + job.lost_retries)

    def create_flow(self, id: int, jobs: Sequence[int]) -> None:
        name = f"flow:{id}"
        self.runs.setdefault(name, Run(name, ())).jobs = tuple(dict.fromkeys(jobs))

    def create_message(self, id: int, jobs: Sequence[Mapping[str, Any]], limits: Mapping[str, int]) -> None:
        name = f"message:{CALLER}:{id}"
        run = self.runs.setdefault(name, Run(name, ()))
        run.embedded, run.limits = jobs, limits

    def delete(self, name: str) -> int:
        run = self.runs.get(name)
        if run is None:
            return 0
        ids = dict.fromkeys((*run.plan, *run.jobs))
        jobs = [self.jobs[id] for id in ids if id in self.jobs and self.jobs[id].owner in (None, run)]
        if run.is_active or any(job.live for job in jobs):
            raise Refused("Conflict")
        needed = {job.id: [other for other in self._users(job.id) if other is not run] for job in jobs}
        if any(other.is_active for others in needed.values() for other in others):
            raise Refused("Conflict")
        for job in jobs:
            if needed[job.id] and job.owner is run:
                job.owner = None
                if job.status != "Finished":
                    job.attempt = 0
        jobs = [job for job in jobs if not needed[job.id]]
        self.satisfied = {(prerequisite, flow) for prerequisite, flow in self.satisfied if flow != name}
        del self.runs[name]
        for job in jobs:
            del self.jobs[job.id]
        return 1 + len(jobs)

    def delete_job(self, id: int) -> int:
        job = self.jobs.get(id)
        if job is None:
            return 0
        if job.live or any(run.is_active for run in self._users(id)):
            raise Refused("Conflict")
        del self.jobs[id]
        return 1

    def _users(self, id: int) -> list[Run]:
        """The runs that list a job, were started with it, or have it."""
        return [run for run in self.runs.values() if id in (*run.jobs, *run.plan) or self.jobs[id].owner is run]

    # -- runs

    def start(self, id: int) -> None:
        run = self._flow(id)
        if run.status == "Dispatched":
            self._plan(run, run.jobs)
            self._launch(run, run.jobs)

    def retry(self, id: int) -> None:
        run = self._flow(id)
        if run.status == "Started":
            return
        if run.status != "Error":
            raise Refused("Conflict")
        self._plan(run, run.jobs)
        self._go_on_with(run)

    def _go_on_with(self, run: Run) -> None:
        """A flow that has ended is started again."""
        for dropped in run.plan:
            job = self.jobs.get(dropped)
            if job is not None and dropped not in run.jobs and job.owner is run:
                self._stop(run, job, "the flow no longer lists it")
                job.owner, job.attempt, job.lost, job.last_attempt = None, 0, 0, None
        run.result = {}
        self._launch(run, run.jobs)

    def submit(self, id: int, specs: Sequence[Mapping[str, Any]]) -> None:
        self._check_dag({spec["id"]: spec["depends"] for spec in specs})
        run = self.runs.get(f"flow:{id}")
        if run is not None and set(run.jobs) != {spec["id"] for spec in specs}:
            raise Refused("Conflict")
        if run is not None and run.status != "Dispatched":
            if any(spec["id"] in self.jobs and not self.jobs[spec["id"]].is_same(spec) for spec in specs):
                raise Refused("Conflict")
            return
        self._refuse_taken(run, specs)
        self.create_flow(id, [spec["id"] for spec in specs])
        self._store_unfinished(specs)
        run = self._flow(id)
        self._launch(run, run.jobs)

    def cancel(self, id: int) -> None:
        run = self._flow(id)
        if run.status == "Finished":
            raise Refused("Conflict")
        self._cancel(run, "cancelled")

    def cancel_job(self, id: int) -> None:
        job = self.jobs.get(id)
        if job is None:
            raise Refused("NotFound")
        if job.status == "Error":
            return
        run = job.owner
        if job.status == "Finished" or run is None or not (job.live or run.is_active):
            raise Refused("Conflict")
        if job.live:
            self._stop(run, job, "cancelled")
        else:
            job.status, job.is_queued, job.pause_ends = "Error", False, None
            job.waits, job.names = set(), set()
            self._emit(run, job, "Error", reason="cancelled")
        if run.is_active:
            self._fail_run(run, f"job {id}: cancelled", job)

    def pause(self, id: int, pauses: bool) -> None:
        run = self._flow(id)
        if not run.is_active:
            raise Refused("Conflict")
        if run.is_paused != pauses:
            run.is_paused = pauses
            self._emit(run, None, "Started", is_paused=pauses)

    def rerun(self, id: int, from_job: int | None) -> None:
        run = self._flow(id)
        if from_job is not None and from_job not in run.jobs:
            raise Refused("InvalidParams")
        if from_job is not None and any(listed not in self.jobs for listed in run.jobs):
            raise Refused("NotFound")
        if run.status not in ("Finished", "Error"):
            raise Refused("Conflict")
        again = set(run.jobs if from_job is None else self._behind(from_job, run.jobs))
        for listed in run.jobs:
            job = self.jobs.get(listed)
            if job is None:
                raise Refused("NotFound")
            if self._is_taken(job, run) or (listed in again and self._is_needed(job, run)):
                raise Refused("Conflict")
        self._check_dag({listed: self.jobs[listed].depends for listed in run.jobs})
        for listed in again:
            job = self.jobs[listed]
            if job.status == "Finished":
                job.status, job.result = "WaitingForPrerequisites", {}
                job.reports.pop("finish", None)
        self._go_on_with(run)

    def _behind(self, first: int, ids: Collection[int]) -> set[int]:
        found = {first}
        while more := {id for id in ids if found & {*self.jobs[id].depends}} - found:
            found |= more
        return found

    def _is_needed(self, job: Job, run: Run) -> bool:
        """Whether a job runs, or has finished and another run that is active needs what it did."""
        others = [other for other in self.runs.values() if other is not run and other.is_active]
        is_needed = any(job.id in other.plan or job.owner is other for other in others)
        return job.live is not None or (job.status == "Finished" and is_needed)

    def send(self, id: int) -> None:
        run = self.runs.get(f"message:{CALLER}:{id}")
        if run is None:
            raise Refused("NotFound")
        if run.is_active is not None:
            return
        self._check_dag({spec["id"]: spec["depends"] for spec in run.embedded})
        self._refuse_taken(run, run.embedded)
        self._store_unfinished(run.embedded)
        run.transport = "Queued"
        run.timers = {kind: self.now + run.limits[kind] for kind in ("ack", "total") if run.limits[kind]}
        self._launch(run, [spec["id"] for spec in run.embedded])

    def satisfy(self, name: str, flow: int | None = None) -> int:
        run = "" if flow is None else self._flow(flow).name
        waited = [
            job
            for (other, waits_for), jobs in self.awaiting().items()
            if waits_for == name and run in ("", other) and not self._is_met(other, name)
            for job in jobs
        ]
        self.satisfied.add((name, run))
        for job in self.jobs.values():
            if name in job.names:
                self._look(job)
        return len(waited)

    def revoke(self, name: str, flow: int | None = None) -> bool:
        run = "" if flow is None else self._flow(flow).name
        was_satisfied = (name, run) in self.satisfied
        self.satisfied.discard((name, run))
        return was_satisfied

    # -- attempts

    def take(self, id: int, token: str, runner: int, session: str, lease: int) -> Attempt:
        """A runner was handed a job."""
        job = self.jobs[id]
        run = self._owner(job)
        assert job.is_queued
        assert run.is_active
        assert not job.waits
        assert not job.names
        job.attempt += 1
        deadline = self.now + job.timeout + TIMEOUT_GRACE if job.timeout else None
        expires = self.now + lease if deadline is None else min(self.now + lease, deadline)
        job.status, job.is_queued, job.last_runner, job.kept = "Started", False, runner, None
        job.live = Attempt(token, job.attempt, runner, session, lease, expires, deadline)
        job.last_attempt = token
        if not run.is_flow and run.status == "Dispatched":
            run.status, run.transport = "Acknowledged", "Sent"
            run.timers.pop("ack", None)
            if run.limits["result"]:
                run.timers["result"] = self.now + run.limits["result"]
        self._emit(run, job, "Started", attempt=job.live)
        return job.live

    def heartbeat(self, id: int, token: str) -> None:
        job, attempt = self._running(id, token)
        self._heard(attempt.runner)
        attempt.expires = self.now + attempt.lease
        if attempt.deadline is not None:
            attempt.expires = min(attempt.expires, attempt.deadline)
        self._deliver(job)

    def log(self, id: int, token: str, lines: list[str]) -> None:
        late = self._late(id, token)
        if late is not None:
            attempt, run = late
        else:
            self.heartbeat(id, token)
            job, attempt = self._running(id, token)
            run = self._owner(job)
        if run.is_flow:
            event = {"kind": "log", "job_id": id, "attempt": attempt.number, "stream": "stdout", "lines": lines}
            self.events.append({"flow": run.name, **event})
        else:
            run.logs += lines

    def finish(self, id: int, token: str, result: dict[str, str]) -> dict[str, Any]:
        again = self._reported(id, "finish", token)
        if again is not None:
            return again
        job, attempt = self._running(id, token)
        run = self._owner(job)
        job.status, job.result, job.live = "Finished", result, None
        answer = {"status": "Finished", "attempt": attempt.number}
        job.reports["finish"] = (token, answer)
        self._heard(attempt.runner, ended_well=True)
        self._deliver(job)
        self._emit(run, job, "Finished", attempt=attempt)
        if run.is_active:
            for child in run.children[id]:
                self._meet(self.jobs[child], id)
            run.unfinished.remove(id)
            if not run.unfinished:
                self._finish_run(run)
        return answer

    def fail(self, id: int, token: str, reason: str, may_retry: bool, is_lost: bool = False) -> dict[str, Any]:
        again = self._reported(id, "fail", token)
        if again is not None:
            return again
        late = self._late(id, token)
        if late is not None and self.jobs[id].last_attempt == token:
            return {"status": self.jobs[id].status, "attempt": late[0].number}
        job, attempt = self._running(id, token)
        self._heard(attempt.runner)
        if not is_lost:
            trouble = self.troubles.setdefault(attempt.runner, Trouble())
            trouble.failed += 1
            if trouble.failed >= FAILED_IN_A_ROW:
                trouble.hold_back(self.now, 1, trouble.failed - FAILED_IN_A_ROW)
        self._deliver(job)
        self._fail(job, attempt, reason, may_retry or is_lost, is_lost)
        answer = {"status": job.status, "attempt": attempt.number}
        job.reports["fail"] = (token, answer)
        return answer

    def resume(self, runner: int, session: str, holding: Collection[str]) -> list[str]:
        live = {job.live.token: job for job in self.jobs.values() if job.live}
        its = {
            token
            for token, job in live.items()
            if job.live and job.live.runner == runner and job.live.session in (session, "", POLLING)
        }
        has_session = session not in ("", POLLING)
        for token, job in live.items():
            attempt = job.live
            assert attempt is not None
            if token not in holding and has_session and (attempt.runner, attempt.session) == (runner, session):
                self.give_back(job.id)
        return sorted({*holding} - its)  # what others have is none of its business

    def give_back(self, id: int) -> None:
        """An attempt never reached its runner."""
        job = self.jobs[id]
        run = self._owner(job)
        job.live = job.last_attempt = None
        job.attempt -= 1
        job.is_queued = bool(run.is_active)
        job.status = "Dispatched" if run.is_active else "WaitingForPrerequisites"
        self._emit(run, job, job.status)

    # -- time

    def due(self) -> set[str]:
        return {name for name, at in self.timers().items() if at <= self.now}

    def act_on(self, names: Iterable[str]) -> None:
        """See to timers that are due, in this order."""
        for name in names:
            kind, _, record = name.partition(":")
            if kind == "lease":
                self._lease_is_up(self.jobs[int(record.rpartition(":")[2])])
            elif kind == "retry":
                self._pause_is_over(self.jobs[int(record.rpartition(":")[2])])
            else:
                self._limit_is_up(self.runs[record], kind)

    def _lease_is_up(self, job: Job) -> None:
        attempt = job.live
        if attempt is None:
            return
        is_lost = attempt.deadline is None or attempt.deadline > self.now
        reason = f"timed out after {job.timeout} s"
        if is_lost:
            reason = f"lost: runner {attempt.runner} gave no sign of life for {attempt.lease} s"
        else:
            job.late = (self.now + LATE, attempt, self._owner(job))
        self.stopped.append(attempt.token)
        if is_lost and attempt.session == POLLING:
            trouble = self.troubles.setdefault(attempt.runner, Trouble())
            trouble.lost += 1
            trouble.hold_back(self.now, max(1, attempt.lease), trouble.lost - 1)
        self._fail(job, attempt, reason, may_retry=True, is_lost=is_lost)

    def _pause_is_over(self, job: Job) -> None:
        if job.pause_ends is not None:
            job.pause_ends, job.is_queued = None, True
            if self.there - {job.last_runner}:
                job.kept = (job.last_runner, self.now + ELSEWHERE)

    def _limit_is_up(self, run: Run, kind: str) -> None:
        run.timers.pop(kind, None)
        if not run.is_active:
            return
        limit = run.limits[kind]
        reasons = {
            "ack": f"not acknowledged within {limit} s",
            "result": f"no result within {limit} s of the acknowledgement",
            "total": f"not processed within {limit} s",
        }
        self._cancel(run, reasons[kind])

    # -- how runs go on and end

    def _launch(self, run: Run, ids: Sequence[int]) -> None:
        run.plan = tuple(dict.fromkeys(ids))
        run.is_active = True
        run.children = {id: [] for id in run.plan}
        jobs = [self.jobs[id] for id in run.plan]
        inner = {parent for job in jobs for parent in job.depends}
        run.leaves = tuple(id for id in run.plan if id not in inner)
        startable = [job for job in jobs if job.status not in ("Started", "Finished")]
        for job in startable:
            job.parents = frozenset(job.depends)
            for parent in job.parents:
                run.children[parent].append(job.id)
        if run.is_flow:
            run.status = "Started"
            self._emit(run, None, "Started")
        for job in startable:
            unmet = {parent for parent in job.parents if self.jobs[parent].status != "Finished"}
            job.owner, job.attempt, job.lost, job.last_attempt = run, 0, 0, None
            job.waits, job.names = unmet, set(job.prerequisites)
        for job in startable:
            job.is_queued = self._may_start(job)
            job.status = "Dispatched" if job.is_queued else "WaitingForPrerequisites"
            if job.is_queued:
                job.names = set()
        run.unfinished = {job.id for job in jobs if job.status != "Finished"}
        if not run.unfinished:
            self._finish_run(run)

    def _meet(self, job: Job, parent: int) -> None:
        if parent in job.waits:
            job.waits.remove(parent)
            self._look(job)

    def _may_start(self, job: Job) -> bool:
        return not job.waits and all(self._is_met(self._owner(job).name, name) for name in job.names)

    def _look(self, job: Job) -> None:
        """Release a job that waits for nothing any more."""
        if self._may_start(job):
            job.status, job.is_queued, job.names = "Dispatched", True, set()
            self._emit(self._owner(job), job, "Dispatched")

    def _finish_run(self, run: Run) -> None:
        run.is_active, run.is_paused, run.timers = False, False, {}
        if run.is_flow:
            run.status = "Finished"
            run.result = {str(id): self._result_text(id) for id in run.leaves}
            self._emit(run, None, "Finished")
        else:
            run.status, run.transport = "Processed", "Read"

    def _result_text(self, id: int) -> str:
        return json.dumps(self.jobs[id].result if id in self.jobs else {}, separators=(",", ":"))

    def _fail(self, job: Job, attempt: Attempt, reason: str, may_retry: bool, is_lost: bool) -> None:
        run = self._owner(job)
        job.live = None
        job.lost += is_lost
        has_more = job.lost <= job.lost_retries if is_lost else attempt.number - job.lost <= job.retries
        if may_retry and run.is_active and has_more:
            job.status, job.pause_ends = "Dispatched", self.now + LONGEST_PAUSE
            self._emit(run, job, "Dispatched", attempt=attempt, reason=reason, is_lost=is_lost)
            return
        job.status = "Error"
        self._emit(run, job, "Error", attempt=attempt, reason=reason, is_lost=is_lost)
        if run.is_active:
            self._fail_run(run, f"job {job.id}: {reason}", job)

    def _fail_run(self, run: Run, reason: str, failed: Job | None = None) -> None:
        run.is_active, run.is_paused, run.timers, run.status = False, False, {}, "Error"
        if run.is_flow:
            run.result = {"error": reason} | ({"job": str(failed.id)} if failed else {})
            self._emit(run, None, "Error", reason=reason)
        else:
            run.transport = "Failed"
            run.logs.append(reason)
        for id in run.plan:
            job = self.jobs.get(id)
            if job is not None and job.owner is run and job.status in ("Dispatched", "WaitingForPrerequisites"):
                job.status, job.is_queued, job.pause_ends = "WaitingForPrerequisites", False, None
                job.waits, job.names = set(), set()

    def _cancel(self, run: Run, reason: str) -> None:
        for id in run.plan:
            if id in self.jobs:
                self._stop(run, self.jobs[id], reason)
        if run.is_active is not False:
            self._fail_run(run, reason)

    def _stop(self, run: Run, job: Job, reason: str) -> None:
        attempt = job.live
        if attempt is not None and job.owner is run:
            job.live, job.status = None, "Error"
            job.late = (self.now + LATE, attempt, run)
            self.stopped.append(attempt.token)
            self._emit(run, job, "Error", attempt=attempt, reason=reason)

    def _deliver(self, job: Job) -> None:
        run = self._owner(job)
        if run.transport == "Sent":
            run.transport = "Delivered"

    # -- what is refused

    def _plan(self, run: Run, ids: Sequence[int]) -> None:
        for id in ids:
            if id not in self.jobs:
                raise Refused("NotFound")
            if self._is_taken(self.jobs[id], run):
                raise Refused("Conflict")
        self._check_dag({id: self.jobs[id].depends for id in ids})

    def _refuse_taken(self, run: Run | None, specs: Sequence[Mapping[str, Any]]) -> None:
        for spec in specs:
            job = self.jobs.get(spec["id"])
            if job is not None and (self._is_taken(job, run) or (job.status == "Finished" and not job.is_same(spec))):
                raise Refused("Conflict")

    def _store_unfinished(self, specs: Sequence[Mapping[str, Any]]) -> None:
        for spec in specs:
            if spec["id"] not in self.jobs or self.jobs[spec["id"]].status != "Finished":
                self._store(spec)

    def _is_taken(self, job: Job, run: Run | None) -> bool:
        owner = job.owner
        if owner is None or owner is run:
            return False
        return job.live is not None or (bool(owner.is_active) and job.status not in ("Finished", "Error"))

    def _check_dag(self, depends: Mapping[int, Collection[int]]) -> None:
        if any(parent not in depends for parents in depends.values() for parent in parents):
            raise Refused("DagMissingDependency")
        unplaced = {id: set(parents) for id, parents in depends.items()}
        while placed := [id for id, parents in unplaced.items() if not parents & unplaced.keys()]:
            for id in placed:
                del unplaced[id]
        if unplaced:
            raise Refused("DagCycleDetected")

    def _flow(self, id: int) -> Run:
        if f"flow:{id}" not in self.runs:
            raise Refused("NotFound")
        return self.runs[f"flow:{id}"]

    def _owner(self, job: Job) -> Run:
        assert job.owner is not None
        return job.owner

    def _running(self, id: int, token: str) -> tuple[Job, Attempt]:
        job = self.jobs.get(id)
        if job is None:
            raise Refused("NotFound")
        if job.live is None or job.live.token != token:
            raise Refused("StaleToken")
        return job, job.live

    def _late(self, id: int, token: str) -> tuple[Attempt, Run] | None:
        """An attempt that was ended here just before, and its run as far as that is still there."""
        job = self.jobs.get(id)
        if job is None or job.late is None:
            return None
        until, attempt, run = job.late
        is_open = attempt.token == token and self.now < until and run.name in self.runs
        return (attempt, run) if is_open else None

    def _reported(self, id: int, how: str, token: str) -> dict[str, Any] | None:
        job = self.jobs.get(id)
        if job is None or how not in job.reports or job.reports[how][0] != token:
            return None
        return job.reports[how][1]

    def _emit(
        self,
        run: Run,
        job: Job | None,
        status: str,
        *,
        attempt: Attempt | None = None,
        reason: str | None = None,
        is_lost: bool = False,
        is_paused: bool | None = None,
    ) -> None:
        if run.is_flow:
            event: dict[str, Any] = {"flow": run.name, "kind": "job" if job else "flow", "status": status}
            event |= {"job_id": job.id} if job else {}
            event |= {"attempt": attempt.number, "runner_id": attempt.runner} if attempt else {}
            event |= {"reason": reason} if reason is not None else {}
            event |= {"lost": True} if is_lost else {}
            event |= {"paused": is_paused} if is_paused is not None else {}
            self.events.append(event)
