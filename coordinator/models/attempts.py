"""The types of attempts at jobs: how runners get them, and what they say of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

from coordinator.models.base import (
    FIRST_FAULT,
    LEFT_OUT_WHEN_UNSET,
    InBatches,
    Milliseconds,
    Model,
    OptionalId,
    OptionalText,
    OptionalTime,
    StringList,
    StringMap,
    UInt32,
)
from coordinator.models.contract import Job, JobStatus, ScriptType
from coordinator.models.prerequisites import MetPrerequisite

MAX_CAPACITY = 10_000
MAX_WAIT = 60.0
MAX_LOG_LINES = 1_000

Capacity = Annotated[int, Field(ge=1, le=MAX_CAPACITY, description="Jobs it may hold at once")]
Lease = Annotated[float, Field(ge=0.1, le=3600, strict=False, description="Seconds a job is held without a heartbeat")]
Token = Annotated[str, Field(max_length=64, description="Names one attempt; valid until it ends or is lost")]
ScriptTypes = Annotated[list[ScriptType], FIRST_FAULT, Field(min_length=1, max_length=8)]
LogStream = TypeAliasType("LogStream", Literal["stdout", "stderr"])
AttemptOutcomeKind = TypeAliasType(
    "AttemptOutcomeKind", Literal["running", "finished", "failed", "lost", "timed_out", "cancelled"]
)


class RunnerSubscribeParams(Model):
    context_id: UInt32
    runner_id: UInt32
    script_types: ScriptTypes
    capacity: Capacity
    lease: Lease = 30.0
    session: Annotated[
        str, Field(max_length=64, description="Names the runner's process, the same after it reconnects")
    ] = ""
    holding: Annotated[
        list[Token], FIRST_FAULT, Field(max_length=MAX_CAPACITY, description="Tokens of attempts it still works on")
    ] = Field(default_factory=list)
    batch: InBatches = False


class RunnerConnectedParams(Model):
    context_id: UInt32


class RunnersConnected(Model):
    script_types: Annotated[
        dict[ScriptType, int],
        Field(
            description="How many runners are connected that take jobs of each type; every type is there. One that "
            "asks by job.take counts for 30 s after it did"
        ),
    ]


class RunnerSubscribed(Model):
    subscription: str
    lease: float
    lost: Annotated[list[Token], Field(description="Tokens of `holding` that are not, or no longer, this runner's")]


class JobTakeParams(Model):
    context_id: UInt32
    runner_id: UInt32
    script_types: ScriptTypes
    count: Capacity = 1
    wait: Annotated[float, Field(ge=0, le=MAX_WAIT, strict=False, description="Seconds to wait for a job")] = 0.0
    lease: Lease = 30.0
    take_id: Annotated[
        str, Field(max_length=64, description="Sent again with the same one, the runner gets the same jobs")
    ] = ""


class Assignment(Model):
    """One attempt at a job, handed to a runner. Params of the notification `runner.job`, with `subscription`."""

    context_id: UInt32
    job: Job
    env_vars: Annotated[dict[str, str], Field(description="The flow's under the job's own")]
    inputs: Annotated[dict[str, dict[str, str]], Field(description="Results of the jobs it depends on, by id")]
    inputs_from: Annotated[
        list[UInt32] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Jobs whose results are not in `inputs`, for they are too large together; see job.inputs"),
    ] = None
    attempt: Annotated[int, Field(ge=1)]
    token: Token
    lease: float
    flow_id: Annotated[OptionalId, Field(description="The flow it runs for; none of a message's job")] = None
    prerequisites: Annotated[
        dict[str, MetPrerequisite] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="What the job's were satisfied by when it was released, by name; left out if it has none"),
    ] = None
    request_id: Annotated[
        OptionalText,
        Field(description="The request id of the call that has started its flow or message, if it had one"),
    ] = None
    traceparent: Annotated[
        OptionalText,
        Field(description="The attempt's own span in the trace of that call (W3C Trace Context), if it is traced"),
    ] = None


class AssignmentNotice(Assignment):
    subscription: str


class JobTaken(Model):
    jobs: list[Assignment]


class CancelNotice(Model):
    """Params of the notification `runner.cancel`: stop this attempt, its outcome is no longer wanted."""

    subscription: str
    context_id: UInt32
    caller_id: UInt32
    id: UInt32
    token: Token
    reason: str


class _AttemptParams(Model):
    context_id: UInt32
    caller_id: UInt32
    id: UInt32
    token: Token


class JobHeartbeatParams(_AttemptParams):
    pass


class Heartbeat(Model):
    lease: float


class JobInputsParams(_AttemptParams):
    after: Annotated[
        OptionalId, Field(description="The page before ended with this job; left out for the first page")
    ] = None


class JobInputs(Model):
    inputs: Annotated[dict[str, dict[str, str]], Field(description="Results of jobs it depends on, by id")]
    after: Annotated[OptionalId, Field(description="The `after` of the next page; left out on the last one")] = None


class JobLogParams(_AttemptParams):
    lines: Annotated[StringList, Field(max_length=MAX_LOG_LINES)]
    stream: LogStream = "stdout"


class Logged(Model):
    lines: Annotated[int, Field(ge=0, description="How many were kept: none once a message has logged 16 MiB")]
    over: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="true: the attempt was cancelled or has timed out, and its script must be stopped"),
    ] = None


class LogReport(Model):
    at: Milliseconds
    attempt: Annotated[int, Field(ge=0)]
    stream: LogStream
    lines: list[str]


class JobTail(Model):
    reports: Annotated[
        list[LogReport], Field(description="The newest log lines of the job, about 16 KiB, oldest first")
    ]


class JobAttempt(Model):
    """How an attempt at a job went."""

    attempt: Annotated[int, Field(ge=1, description="Its number; they begin anew when the job is started again")]
    runner_id: UInt32
    started_at: Milliseconds
    ended_at: Annotated[OptionalTime, Field(description="Left out while it is running")] = None
    outcome: AttemptOutcomeKind
    error: Annotated[OptionalText, Field(description="Why it did not finish; the first 1,000 bytes")] = None


class JobAttempts(Model):
    attempts: Annotated[
        list[JobAttempt], Field(description="The newest of the job's attempts, 20 at most, oldest first")
    ]


class JobFinishParams(_AttemptParams):
    result: StringMap = Field(default_factory=dict)


class JobFailParams(_AttemptParams):
    error: Annotated[str, Field(max_length=10_000)]
    result: StringMap = Field(default_factory=dict)
    retry: Annotated[bool, Field(description="false: do not try again, whatever `retries` says")] = True
    lost: Annotated[
        bool,
        Field(
            description="The attempt ends because its runner does, not by the job's fault: it counts among "
            "`lost_retries`, and `retry` says nothing"
        ),
    ] = False


class AttemptOutcome(Model):
    """What the job is after its attempt: Finished, Error, or Dispatched when it will be tried again.

    A failure that is reported within 30 s of a cancel or a time-out changes no status; its result is kept.
    """

    status: JobStatus
    attempt: Annotated[int, Field(ge=0)]
