"""What the dispatcher knows of a method: a row of the tables in `records` and `execution`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

from coordinator import models
from coordinator.actors.request import Answerable, Operation, RawJson
from coordinator.engine.engine import Engine
from coordinator.engine.sessions import Caller, Session
from coordinator.errors import CoordinatorError, InvalidParams, NotFound, StorageError
from coordinator.operations.listing import PAGE_BYTES
from coordinator.rpc.access.rights import Right
from coordinator.rpc.jsonrpc.params import ParamsReader
from coordinator.storage.keys import GLOBAL, ContextKey, Keyspace

__all__ = [
    "READ",
    "SMALL",
    "WRITE",
    "Does",
    "Live",
    "Method",
    "OneCommand",
    "Personal",
    "Steps",
    "creates_something",
    "in_context",
    "in_global",
]

Replies = Literal["small", "record", "page", "whole"]
"""How large a reply may be: a few words; a record; a page of records; as many records as something has."""

SMALL: Final = 1024  # bytes
WHOLE: Final = 16  # records that count for as many as something has


def _nothing(_: Any) -> bool:
    return False


def creates_something(_: Any) -> bool:
    """Whatever its params are, such a call leaves something in a context in which nothing was before."""
    return True


@final
@dataclass(frozen=True, slots=True)
class OneCommand:
    """Sends one command, of whose reply the answer is made. Such calls travel together, and cost the least.

    Attributes:
        begin: makes both of validated params. It may raise.
        on_accepted: tells the caller's WebSocket of a call that concerns an attempt it holds.
    """

    begin: Callable[[Keyspace, Any], Answerable]
    on_accepted: Callable[[Session, Any], None] | None = None


@final
@dataclass(frozen=True, slots=True)
class Steps:
    """Goes step by step, on the store alone.

    Attributes:
        begin: makes an operation of validated params. It may raise.
    """

    begin: Callable[[Keyspace, Any], Operation]


@final
@dataclass(frozen=True, slots=True)
class Live:
    """Needs the engine and the caller's connection; may last as long as that does.

    Attributes:
        begin: makes an operation of validated params, or the answer at once. It may raise.
        needs_reply: it is not carried out as a notification, for nobody would know what it has begun.
        extra_timeout: from validated params to the seconds it may wait beyond any other call.
    """

    begin: Callable[[Engine, Caller, Keyspace, Any], Operation | RawJson]
    needs_reply: bool = False
    extra_timeout: Callable[[Any], float] | None = None


@final
@dataclass(frozen=True, slots=True)
class Personal:
    """Is about who calls. It is answered before the next call of the same client is looked at, which it may concern.

    Attributes:
        answer: from who calls (None where nobody has to log in) and validated params. It may raise.
    """

    answer: Callable[[Any, Any], Awaitable[RawJson]]


Does = OneCommand | Steps | Live | Personal
"""What a method does."""


def in_global(_: Any) -> ContextKey:
    return GLOBAL


def in_context(params: Any) -> ContextKey:
    context_id: int = params.context_id
    return context_id


@dataclass(frozen=True, slots=True)
class Method:
    """One row.

    Attributes:
        context: from validated params to the context they go to; that of their context_id unless given.
        payload_member: see ParamsReader.
        right: what the caller needs where callers log in; without one nobody may call it there.
        writes: whether it changes the store.
        creates: from validated params to whether it may leave something in a context in which nothing was before; only
            such calls make a context known.
        replies: how large they may be.
        written: from validated params to what each record that is written has of them.
        queues: from validated params to the script type of a job that may be run as soon as it is carried out, if
            there is one; ANY_TYPE if only the store knows of which type.
        starts_run: whether it may start flows or a message: what has asked for that is kept with them.
        example: params with which it can be called; None if there are none, or it takes none.
        is_record: whether its replies are records.
        only_reads: whether nothing is missed by who gets no reply to it, as nothing was changed and nothing begun.
    """

    name: str
    summary: str
    params: type[models.Model]
    result: type[models.Model]
    errors: Sequence[type[CoordinatorError]]
    does: Does
    context: Callable[[Any], ContextKey] = in_context
    right: Right | None = None
    writes: bool = False
    creates: Callable[[Any], bool] = _nothing
    queues: Callable[[Any], str | None] | None = None
    starts_run: bool = False
    payload_member: str | None = None
    replies: Replies = "record"
    written: Callable[[Any], Sequence[models.Model]] = lambda params: (params,)
    example: dict[str, Any] | None = None
    reader: ParamsReader[Any] = field(init=False)
    is_record: bool = field(init=False)
    only_reads: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", ParamsReader(self.params, self.payload_member))
        object.__setattr__(self, "is_record", self.replies == "record")
        object.__setattr__(self, "only_reads", not self.writes and not isinstance(self.does, Live | Personal))

    def expected(self, record: int) -> int:
        """Bytes a reply may have, if a record may have `record` bytes."""
        match self.replies:
            case "small":
                return SMALL
            case "record":
                return record
            case "page":
                return PAGE_BYTES + record
            case "whole":
                return WHOLE * record


WRITE = (InvalidParams, StorageError)
READ = (InvalidParams, NotFound, StorageError)
