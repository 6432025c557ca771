"""The types of what people decide about what runs: cancel a job, pause, drain, run again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from coordinator.models.base import (
    FIRST_FAULT,
    LEFT_OUT_WHEN_UNSET,
    MAX_PAGE,
    Model,
    OptionalId,
    OptionalText,
    StringMap,
    UInt32,
)
from coordinator.models.contract import JobLoadParams, ScriptType
from coordinator.models.filters import FlowFilter
from coordinator.models.flows import FlowParams

MAX_OVERRIDES = 1_000  # jobs of a flow that run again with something else

Reason = Annotated[str, Field(max_length=1000, description="Recorded with the job and told to its runner")]


class JobCancelParams(JobLoadParams):
    reason: Reason = ""


class ContextPauseParams(Model):
    context_id: UInt32
    script_type: Annotated[
        ScriptType | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Only the jobs of this type; left out: all of the context"),
    ] = None


class ContextPaused(Model):
    context_id: UInt32
    paused: Annotated[bool, Field(description="The whole context is")]
    script_types: Annotated[list[ScriptType], Field(description="Those that are paused by themselves")]


OptionalMap = Annotated[StringMap | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]


class JobOverride(Model):
    """What a job runs with from now on."""

    id: UInt32
    script: Annotated[OptionalText, Field(description="In the place of the one it has")] = None
    env_vars: Annotated[OptionalMap, Field(description="Over those it has: the others stay")] = None


class FlowOverrides(Model):
    """What a flow and jobs of it have from now on."""

    env_vars: Annotated[OptionalMap, Field(description="Over those the flow has: the others stay")] = None
    jobs: Annotated[list[JobOverride], FIRST_FAULT, Field(max_length=MAX_OVERRIDES, description="Each once")] = Field(
        default_factory=list
    )


class FlowRerunParams(FlowParams):
    from_job: Annotated[
        OptionalId,
        Field(description="Only this job of the flow and those that depend on it, on others too; left out: all jobs"),
    ] = None
    overrides: Annotated[FlowOverrides | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None


class ContextDeleteParams(Model):
    context_id: UInt32


SHOWN = 100  # flows that a call on many names


class FlowsParams(Model):
    """What is to be done to all flows that a filter means and to which it applies, in the order of their ids."""

    context_id: UInt32
    filter: Annotated[FlowFilter, Field(description="Without members it means all flows of the context")]
    dry_run: Annotated[bool, Field(description="true: say which these are, and do nothing")] = False
    cursor: Annotated[
        str, Field(max_length=64, description="The last reply's `cursor`, to go on; none for the beginning")
    ] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE, description="Do it to so many at most, then reply")] = MAX_PAGE


class FlowsCancelParams(FlowsParams):
    reason: Reason = ""


class RefusedFlow(Model):
    id: UInt32
    detail: Annotated[str, Field(description="Why it stayed as it is")]


class FlowsDone(Model):
    """What was done by one call. It works for a few seconds: the next one goes on at `cursor`."""

    dry_run: bool
    matched: Annotated[int, Field(ge=0, description="Flows that are meant, and to which it applies")]
    done: Annotated[int, Field(ge=0, description="To so many of them it was done")]
    ids: Annotated[list[UInt32], Field(description=f"The first {SHOWN} of those that are meant, ascending")]
    refused: Annotated[list[RefusedFlow], Field(description=f"The first {SHOWN} to which it could not be done")]
    cursor: Annotated[OptionalText, Field(description="Where to go on; left out if that were all")] = None
