"""The functions of the library: how each is called, and what its reply means.

No other module knows the order of their arguments, the words of their results or the kinds of their effects. The other
side is `library/*.lua`, where the header of each function says the same. What a function returns and nobody here knows
raises UnknownReply, which is answered as an InternalError with an incident.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from coordinator.models import Model
from coordinator.storage import codec
from coordinator.storage.codec import Record, fields_of
from coordinator.storage.faults import ReplyError
from coordinator.storage.fields import FLOW_GIVEN, JOB_ASSIGNED, JOB_GIVEN, JOB_TEXTS, NOT_GIVEN, NUL, stored_defaults
from coordinator.storage.keys import Command, Keyspace, Transition, flow_name, index_entry, job_name

Arguments = Sequence[str | bytes | int]
Effects = Sequence[bytes]
Fields = Mapping[bytes, bytes]


class Word(enum.Enum):
    """How a function's result begins: how the call went. The table WORD in common.lua lists the same."""

    OK = b"ok"
    NEW = b"new"  # the record was not there before
    NONE = b"none"  # there is no such record
    STALE = b"stale"  # the attempt has ended
    MISSING = b"missing"  # a job of the flow is not there
    CHANGED = b"changed"  # what the caller has read is another by now
    BUSY = b"busy"  # another run needs the record
    STATE = b"state"  # the record's status does not allow it
    MORE = b"more"  # there may be more jobs in the queues
    ALL = b"all"  # there are no more
    AGAIN = b"again"  # the same take was asked for before
    FAULT = b"fault"  # this transition of several has failed


_WORDS: Final = {word.value: word for word in Word}


class UnknownReply(Exception):
    """The library has returned something this module does not know."""


class Refused(NamedTuple):
    """The function has changed nothing: why, and what it says of it, such as the record in the way."""

    word: Word
    details: Sequence[Any] = ()


def _read(function: str, result: Sequence[Any], *expected: Word) -> tuple[Word, Sequence[Any]]:
    """A result's word, which must be one of these, and what follows it."""
    word = _WORDS.get(result[0])
    if word not in expected:
        raise UnknownReply(f"{function} returned {result[0]!r}")
    return word, result[1:]


# -- effects


class Ready(NamedTuple):
    """A queue has jobs of this script type."""

    script_type: str


class Due(NamedTuple):
    """A timer was set that is due in so many seconds."""

    seconds: float


class Events(NamedTuple):
    """A flow has new events."""

    flow_id: int


class Cancel(NamedTuple):
    """A runner must stop an attempt. `reason` is JSON."""

    runner_id: int
    caller_id: int
    job_id: int
    token: str
    reason: bytes


Effect = Ready | Due | Events | Cancel


class EffectKind(enum.Enum):
    """How an effect begins, before a colon. The table EFFECT in common.lua lists the same."""

    READY = b"ready"
    DUE = b"due"
    EVENTS = b"events"
    CANCEL = b"cancel"


_EFFECT_KINDS: Final = {kind.value: kind for kind in EffectKind}


def read_effect(effect: bytes) -> Effect:
    """What a transition has set going. Raises UnknownReply."""
    name, _, value = effect.partition(b":")
    kind = _EFFECT_KINDS.get(name)
    if kind is EffectKind.READY:
        return Ready(value.decode())
    if kind is EffectKind.DUE:
        return Due(int(value) / 1000)
    if kind is EffectKind.EVENTS:
        return Events(int(value))
    if kind is EffectKind.CANCEL:
        runner_id, job, token, reason = value.split(b" ", 3)
        _, caller_id, job_id = job.split(b":")
        return Cancel(int(runner_id), int(caller_id), int(job_id), token.decode(), reason)
    raise UnknownReply(f"there is no effect {name!r}")


# -- several at once


def read_many(reply: Any, count: int) -> tuple[list[Any], Effects]:
    """The replies to `count` transitions that travelled as one call, each as if it was called by itself but without its
    effects, and the effects of all of them. ReplyError stands for one that failed."""
    if type(reply) is ReplyError:
        return [reply] * count, ()
    results, effects = reply
    return [_one_reply(result) for result in results], effects


def _one_reply(result: list[Any] | bytes) -> Any:
    if isinstance(result, bytes):  # a result of one text
        return [[result], []]
    if result[0] == Word.FAULT.value:
        return ReplyError(result[1].decode(errors="replace"))
    return [result, []]


# -- records


class Initial:
    """What becomes of the members of a record that are not given: a new one has these, one that is there keeps its own.

    Args:
        model: what clients give.
        members: those they cannot give, as they are stored.

    Attributes:
        members: those of both kinds, as they are stored; without spaces. None: a new record does not have that one.
        text: the same as the shapes of the function library have them.
    """

    def __init__(self, model: type[Model], **members: bytes) -> None:
        self.members: Mapping[str, bytes | None] = {**members, **stored_defaults(model)}
        self.text = " ".join(f"{name}={(value or b'').decode()}" for name, value in self.members.items()) + "|"


