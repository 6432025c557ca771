"""A flow as it is now: a report, and the events after it. Pure: no terminal, no network, no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator import dag
from coordinator.client.followers import DELETED
from coordinator.errors import CoordinatorError
from coordinator.models import FlowEvent, FlowReport, JobProgress

__all__ = ["ENDED", "FlowState", "JobState", "Names", "duration", "named"]

ENDED: Final = ("Finished", "Error")

Names = Mapping[int, str]
"""The names of jobs, by their ids."""

_NUMBERED: Final = re.compile(r"\bjob (?:\d+/)?(\d+)\b")


def named(text: str, names: Names) -> str:
    """What the coordinator says of jobs, which it knows by number, with the names they have."""

    def name(found: re.Match[str]) -> str:
        known = names.get(int(found[1]))
        return found[0] if known is None else f"job {known}"

    return _NUMBERED.sub(name, text)


@dataclass
class JobState:
    """`name` is the id where there is none; `line` is the last one logged; times are the store's, in ms."""

    id: int
    name: str
    status: str
    script_type: str = ""
    depends: Sequence[int] = ()
    attempt: int = 0
    runner: str = ""
    started_at: int | None = None
    ended_at: int | None = None
    failure: str = ""
    line: str = ""

    @property
    def shown_status(self) -> str:
        return "Waiting" if self.status == "WaitingForPrerequisites" else self.status

    def seconds(self, now: int) -> float | None:
        """How long it took, or has taken until `now`; None if it has not begun."""
        if self.started_at is None or self.status not in ("Started", *ENDED):
            return None
        ended = self.ended_at if self.status in ENDED and self.ended_at is not None else now
        return max(0.0, (ended - self.started_at) / 1000)


class FlowState:
    """Attributes: `levels`, the jobs by DAG level; `jobs`, the same by id; the flow's `status` and `reason`; `missing`,
    the ids of jobs that it lists and that are not there."""

    def __init__(self, report: FlowReport, names: Names) -> None:
        self.id = report.flow.id
        self.status: str = report.flow.status
        self._names = names
        self.reason = named(report.flow.result.get("error", ""), names) if report.flow.status == "Error" else ""
        self.started_at = report.started_at
        self.ended_at = report.ended_at
        self.missing = report.missing or []
        self.jobs = {job.id: _job(job, names) for job in report.jobs}
        self.levels = [[self.jobs[id] for id in level] for level in _levels(report)]

    def blamed(self) -> dict[int, str]:
        """By the ids of the jobs that do not run because one that they wait for has failed: the name of that one."""
        blame: dict[int, str] = {}
        for level in self.levels:
            for job in level:
                if job.status not in (*ENDED, "Started"):
                    parents = [self.jobs[id] for id in job.depends if id in self.jobs]
                    found = [parent.name if parent.status == "Error" else blame.get(parent.id) for parent in parents]
                    first = next((name for name in found if name is not None), None)
                    if first is not None:
                        blame[job.id] = first
        return blame

    def apply(self, event: FlowEvent) -> None:
        if event.kind == "flow":
            self._flow_changed(event)
            return
        job = self.jobs.get(event.job_id if event.job_id is not None else -1)
        if job is None:
            return
        if event.kind == "log":
            job.line = next((line for line in reversed(event.lines or []) if line.strip()), job.line)
        else:
            _job_changed(job, event)

    def _flow_changed(self, event: FlowEvent) -> None:
        self.status = event.status or self.status
        self.reason = named(event.reason or "", self._names)
        if self.status in ENDED:
            self.ended_at = event.at
        if self.status in (*ENDED, DELETED):
            return
        self.started_at, self.ended_at = event.at, None
        for job in self.jobs.values():
            if job.status == "Error":  # tried again, which has no event of its own
                job.status, job.attempt, job.failure = "Dispatched", 0, ""


def _job_changed(job: JobState, event: FlowEvent) -> None:
    job.status = event.status or job.status
    job.attempt = event.attempt or job.attempt
    job.runner = event.topic or job.runner
    job.failure = event.reason or ""
    if job.status == "Started":
        job.started_at, job.ended_at = event.at, None
    elif job.status in ENDED:
        job.ended_at = event.at


def _job(progress: JobProgress, names: Names) -> JobState:
    return JobState(
        id=progress.id,
        name=names.get(progress.id, str(progress.id)),
        status=progress.status,
        script_type=progress.script_type,
        depends=progress.depends,
        attempt=progress.attempt,
        runner="" if progress.runner_id is None else f"runner {progress.runner_id}",
        started_at=progress.started_at,
        ended_at=progress.ended_at,
        failure=(progress.failure or "") if progress.status != "Finished" else "",
    )


def _levels(report: FlowReport) -> list[list[int]]:
    missing = {*(report.missing or ())}
    try:
        return dag.build({job.id: [id for id in job.depends if id not in missing] for job in report.jobs}).levels
    except CoordinatorError:  # its jobs were changed since it started
        return [[job.id for job in report.jobs]]


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
