"""What the dispatcher knows of a method: a row of the tables in `methods` and `execution_methods`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator import models
from coordinator.actors.request import Exchange, Operation, RawJson
from coordinator.engine.engine import Engine
from coordinator.engine.subscriptions import Opening, Session
from coordinator.errors import CoordinatorError, InvalidParams, NotFound, StorageError
from coordinator.rpc.jsonrpc.params import ParamsReader
from coordinator.storage.keys import GLOBAL, ContextKey, Keyspace

__all__ = ["READ", "WRITE", "Method", "in_context", "in_global"]


@dataclass(frozen=True, slots=True)
class Method:
    """One row.

    Attributes:
        address: from validated params to the context they go to.
        payload_member: see ParamsReader.
        exchange, operation, streaming, subscribe: what it does, one of them. An exchange may travel together with
            others; both that and an operation are on the store alone; `streaming` is on the engine and, if there is
            one, the caller's WebSocket; so is `subscribe`, which opens a subscription there.
        extra_timeout: seconds it may wait beyond any other call.
        on_accepted: tells the caller's WebSocket of a call that concerns an attempt it holds.
        example: params shown in the OpenRPC document; None if there are none.
    """

    name: str
    summary: str
    params: type[models.Model]
    result: type[models.Model]
    address: Callable[[Any], ContextKey]
    errors: Sequence[type[CoordinatorError]]
    writes: bool = False
    exchange: Callable[[Keyspace, Any], Exchange] | None = None
    operation: Callable[[Keyspace, Any], Operation] | None = None
    streaming: Callable[[Engine, Session | None, Keyspace, Any], Operation | RawJson] | None = None
    subscribe: Callable[[Engine, Session | None, Opening, Keyspace, Any], Operation] | None = None
    extra_timeout: Callable[[Any], float] | None = None
    on_accepted: Callable[[Session, Any], None] | None = None
    payload_member: str | None = None
    example: dict[str, Any] | None = None
    reader: ParamsReader[Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", ParamsReader(self.params, self.payload_member))


def in_global(_: Any) -> ContextKey:
    return GLOBAL


def in_context(params: Any) -> ContextKey:
    context_id: int = params.context_id
    return context_id


WRITE = (InvalidParams, StorageError)
READ = (InvalidParams, NotFound, StorageError)
