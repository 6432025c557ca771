"""The table of methods. A new method is one row here, its model, its operation and a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator import models
from coordinator.actors import operations
from coordinator.actors.request import Operation
from coordinator.errors import (
    CoordinatorError,
    DagCycleDetected,
    DagMissingDependency,
    InvalidParams,
    NotFound,
    StorageError,
)
from coordinator.rpc.params import ParamsReader
from coordinator.storage.keys import GLOBAL, Address, Keyspace

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True, slots=True)
class Method:
    """One row.

    Attributes:
        address: from validated params to the context they go to.
        wrapped: see ParamsReader.
        example: params that work on an empty store, shown in the OpenRPC document; None if there are none.
    """

    name: str
    summary: str
    params: type[models.Model]
    result: type[models.Model]
    operation: Callable[[Keyspace, Any], Operation]
    address: Callable[[Any], Address]
    errors: Sequence[type[CoordinatorError]]
    writes: bool = False
    wrapped: str | None = None
    example: dict[str, Any] | None = None
    reader: ParamsReader[Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", ParamsReader(self.params, self.wrapped))


def _global(_: Any) -> Address:
    return GLOBAL


def _of_context(params: Any) -> Address:
    context_id: int = params.context_id
    return context_id


_WRITE = (InvalidParams, StorageError)
_READ = (InvalidParams, NotFound, StorageError)
_DAG = (*_READ, DagMissingDependency, DagCycleDetected)

_JOB_EXAMPLE = {
    "id": 1,
    "caller_id": 7,
    "context_id": 1,
    "script": "print('hello')",
    "script_type": "Python",
    "timeout": 60,
    "retries": 2,
    "env_vars": {"LANG": "C"},
    "prerequisites": [],
    "depends": [],
}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "actor.create",
            "Create/Upsert Actor",
            models.ActorCreateParams,
            models.Actor,
            operations.create_actor,
            _global,
            _READ,  # the contract lists NotFound here too
            writes=True,
            example={"actor": {"id": 7, "pubkey": "ed25519:7", "address": ["10.0.0.7", "fd00::7"]}},
        ),
        Method(
            "actor.load",
            "Load an Actor by id",
            models.ActorLoadParams,
            models.Actor,
            operations.load_actor,
            _global,
            _READ,
        ),
        Method(
            "context.create",
            "Create/Upsert Context (stored in its own DB index)",
            models.ContextCreateParams,
            models.Context,
            operations.create_context,
            lambda params: params.context.id,
            _WRITE,
            writes=True,
            example={"context": {"id": 1, "admins": [7], "readers": [], "executors": [7]}},
        ),
        Method(
            "context.load",
            "Load a Context by id",
            models.ContextLoadParams,
            models.Context,
            operations.load_context,
            lambda params: params.id,
            _READ,
        ),
        Method(
            "runner.create",
            "Create/Upsert Runner in a context",
            models.RunnerCreateParams,
            models.Runner,
            operations.create_runner,
            _of_context,
            _WRITE,
            writes=True,
            example={
                "context_id": 1,
                "runner": {
                    "id": 3,
                    "pubkey": "ed25519:3",
                    "address": "::1",
                    "topic": "runner3",
                    "local": True,
                },
            },
        ),
        Method(
            "runner.load",
            "Load Runner by id from a context",
            models.RunnerLoadParams,
            models.Runner,
            operations.load_runner,
            _of_context,
            _READ,
        ),
        Method(
            "flow.create",
            "Create/Upsert Flow in a context",
            models.FlowCreateParams,
            models.Flow,
            operations.create_flow,
            _of_context,
            _WRITE,
            writes=True,
            wrapped="flow",
            example={
                "context_id": 1,
                "flow": {
                    "id": 1,
                    "caller_id": 7,
                    "context_id": 1,
                    "jobs": [1, 2],
                    "env_vars": {"STAGE": "test"},
                },
            },
        ),
        Method(
            "flow.load",
            "Load Flow by id from a context",
            models.FlowLoadParams,
            models.Flow,
            operations.load_flow,
            _of_context,
            _READ,
        ),
        Method(
            "flow.dag",
            "Compute and return the execution DAG for a Flow",
            models.FlowLoadParams,
            models.FlowDag,
            operations.flow_dag,
            _of_context,
            _DAG,
        ),
        Method(
            "job.create",
            "Create/Upsert Job in a context",
            models.JobCreateParams,
            models.Job,
            operations.create_job,
            _of_context,
            _WRITE,
            writes=True,
            wrapped="job",
            example={"context_id": 1, "job": _JOB_EXAMPLE},
        ),
        Method(
            "job.load",
            "Load Job by ids from a context",
            models.JobLoadParams,
            models.Job,
            operations.load_job,
            _of_context,
            _READ,
        ),
        Method(
            "message.create",
            "Create/Upsert Message in a context",
            models.MessageCreateParams,
            models.Message,
            operations.create_message,
            _of_context,
            _WRITE,
            writes=True,
            wrapped="message",
            example={
                "context_id": 1,
                "message": {
                    "id": 1,
                    "caller_id": 7,
                    "context_id": 1,
                    "message": "please run this",
                    "message_type": "Python",
                    "message_format_type": "Text",
                    "timeout": 60,
                    "timeout_ack": 5,
                    "timeout_result": 60,
                    "job": [_JOB_EXAMPLE],
                },
            },
        ),
        Method(
            "message.load",
            "Load Message by ids from a context",
            models.MessageLoadParams,
            models.Message,
            operations.load_message,
            _of_context,
            _READ,
        ),
    )
}
