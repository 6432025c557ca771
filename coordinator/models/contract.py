"""The contract's types, and nothing else. `*Create` and `*Params` are what clients send; the others what they get."""

from __future__ import annotations

import socket
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

from coordinator.models.base import (
    FIRST_FAULT,
    LEFT_OUT_WHEN_UNSET,
    MAX_ITEMS,
    Model,
    OptionalName,
    OptionalTags,
    StringList,
    StringMap,
    Timestamp,
    UInt8,
    UInt32,
    UInt32List,
)


def _ip_address(text: str) -> str:
    """Accept `text` if it is an IPv4 or IPv6 address; it is kept as written.

    The system's function needs a tenth of the time of Python's `ipaddress`, and accepts the same.
    """
    if "%" in text:
        raise ValueError("must be an IPv4 or IPv6 address without a zone")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError("must be an IPv4 or IPv6 address") from None
    return text


MAX_ADDRESSES = 1_000

IpAddr = TypeAliasType(
    "IpAddr", Annotated[str, AfterValidator(_ip_address), Field(description="IPv4 or IPv6 textual address")]
)
ScriptType = TypeAliasType("ScriptType", Literal["Osis", "Sal", "V", "Python"])
FlowStatus = TypeAliasType("FlowStatus", Literal["Dispatched", "Started", "Error", "Finished"])
JobStatus = TypeAliasType("JobStatus", Literal["Dispatched", "WaitingForPrerequisites", "Started", "Error", "Finished"])
MessageFormatType = TypeAliasType("MessageFormatType", Literal["Html", "Text", "Md"])
MessageStatus = TypeAliasType("MessageStatus", Literal["Dispatched", "Acknowledged", "Error", "Processed"])
TransportStatus = TypeAliasType("TransportStatus", Literal["Queued", "Sent", "Delivered", "Read", "Failed"])
MessageType = TypeAliasType("MessageType", Literal["Job", "Chat", "Mail"])
"""Listed by the contract and used by none of its members: `message_type` takes a ScriptType."""

SCRIPT_TYPES: Final[tuple[ScriptType, ...]] = get_args(ScriptType.__value__)
FLOW_STATUSES: Final[tuple[FlowStatus, ...]] = get_args(FlowStatus.__value__)
JOB_STATUSES: Final[tuple[JobStatus, ...]] = get_args(JobStatus.__value__)

_UINT32_SCHEMA: dict[str, Any] = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1}
EdgeTuple = TypeAliasType(
    "EdgeTuple",
    Annotated[
        tuple[UInt32, UInt32],
        WithJsonSchema(
            {
                "type": "array",
                "items": [_UINT32_SCHEMA, _UINT32_SCHEMA],
                "minItems": 2,
                "maxItems": 2,
                "description": "Tuple [from, to] representing a directed edge",
            }
        ),
    ],
)


MAX_EMBEDDED = 2_000  # jobs of a message, which is written in one step; a flow may have more
MAX_PREREQUISITES = 1_000  # of a job: it is made to wait for all of them in one step


class Stamped(Model):
    created_at: Timestamp
    updated_at: Timestamp


class ActorCreate(Model):
    id: UInt32
    pubkey: str
    address: Annotated[list[IpAddr], FIRST_FAULT, Field(max_length=MAX_ADDRESSES)]


class Actor(Stamped, ActorCreate):
    pass


class ContextCreate(Model):
    id: UInt32
    admins: Annotated[UInt32List, Field(max_length=MAX_ITEMS, description="Actor ids with full rights")]
    readers: Annotated[UInt32List, Field(max_length=MAX_ITEMS, description="Actor ids that may read")]
    executors: Annotated[UInt32List, Field(max_length=MAX_ITEMS, description="Actor ids that may run jobs")]


OptionalFlag = Annotated[bool | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]


class Context(Stamped, ContextCreate):
    paused: Annotated[
        OptionalFlag, Field(description="true: runners get none of its jobs; see context.pause. Left out if not")
    ] = None
    paused_script_types: Annotated[
        list[ScriptType] | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Script types that are paused by themselves; left out if none is"),
    ] = None


class RunnerCreate(Model):
    id: UInt32
    pubkey: str
    address: IpAddr
    topic: Annotated[str, Field(description="Names the runner's subscription, usually runner<id>")]
    local: Annotated[bool, Field(description="Whether the runner runs beside the coordinator")]


class Runner(Stamped, RunnerCreate):
    draining: Annotated[
        OptionalFlag, Field(description="true: it gets nothing new, see runner.drain; left out if not")
    ] = None


class _FlowFields(Model):
    id: UInt32
    caller_id: UInt32
    context_id: UInt32
    jobs: Annotated[UInt32List, Field(description="Ids of the flow's jobs, stored under the flow's caller_id")]
    env_vars: Annotated[StringMap, Field(description="Environment of every job; a job's own value wins")]
    name: OptionalName = None
    tags: OptionalTags = None


