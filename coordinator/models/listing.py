"""The types of lists of records, of the counts of a context, and of deletions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from coordinator.models.base import LEFT_OUT_WHEN_UNSET, MAX_PAGE, Model, OptionalText, OptionalTime, UInt32
from coordinator.models.contract import Flow, FlowStatus, Job, JobStatus, Message, MessageStatus, Runner, ScriptType
from coordinator.models.filters import FlowFilter, JobFilter, Sorted


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