def write_arguments(record: Record, given: Mapping[str, Any], entry: str, initial: Initial) -> list[str | int | bytes]:
    """What the library's `write` takes: the members `given` of a record whose index entry is `entry`."""
    return [entry, initial.text + " ".join(given), *record.encode(given)]


class Upserted(NamedTuple):
    """A record was written. `kept`: the values stored before of its initial members; None if it is new."""

    created_at: bytes
    updated_at: bytes
    kept: Sequence[bytes | None] | None


def record_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """Create or update the record of this name. `write`: of `write_arguments`."""
    return keys.transition("hc_record_upsert", name, *write)


def read_record_upsert(reply: Any) -> Upserted:
    created_at, *stored = reply[0][0].split(b"\0")
    if not stored:
        return Upserted(created_at, created_at, None)
    kept = [None if value == NOT_GIVEN else value.replace(NUL, b"\0") for value in stored[1:]]
    return Upserted(created_at, stored[0], kept)


class EmbeddedJob(NamedTuple):
    """A job in a message: its members as JSON without braces, its result as JSON or '' if it was not given."""

    caller_id: int
    id: int
    members: bytes
    result: bytes | str


def message_upsert(keys: Keyspace, name: str, jobs: Sequence[EmbeddedJob], write: Arguments) -> Transition:
    """Create or update the message of this name, completing its embedded jobs."""
    return keys.transition("hc_message_upsert", name, len(jobs), *(item for job in jobs for item in job), *write)


def read_message_upsert(reply: Any) -> Fields:
    """The whole record."""
    return fields_of(reply[0][0])


def record_delete(keys: Keyspace, name: str) -> Transition:
    """Delete the record of this name: a flow or message with its jobs, a job, a runner."""
    return keys.transition("hc_record_delete", name)


def read_record_delete(reply: Any) -> tuple[int | Refused, Effects]:
    """How many records were deleted, or Refused with BUSY and the record in use."""
    result, effects = reply
    word, details = _read("hc_record_delete", result, Word.OK, Word.BUSY)
    return details[0] if word is Word.OK else Refused(word, details), effects


# -- flows


def flow_start(keys: Keyspace, id: int) -> Transition:
    """Start a flow that was never started."""
    return keys.transition("hc_flow_start", flow_name(id))


def flow_retry(keys: Keyspace, id: int) -> Transition:
    """Start the unfinished part of a flow in Error again."""
    return keys.transition("hc_flow_retry", flow_name(id))


def flow_cancel(keys: Keyspace, id: int, reason: str) -> Transition:
    """Stop a flow."""
    return keys.transition("hc_flow_cancel", flow_name(id), reason)


class Submitted(NamedTuple):
    """A job of a flow that is submitted: its given members, and the ids of the jobs before and after it in the DAG."""

    given: Mapping[str, Any]
    parents: list[int]
    children: list[int]


def flow_submit(
    keys: Keyspace, flow: Mapping[str, Any], jobs: Mapping[int, Submitted], leaves: Collection[int]
) -> Transition:
    """Create a flow, of which these members are given, and all its jobs, by their ids, and start it."""
    caller_id = flow["caller_id"]
    names = {id: job_name(caller_id, id) for id in jobs}
    arguments: list[str | int | bytes] = [
        flow_name(flow["id"]),
        index_entry(flow["id"]),
        " ".join(names.values()),
        " ".join(names[id] for id in leaves),
        len(jobs),
        *codec.FLOW.values(flow, FLOW_GIVEN, NOT_GIVEN),
    ]
    for id, job in jobs.items():
        rest: list[str | bytes] = []
        if job.children:
            rest += ("x_next", " ".join([names[child] for child in job.children]))
        if job.parents:
            rest += ("x_parents", " ".join(map(str, job.parents)))
        arguments += (names[id], len(job.parents), len(rest), index_entry(caller_id, id))
        arguments += codec.JOB.values(job.given, JOB_GIVEN, NOT_GIVEN)
        arguments += rest
    return keys.transition("hc_flow_submit", *arguments)


