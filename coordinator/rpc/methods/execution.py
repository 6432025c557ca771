"""The methods of running flows."""

from __future__ import annotations

from typing import Any, Final

from coordinator import models
from coordinator.actors.request import Operation, RawJson
from coordinator.engine.engine import Engine
from coordinator.engine.sessions import Caller, Session
from coordinator.engine.waiters import ANY_TYPE
from coordinator.errors import (
    Conflict,
    DagCycleDetected,
    DagMissingDependency,
    InvalidParams,
    NotSubscribed,
    Overloaded,
    StaleToken,
    WebSocketRequired,
)
from coordinator.operations import attempts, events, flows, messages, prerequisites, views
from coordinator.rpc.access.rights import Right
from coordinator.rpc.methods.method import (
    READ,
    WRITE,
    Live,
    Method,
    OneCommand,
    Steps,
    creates_something,
    in_global,
)
from coordinator.storage.keys import Keyspace

__all__ = ["EXECUTION_METHODS"]

_DAG: Final = (DagMissingDependency, DagCycleDetected)
_ATTEMPT: Final = (*READ, StaleToken)
_SUBSCRIBE: Final = (*READ, Overloaded, WebSocketRequired)
_UNSUBSCRIBE: Final = (InvalidParams, NotSubscribed, WebSocketRequired)

_FLOW_EXAMPLE: Final = {"context_id": 1, "id": 1}
_ATTEMPT_EXAMPLE: Final = {"context_id": 1, "caller_id": 7, "id": 1, "token": "Yk3vXo8mT1qFbW0dLr5zNg-7-1"}


def _need(session: Session | None, instead: str) -> Session:
    if session is None:
        raise WebSocketRequired(instead)
    return session


def _subscribe_runner(
    engine: Engine, caller: Caller, keys: Keyspace, params: models.RunnerSubscribeParams
) -> Operation:
    return engine.subscriptions.subscribe_runner(_need(caller.session, "job.take"), caller.opening, keys, params)


def _unsubscribe_runner(engine: Engine, caller: Caller, keys: Keyspace, params: models.SubscriptionParams) -> RawJson:
    return engine.subscriptions.unsubscribe(_need(caller.session, "job.take"), "runner", params)


def _follow_flow(engine: Engine, caller: Caller, keys: Keyspace, params: models.FlowSubscribeParams) -> Operation:
    session = _need(caller.session, "flow.events")
    return engine.subscriptions.follow_flow(session, caller.opening, keys, params, sees_logs=caller.sees_logs)


def _unfollow_flow(engine: Engine, caller: Caller, keys: Keyspace, params: models.SubscriptionParams) -> RawJson:
    return engine.subscriptions.unsubscribe(_need(caller.session, "flow.events"), "flow", params)


def _follow_context(engine: Engine, caller: Caller, keys: Keyspace, params: models.ContextSubscribeParams) -> Operation:
    return engine.subscriptions.follow_context(_need(caller.session, "context.events"), caller.opening, keys, params)


def _unfollow_context(engine: Engine, caller: Caller, keys: Keyspace, params: models.SubscriptionParams) -> RawJson:
    return engine.subscriptions.unsubscribe(_need(caller.session, "context.events"), "context", params)


def _take_job(engine: Engine, caller: Caller, keys: Keyspace, params: models.JobTakeParams) -> Operation:
    return engine.takes.take_job(caller.budget, keys, params, caller.address)


def _first_type(params: models.FlowSubmitParams) -> str | None:
    """The script type of a job that waits for nothing."""
    return next((job.script_type for job in params.jobs if not job.depends and not job.prerequisites), None)


def _any_type(params: models.Model) -> str:
    """The script type of a job that starts in the store."""
    return ANY_TYPE


def _ended(session: Session, params: Any) -> None:
    session.ended(params.token)


def _renewed(session: Session, params: Any) -> None:
    session.renewed(params.token)


