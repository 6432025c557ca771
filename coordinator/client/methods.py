"""The API's methods, typed: a row each. Their names are the API's with `_` for `.`, their arguments its params."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from coordinator import models
from coordinator.models import Model

__all__ = ["Methods"]

P = ParamSpec("P")
R = TypeVar("R", bound=Model)


class _Caller(Protocol):
    async def call(
        self, method: str, params: Any = None, *, timeout: float | None = None, alone: bool = False
    ) -> Any: ...


class _Bound(Generic[P, R]):
    """A method of one client."""

    __slots__ = ("_call", "_method")

    def __init__(self, method: _Method[P, R], call: Callable[[str, Any], Awaitable[Any]]) -> None:
        self._method = method
        self._call = call

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it.

        Raises:
            pydantic.ValidationError: an argument is not what the method takes; nothing was sent.
            RpcError, NoReply, …: as `Client.call`.
        """
        method = self._method
        result = await self._call(method.name, method.params(*args, **kwargs))
        return method.validate(result)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._method.params).replace(return_annotation=self._method.result)


class _Method(Generic[P, R]):
    """A row.

    Args:
        params: the model of its params; its constructor's arguments are the method's.
        result: the model of its result.
    """

    def __init__(self, name: str, params: Callable[P, Model], result: type[R]) -> None:
        self.name = name
        self.params = params
        self.result = result
        self._validate = result.__pydantic_validator__.validate_python

    def validate(self, result: Any) -> R:
        # Not strictly, because the models are strict about Python's types: JSON has no tuples.
        return cast(R, self._validate(result, strict=False))

    @overload
    def __get__(self, client: None, owner: type) -> _Method[P, R]: ...
    @overload
    def __get__(self, client: _Caller, owner: type) -> _Bound[P, R]: ...
    def __get__(self, client: _Caller | None, owner: type) -> _Method[P, R] | _Bound[P, R]:
        return self if client is None else _Bound(self, client.call)


class Methods:
    """Mixed into the client. Every argument is given by name, every one is a model of `coordinator.models`."""

    actor_create = _Method("actor.create", models.ActorCreateParams, models.Actor)
    actor_load = _Method("actor.load", models.ActorLoadParams, models.Actor)

    context_create = _Method("context.create", models.ContextCreateParams, models.Context)
    context_load = _Method("context.load", models.ContextLoadParams, models.Context)
    context_list = _Method("context.list", models.ContextListParams, models.ContextPage)

    runner_create = _Method("runner.create", models.RunnerCreateParams, models.Runner)
    runner_load = _Method("runner.load", models.RunnerLoadParams, models.Runner)
    runner_list = _Method("runner.list", models.RunnerListParams, models.RunnerPage)
    context_stats = _Method("context.stats", models.ContextStatsParams, models.ContextStats)
    runner_connected = _Method("runner.connected", models.RunnerConnectedParams, models.RunnersConnected)
    runner_delete = _Method("runner.delete", models.RunnerLoadParams, models.Deleted)

    flow_create = _Method("flow.create", models.FlowCreateParams, models.Flow)
    flow_load = _Method("flow.load", models.FlowLoadParams, models.Flow)
    flow_list = _Method("flow.list", models.FlowListParams, models.FlowPage)
    flow_delete = _Method("flow.delete", models.FlowParams, models.Deleted)
    flow_dag = _Method("flow.dag", models.FlowLoadParams, models.FlowDag)
    flow_submit = _Method("flow.submit", models.FlowSubmitParams, models.Flow)
    flow_start = _Method("flow.start", models.FlowParams, models.Flow)
    flow_cancel = _Method("flow.cancel", models.FlowCancelParams, models.Flow)
    flow_retry = _Method("flow.retry", models.FlowParams, models.Flow)
    flow_status = _Method("flow.status", models.FlowParams, models.FlowReport)
    flow_events = _Method("flow.events", models.FlowEventsParams, models.FlowEvents)
    context_events = _Method("context.events", models.ContextEventsParams, models.ContextEvents)

    job_create = _Method("job.create", models.JobCreateParams, models.Job)
    job_load = _Method("job.load", models.JobLoadParams, models.Job)
    job_list = _Method("job.list", models.JobListParams, models.JobPage)
    job_delete = _Method("job.delete", models.JobLoadParams, models.Deleted)
    job_inputs = _Method("job.inputs", models.JobInputsParams, models.JobInputs)
    job_heartbeat = _Method("job.heartbeat", models.JobHeartbeatParams, models.Heartbeat)
    job_log = _Method("job.log", models.JobLogParams, models.Logged)
    job_attempts = _Method("job.attempts", models.JobLoadParams, models.JobAttempts)
    job_tail = _Method("job.tail", models.JobLoadParams, models.JobTail)
    job_finish = _Method("job.finish", models.JobFinishParams, models.AttemptOutcome)
    job_fail = _Method("job.fail", models.JobFailParams, models.AttemptOutcome)

    message_create = _Method("message.create", models.MessageCreateParams, models.Message)
    message_load = _Method("message.load", models.MessageLoadParams, models.Message)
    message_list = _Method("message.list", models.MessageListParams, models.MessagePage)
    message_delete = _Method("message.delete", models.MessageLoadParams, models.Deleted)
    message_send = _Method("message.send", models.MessageParams, models.Message)

    prerequisite_satisfy = _Method("prerequisite.satisfy", models.PrerequisiteSatisfyParams, models.Satisfied)
    prerequisite_revoke = _Method("prerequisite.revoke", models.PrerequisiteRevokeParams, models.Revoked)
    prerequisite_list = _Method("prerequisite.list", models.PrerequisiteListParams, models.Prerequisites)

    auth_challenge = _Method("auth.challenge", models.ChallengeParams, models.Challenge)
    auth_login = _Method("auth.login", models.LoginParams, models.LoggedIn)
    auth_ticket = _Method("auth.ticket", models.TicketParams, models.Ticket)
    auth_renew = _Method("auth.renew", models.LoginParams, models.LoggedIn)
    auth_whoami = _Method("auth.whoami", models.WhoAmIParams, models.WhoAmI)
    token_create = _Method("token.create", models.TokenCreateParams, models.NewToken)
    token_list = _Method("token.list", models.TokenListParams, models.TokenPage)
    token_revoke = _Method("token.revoke", models.TokenRevokeParams, models.TokenRevoked)
    actor_rotate_key = _Method("actor.rotate_key", models.KeyRotateParams, models.Actor)
    actor_revoke = _Method("actor.revoke", models.ActorRevokeParams, models.ActorRevoked)

    async def job_take(
        self: _Caller,
        *,
        context_id: int,
        runner_id: int,
        script_types: list[models.ScriptType],
        count: int = 1,
        wait: float = 0.0,
        lease: float = 30.0,
        take_id: str = "",
    ) -> list[models.Assignment]:
        """Take up to `count` jobs, waiting up to `wait` seconds for the first; none if there was none.

        Without a `take_id` it gets one of its own, so that sending it again after a lost connection is safe.
        """
        params = models.JobTakeParams(
            context_id=context_id,
            runner_id=runner_id,
            script_types=script_types,
            count=count,
            wait=wait,
            lease=lease,
            take_id=take_id or secrets.token_hex(16),
        )
        taken = await self.call("job.take", params, timeout=wait + TAKE_TIMEOUT, alone=wait > 0)
        return models.JobTaken.model_validate(taken, strict=False).jobs


TAKE_TIMEOUT = 60.0
"""Seconds `job_take` waits for its reply beyond `wait`."""
