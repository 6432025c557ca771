"""What the dispatcher knows of a method: a row of the tables in `methods` and `execution_methods`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator import models
from coordinator.actors.engine import Engine
from coordinator.actors.request import Exchange, Operation, RawJson
from coordinator.actors.subscriptions import Session
from coordinator.errors import CoordinatorError, InvalidParams, NotFound, StorageError
from coordinator.rpc.params import ParamsReader
from coordinator.storage.keys import GLOBAL, Address, Keyspace

__all__ = ["READ", "WRITE", "Method", "in_context", "in_global"]


@dataclass(frozen=True, slots=True)
class Method:
    """One row.

    Attributes:
        address: from validated params to the context they go to.
        wrapped: see ParamsReader.
        exchange, operation, live: what it does, one of them. An exchange may travel together with others; both that and
            an operation are on the store alone; `live` is on the engine and, if there is one, the caller's WebSocket.
        patience: seconds it may wait beyond any other call.
        touches: tells the caller's WebSocket of a call that concerns an attempt it holds.
        example: params shown in the OpenRPC document; None if there are none.
    """

    name: str
    summary: str
    params: type[models.Model]
    result: type[models.Model]
    address: Callable[[Any], Address]
    errors: Sequence[type[CoordinatorError]]
    writes: bool = False
    exchange: Callable[[Keyspace, Any], Exchange] | None = None
    operation: Callable[[Keyspace, Any], Operation] | None = None
    live: Callable[[Engine, Session | None, Keyspace, Any], Operation | RawJson] | None = None
    patience: Callable[[Any], float] | None = None
    touches: Callable[[Session, Any], None] | None = None
    wrapped: str | None = None
    example: dict[str, Any] | None = None
    reader: ParamsReader[Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", ParamsReader(self.params, self.wrapped))


def in_global(_: Any) -> Address:
    return GLOBAL


def in_context(params: Any) -> Address:
    context_id: int = params.context_id
    return context_id


WRITE = (InvalidParams, StorageError)
READ = (InvalidParams, NotFound, StorageError)
