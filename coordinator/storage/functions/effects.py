"""Effects: what a transition has set going, which the coordinator that called acts on."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pydantic_core import from_json

from coordinator.storage.functions.results import UnknownReply


class Ready(NamedTuple):
    """A queue has jobs of this script type."""

    script_type: str


class Due(NamedTuple):
    """A timer was set that is due in so many seconds."""

    seconds: float


class Events(NamedTuple):
    """A flow has new events."""

    flow_id: int


class Feed(NamedTuple):
    """Something has happened in the context, and somebody follows all of it."""


class Cancel(NamedTuple):
    """A runner must stop an attempt. `reason` is JSON."""

    runner_id: int
    caller_id: int
    job_id: int
    token: str
    reason: bytes


class Silent(NamedTuple):
    """A runner let the lease of its attempt with this token lapse."""

    runner_id: int
    token: str


class Other(NamedTuple):
    """A queue has a job of this script type that a runner other than this one is to have, if there is one."""

    script_type: str
    runner_id: int


class Trouble(NamedTuple):
    """A runner has failed so many attempts in a row, each at once, and gets fewer jobs."""

    runner_id: int
    failed: int


class Ended(NamedTuple):
    """A run, `flow` or `message`, has ended with this status."""

    kind: str
    status: str


class Deleted(NamedTuple):
    """The context is being deleted."""


class AttemptEnded(NamedTuple):
    """An attempt has ended that belongs to a trace. Times are in ms; `reason` is None if it has finished."""

    run: str
    caller_id: int
    job_id: int
    number: int
    token: str
    runner_id: int
    begun: int
    ended: int
    outcome: str
    traceparent: str
    request_id: str
    reason: str | None


Effect = Ready | Due | Events | Feed | Cancel | Silent | Other | Trouble | Ended | Deleted | AttemptEnded


class EffectKind(enum.Enum):
    """How an effect begins, before a colon. The table EFFECT in common.lua lists the same."""

    READY = b"ready"
    DUE = b"due"
    EVENTS = b"events"
    CANCEL = b"cancel"
    SILENT = b"silent"
    OTHER = b"other"
    TROUBLE = b"trouble"
    ENDED = b"ended"
    DELETED = b"deleted"
    FEED = b"feed"
    ATTEMPT = b"attempt"


def _read_cancel(value: bytes) -> Cancel:
    runner_id, job, token, reason = value.split(b" ", 3)
    _, caller_id, job_id = job.split(b":")
    return Cancel(int(runner_id), int(caller_id), int(job_id), token.decode(), reason)


def _read_silent(value: bytes) -> Silent:
    runner_id, token = value.split(b" ")
    return Silent(int(runner_id), token.decode())


def _read_other(value: bytes) -> Other:
    script_type, runner_id = value.split(b" ")
    return Other(script_type.decode(), int(runner_id))


def _read_trouble(value: bytes) -> Trouble:
    runner_id, failed = value.split(b" ")
    return Trouble(int(runner_id), int(failed))


def _read_attempt_ended(value: bytes) -> AttemptEnded:
    run, job, number, token, runner, begun, ended, outcome, origin, reason = value.decode(errors="replace").split(
        " ", 9
    )
    _, caller_id, job_id = job.split(":")
    traceparent, request_id = read_origin(origin)
    return AttemptEnded(
        run,
        int(caller_id),
        int(job_id),
        int(number),
        token,
        int(runner),
        int(begun),
        int(ended),
        outcome,
        traceparent,
        request_id,
        from_json(reason) if reason else None,
    )


def read_origin(origin: str) -> tuple[str, str]:
    """What has asked for a run, as Keyspace.started_by tells it: a `traceparent` and a request id, '' if there is
    none."""
    traceparent, _, request_id = origin.partition(",")
    return traceparent, request_id


_READ_EFFECT: Final[Mapping[bytes, Callable[[bytes], Effect]]] = {
    EffectKind.READY.value: lambda value: Ready(value.decode()),
    EffectKind.DUE.value: lambda value: Due(int(value) / 1000),
    EffectKind.EVENTS.value: lambda value: Events(int(value)),
    EffectKind.CANCEL.value: _read_cancel,
    EffectKind.SILENT.value: _read_silent,
    EffectKind.OTHER.value: _read_other,
    EffectKind.TROUBLE.value: _read_trouble,
    EffectKind.ENDED.value: lambda value: Ended(*value.decode().split(" ")),
    EffectKind.DELETED.value: lambda value: Deleted(),
    EffectKind.FEED.value: lambda value: Feed(),
    EffectKind.ATTEMPT.value: _read_attempt_ended,
}


def read_effect(effect: bytes) -> Effect:
    """What a transition has set going. Raises UnknownReply."""
    kind, _, value = effect.partition(b":")
    reader = _READ_EFFECT.get(kind)
    if reader is None:
        raise UnknownReply(f"there is no effect {kind!r}")
    return reader(value)
