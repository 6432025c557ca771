"""The types of prerequisites: what jobs wait for, besides other jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

from coordinator.models.base import (
    LEFT_OUT_WHEN_UNSET,
    MAX_PAGE,
    Milliseconds,
    Model,
    OptionalId,
    OptionalText,
    StringMap,
    UInt32,
)
from coordinator.models.contract import PrerequisiteName

Scope = TypeAliasType("Scope", Literal["context", "flow"])


class MetPrerequisite(Model):
    satisfied_at: Milliseconds
    scope: Annotated[
        Scope, Field(description="Whether it is satisfied for the jobs of one flow, or of the whole context")
    ]
    by: OptionalText = None
    payload: Annotated[StringMap | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    omitted: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(
            description="true: `by` and `payload` are left out, for those of the job before them have 1 MiB together, "
            "or as they were revoked a week ago"
        ),
    ] = None


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
