"""Jobs taken from the queues, as the assignments that a runner is handed."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from typing import Any, Final

from pydantic_core import from_json, to_json

from coordinator.measures import START_WAITS
from coordinator.storage import codec
from coordinator.storage.connection import Command
from coordinator.storage.functions import attempts
from coordinator.storage.functions.attempts import Told
from coordinator.storage.functions.effects import read_origin
from coordinator.storage.functions.results import Effects
from coordinator.storage.keys import Keyspace
from coordinator.tracing import traceparent_of_attempt

__all__ = ["TAKE_BYTES", "take"]

TAKE_BYTES: Final = 256 * 1024  # of assignments handed out in one take, unless a single one is larger
SECRET_BYTES: Final = 16  # random ones in the tokens of each take, so that nobody guesses an attempt's
_ENV_VARS_AT: Final = codec.JOB.field_names.index(b"env_vars")
_SCRIPT_TYPE_AT: Final = codec.JOB.field_names.index(b"script_type")


def take(
    keys: Keyspace, runner: Any, *, count: int, holder: str, number: str, there_for: float = 0
) -> Generator[list[Command], Any, tuple[bool, list[tuple[str, bytes]], Effects]]:
    """Take jobs for `runner` (runner_id, runner_session, topic, lease, script_types). Asked again with the same holder
    and number, it gets the same ones. So many seconds `there_for` the runner counts as there from now on.

    The queue to begin with is drawn by lot, so that jobs of one type never starve those of another. Taking turns would
    need a memory shared by calls that may come to different coordinators.

    Returns whether the queues have no more, each attempt's token and the members of its Assignment without the opening
    brace, and effects.
    """
    script_types = [*runner.script_types]
    first = secrets.randbelow(len(script_types)) if len(script_types) > 1 else 0
    command = attempts.take(
        keys,
        runner_id=runner.runner_id,
        session=runner.runner_session,
        topic=runner.topic,
        lease=runner.lease,
        count=count,
        max_bytes=TAKE_BYTES,
        holder=holder,
        number=number,
        secret=secrets.token_urlsafe(SECRET_BYTES),
        there_for=there_for,
        script_types=script_types[first:] + script_types[:first],
    )
    effects: list[bytes] = []
    while True:
        (reply,) = yield [command]
        taken, more = attempts.read_take(reply)
        effects += more
        if taken.attempts or not taken.may_be_more:  # else only entries that lead nowhere so far
            for told in taken.attempts:
                if told.waited is not None:
                    START_WAITS[_script_type(told),].observe(told.waited)
            return taken.is_last, [_assignment(keys, told, runner.lease) for told in taken.attempts], effects


def _script_type(told: Told) -> str:
    script_type = told.record[_SCRIPT_TYPE_AT]
    assert script_type is not None, "each job has one"
    return script_type.decode()


def _assignment(keys: Keyspace, told: Told, lease: float) -> tuple[str, bytes]:
    """An attempt's token and the members of its Assignment without the opening brace."""
    context_id = keys.context_key or 0
    caller_id, id = told.job
    env_vars = told.record[_ENV_VARS_AT]
    assert env_vars is not None, "each job has some"
    members = b'"context_id":%d,"job":%b,"env_vars":%b,"inputs":%b,%b"attempt":%b,"token":"%b","lease":%b%b%b%b}' % (
        context_id,
        codec.JOB.spliced((id, caller_id, context_id), told.record),
        _merged(told.env_vars, env_vars),
        told.inputs,
        b'"inputs_from":%b,' % told.inputs_from if told.inputs_from else b"",
        told.number,
        told.token.encode(),
        to_json(lease),
        b"" if told.flow_id is None else b',"flow_id":' + told.flow_id,
        b',"prerequisites":' + told.prerequisites if told.prerequisites else b"",
        _origin(told) if told.origin else b"",
    )
    return told.token, members


def _origin(told: Told) -> bytes:
    """The members that say what has asked for the run."""
    traceparent, request_id = read_origin(told.origin.decode())
    members = b',"request_id":' + to_json(request_id) if request_id else b""
    if traceparent:
        members += b',"traceparent":' + to_json(traceparent_of_attempt(traceparent, told.token))
    return members


def _merged(flow_env: bytes, own: bytes) -> bytes:
    """The flow's environment under the job's."""
    if flow_env == b"{}":
        return own
    return flow_env if own == b"{}" else to_json({**from_json(flow_env), **from_json(own)})
