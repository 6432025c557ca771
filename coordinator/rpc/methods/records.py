"""The contract's own methods: creating and loading records, and flow.dag."""

from __future__ import annotations

from coordinator import models
from coordinator.errors import Conflict, DagCycleDetected, DagMissingDependency, Overloaded
from coordinator.operations import records
from coordinator.rpc.access.rights import Right
from coordinator.rpc.methods.method import (
    READ,
    WRITE,
    Method,
    OneCommand,
    Steps,
    creates_something,
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
            READ,  # the contract lists NotFound here too
            context=in_global,
            does=OneCommand(records.create_actor),
            writes=True,
            creates=creates_something,
            example={"actor": {"id": 7, "pubkey": "ed25519:7", "address": ["10.0.0.7", "fd00::7"]}},
            right=Right.ACTOR_CREATE,
        ),
        Method(
            "actor.load",
            "Load an Actor by id",
            models.ActorLoadParams,
            models.Actor,
            READ,
            context=in_global,
            does=OneCommand(records.load_actor),
            right=Right.ACTOR_LOAD,
        ),
        Method(
            "context.create",
            "Create/Upsert Context (stored in its own DB index)",
            models.ContextCreateParams,
            models.Context,
            WRITE,
            context=lambda params: params.context.id,
            does=OneCommand(records.create_context),
            writes=True,
            creates=creates_something,
            example={"context": {"id": 1, "admins": [7], "readers": [], "executors": [7]}},
            right=Right.CONTEXT_WRITE,
        ),
        Method(
            "context.load",
            "Load a Context by id",
            models.ContextLoadParams,
            models.Context,
            READ,
            context=lambda params: params.id,
            does=OneCommand(records.load_context),
            right=Right.CONTEXT_READ,
        ),
        Method(
            "runner.create",
            "Create/Upsert Runner in a context",
            models.RunnerCreateParams,
            models.Runner,
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
            right=Right.RUNNER_WRITE,
        ),
        Method(
            "runner.load",
            "Load Runner by id from a context",
            models.RunnerLoadParams,
            models.Runner,
            READ,
            does=OneCommand(records.load_runner),
            right=Right.RUNNER_READ,
        ),
        Method(
            "flow.create",
            "Create/Upsert Flow in a context",
            models.FlowCreateParams,
            models.Flow,
            (*WRITE, Overloaded),
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
            right=Right.RECORD_WRITE,
        ),
        Method(
            "flow.load",
            "Load Flow by id from a context",
            models.FlowLoadParams,
            models.Flow,
            READ,
            does=OneCommand(records.load_flow),
            right=Right.RECORD_READ,
        ),
        Method(
            "flow.dag",
            "Compute and return the execution DAG for a Flow",
            models.FlowLoadParams,
            models.FlowDag,
            _DAG,
            does=Steps(records.flow_dag),
            replies="whole",
            right=Right.FLOW_READ,
        ),
        Method(
            "job.create",
            "Create/Upsert Job in a context",
            models.JobCreateParams,
            models.Job,
            (*WRITE, Conflict, Overloaded),
            does=OneCommand(records.create_job),
            writes=True,
            creates=creates_something,
            payload_member="job",
            example={"context_id": 1, "job": _JOB_EXAMPLE},
            right=Right.RECORD_WRITE,
        ),
        Method(
            "job.load",
            "Load Job by ids from a context",
            models.JobLoadParams,
            models.Job,
            READ,
            does=OneCommand(records.load_job),
            right=Right.RECORD_READ,
        ),
        Method(
            "message.create",
            "Create/Upsert Message in a context",
            models.MessageCreateParams,
            models.Message,
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
            right=Right.RECORD_WRITE,
        ),
        Method(
            "message.load",
            "Load Message by ids from a context",
            models.MessageLoadParams,
            models.Message,
            READ,
            does=Steps(records.load_message),
            replies="whole",
            right=Right.RECORD_READ,
        ),
    )
}
