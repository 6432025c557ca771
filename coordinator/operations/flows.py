"""Flows: started, retried, cancelled, and submitted with their jobs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final, NoReturn

from coordinator import dag
from coordinator.actors.request import Compute, Further, Operation, WithEffects
from coordinator.errors import Conflict, InvalidParams, NotFound
from coordinator.models.contract import FlowLoadParams
from coordinator.models.flows import FlowCancelParams, FlowParams, FlowSubmitParams
from coordinator.operations import slices
from coordinator.operations.records import NEW_FLOW, flow_dag, given_members, result_json, spoken
from coordinator.operations.slices import in_slices
from coordinator.storage import codec
from coordinator.storage.functions import flows
from coordinator.storage.functions.flows import Submitted
from coordinator.storage.functions.results import Effects, Fields, Refused, Word
from coordinator.storage.keys import Keyspace, Transition, flow_name

__all__ = ["cancel_flow", "flow_outcome", "raise_busy", "raise_differs", "retry_flow", "start_flow", "submit_flow"]

SUBMIT_INLINE: Final = 300  # jobs and edges up to which a flow is prepared on the event loop, about 2 ms
ATTEMPTS_TO_PLAN: Final = 5  # a DAG that changes under us so often is reported as a conflict


def start_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _start(keys, params, flows.flow_start))


def retry_flow(keys: Keyspace, params: FlowParams) -> Operation:
    return (yield from _start(keys, params, flows.flow_retry))


def _start(keys: Keyspace, params: FlowParams, function: Callable[[Keyspace, int], Transition]) -> Operation:
    for _ in range(ATTEMPTS_TO_PLAN):
        outcome, effects = yield from in_slices(function(keys, params.id), flows.read_flow, is_first=True)
        if not (isinstance(outcome, Refused) and outcome.word in (Word.CHANGED, Word.MISSING)):
            break
        # For the error that says what is wrong. If there is none, the jobs have been changed since.
        yield from flow_dag(keys, FlowLoadParams(context_id=params.context_id, id=params.id))
    return flow_outcome(params.context_id, params.id, outcome, effects)


def cancel_flow(keys: Keyspace, params: FlowCancelParams) -> Operation:
    reason = f"cancelled: {params.reason}" if params.reason else "cancelled"
    command = flows.flow_cancel(keys, params.id, reason)
    outcome, effects = yield from in_slices(command, flows.read_flow, is_first=True)
    return flow_outcome(params.context_id, params.id, outcome, effects)


def submit_flow(keys: Keyspace, params: FlowSubmitParams) -> Operation:
    flow = params.flow
    edges = sum(len(job.depends) for job in params.jobs)
    if len(params.jobs) + edges <= SUBMIT_INLINE:
        command = _submission(keys, params)
    else:
        command = yield Compute(lambda: _submission(keys, params))
    if command is None:
        return (yield from _submit_in_slices(keys, params))
    outcome, effects = yield from in_slices(command, flows.read_flow_submit, waits=True)
    if isinstance(outcome, bytes):
        kept = {**NEW_FLOW.members, "status": b"Started"}
        return WithEffects(codec.FLOW.written(given_members(flow), outcome, outcome, kept), effects)
    return flow_outcome(params.context_id, flow.id, outcome, effects)


def _submission(keys: Keyspace, params: FlowSubmitParams) -> Transition | None:
    """The command that submits a flow; None if that is too much for one.

    Raises InvalidParams, or what flow.dag raises for its jobs.
    """
    flow, jobs = params.flow, {job.id: job for job in params.jobs}
    if flow.result:
        result_json(keys, flow.result, "flow")
    for at, job in enumerate(params.jobs):
        if job.result:
            result_json(keys, job.result, "jobs", at)
    if jobs.keys() != set(flow.jobs) or len(jobs) != len(params.jobs):
        raise InvalidParams.at("jobs", msg="must be the jobs that flow.jobs lists, each once", type="jobs_mismatch")
    if any(job.caller_id != flow.caller_id for job in params.jobs):
        raise InvalidParams.at("jobs", msg="must have the flow's caller_id", type="jobs_mismatch")
    graph = dag.build({id: job.depends for id, job in jobs.items()})
    if (
        len(jobs) > slices.ONE_CALL
        or sum(len(job.depends) + len(job.prerequisites) for job in params.jobs) > slices.ONE_CALL_NAMES
    ):
        return None
    submitted = {id: Submitted(given_members(job), [], []) for id, job in jobs.items()}
    for parent, child in graph.edges:
        submitted[parent].children.append(child)
        submitted[child].parents.append(parent)
    return flows.flow_submit(keys, given_members(flow), submitted, graph.leaves)


def _submit_in_slices(keys: Keyspace, params: FlowSubmitParams) -> Operation:
    """Submit a flow with many jobs, which is created and started in slices.

    Nothing of it runs before all is there. If we do not come to the end, a timer of the store gives it up, or starts it
    if all was there.
    """
    flow, name, token = given_members(params.flow), flow_name(params.flow.id), uuid.uuid4().hex
    outcome: Fields | Refused | None = None
    effects: Effects = ()
    for start in range(0, len(params.jobs) + slices.JOBS_ADDED, slices.JOBS_ADDED):
        checked = [given_members(job) for job in params.jobs[start : start + slices.JOBS_ADDED]]
        command = flows.flow_check(keys, flow, checked) if checked else flows.flow_create(keys, flow, token)
        refused, effects = yield from in_slices(command, flows.read_flow_create, is_first=start == 0, waits=True)
        if refused is not None:
            return flow_outcome(params.context_id, params.flow.id, refused, effects)
    for start in range(0, len(params.jobs), slices.JOBS_ADDED):
        jobs = [given_members(job) for job in params.jobs[start : start + slices.JOBS_ADDED]]
        (reply,) = yield Further([flows.flow_add(keys, name, token, jobs)], effects)
        outcome, effects = flows.read_flow_add(reply)
        if outcome is not None:
            break
    else:
        command = flows.flow_start(keys, params.flow.id, token)
        outcome, effects = yield from in_slices(command, flows.read_flow)
    match outcome:
        case None | Refused(Word.NONE):
            raise Conflict(f"flow {params.flow.id} was given up: its jobs came too slowly", flow=params.flow.id)
    return flow_outcome(params.context_id, params.flow.id, outcome, effects)


def flow_outcome(context_id: int, flow_id: int, outcome: Fields | Refused, effects: Effects) -> WithEffects:
    """The answer of a call about a flow, by what `flows.read_flow` has read. Raises what it was refused with."""
    match outcome:
        case Refused(Word.NONE):
            raise NotFound("flow", context_id=context_id, id=flow_id)
        case Refused(Word.STATE, [bytes(status)]):
            raise Conflict(f"flow {flow_id} is {status.decode()}", status=status.decode())
        case Refused(Word.BUSY, [bytes(job), bytes(run)]):
            raise_busy(job, run)
        case Refused(Word.DIFFERS, [bytes(record), bytes(member), bytes(status)]):
            raise_differs(record, member, status)
        case Refused():
            raise Conflict(f"flow {flow_id} or its jobs are being changed", flow=flow_id)
    return WithEffects(codec.FLOW.to_json(outcome, context_id=context_id, id=flow_id), effects)


def raise_busy(job: bytes, run: bytes) -> NoReturn:
    name, other = spoken(job), spoken(run)
    raise Conflict(f"{name} is being run for {other}", job=int(job.rpartition(b":")[2]), run=other)


def raise_differs(record: bytes, member: bytes, status: bytes) -> NoReturn:
    name = spoken(record)
    detail = f"{name} is {status.decode()} already, with another {member.decode()}; what is to run now needs another id"
    raise Conflict(detail, record=record.decode(), member=member.decode(), status=status.decode())