def read_flow(reply: Any) -> tuple[Fields | Refused, Effects]:
    """The flow's record after hc_flow_start, hc_flow_retry or hc_flow_cancel, or Refused: NONE, STATE with its status,
    MISSING or CHANGED with the job, BUSY with the job and its run."""
    result, effects = reply
    expected = (Word.OK, Word.NONE, Word.STATE, Word.MISSING, Word.CHANGED, Word.BUSY)
    word, details = _read("a function of flows", result, *expected)
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def read_flow_submit(reply: Any) -> tuple[Fields | bytes | Refused, Effects]:
    """When the flow was created (s) if all of it is new and runs, else its record. Refused: BUSY as in `read_flow`."""
    result, effects = reply
    word, details = _read("hc_flow_submit", result, Word.NEW, Word.OK, Word.BUSY)
    if word is Word.NEW:
        return details[0], effects
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def flow_missed(keys: Keyspace, id: int, after: str) -> Transition:
    """Whether events of a flow after this one are no longer kept."""
    return keys.transition("hc_flow_missed", flow_name(id), after)


def flow_follow(keys: Keyspace, id: int, seconds: float, after: str) -> Transition:
    """The same, and the flow's events are announced for so long."""
    return keys.transition("hc_flow_follow", flow_name(id), int(seconds * 1000), after)


def read_missed(reply: Any) -> bool | None:
    """None: there is no such flow."""
    word, details = _read("hc_flow_missed", reply[0], Word.OK, Word.NONE)
    return details[0] == 1 if word is Word.OK else None


# -- attempts


class Attempt(NamedTuple):
    """The last attempt at a job: its number, and unless it never reached a runner, who has it since when (ms)."""

    number: bytes
    runner_id: bytes | None = None
    started_at: bytes | None = None


def read_attempt(field: bytes | None) -> Attempt:
    """A job's field x_attempt: number, token, runner, lease, start, deadline and session, or the number alone."""
    if field is None:
        return Attempt(b"0")
    number, *attempt = field.split(b" ")
    return Attempt(number, attempt[1], attempt[3]) if attempt else Attempt(number)


class Told(NamedTuple):
    """Holds a new attempt and what its runner is told of it. Values are as they are stored."""

    job: tuple[int, int]  # caller_id, id
    number: bytes
    token: str
    env_vars: bytes  # the run's
    inputs: bytes
    record: list[bytes | None]  # as codec.JOB.spliced takes it


class Taken(NamedTuple):
    """What a take has brought. `may_be_more`: jobs are left in the queues perhaps."""

    attempts: list[Told]
    may_be_more: bool
    is_last: bool  # the queues were seen to be empty


def take(
    keys: Keyspace,
    *,
    runner_id: int,
    session: str,
    topic: str,
    lease: float,
    count: int,
    max_bytes: int,
    holder: str,
    number: str,
    script_types: Sequence[str],
) -> Transition:
    """Hand queued jobs to a runner, each with a new attempt and a lease of so many seconds. Asked again for the take
    `number` of `holder`, if that was its last, the same."""
    own = (runner_id, session, topic, int(lease * 1000), count, max_bytes, holder, number)
    return keys.transition("hc_take", *own, *script_types)


def read_take(reply: Any) -> tuple[Taken, Effects]:
    result, effects = reply
    word, (attempts,) = _read("hc_take", result, Word.MORE, Word.ALL, Word.AGAIN)
    told = [_read_told(attempt) for attempt in attempts]
    return Taken(told, word is Word.MORE, word is Word.ALL), effects


_TOLD_BEFORE: Final = 6  # The text that hc_take returns for an attempt has so many items in front of the job's fields.
_TOLD_AT: Final[list[int | None]] = [
    _TOLD_BEFORE + JOB_ASSIGNED.index(name.decode()) if name.decode() in JOB_ASSIGNED else None
    for name in codec.JOB.field_names
]
_UPDATED_AT: Final = codec.JOB.field_names.index(b"updated_at")
_STATUS: Final = codec.JOB.field_names.index(b"status")
_OPTIONAL: Final = codec.JOB.optional_at
_TEXTS: Final = [codec.JOB.field_names.index(name.encode()) for name in JOB_TEXTS]


def _read_told(told: bytes) -> Told:
    """See `encode_assignment` in attempts.lua."""
    items = told.split(b"\0", _TOLD_BEFORE + len(JOB_ASSIGNED) - 1)
    record: list[bytes | None] = [None if at is None else items[at] for at in _TOLD_AT]
    for at in _OPTIONAL:
        record[at] = None if record[at] == NOT_GIVEN else record[at]
    for at in _TEXTS:
        text = record[at]
        record[at] = None if text is None else text.replace(NUL, b"\0")
    record[_UPDATED_AT] = items[5]
    record[_STATUS] = b"Started"
    _, caller_id, id = items[2].split(b":")
    return Told((int(caller_id), int(id)), items[0], items[1].decode(), items[3], items[4], record)


def untake(keys: Keyspace, holder: str, number: str) -> Transition:
    """Give a take back whose attempts nobody will be told of."""
    return keys.transition("hc_untake", holder, number)


def finish(keys: Keyspace, job: str, token: str, result: bytes) -> Transition:
    """Accept a running attempt's result, as JSON."""
    return keys.transition("hc_finish", job, token, result)


