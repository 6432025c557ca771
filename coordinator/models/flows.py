"""The types of what is run: flows and messages, started and cancelled, and how far they are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from coordinator.models.base import (
    FIRST_FAULT,
    LEFT_OUT_WHEN_UNSET,
    MAX_ITEMS,
    EventId,
    Model,
    OptionalId,
    OptionalName,
    OptionalText,
    OptionalTime,
    UInt32,
)
from coordinator.models.contract import Flow, FlowCreate, JobCreate, JobStatus, ScriptType


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


class MessageParams(Model):
    context_id: UInt32
    caller_id: UInt32
    id: UInt32
