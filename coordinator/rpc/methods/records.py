"""The contract's own methods: creating and loading records, and flow.dag."""

from __future__ import annotations

from coordinator import models
from coordinator.errors import Conflict, DagCycleDetected, DagMissingDependency
from coordinator.operations import records
from coordinator.rpc.methods.method import (
    READ,
    WRITE,
    Method,
    OneCommand,
    Steps,
    creates_something,
    in_context,
    in_global,
)

__all__ = ["CONTRACT_METHODS"]

_DAG = (*READ, DagMissingDependency, DagCycleDetected)

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

CONTRACT_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "actor.create",
            "Create/Upsert Actor",
            models.ActorCreateParams,
            models.Actor,
            in_global,
            READ,  # the contract lists NotFound here too
            does=OneCommand(records.create_actor),
            writes=True,
            creates=creates_something,
            example={"actor": {"id": 7, "pubkey": "ed25519:7", "address": ["10.0.0.7", "fd00::7"]}},
        ),
        Method(
            "actor.load",
            "Load an Actor by id",
            models.ActorLoadParams,
            models.Actor,
            in_global,
            READ,
            does=OneCommand(records.load_actor),
        ),
        Method(
            "context.create",
            "Create/Upsert Context (stored in its own DB index)",
            models.ContextCreateParams,
            models.Context,
            lambda params: params.context.id,
            WRITE,
            does=OneCommand(records.create_context),
            writes=True,
            creates=creates_something,
            example={"context": {"id": 1, "admins": [7], "readers": [], "executors": [7]}},
        ),
        Method(
            "context.load",
            "Load a Context by id",
            models.ContextLoadParams,
            models.Context,
            lambda params: params.id,
            READ,
            does=OneCommand(records.load_context),
        ),
        Method(
            "runner.create",
            "Create/Upsert Runner in a context",
            models.RunnerCreateParams,
            models.Runner,
            in_context,
            WRITE,
            does=OneCommand(records.create_runner),
            writes=True,
            creates=creates_something,
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
            in_context,
            READ,
            does=OneCommand(records.load_runner),
        ),
        Method(
            "flow.create",
            "Create/Upsert Flow in a context",
            models.FlowCreateParams,
            models.Flow,
            in_context,
            WRITE,
            does=OneCommand(records.create_flow),
            writes=True,
            creates=creates_something,
            payload_member="flow",
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
            in_context,
            READ,
            does=OneCommand(records.load_flow),
        ),
        Method(
            "flow.dag",
            "Compute and return the execution DAG for a Flow",
            models.FlowLoadParams,
            models.FlowDag,
            in_context,
            _DAG,
            does=Steps(records.flow_dag),
            replies="whole",
        ),
        Method(
            "job.create",
            "Create/Upsert Job in a context",
            models.JobCreateParams,
            models.Job,
            in_context,
            (*WRITE, Conflict),
            does=OneCommand(records.create_job),
            writes=True,
            creates=creates_something,
            payload_member="job",
            example={"context_id": 1, "job": _JOB_EXAMPLE},
        ),
        Method(
            "job.load",
            "Load Job by ids from a context",
            models.JobLoadParams,
            models.Job,
            in_context,
            READ,
            does=OneCommand(records.load_job),
        ),
        Method(
            "message.create",
            "Create/Upsert Message in a context",
            models.MessageCreateParams,
            models.Message,
            in_context,
            WRITE,
            does=Steps(records.create_message),
            writes=True,
            creates=creates_something,
            payload_member="message",
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
            in_context,
            READ,
            does=Steps(records.load_message),
            replies="whole",
        ),
    )
}