def fail(keys: Keyspace, job: str, token: str, error: str, result: bytes | None, *, may_retry: bool) -> Transition:
    """Report that a running attempt has failed. `result`: as JSON, None to keep what is stored."""
    return keys.transition("hc_fail", job, token, error, result or "", int(may_retry))


class Reported(NamedTuple):
    """A report was accepted: the job's status (of a heartbeat, its lease in ms), and the number of its attempt."""

    value: bytes
    attempt: bytes


def read_report(reply: Any) -> tuple[Reported | Refused, Effects]:
    """What hc_finish, hc_fail or hc_heartbeat returned: Refused is NONE or STALE."""
    (text,), effects = reply
    words = text.split()
    word = _WORDS.get(words[0])
    if word is Word.OK:
        return Reported(words[1], words[2] if len(words) > 2 else b""), effects
    if word is Word.NONE or word is Word.STALE:
        return Refused(word), effects
    raise UnknownReply(f"a report was answered {text!r}")


def heartbeat(keys: Keyspace, job: str, token: str) -> Transition:
    """Renew a running attempt's lease."""
    return keys.transition("hc_heartbeat", job, token)


def append_log(keys: Keyspace, job: str, token: str, stream: str, lines: Sequence[str]) -> Transition:
    """Append lines to the log of a running attempt's flow or message."""
    return keys.transition("hc_log", job, token, stream, to_json(lines), *lines)


def read_append_log(reply: Any) -> tuple[bool | Refused, Effects]:
    """Whether the lines were kept; Refused is NONE or STALE."""
    result, effects = reply
    word, details = _read("hc_log", result, Word.OK, Word.NONE, Word.STALE)
    return details[0] == 1 if word is Word.OK else Refused(word), effects


def resume(keys: Keyspace, runner_id: int, session: str, holding: Sequence[str]) -> Transition:
    """A runner has connected and works on the attempts with these tokens."""
    return keys.transition("hc_resume", runner_id, session, *holding)


def read_resume(reply: Any) -> tuple[set[str], Effects]:
    """Those of the tokens that are not valid any more."""
    result, effects = reply
    _, (lost,) = _read("hc_resume", result, Word.OK)
    return {token.decode() for token in lost}, effects


# -- messages, prerequisites, timers


def message_send(
    keys: Keyspace, name: str, embedded: bytes, transport_id: str, jobs: Mapping[str, Arguments]
) -> Transition:
    """Make jobs of those in the message of this name, whose field `job` was read as `embedded`, and run them.

    `jobs` are of `write_arguments`, by their names.
    """
    arguments: list[str | bytes | int] = [name, embedded, transport_id, len(jobs)]
    for job, write in jobs.items():
        arguments += (job, len(write), *write)
    return keys.transition("hc_message_send", *arguments)


def read_message_send(reply: Any) -> tuple[Refused | None, Effects]:
    """None: it is sent. Refused: NONE, CHANGED, MISSING with the job, BUSY with the job and its run."""
    result, effects = reply
    word, details = _read("hc_message_send", result, Word.OK, Word.NONE, Word.CHANGED, Word.BUSY, Word.MISSING)
    return None if word is Word.OK else Refused(word, details), effects


class Satisfied(NamedTuple):
    """A prerequisite is satisfied: when first (ms), and how many jobs had waited for it."""

    at: int
    released: int


def prerequisite_satisfy(keys: Keyspace, name: str) -> Transition:
    """Remember a prerequisite as satisfied and release the jobs that waited for it."""
    return keys.transition("hc_prerequisite_satisfy", name)


def read_prerequisite_satisfy(reply: Any) -> tuple[Satisfied, Effects]:
    result, effects = reply
    _, (at, released) = _read("hc_prerequisite_satisfy", result, Word.OK)
    return Satisfied(int(at), released), effects


def tick(keys: Keyspace, limit: int) -> Transition:
    """Act on the timers that are due, at most so many."""
    return keys.transition("hc_tick", limit)


def read_effects(reply: Any) -> Effects:
    """The effects of a transition whose result does not matter: hc_tick, hc_untake."""
    result, effects = reply
    _read("a transition", result, Word.OK)
    return effects  # type: ignore[no-any-return] # what the parser gives is untyped


def presence(keys: Keyspace, name: str, silence: float) -> Command:
    """Say that the coordinator `name` lives, and find those that were silent for so many seconds. Only in GLOBAL."""
    return keys.call("hc_presence", keys.coordinators(), name, int(silence * 1000))


def read_presence(reply: Any) -> tuple[bool, list[str]]:
    """Whether it was known before, and the dead."""
    was_known, dead = reply
    return was_known == 1, [name.decode() for name in dead]
