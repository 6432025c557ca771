"""The types of running flows: what clients and runners send, what they are answered and notified of.

Times here are Unix milliseconds on the store's clock, durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

from coordinator.models.base import (
    FIRST_FAULT,
    LEFT_OUT_WHEN_UNSET,
    MAX_ITEMS,
    Model,
    OptionalName,
    StringList,
    StringMap,
    UInt32,
)
from coordinator.models.contract import (
    Flow,
    FlowCreate,
    FlowStatus,
    Job,
    JobCreate,
    JobStatus,
    Message,
    MessageStatus,
    PrerequisiteName,
    Runner,
    ScriptType,
)
from coordinator.models.filters import FlowFilter, JobFilter, Sorted

MAX_CAPACITY = 10_000
MAX_WAIT = 60.0
MAX_PAGE = 1_000
MAX_LOG_LINES = 1_000

Milliseconds = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"}, description="Unix time in ms")]
Capacity = Annotated[int, Field(ge=1, le=MAX_CAPACITY, description="Jobs it may hold at once")]
Lease = Annotated[float, Field(ge=0.1, le=3600, strict=False, description="Seconds a job is held without a heartbeat")]
Token = Annotated[str, Field(max_length=64, description="Names one attempt; valid until it ends or is lost")]
EventId = Annotated[str, Field(pattern=r"^\d{1,20}-\d{1,20}$", description="Names an event of a flow, in order")]
ScriptTypes = Annotated[list[ScriptType], FIRST_FAULT, Field(min_length=1, max_length=8)]
InBatches = Annotated[
    bool, Field(description="Several notifications at once come as one JSON-RPC batch; by default each is a message")
]
LogStream = TypeAliasType("LogStream", Literal["stdout", "stderr"])
Scope = TypeAliasType("Scope", Literal["context", "flow"])
AttemptOutcomeKind = TypeAliasType(
    "AttemptOutcomeKind", Literal["running", "finished", "failed", "lost", "timed_out", "cancelled"]
)
EventKind = TypeAliasType("EventKind", Literal["flow", "job", "log"])
ContextEventKind = TypeAliasType("ContextEventKind", Literal["flow", "job", "context"])

OptionalText = Annotated[str | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]
OptionalTime = Annotated[Milliseconds | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]
OptionalId = Annotated[UInt32 | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]


# -- flows


class FlowSubmitParams(Model):
    context_id: UInt32
    flow: FlowCreate
    jobs: Annotated[list[JobCreate], FIRST_FAULT, Field(max_length=MAX_ITEMS, description="Every job the flow lists")]


class FlowParams(Model):
    context_id: UInt32
    id: UInt32


class FlowCancelParams(FlowParams):
    reason: Annotated[str, Field(max_length=1000)] = ""


class JobProgress(Model):
    id: UInt32
    script_type: ScriptType
    depends: list[UInt32]
    status: JobStatus
    attempt: Annotated[int, Field(ge=0, description="Attempts begun in this run")]
    runner_id: OptionalId = None
    queued_at: OptionalTime = None
    started_at: OptionalTime = None
    ended_at: OptionalTime = None
    lost: Annotated[
        int | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Of the attempts, those that were lost; left out if none"),
    ] = None
    name: OptionalName = None
    retry_at: Annotated[OptionalTime, Field(description="When the next attempt is due, while backing off")] = None
    failure: Annotated[OptionalText, Field(description="Why the last attempt failed")] = None


class FlowReport(Model):
    flow: Flow
    counts: Annotated[dict[JobStatus, int], Field(description="Jobs by status; every status is there")]
    jobs: Annotated[list[JobProgress], Field(description="Ascending by id")]
    missing: Annotated[
        list[UInt32] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Ids of jobs the flow lists that are not there, ascending; left out if all are"),
    ] = None
    started_at: OptionalTime = None
    ended_at: OptionalTime = None
    last_event: Annotated[EventId, Field(description="Subscribe after this one to miss nothing")]


class FlowEvent(Model):
    """`kind` says what happened: the flow's or a job's status changed, or a job wrote log lines."""

    event_id: EventId
    kind: EventKind
    at: Milliseconds
    status: Annotated[OptionalText, Field(description="The new status")] = None
    job_id: OptionalId = None
    attempt: Annotated[int | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    runner_id: OptionalId = None
    topic: Annotated[OptionalText, Field(description="The runner's topic")] = None
    reason: OptionalText = None
    lost: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="The attempt was lost with its runner rather than failed; left out if not"),
    ] = None
    paused: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="The flow was paused, or resumed; its status is as it was"),
    ] = None
    stream: Annotated[LogStream | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    lines: Annotated[list[str] | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None


class FlowEventsParams(FlowParams):
    after: EventId = "0-0"
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE, description="A page of large events has fewer")] = 100


class FlowEvents(Model):
    events: list[FlowEvent]
    last_event: Annotated[EventId, Field(description="The `after` of the next call")]
    missed: Annotated[bool, Field(description="Events after `after` are no longer kept")]


class FlowSubscribeParams(FlowParams):
    after: EventId = "0-0"
    batch: InBatches = False


class FlowSubscribed(Model):
    subscription: str
    missed: Annotated[bool, Field(description="Events after `after` are no longer kept")]


class SubscriptionParams(Model):
    subscription: Annotated[str, Field(max_length=64)]


class Unsubscribed(Model):
    subscription: str


class FlowEventNotice(FlowEvent):
    """Params of the notification `flow.event`. The last one of a flow that is deleted has the status Deleted."""

    subscription: str
    context_id: UInt32
    flow_id: UInt32
    missed: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="true: events between this one and the one before are no longer kept"),
    ] = None


class ContextEvent(Model):
    """`kind` says whose status changed: that of a flow, of a job of a flow, or of the context, which was deleted."""

    event_id: EventId
    kind: ContextEventKind
    at: Milliseconds
    flow_id: Annotated[OptionalId, Field(description="Left out if `kind` is `context`")] = None
    status: Annotated[str, Field(description="The new status; `Deleted` of a flow or context that was deleted")]
    job_id: OptionalId = None
    attempt: Annotated[int | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    runner_id: OptionalId = None
    topic: Annotated[OptionalText, Field(description="The runner's topic")] = None
    reason: Annotated[OptionalText, Field(description="About 200 bytes at most; flow.events has all of it")] = None
    lost: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="The attempt was lost with its runner rather than failed; left out if not"),
    ] = None


_AFTER: Final = Field(description="Begin after this event; left out: with those that come")


class ContextSubscribeParams(Model):
    context_id: UInt32
    after: Annotated[EventId | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, _AFTER] = None
    batch: InBatches = False


class ContextSubscribed(Model):
    subscription: str
    last_event: Annotated[EventId, Field(description="The notifications begin after this one")]
    missed: Annotated[bool, Field(description="Events after `after` are no longer kept, or were never")]


class ContextEventsParams(Model):
    context_id: UInt32
    after: Annotated[EventId | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, _AFTER] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE, description="A page of large events has fewer")] = 100


class ContextEvents(Model):
    events: list[ContextEvent]
    last_event: Annotated[EventId, Field(description="The `after` of the next call")]
    missed: Annotated[bool, Field(description="Events after `after` are no longer kept, or were never")]


class ContextEventNotice(ContextEvent):
    """Params of the notification `context.event`. The last one of a context that is deleted is of kind `context`."""

    subscription: str
    context_id: UInt32
    missed: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="true: events between this one and the one before are no longer kept"),
    ] = None


# -- runners and attempts


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


class MetPrerequisite(Model):
    satisfied_at: Milliseconds
    scope: Annotated[
        Scope, Field(description="Whether it is satisfied for the jobs of one flow, or of the whole context")
    ]
    by: OptionalText = None
    payload: Annotated[StringMap | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None


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


# -- messages and prerequisites


class MessageParams(Model):
    context_id: UInt32
    caller_id: UInt32
    id: UInt32


class PrerequisiteRevokeParams(Model):
    context_id: UInt32
    name: PrerequisiteName
    flow_id: Annotated[
        OptionalId, Field(description="For the jobs of this flow alone; left out: of the whole context")
    ] = None


class PrerequisiteSatisfyParams(PrerequisiteRevokeParams):
    payload: Annotated[
        Annotated[StringMap, Field(max_length=1000)] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="What the jobs get with it; at most 64 KiB as JSON"),
    ] = None
    by: Annotated[
        Annotated[str, Field(max_length=1000)] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Who says so"),
    ] = None


class SatisfiedPrerequisite(MetPrerequisite):
    name: str
    flow_id: OptionalId = None


class Satisfied(SatisfiedPrerequisite):
    released: Annotated[int, Field(ge=0, description="Jobs that had waited for it")]


class Revoked(Model):
    name: str
    scope: Scope
    flow_id: OptionalId = None
    revoked: Annotated[bool, Field(description="false: it was not satisfied")]


class PrerequisiteListParams(Model):
    context_id: UInt32
    cursor: Annotated[str, Field(max_length=1100, description="The last reply's `cursor`; none for the beginning")] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100


class WaitingJob(Model):
    caller_id: UInt32
    job_id: UInt32
    flow_id: Annotated[OptionalId, Field(description="Left out if a message runs the job")] = None


class AwaitedPrerequisite(Model):
    name: str
    jobs: Annotated[int, Field(ge=1, description="Jobs waiting for it; of the first 1,000 flows if there are more")]
    waiters: Annotated[list[WaitingJob], Field(description="The first of them, at most 10")]


class Prerequisites(Model):
    satisfied: list[SatisfiedPrerequisite]
    waiting: Annotated[list[AwaitedPrerequisite], Field(description="All pages of these come first")]
    cursor: Annotated[OptionalText, Field(description="Where the next page begins; left out on the last one")] = None


# -- what there is


class ContextStatsParams(Model):
    context_id: UInt32


class ScriptTypeStats(Model):
    jobs: Annotated[int, Field(ge=0, description="Jobs of this type, in whatever status")]
    queued: Annotated[
        int,
        Field(ge=0, description="Those that wait for a runner. One that was cancelled counts until a runner comes by"),
    ]
    oldest: Annotated[float, Field(ge=0, description="Seconds for which the one that is next has waited for a runner")]


class RunnerStats(Model):
    connected: Annotated[
        int, Field(ge=0, description="Those that are subscribed, or wait for a job by job.take; for 5 s after that")
    ]
    busy: Annotated[int, Field(ge=0, description="Those that have a running attempt, connected or not")]


class ContextStats(Model):
    flows: Annotated[dict[FlowStatus, int], Field(description="Flows by status; every status is there")]
    jobs: Annotated[dict[JobStatus, int], Field(description="Jobs by status; every status is there")]
    script_types: Annotated[dict[ScriptType, ScriptTypeStats], Field(description="Every type is there")]
    runners: RunnerStats


# -- lists and deletion


class _Page(Model):
    cursor: Annotated[str, Field(max_length=64, description="The last reply's `cursor`; none for the beginning")] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100


class ContextListParams(_Page):
    pass


class RunnerListParams(_Page):
    context_id: UInt32


class JobListParams(Sorted, JobFilter, RunnerListParams):
    pass


class FlowListParams(Sorted, FlowFilter, RunnerListParams):
    pass


class MessageListParams(RunnerListParams):
    status: Annotated[MessageStatus | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None


_CURSOR = Field(description="Where the next page begins; left out on the last one")


class ContextPage(Model):
    items: Annotated[list[UInt32], Field(description="Ids of all contexts ever written to, ascending")]
    cursor: Annotated[OptionalText, _CURSOR] = None


class HeldJob(Model):
    caller_id: UInt32
    id: UInt32


class ListedRunner(Runner):
    connected: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="It is subscribed, or waits for a job by job.take, or has done so in the last 5 s"),
    ] = None
    connected_since: Annotated[
        OptionalTime, Field(description="Since when it is subscribed; the earliest if it is more than once")
    ] = None
    capacity: Annotated[
        int | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Jobs it may have at once, of all its subscriptions"),
    ] = None
    attempts: Annotated[
        int | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Attempts that it has and that are running; left out if none"),
    ] = None
    jobs: Annotated[
        list[HeldJob] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="The jobs of those attempts, 20 at most, by id"),
    ] = None
    failed_in_a_row: Annotated[
        int | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Attempts it failed within ten seconds each since it last finished one; 5 are too many"),
    ] = None
    lost_in_a_row: Annotated[
        int | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Attempts it was handed by job.take and let lapse, since it was last heard of"),
    ] = None
    held_back_for: Annotated[
        float | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="Seconds for which it gets no job")
    ] = None


class RunnerPage(Model):
    items: list[ListedRunner]
    cursor: Annotated[OptionalText, _CURSOR] = None


class JobPage(Model):
    items: list[Job]
    cursor: Annotated[OptionalText, _CURSOR] = None


class FlowPage(Model):
    items: list[Flow]
    cursor: Annotated[OptionalText, _CURSOR] = None


class MessagePage(Model):
    items: list[Message]
    cursor: Annotated[OptionalText, _CURSOR] = None


class Deleted(Model):
    deleted: Annotated[int, Field(ge=0, description="Records deleted")]
