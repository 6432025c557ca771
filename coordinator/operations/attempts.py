"""Attempts: runners report what becomes of theirs, and a job's are listed."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic_core import to_json

from coordinator.actors.request import Answerable, Operation, WithEffects
from coordinator.errors import InvalidParams, NotFound, StaleToken
from coordinator.measures import ATTEMPTS, COUNTS
from coordinator.models.attempts import (
    JobFailParams,
    JobFinishParams,
    JobHeartbeatParams,
    JobInputsParams,
    JobLogParams,
)
from coordinator.models.contract import JobLoadParams
from coordinator.operations.records import result_json
from coordinator.storage.connection import Reply
from coordinator.storage.functions import attempts
from coordinator.storage.functions.results import Effects, Refused, Word
from coordinator.storage.keys import Keyspace, job_name

__all__ = ["fail_job", "finish_job", "heartbeat", "job_attempts", "job_inputs", "job_tail", "log_lines"]

ATTEMPTS_KEPT: Final = 20  # told of a job; OUTCOME.KEPT in sharing.lua
ERROR_CHARACTERS: Final = 1_000  # of why an attempt failed
_FINISHED: Final = ATTEMPTS["finished",]
_ENDED: Final = b'{"status":"%b","attempt":%b}'
_T = TypeVar("_T")


def job_tail(keys: Keyspace, params: JobLoadParams) -> Operation:
    """The newest log lines of a job."""
    key = keys.job(params.caller_id, params.id)
    is_there, reports = yield [("EXISTS", key), ("LRANGE", f"{keys.prefix}tail:{key[len(keys.prefix) :]}", 0, -1)]
    if not is_there:
        raise NotFound("job", context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    return b'{"reports":[%b]}' % b",".join(reports)


def job_attempts(keys: Keyspace, params: JobLoadParams) -> Operation:
    """How the newest attempts at a job went."""
    key, name = keys.job(params.caller_id, params.id), job_name(params.caller_id, params.id)
    fields, kept = yield [
        ("HMGET", key, "status", "x_attempt", "x_ended", "x_failure"),
        ("LRANGE", f"{keys.prefix}attempts:{name}", 0, -1),
    ]
    status, field, ended, failure = fields
    if status is None:
        raise NotFound("job", context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    number, runner, started = attempts.read_attempt(field)
    if runner is not None and started is not None:
        begun = b'{"attempt":%b,"runner_id":%b,"started_at":%b,' % (number, runner, started)
        if not any(attempt.startswith(begun) for attempt in kept):
            # It has not ended, or well, or before these were kept.
            kept = [*kept[1 - ATTEMPTS_KEPT :], begun + _outcome(status, ended, failure)]
    return b'{"attempts":[%b]}' % b",".join(kept)


def _outcome(status: bytes, ended: bytes | None, failure: bytes | None) -> bytes:
    """Adds what the job itself knows of its last attempt."""
    if status == b"Started":
        return b'"outcome":"running"}'
    at = b"" if ended is None else b'"ended_at":%b,' % ended
    if status == b"Finished":
        return at + b'"outcome":"finished"}'
    if failure is None:
        return at + b'"outcome":"failed"}'
    text = failure.decode()
    outcome = next((outcome for begin, outcome in _OUTCOMES if text.startswith(begin)), "failed")
    return at + b'"outcome":"%b","error":%b}' % (outcome.encode(), to_json(text[:ERROR_CHARACTERS]))


_OUTCOMES: Final = (("lost", "lost"), ("timed out after", "timed_out"), ("cancelled", "cancelled"))
"""How the failure of a job begins, by what has become of its attempt."""


def heartbeat(keys: Keyspace, params: JobHeartbeatParams) -> Answerable:
    return attempts.heartbeat(keys, job_name(params.caller_id, params.id), params.token), _renewed, params


def _renewed(reply: Reply, params: JobHeartbeatParams) -> WithEffects:
    reported, effects = _accepted(params, attempts.read_report(reply))
    return WithEffects(b'{"lease":%b}' % to_json(int(reported.value) / 1000), effects)


def log_lines(keys: Keyspace, params: JobLogParams) -> Answerable:
    job = job_name(params.caller_id, params.id)
    command = attempts.append_log(keys, job, params.token, params.stream, params.lines)
    return command, _logged, params


def _logged(reply: Reply, params: JobLogParams) -> WithEffects:
    logged, effects = _accepted(params, attempts.read_append_log(reply))
    over = b',"over":true' if logged.is_over else b""
    if not logged.is_kept:
        COUNTS.log_lines_dropped += len(params.lines)
    return WithEffects(b'{"lines":%d%b}' % (len(params.lines) * logged.is_kept, over), effects)


def job_inputs(keys: Keyspace, params: JobInputsParams) -> Operation:
    """A page of the results of the jobs that an attempt's job depends on."""
    after = "" if params.after is None else str(params.after)
    (reply,) = yield [attempts.inputs(keys, job_name(params.caller_id, params.id), params.token, after)]
    page = attempts.read_inputs(reply)
    if isinstance(page, Refused) and page.word is Word.MISSING:
        raise InvalidParams.at("after", msg="is no job that this one depends on", type="bad_cursor")
    (results, last), _ = _accepted(params, (page, ()))
    more = b',"after":%b' % last if last else b""
    return b'{"inputs":%b%b}' % (results, more)


def finish_job(keys: Keyspace, params: JobFinishParams) -> Answerable:
    job = job_name(params.caller_id, params.id)
    return attempts.finish(keys, job, params.token, result_json(keys, params.result)), _finished, params


def fail_job(keys: Keyspace, params: JobFailParams) -> Answerable:
    job = job_name(params.caller_id, params.id)
    result = result_json(keys, params.result) if "result" in params.model_fields_set else None
    command = attempts.fail(keys, job, params.token, params.error, result, may_retry=params.retry, is_lost=params.lost)
    return command, _failed, params


def _finished(reply: Reply, params: JobFinishParams) -> WithEffects:
    reported, effects = _accepted(params, attempts.read_report(reply))
    if reported.ran is not None:
        _FINISHED.observe(reported.ran)
    return WithEffects(_ENDED % (reported.value, reported.attempt), effects)


def _failed(reply: Reply, params: JobFailParams) -> WithEffects:
    reported, effects = _accepted(params, attempts.read_report(reply))
    if reported.ran is not None:
        ATTEMPTS["lost" if params.lost else "failed",].observe(reported.ran)
        COUNTS.attempts_lost += params.lost
        COUNTS.attempts_retried += reported.value == b"Dispatched"
    return WithEffects(_ENDED % (reported.value, reported.attempt), effects)


def _accepted(params: Any, report: tuple[_T | Refused, Effects]) -> tuple[_T, Effects]:
    """What the library says of a report on an attempt. Raises NotFound or StaleToken if it was refused."""
    outcome, effects = report
    if not isinstance(outcome, Refused):
        return outcome, effects
    if outcome.word is Word.NONE:
        raise NotFound("job", context_id=params.context_id, caller_id=params.caller_id, id=params.id)
    raise StaleToken(params.token)
