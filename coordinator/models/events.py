"""The types of events of flows and of contexts, read in pages or followed."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

from coordinator.models.attempts import LogStream
from coordinator.models.base import (
    BEGINNING,
    LEFT_OUT_WHEN_UNSET,
    MAX_PAGE,
    EventId,
    InBatches,
    Milliseconds,
    Model,
    OptionalId,
    OptionalText,
    UInt32,
)
from coordinator.models.flows import FlowParams

EventKind = TypeAliasType("EventKind", Literal["flow", "job", "log"])
ContextEventKind = TypeAliasType("ContextEventKind", Literal["flow", "job", "context"])
Lost = Annotated[
    bool | SkipJsonSchema[None],
    LEFT_OUT_WHEN_UNSET,
    Field(description="The attempt was lost with its runner rather than failed; left out if not"),
]
MissedBefore = Annotated[
    bool | SkipJsonSchema[None],
    LEFT_OUT_WHEN_UNSET,
    Field(description="true: events between this one and the one before are no longer kept"),
]
EventLimit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="A page of large events has fewer")]
NextAfter = Annotated[EventId, Field(description="The `after` of the next call")]
Missed = Annotated[bool, Field(description="Events after `after` are no longer kept")]
MissedOrNever = Annotated[bool, Field(description="Events after `after` are no longer kept, or were never")]


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
    lost: Lost = None
    paused: Annotated[
        bool | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="The flow was paused, or resumed; its status is as it was"),
    ] = None
    stream: Annotated[LogStream | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    lines: Annotated[list[str] | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None


class FlowEventsParams(FlowParams):
    after: EventId = BEGINNING
    limit: EventLimit = 100


class FlowEvents(Model):
    events: list[FlowEvent]
    last_event: NextAfter
    missed: Missed


class FlowSubscribeParams(FlowParams):
    after: EventId = BEGINNING
    batch: InBatches = False


class FlowSubscribed(Model):
    subscription: str
    missed: Missed


class SubscriptionParams(Model):
    subscription: Annotated[str, Field(max_length=64)]


class Unsubscribed(Model):
    subscription: str


class FlowEventNotice(FlowEvent):
    """Params of the notification `flow.event`. The last one of a flow that is deleted has the status Deleted."""

    subscription: str
    context_id: UInt32
    flow_id: UInt32
    missed: MissedBefore = None


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
    lost: Lost = None


_AFTER: Final = Field(description="Begin after this event; left out: with those that come")


class ContextSubscribeParams(Model):
    context_id: UInt32
    after: Annotated[EventId | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, _AFTER] = None
    batch: InBatches = False


class ContextSubscribed(Model):
    subscription: str
    last_event: Annotated[EventId, Field(description="The notifications begin after this one")]
    missed: MissedOrNever


class ContextEventsParams(Model):
    context_id: UInt32
    after: Annotated[EventId | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET, _AFTER] = None
    limit: EventLimit = 100


class ContextEvents(Model):
    events: list[ContextEvent]
    last_event: NextAfter
    missed: MissedOrNever


class ContextEventNotice(ContextEvent):
    """Params of the notification `context.event`. The last one of a context that is deleted is of kind `context`."""

    subscription: str
    context_id: UInt32
    missed: MissedBefore = None