EXECUTION_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "flow.submit",
            "Create a flow with its jobs and start it, in one step",
            models.FlowSubmitParams,
            models.Flow,
            (*WRITE, *_DAG, Conflict, Overloaded),
            does=Steps(flows.submit_flow),
            starts_run=True,
            queues=_first_type,
            writes=True,
            creates=creates_something,
            payload_member="flow",
            example={
                "context_id": 1,
                "flow": {"id": 2, "caller_id": 7, "context_id": 1, "jobs": [11], "env_vars": {}},
                "jobs": [
                    {
                        "id": 11,
                        "caller_id": 7,
                        "context_id": 1,
                        "script": "print('hello')",
                        "script_type": "Python",
                        "timeout": 60,
                        "retries": 2,
                        "env_vars": {},
                        "prerequisites": [],
                        "depends": [],
                    }
                ],
            },
            written=lambda params: (params.flow, *params.jobs),
            right=Right.RECORD_WRITE,
        ),
        Method(
            "flow.start",
            "Start a flow; one that was started stays as it is",
            models.FlowParams,
            models.Flow,
            (*READ, *_DAG, Conflict),
            does=Steps(flows.start_flow),
            starts_run=True,
            queues=_any_type,
            writes=True,
            example=_FLOW_EXAMPLE,
            right=Right.RUN,
        ),
        Method(
            "flow.cancel",
            "Stop a flow: it ends in Error",
            models.FlowCancelParams,
            models.Flow,
            (*READ, Conflict),
            does=Steps(flows.cancel_flow),
            writes=True,
            example={"context_id": 1, "id": 1, "reason": "no longer wanted"},
            right=Right.RUN,
        ),
        Method(
            "flow.retry",
            "Start the unfinished part of a flow in Error again",
            models.FlowParams,
            models.Flow,
            (*READ, *_DAG, Conflict),
            does=Steps(flows.retry_flow),
            starts_run=True,
            queues=_any_type,
            writes=True,
            example=_FLOW_EXAMPLE,
            right=Right.RUN,
        ),
        Method(
            "flow.status",
            "A flow with the progress of each of its jobs",
            models.FlowParams,
            models.FlowReport,
            READ,
            does=Steps(views.flow_status),
            example=_FLOW_EXAMPLE,
            replies="whole",
            right=Right.FLOW_READ,
        ),
        Method(
            "flow.events",
            "A page of what happened to a flow",
            models.FlowEventsParams,
            models.FlowEvents,
            READ,
            does=Steps(events.flow_events),
            example=_FLOW_EXAMPLE,
            replies="page",
            right=Right.FLOW_READ,
        ),
        Method(
            "flow.subscribe",
            "Follow a flow: what happens comes as notifications `flow.event` (WebSocket)",
            models.FlowSubscribeParams,
            models.FlowSubscribed,
            _SUBSCRIBE,
            does=Live(_follow_flow),
            example=_FLOW_EXAMPLE,
            replies="small",
            right=Right.FLOW_READ,
        ),
        Method(
            "flow.unsubscribe",
            "End a subscription of flow.subscribe (WebSocket)",
            models.SubscriptionParams,
            models.Unsubscribed,
            _UNSUBSCRIBE,
            does=Live(_unfollow_flow),
            context=in_global,
            example={"subscription": "0123456789abcdef0123456789abcdef"},
            replies="small",
            right=Right.SIGNED_IN,
        ),
        Method(
            "context.events",
            "A page of what happened to all flows of a context, from the first such call on",
            models.ContextEventsParams,
            models.ContextEvents,
            WRITE,
            does=Steps(events.context_events),
            example={"context_id": 1},
            replies="page",
            right=Right.FLOW_READ,
        ),
        Method(
            "context.subscribe",
            "Follow all flows of a context: what happens comes as notifications `context.event` (WebSocket)",
            models.ContextSubscribeParams,
            models.ContextSubscribed,
            (*WRITE, Overloaded, WebSocketRequired),
            does=Live(_follow_context),
            example={"context_id": 1},
            replies="small",
            right=Right.FLOW_READ,
        ),
        Method(
            "context.unsubscribe",
            "End a subscription of context.subscribe (WebSocket)",
            models.SubscriptionParams,
            models.Unsubscribed,
            _UNSUBSCRIBE,
            does=Live(_unfollow_context),
            context=in_global,
            example={"subscription": "0123456789abcdef0123456789abcdef"},
            replies="small",
            right=Right.SIGNED_IN,
        ),
        Method(
            "runner.subscribe",
            "Supply a runner with jobs: they come as notifications `runner.job`, and `runner.cancel` (WebSocket)",
            models.RunnerSubscribeParams,
            models.RunnerSubscribed,
            _SUBSCRIBE,
            writes=True,
            does=Live(_subscribe_runner),
            example={"context_id": 1, "runner_id": 3, "script_types": ["Python"], "capacity": 4, "lease": 30.0},
            replies="small",
            right=Right.WORK,
        ),
        Method(
            "runner.unsubscribe",
            "End a subscription of runner.subscribe; attempts handed out stay the runner's (WebSocket)",
            models.SubscriptionParams,
            models.Unsubscribed,
            _UNSUBSCRIBE,
            does=Live(_unsubscribe_runner),
            context=in_global,
            example={"subscription": "0123456789abcdef0123456789abcdef"},
            replies="small",
            right=Right.SIGNED_IN,
        ),
        Method(
            "job.take",
            "Take jobs for a runner without a WebSocket; waits for one if there is none",
            models.JobTakeParams,
            models.JobTaken,
            (*READ, Overloaded),
            writes=True,
            does=Live(_take_job, needs_reply=True, extra_timeout=lambda params: params.wait),
            example={"context_id": 1, "runner_id": 3, "script_types": ["Python"], "count": 1, "wait": 20.0},
            replies="small",
            right=Right.WORK,
        ),
        Method(
            "job.heartbeat",
            "Renew the lease of an attempt",
            models.JobHeartbeatParams,
            models.Heartbeat,
            _ATTEMPT,
            does=OneCommand(attempts.heartbeat, on_accepted=_renewed),
            writes=True,
            example=_ATTEMPT_EXAMPLE,
            replies="small",
            right=Right.ATTEMPT,
        ),
        Method(
            "job.inputs",
            "A page of the results of the jobs that an attempt's job depends on",
            models.JobInputsParams,
            models.JobInputs,
            _ATTEMPT,
            does=Steps(attempts.job_inputs),
            example=_ATTEMPT_EXAMPLE,
            replies="page",
            right=Right.ATTEMPT,
        ),
        Method(
            "job.log",
            "Append lines to the log of an attempt; renews its lease",
            models.JobLogParams,
            models.Logged,
            _ATTEMPT,
            does=OneCommand(attempts.log_lines, on_accepted=_renewed),
            writes=True,
            example={**_ATTEMPT_EXAMPLE, "lines": ["hello"], "stream": "stdout"},
            replies="small",
            right=Right.ATTEMPT,
        ),
        Method(
            "job.tail",
            "The newest log lines of a job, also when its flow's events no longer have them",
            models.JobLoadParams,
            models.JobTail,
            READ,
            does=Steps(attempts.job_tail),
            example={"context_id": 1, "caller_id": 7, "id": 1},
            right=Right.LOG_READ,
        ),
        Method(
            "job.attempts",
            "How the newest attempts at a job went: by which runner, from when to when, and why they failed",
            models.JobLoadParams,
            models.JobAttempts,
            READ,
            does=Steps(attempts.job_attempts),
            example={"context_id": 1, "caller_id": 7, "id": 1},
            right=Right.RECORD_READ,
        ),
        Method(
            "job.finish",
            "Report that an attempt has succeeded",
            models.JobFinishParams,
            models.AttemptOutcome,
            _ATTEMPT,
            does=OneCommand(attempts.finish_job, on_accepted=_ended),
            writes=True,
            example={**_ATTEMPT_EXAMPLE, "result": {"answer": "42"}},
            replies="small",
            right=Right.ATTEMPT,
        ),
        Method(
            "job.fail",
            "Report that an attempt has failed",
            models.JobFailParams,
            models.AttemptOutcome,
            _ATTEMPT,
            does=OneCommand(attempts.fail_job, on_accepted=_ended),
            writes=True,
            example={**_ATTEMPT_EXAMPLE, "error": "exit status 1"},
            replies="small",
            right=Right.ATTEMPT,
        ),
        Method(
            "message.send",
            "Run the jobs embedded in a stored message",
            models.MessageParams,
            models.Message,
            (*READ, *_DAG, Conflict, Overloaded),
            does=Steps(messages.send_message),
            starts_run=True,
            writes=True,
            example={"context_id": 1, "caller_id": 7, "id": 1},
            replies="whole",
            right=Right.RUN,
        ),
        Method(
            "prerequisite.satisfy",
            "Declare an external condition as met, for the jobs of a flow or of the whole context",
            models.PrerequisiteSatisfyParams,
            models.Satisfied,
            (*READ, Conflict),
            does=Steps(prerequisites.satisfy_prerequisite),
            queues=_any_type,
            writes=True,
            creates=lambda params: params.flow_id is None,
            example={"context_id": 1, "name": "approved", "flow_id": 1, "by": "Ada", "payload": {"order": "4711"}},
            right=Right.PREREQUISITE_WRITE,
        ),
        Method(
            "prerequisite.revoke",
            "Declare an external condition as not met: jobs that were not released yet wait for it again",
            models.PrerequisiteRevokeParams,
            models.Revoked,
            READ,
            does=Steps(prerequisites.revoke_prerequisite),
            writes=True,
            example={"context_id": 1, "name": "approved"},
            replies="small",
            right=Right.PREREQUISITE_WRITE,
        ),
        Method(
            "prerequisite.list",
            "A page of the prerequisites jobs wait for, with who waits, and of those that are satisfied",
            models.PrerequisiteListParams,
            models.Prerequisites,
            WRITE,
            does=Steps(prerequisites.list_prerequisites),
            example={"context_id": 1},
            replies="page",
            right=Right.PREREQUISITE_READ,
        ),
    )
}
