"""Which flows or jobs are meant: what lists show, and what is done to many at once.

All that is given must hold; a filter in which nothing is given means all there are. What a filter looks at is told by
loads and lists to everybody who may call them, so it cannot be used to find out more.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

from coordinator.models.base import LEFT_OUT_WHEN_UNSET, Model, NameText, TagText, Timestamp, UInt32
from coordinator.models.contract import FlowStatus, JobStatus

__all__ = ["FlowFilter", "FlowStatuses", "JobFilter", "JobStatuses", "SortBy", "Sorted"]

SortBy = TypeAliasType("SortBy", Literal["id", "created", "ended"])

FlowStatuses = TypeAliasType("FlowStatuses", Annotated[list[FlowStatus], Field(min_length=1, max_length=10)])
JobStatuses = TypeAliasType("JobStatuses", Annotated[list[JobStatus], Field(min_length=1, max_length=10)])

_Caller = Annotated[UInt32 | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]
_Time = Annotated[Timestamp | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]
_ENDED = "It has ended, in Finished or Error, at this time or later (Unix time in seconds)"


class _FlowStatus(Model):
    status: Annotated[FlowStatus | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    statuses: Annotated[
        FlowStatuses | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="It has one of these")
    ] = None


class _JobStatus(Model):
    status: Annotated[JobStatus | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    statuses: Annotated[
        JobStatuses | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="It has one of these")
    ] = None


class _Filter(Model):
    name_prefix: Annotated[
        NameText | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="It has a name that begins with this")
    ] = None
    tag: Annotated[
        TagText | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, Field(description="This is one of its tags")
    ] = None
    caller_id: Annotated[_Caller, Field(description="It is this caller's")] = None
    created_from: Annotated[_Time, Field(description="It was created at this time or later (Unix time in seconds)")] = (
        None
    )
    created_to: Annotated[_Time, Field(description="It was created before this time")] = None
    ended_from: Annotated[_Time, Field(description=_ENDED)] = None
    ended_to: Annotated[_Time, Field(description="It has ended, before this time")] = None


class FlowFilter(_Filter, _FlowStatus):
    """Flows that are all of this."""


class JobFilter(_Filter, _JobStatus):
    """Jobs that are all of this."""

    runner_id: Annotated[
        UInt32 | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="This runner was given its last attempt"),
    ] = None


class Sorted(Model):
    """The order of a list."""

    sort: Annotated[
        SortBy,
        Field(
            description="By when they were created, or have ended; those that have not ended come last. Of the same "
            "time, by id"
        ),
    ] = "id"
    descending: Annotated[bool, Field(description="The newest, or the largest id, first")] = False