class FlowCreate(_FlowFields):
    result: StringMap = Field(default_factory=dict)


class Flow(Stamped, _FlowFields):
    result: StringMap
    status: FlowStatus
    paused: Annotated[
        OptionalFlag,
        Field(description="true: none of its jobs is handed out, see flow.pause; only while Started, left out if not"),
    ] = None


PrerequisiteName = Annotated[str, Field(max_length=1000)]


class _JobFields(Model):
    id: UInt32
    caller_id: UInt32
    context_id: UInt32
    script: str
    script_type: ScriptType
    timeout: Annotated[UInt32, Field(description="Seconds an attempt may take, 0 for no limit")]
    retries: Annotated[UInt8, Field(description="Attempts that may follow a failed one")]
    env_vars: StringMap
    prerequisites: Annotated[
        StringList,
        Field(max_length=MAX_PREREQUISITES, description="Names of external conditions the job waits for"),
    ]
    depends: Annotated[UInt32List, Field(description="Ids of jobs that must finish first")]
    lost_retries: Annotated[
        UInt8 | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Attempts that may follow one lost with its runner; the coordinator's setting unless given"),
    ] = None
    name: OptionalName = None
    tags: OptionalTags = None


class JobCreate(_JobFields):
    # Longer ones nobody could satisfy.
    prerequisites: Annotated[
        list[PrerequisiteName],
        FIRST_FAULT,
        Field(max_length=MAX_PREREQUISITES, description="Names of external conditions the job waits for"),
    ]
    result: StringMap = Field(default_factory=dict)


class Job(Stamped, _JobFields):
    result: StringMap
    status: JobStatus


class _MessageFields(Model):
    id: UInt32
    caller_id: UInt32
    context_id: UInt32
    message: str
    message_type: ScriptType
    message_format_type: MessageFormatType
    timeout: Annotated[UInt32, Field(description="Seconds, 0 for none")]
    timeout_ack: Annotated[UInt32, Field(description="Seconds, 0 for none")]
    timeout_result: Annotated[UInt32, Field(description="Seconds, 0 for none")]


class MessageCreate(_MessageFields):
    job: Annotated[list[JobCreate], FIRST_FAULT, Field(max_length=MAX_EMBEDDED)]
    logs: StringList = Field(default_factory=list)


class Message(Stamped, _MessageFields):
    job: list[Job]
    logs: list[str]
    status: MessageStatus
    transport_id: Annotated[str | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None
    transport_status: Annotated[TransportStatus | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None


class JobSummary(Model):
    id: UInt32
    depends: UInt32List
    prerequisites: StringList
    script_type: ScriptType


class FlowDag(Model):
    flow_id: UInt32
    caller_id: UInt32
    context_id: UInt32
    nodes: Annotated[dict[str, JobSummary], Field(description="Map keyed by job id (serialized as string in JSON)")]
    edges: Annotated[list[EdgeTuple], Field(description="[dependency, dependent], ascending")]
    reverse_edges: Annotated[list[EdgeTuple], Field(description="[dependent, dependency], ascending")]
    roots: Annotated[list[UInt32], Field(description="Jobs without a dependency, ascending")]
    leaves: Annotated[list[UInt32], Field(description="Jobs without a dependent, ascending")]
    levels: Annotated[
        list[list[UInt32]],
        Field(
            description="Topological execution layers (parallelizable batches): levels[k] are the jobs whose "
            "longest path from a root has k edges, ascending"
        ),
    ]


class ActorCreateParams(Model):
    actor: ActorCreate


class ActorLoadParams(Model):
    id: UInt32
    context_id: Annotated[
        UInt32 | SkipJsonSchema[None],
        LEFT_OUT_WHEN_UNSET,
        Field(description="Where callers log in: a context of which the caller is an admin and the actor a member"),
    ] = None


class ContextCreateParams(Model):
    context: ContextCreate


class ContextLoadParams(Model):
    id: UInt32


class RunnerCreateParams(Model):
    context_id: UInt32
    runner: RunnerCreate


class RunnerLoadParams(Model):
    context_id: UInt32
    id: UInt32


AbandonAfter = Annotated[
    float,
    Field(
        ge=0,
        le=86_400,
        strict=False,
        description="Seconds after which the flow, and the jobs made for it, are deleted unless it was started. Each "
        "further call with it begins the time anew, 0 ends it; a flow that was there without it stays without",
    ),
]


class FlowCreateParams(Model):
    context_id: UInt32
    flow: FlowCreate
    abandon_after: Annotated[AbandonAfter | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET] = None


class FlowLoadParams(Model):
    context_id: UInt32
    id: UInt32


class JobCreateParams(Model):
    context_id: UInt32
    job: JobCreate


class JobLoadParams(Model):
    context_id: UInt32
    caller_id: UInt32
    id: UInt32


class MessageCreateParams(Model):
    context_id: UInt32
    message: MessageCreate


class MessageLoadParams(Model):
    context_id: UInt32
    caller_id: UInt32
    id: UInt32
