"""The methods by which people decide about what runs: cancel a job, pause, drain, run again."""

from __future__ import annotations

from typing import Final

from coordinator import models
from coordinator.actors.request import Operation
from coordinator.engine.engine import Engine
from coordinator.engine.sessions import Caller
from coordinator.errors import Conflict, DagCycleDetected, DagMissingDependency, Overloaded
from coordinator.operations import bulk, control
from coordinator.rpc.access.rights import Right
from coordinator.rpc.methods.method import READ, WRITE, Live, Method, OneCommand, Steps
from coordinator.storage.keys import Keyspace

__all__ = ["CONTROL_METHODS"]

_FLOW_EXAMPLE: Final = {"context_id": 1, "id": 1}
_MANY_EXAMPLE: Final = {"context_id": 1, "filter": {"tag": "nightly", "caller_id": 7}, "dry_run": True}
_TYPE_EXAMPLE: Final = {"context_id": 1, "script_type": "Python"}
_RUNNER_EXAMPLE: Final = {"context_id": 1, "id": 3}


def _delete_context(engine: Engine, caller: Caller, keys: Keyspace, params: models.ContextDeleteParams) -> Operation:
    return engine.deletions.delete(params.context_id)


CONTROL_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "job.cancel",
            "End a job that waits or runs in Error, and its flow or message with it",
            models.JobCancelParams,
            models.Job,
            (*READ, Conflict),
            does=Steps(control.cancel_job),
            writes=True,
            example={"context_id": 1, "caller_id": 7, "id": 1, "reason": "no longer wanted"},
            right=Right.RUN,
        ),
        Method(
            "flow.rerun",
            "Run a flow that has ended again, or only a job of it and what depends on that",
            models.FlowRerunParams,
            models.Flow,
            (*READ, DagMissingDependency, DagCycleDetected, Conflict, Overloaded),
            does=Steps(control.rerun_flow),
            starts_run=True,
            writes=True,
            example={
                **_FLOW_EXAMPLE,
                "from_job": 2,
                "overrides": {"env_vars": {"STAGE": "test"}, "jobs": [{"id": 2, "script": "print('again')"}]},
            },
            right=Right.RUN,
        ),
        Method(
            "flow.pause",
            "Hand out none of a started flow's jobs until flow.resume; what runs goes on",
            models.FlowParams,
            models.Flow,
            (*READ, Conflict),
            does=Steps(control.pause_flow),
            writes=True,
            example=_FLOW_EXAMPLE,
            right=Right.RUN,
        ),
        Method(
            "flow.resume",
            "End what flow.pause has begun",
            models.FlowParams,
            models.Flow,
            (*READ, Conflict),
            does=Steps(control.resume_flow),
            writes=True,
            example=_FLOW_EXAMPLE,
            right=Right.RUN,
        ),
        Method(
            "flow.cancel_many",
            "Stop all flows that a filter means, some seconds a call",
            models.FlowsCancelParams,
            models.FlowsDone,
            WRITE,
            does=Steps(bulk.cancel_flows),
            writes=True,
            example=_MANY_EXAMPLE,
            right=Right.RUN,
        ),
        Method(
            "flow.retry_many",
            "Start the unfinished part of all flows in Error that a filter means again, some seconds a call",
            models.FlowsParams,
            models.FlowsDone,
            WRITE,
            does=Steps(bulk.retry_flows),
            starts_run=True,
            writes=True,
            example=_MANY_EXAMPLE,
            right=Right.RUN,
        ),
        Method(
            "flow.delete_many",
            "Delete all flows that a filter means and that do not run, with their jobs, some seconds a call",
            models.FlowsParams,
            models.FlowsDone,
            WRITE,
            does=Steps(bulk.delete_flows),
            writes=True,
            example=_MANY_EXAMPLE,
            right=Right.DELETE,
        ),
        Method(
            "context.pause",
            "Hand out none of a context's jobs, or of one script type of it, until context.resume; what runs goes on",
            models.ContextPauseParams,
            models.ContextPaused,
            READ,
            does=OneCommand(control.pause_context),
            writes=True,
            example=_TYPE_EXAMPLE,
            replies="small",
            right=Right.CONTEXT_CONTROL,
        ),
        Method(
            "context.resume",
            "End what context.pause has begun with the same params",
            models.ContextPauseParams,
            models.ContextPaused,
            READ,
            does=OneCommand(control.resume_context),
            writes=True,
            example=_TYPE_EXAMPLE,
            replies="small",
            right=Right.CONTEXT_CONTROL,
        ),
        Method(
            "context.delete",
            "Delete a context with all that is in it; whoever waits or is subscribed there is told",
            models.ContextDeleteParams,
            models.Deleted,
            (*WRITE, Conflict),
            does=Live(_delete_context),
            writes=True,
            example={"context_id": 1},
            replies="small",
            right=Right.CONTEXT_DELETE,
        ),
        Method(
            "runner.drain",
            "Give a runner nothing new until runner.undrain; it finishes what it holds",
            models.RunnerLoadParams,
            models.Runner,
            READ,
            does=OneCommand(control.drain_runner),
            writes=True,
            example=_RUNNER_EXAMPLE,
            right=Right.RUNNER_WRITE,
        ),
        Method(
            "runner.undrain",
            "Give a runner jobs again",
            models.RunnerLoadParams,
            models.Runner,
            READ,
            does=OneCommand(control.undrain_runner),
            writes=True,
            example=_RUNNER_EXAMPLE,
            right=Right.RUNNER_WRITE,
        ),
    )
}
