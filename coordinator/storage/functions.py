"""The functions of the library: how each is called, and what its reply means.

No other module knows the order of their arguments, the words of their results or the kinds of their effects. The other
side is `library/*.lua`, where the header of each function says the same. What a function returns and nobody here knows
raises UnknownReply, which is answered as an InternalError with an incident.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from coordinator.models import JobCreate, Model
from coordinator.storage import codec
from coordinator.storage.codec import JOB_EMPTY, TOLD_BY_KEY, Record, fields_of
from coordinator.storage.faults import ReplyError, ReplyNotKept
from coordinator.storage.fields import FLOW_GIVEN, JOB_ASSIGNED, JOB_GIVEN, JOB_TEXTS, NOT_GIVEN, NUL, stored_defaults
from coordinator.storage.keys import Command, Keyspace, Transition, context_name, flow_name, index_entry, job_name
from coordinator.storage.library import SCHEMA

Arguments = Sequence[str | bytes | int]
Effects = Sequence[bytes]
Fields = Mapping[bytes, bytes]


class Word(enum.Enum):
    """How a function's result begins: how the call went. The table WORD in common.lua lists the same."""

    OK = b"ok"
    NEW = b"new"  # the record was not there before
    NONE = b"none"  # there is no such record
    STALE = b"stale"  # the attempt has ended
    OVER = b"over"  # it was ended here, and its last output is taken
    MISSING = b"missing"  # a job of the flow is not there
    CHANGED = b"changed"  # what the caller has read is another by now
    BUSY = b"busy"  # another run needs the record
    DIFFERS = b"differs"  # the record is there with other content
    STATE = b"state"  # the record's status does not allow it
    MORE = b"more"  # there may be more jobs in the queues; there is more to do, which the next call goes on with
    ALL = b"all"  # there are no more
    AGAIN = b"again"  # the same take was asked for before
    FAULT = b"fault"  # this transition of several has failed
    REDO = b"redo"  # what a repeatable transition has returned is not kept: it is to be called again
    UNKEPT = b"unkept"  # what the transition has returned was too large to be kept
    FOREIGN = b"foreign"  # the caller may not do this to that record


LONG: Final = frozenset(
    {
        *("hc_flow_start", "hc_flow_retry", "hc_flow_cancel", "hc_flow_check", "hc_flow_create", "hc_flow_add"),
        *("hc_flow_mark", "hc_flow_rerun"),
        *("hc_message_send", "hc_message_check", "hc_message_begin", "hc_message_start"),
        *("hc_record_delete", "hc_prerequisite_satisfy", "hc_tick", "hc_job_cancel", "hc_flow_pause"),
        *("hc_guarded_long", "hc_guarded_long_ending"),
    }
)
"""Functions one call of which may be as much work as a call may be, whatever the number of its arguments."""

LARGE: Final = "@"
"""The field x_jobs of a run whose jobs are in a list; see Keyspace.plan."""

_WORDS: Final = {word.value: word for word in Word}
_FAULT: Final = Word.FAULT.value  # looked up once: that of a member of an enum takes a microsecond


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


# -- several at once

GROWING: Final = frozenset(
    {
        *("hc_record_upsert", "hc_job_upsert", "hc_flow_upsert", "hc_flow_draft", "hc_message_upsert"),
        "hc_context_upsert",
        *("hc_flow_submit", "hc_flow_create", "hc_flow_add"),
        "hc_flow_start",
        *("hc_flow_retry", "hc_flow_mark", "hc_flow_rerun"),
        *("hc_message_send", "hc_message_begin", "hc_message_start"),
        "hc_log",
        *("hc_guarded", "hc_guarded_long", "hc_token_create"),
    }
)
"""Transitions that are refused while the store is out of memory. All others go on, so that it can be emptied."""


def many(transitions: Sequence[Transition]) -> Command:
    """One call of these, which are of one context. It is refused for want of memory if one of them is."""
    grows = any(transition[1] in GROWING for transition in transitions)
    return Transition.many(transitions, "hc_many" if grows else "hc_many_ending")


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
    if result[0] == _FAULT:
        return ReplyError(result[1].decode(errors="replace"))
    return [result, []]


# -- once


CHANGES_NOTHING: Final = frozenset({"hc_flow_missed"})
"""Transitions that only look."""


def fence(keys: Keyspace, writer: str, epoch: int, after: int | None) -> Command:
    """Begin or renew an epoch of a writer, so that calls of an earlier one are refused. `after`: with the calls applied
    whose numbers are larger; None: with none."""
    return keys.transition("hc_fence", writer, epoch, "" if after is None else after)


def read_fence(reply: Any) -> dict[int, Any]:
    """The replies to the calls that were applied, by number."""
    return dict(reply)


def release(keys: Keyspace, writer: str, epoch: int) -> Command:
    """End a writer of which nothing is on its way."""
    return keys.transition("hc_release", writer, epoch)


def read_kept(reply: Any) -> Any | None:
    """A reply that was kept, as it was the first time. ReplyNotKept: it was too large. None: call it again."""
    if type(reply) is ReplyError:
        return reply
    word = reply[0][0] if reply[0] else None
    if word == Word.REDO.value:
        return None
    return ReplyNotKept() if word == Word.UNKEPT.value else reply


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

    def __init__(self, model: type[Model], **members: bytes | None) -> None:
        self.members: Mapping[str, bytes | None] = {**members, **stored_defaults(model)}
        self.text = " ".join(f"{name}={(value or b'').decode()}" for name, value in self.members.items()) + "|"


def write_arguments(record: Record, given: Mapping[str, Any], entry: str, initial: Initial) -> list[str | int | bytes]:
    """What the library's `write` takes: the members `given` of a record whose index entry is `entry`."""
    return [entry, initial.text + " ".join(given), *record.encode(given)]


def job_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """The same of a job. One that has ended and is given something else to run is a new one."""
    return keys.transition("hc_job_upsert", name, *write)


def flow_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """The same of a flow."""
    return keys.transition("hc_flow_upsert", name, *write)


def context_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """The same of a context."""
    return keys.transition("hc_context_upsert", name, *write)


class Upserted(NamedTuple):
    """A record was written. `kept`: the values stored before of its initial members; None if it is new."""

    created_at: bytes
    updated_at: bytes
    kept: Sequence[bytes | None] | None


def record_upsert(keys: Keyspace, name: str, write: Arguments) -> Transition:
    """Create or update the record of this name. `write`: of `write_arguments`."""
    return keys.transition("hc_record_upsert", name, *write)


def read_record_upsert(reply: Any) -> Upserted | Refused:
    """Refused: BUSY with a job that is given something else to run, and the run that needs what it did or does."""
    if len(reply[0]) > 1:
        return Refused(*_read("hc_job_upsert", reply[0], Word.BUSY))
    created_at, *stored = reply[0][0].split(b"\0")
    if not stored:
        return Upserted(created_at, created_at, None)
    kept = [None if value == NOT_GIVEN else value.replace(NUL, b"\0") for value in stored[1:]]
    return Upserted(created_at, stored[0], kept)


def flow_draft(keys: Keyspace, name: str, seconds: float, write: Arguments) -> Transition:
    """Create or update the flow of this name, which is deleted unless it is started within so many seconds; 0: it
    stays. Read as `record_upsert`, and `effects_of` the reply."""
    return keys.transition("hc_flow_draft", int(seconds * 1000), name, *write)


def effects_of(reply: Any) -> Effects:
    """The effects of a transition whose result another function reads."""
    effects: Effects = reply[1]
    return effects


def message_upsert(keys: Keyspace, name: str, stored: bytes, pieces: Sequence[bytes], write: Arguments) -> Transition:
    """Create or update the message of this name.

    Args:
        stored: its field `job` as it was read; nothing if it is not there.
        pieces: what that becomes, with the time (s) between them.
    """
    return keys.transition("hc_message_upsert", name, stored, len(pieces), *pieces, *write)


def read_message_upsert(reply: Any) -> Fields | bytes:
    """The whole record; or, if what was read is not stored any more, its field `job`."""
    result = reply[0]
    if result[0] == Word.CHANGED.value:
        return result[1]  # type: ignore[no-any-return] # what the parser gives is untyped
    return fields_of(result[0])


def record_delete(keys: Keyspace, name: str, token: str, *, again: bool = False) -> Transition:
    """Delete the record of this name: a flow or message with its jobs, a job, a runner.

    `token` names the call, which is answered the same when it is sent again; `again`: it was answered MORE.
    """
    return keys.transition("hc_record_delete", name, token, int(again))


def read_record_delete(reply: Any) -> tuple[int | Refused, Effects]:
    """How many records were deleted. Refused: BUSY with the record in use, and the run that needs it if it does not run
    itself; MORE if it has to be called again."""
    result, effects = reply
    word, details = _read("hc_record_delete", result, Word.OK, Word.BUSY, Word.MORE)
    return details[0] if word is Word.OK else Refused(word, details), effects


def read_records(keys: Keyspace, names: Sequence[str], max_bytes: int, fields: Sequence[str] = ()) -> Command:
    """Read records of these names, or only these fields of them, until they have so many bytes."""
    return keys.call("hc_read", f"{keys.prefix}engine", max_bytes, len(fields), *fields, *names)


class Place(NamedTuple):
    """Where a record is in a list that is sorted by `value`, and then by the records' entries in their index."""

    value: int
    entry: str

    @property
    def text(self) -> str:
        return f"{self.value} {self.entry}"


class Sought(NamedTuple):
    """Which records of a kind are looked for, and in which order.

    Attributes:
        criteria: names and values, as library/views.lua takes them.
        sort: 'created', 'ended', or '' for the order of their entries in the index.
        within: what the entries in the index begin with.
    """

    kind: str
    criteria: Sequence[tuple[str, str | int]] = ()
    sort: str = ""
    is_descending: bool = False
    within: str = ""


def find(
    keys: Keyspace,
    sought: Sought,
    after: str,
    *,
    look_at: int,
    enough: int,
    behind: Place | None = None,
    before: Place | None = None,
) -> Command:
    """Look at so many records whose entries come after this one ('' for the first), for those that are sought, until
    there are enough. Of sorted ones only those between two places are."""
    first, last = (f"[{sought.within}", f"({sought.within[:-1]};") if sought.within else ("-", "+")
    if sought.is_descending:
        bounds, way = (f"({after}" if after else last, first), "REV"
    else:
        bounds, way = (f"({after}" if after else first, last), ""
    places = [place.text if place else "" for place in (behind, before)]
    flat = [item for criterion in sought.criteria for item in criterion]
    return keys.call("hc_find", keys.engine, sought.kind, *bounds, way, look_at, enough, sought.sort, *places, *flat)


class Found(NamedTuple):
    """Records that were found. `last`: the entry of the last one that was looked at, '' if there are no more."""

    last: str
    places: list[Place]


def read_find(reply: Any, sought: Sought) -> Found:
    last, *found = [item.decode() for item in reply]
    if not sought.sort:
        return Found(last, [Place(0, entry) for entry in found])
    items = iter(found)
    return Found(last, [Place(int(value), entry) for entry, value in zip(items, items, strict=True)])


class Queue(NamedTuple):
    """How many entries the queue of a script type has, and for how many seconds the next job of it has been queued."""

    entries: int
    oldest: float


class Depths(NamedTuple):
    """How much there is in a context."""

    queues: list[Queue]  # in the order they were asked for
    flows: int
    jobs: int
    messages: int
    flow_states: Mapping[str, int]  # by status
    job_states: Mapping[str, int]  # by status, and by script type


def depths(keys: Keyspace, script_types: Iterable[str]) -> Command:
    """How much there is in a context. It writes nothing, and takes as long whatever the answer is."""
    return keys.call("hc_depths", keys.engine, *(script_type.lower() for script_type in script_types))


def read_depths(reply: Any, script_types: Collection[str]) -> Depths:
    *queues, flows, jobs, messages, moves = reply
    items = iter(queues)
    waiting = [Queue(entries, ms / 1000) for entries, ms in zip(items, items, strict=True)]
    return Depths(waiting, flows, jobs, messages, *_counted(moves, script_types))


class Stats(NamedTuple):
    """How much there is in a context, as its moves have it: see COUNT.move in records.lua."""

    flows: Mapping[str, int]  # by status
    jobs: Mapping[str, int]  # by status and by script type, which are other words
    queues: Sequence[Queue]  # in the order the script types were asked for
    connected: int
    busy: int


def context_stats(keys: Keyspace, script_types: Iterable[str]) -> Command:
    """How much there is in a context. It takes as long whatever the answer is."""
    return _looking(keys.transition("hc_context_stats", *script_types))


def _looking(transition: Transition) -> Command:
    """A transition that only looks, as a command that is not joined with others, of which some may write: it is
    answered while the store takes no writes, and needs nobody to be known as a writer."""
    return (*transition,)


def read_context_stats(reply: Any, script_types: Collection[str]) -> Stats | None:
    """None: call it again, for not all attempts that run are known yet."""
    word, (moves, queues, connected, busy) = _read("hc_context_stats", reply[0], Word.OK, Word.MORE)
    if word is Word.MORE:
        return None
    flows, jobs = _counted(moves, script_types)
    items = iter(queues)
    depths = [Queue(entries, ms / 1000) for entries, ms in zip(items, items, strict=True)]
    return Stats(flows, jobs, depths, connected, busy)


def _counted(moves: Any, script_types: Collection[str]) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """How many flows there are by status, and jobs by status and by script type, after all these moves."""
    flows: Counter[str] = Counter()
    jobs: Counter[str] = Counter()
    for move, times in fields_of(moves).items():
        of_flow, _, states = move.decode().rpartition(" ")
        before, _, after = states.partition(">")
        counts, count = flows if of_flow else jobs, int(times)
        # A job that is created comes from its script type, of which there is one more then, and goes back there.
        is_new, is_gone = before in script_types, after in script_types
        counts[before] += count if is_new and not is_gone else -count
        counts[after] += -count if is_gone and not is_new else count
    return flows, jobs


# -- flows


def flow_start(keys: Keyspace, id: int, token: str = "") -> Transition:
    """Start a flow that was never started. `token`: of flow_create, if flow_add has brought its jobs."""
    return keys.transition("hc_flow_start", flow_name(id), *([token] if token else []))


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
    of_flow = codec.FLOW.values(flow, FLOW_GIVEN, NOT_GIVEN)
    while of_flow[-1] == NOT_GIVEN:  # each argument costs the store as much as a small command
        of_flow.pop()
    arguments: list[str | int | bytes] = [
        flow_name(flow["id"]),
        index_entry(flow["id"]),
        " ".join(names.values()),
        " ".join(names[id] for id in leaves),
        f"{len(jobs)} {len(of_flow)}",
        *of_flow,
    ]
    for id, job in jobs.items():
        members = job.given.items()
        given = {
            name: value
            for name, value in members
            if name not in TOLD_BY_KEY and (name not in _UNSAID or _UNSAID[name] != value)
        }
        values = codec.JOB.encode(given)
        if job.children:
            given["x_next"] = None
            values.append(" ".join([names[child] for child in job.children]))
        if job.parents:
            given["x_parents"] = None
            values.append(" ".join(map(str, job.parents)))
        arguments += (names[id], index_entry(caller_id, id), " ".join(given), *values)
    return keys.transition("hc_flow_submit", *arguments)


_UNSAID: Final = {name: empty for name, empty in JOB_EMPTY.items() if name not in stored_defaults(JobCreate)}
"""Members of a job that hc_flow_submit is not told if they are this: they must be given, so not to be told of one can
mean nothing else."""


def flow_check(keys: Keyspace, flow: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> Transition:
    """Whether a flow and these jobs of it, of which these members are given, may be created. Read as `flow_create`."""
    given = codec.FLOW.values(flow, FLOW_GIVEN, NOT_GIVEN)
    return keys.transition("hc_flow_check", flow_name(flow["id"]), *given, *_to_check(jobs))


def _to_check(jobs: Sequence[Mapping[str, Any]]) -> list[str | int | bytes]:
    arguments: list[str | int | bytes] = []
    for job in jobs:
        arguments.append(job_name(job["caller_id"], job["id"]))
        arguments += codec.JOB.values(job, JOB_GIVEN, NOT_GIVEN)
    return arguments


def flow_create(keys: Keyspace, flow: Mapping[str, Any], token: str) -> Transition:
    """Begin to create a flow, of which these members are given; flow_add brings its jobs. `token` names these calls."""
    given = codec.FLOW.values(flow, FLOW_GIVEN, NOT_GIVEN)
    return keys.transition("hc_flow_create", flow_name(flow["id"]), index_entry(flow["id"]), token, *given)


def flow_add(keys: Keyspace, name: str, token: str, jobs: Sequence[Mapping[str, Any]]) -> Transition:
    """Create jobs, of which these members are given, for the flow of this name that is being created, or the message
    that is being sent."""
    arguments: list[str | int | bytes] = [name, token, len(jobs)]
    for job in jobs:
        arguments += (job_name(job["caller_id"], job["id"]), index_entry(job["caller_id"], job["id"]))
        arguments += codec.JOB.values(job, JOB_GIVEN, NOT_GIVEN)
    return keys.transition("hc_flow_add", *arguments)


def read_flow_add(reply: Any) -> tuple[Refused | None, Effects]:
    """None: they are created. Refused: BUSY with the job and its run, or NONE: the flow was given up."""
    result, effects = reply
    word, details = _read("hc_flow_add", result, Word.OK, Word.BUSY, Word.NONE)
    return None if word is Word.OK else Refused(word, details), effects


def read_flow(reply: Any) -> tuple[Fields | Refused, Effects]:
    """The flow's record after hc_flow_start, hc_flow_retry or hc_flow_cancel, or Refused: NONE, STATE with its status,
    MISSING or CHANGED with the job, BUSY with the job and its run, MORE if it has to be called again."""
    result, effects = reply
    expected = (Word.OK, Word.NONE, Word.STATE, Word.MISSING, Word.CHANGED, Word.BUSY, Word.MORE)
    word, details = _read("a function of flows", result, *expected)
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def read_flow_submit(reply: Any) -> tuple[Fields | bytes | Refused, Effects]:
    """When the flow was created (s) if all of it is new and runs, else its record. Refused: BUSY, STATE and MORE as in
    `read_flow`, DIFFERS with the record whose content is another, the member and the record's status."""
    result, effects = reply
    expected = (Word.NEW, Word.OK, Word.BUSY, Word.STATE, Word.MORE, Word.DIFFERS)
    word, details = _read("hc_flow_submit", result, *expected)
    if word is Word.NEW:
        return details[0], effects
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def read_flow_create(reply: Any) -> tuple[Fields | Refused | None, Effects]:
    """What hc_flow_check or hc_flow_create returned. None: go on. Else the flow's record, if it was started before, or
    Refused: STATE, BUSY and MORE as in `read_flow`, DIFFERS as in `read_flow_submit`."""
    result, effects = reply
    expected = (Word.NEW, Word.OK, Word.STATE, Word.BUSY, Word.MORE, Word.DIFFERS)
    word, details = _read("hc_flow_create", result, *expected)
    if word is Word.NEW:
        return None, effects
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def flow_read(keys: Keyspace, id: int, after: str, count: int, max_bytes: int) -> Transition:
    """The events of a flow after this one, so many at most, and fewer if they have so many bytes."""
    return keys.transition("hc_flow_read", flow_name(id), after, count, max_bytes)


class ReadEvents(NamedTuple):
    """Events of a flow, each with its id and the other members of a FlowEvent, without braces. `missed`: some that came
    before the first of them are no longer kept. `is_last`: there are no more for now."""

    missed: bool
    is_last: bool
    events: Sequence[tuple[bytes, bytes]]


def read_flow_read(reply: Any) -> ReadEvents | Refused:
    """Refused: NONE, there is no such flow, with the time (ms); CHANGED, there are no events as new as that one."""
    word, details = _read("hc_flow_read", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    if word is not Word.OK:
        return Refused(word, details)
    missed, is_last, flat = details
    items = iter(flat)
    return ReadEvents(missed == 1, is_last == 1, list(zip(items, items, strict=True)))


def flow_follow(keys: Keyspace, id: int, seconds: float, after: str) -> Transition:
    """A flow's events after this one are announced for so long."""
    return keys.transition("hc_flow_follow", flow_name(id), int(seconds * 1000), after)


def read_flow_follow(reply: Any) -> bool | Refused:
    """Whether events after that one are no longer kept. Refused: NONE, CHANGED as in `read_flow_read`."""
    word, details = _read("hc_flow_follow", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    return details[0] == 1 if word is Word.OK else Refused(word)


# -- contexts that are followed

ENTRY_PLACES: Final = 1000
"""An event of a context has the id of its entry in the feed, with the second number times so many and the event's place
in the entry, from 1 on; ENTRY_EVENTS in feed.lua is smaller."""


def _entry_of(event_id: str) -> tuple[str, int]:
    """An event's entry, and its place there."""
    time, _, number = event_id.partition("-")
    return f"{time}-{int(number) // ENTRY_PLACES}", int(number) % ENTRY_PLACES


def _event_id(entry: bytes, place: int) -> bytes:
    time, _, number = entry.partition(b"-")
    return b"%b-%d" % (time, int(number) * ENTRY_PLACES + place)


def context_follow(keys: Keyspace, seconds: float, after: str | None = None, *, was_there: bool = False) -> Transition:
    """The events of a context after this one are written, and announced, for so long; None: those that come.

    `was_there`: so was the record of the context when who asks began.
    """
    entry = "" if after is None else _entry_of(after)[0]
    record, lasts = context_name(keys.context_key or 0), int(seconds * 1000)
    return keys.transition("hc_context_follow", record, int(was_there), lasts, entry)


class Following(NamedTuple):
    """`missed`: events after the one asked for are no longer kept. `last`: the id after that of the last event so far.
    `is_there`: so is the context's record. `is_new`: nobody had followed for a while."""

    missed: bool
    last: str
    is_there: bool
    is_new: bool


def read_context_follow(reply: Any) -> Following | Refused:
    """Refused: NONE, the context was deleted, with the time (ms); CHANGED, there are no events as new as that one."""
    word, details = _read("hc_context_follow", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    if word is not Word.OK:
        return Refused(word, details)
    missed, last, is_there, is_new = details
    return Following(missed == 1, _event_id(last, ENTRY_PLACES - 1).decode(), is_there == 1, is_new == 1)


def context_read(keys: Keyspace, after: str, count: int, max_bytes: int, *, was_there: bool = False) -> Transition:
    """The events of a context after this one: of so many entries at most, fewer if they have so many bytes."""
    record = context_name(keys.context_key or 0)
    return keys.transition("hc_context_read", record, int(was_there), _entry_of(after)[0], count, max_bytes)


def read_context_read(reply: Any, after: str) -> ReadEvents | Refused:
    """Each event with its id and the members of a ContextEvent without it. Refused: as in `read_context_follow`, and
    CHANGED if nobody has followed for a while."""
    word, details = _read("hc_context_read", reply[0], Word.OK, Word.NONE, Word.CHANGED)
    if word is not Word.OK:
        return Refused(word, details)
    missed, is_last, flat = details
    first, known = _entry_of(after)
    events: list[tuple[bytes, bytes]] = []
    items = iter(flat)
    for entry, lines in zip(items, items, strict=True):
        skipped = known if entry.decode() == first else 0
        numbered = enumerate(lines.split(b"\n"), 1)
        events += [(_event_id(entry, place), line) for place, line in numbered if place > skipped]
    return ReadEvents(missed == 1, is_last == 1, events)


# -- contexts that are held still


def hold(keys: Keyspace, what: str, token: str, seconds: float) -> Command:
    """Hold a context still, or go on. `what`: export, import, or commit. `token` names who does."""
    return keys.call("hc_hold", keys.engine, what, token, int(seconds * 1000))


class Held(NamedTuple):
    """`now`: what the context's clock of timers shows, ms. `unfinished`: what an import was about, import or commit,
    that had not been finished; else empty."""

    now: int
    unfinished: str


def read_hold(reply: Any) -> Held | Refused:
    """Refused: BUSY, with what somebody else holds it for."""
    word, details = _read("hc_hold", reply, Word.OK, Word.BUSY)
    return Held(int(details[0]), details[1].decode()) if word is Word.OK else Refused(word, details)


def let_go(keys: Keyspace, token: str, now: int | None) -> Command:
    """Hold a context no longer. `now`: what its clock of timers is to show; None: it goes on where it stood."""
    return keys.call("hc_let_go", keys.engine, token, "" if now is None else now, keys.channel)


def settle(keys: Keyspace, token: str, names: Sequence[str]) -> Command:
    """The last keys that an import has brought become the context's."""
    return keys.call("hc_settle", keys.engine, token, *names)


def read_settle(reply: Any) -> bool:
    """Whether they have; if not, somebody else holds the context."""
    word, _ = _read("hc_settle", [reply], Word.OK, Word.STALE)
    return word is Word.OK


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
    flow_id: bytes | None  # None if the run is a message
    env_vars: bytes  # the run's
    inputs: bytes
    prerequisites: bytes  # what they were satisfied by, empty if there are none
    record: list[bytes | None]  # as codec.JOB.spliced takes it
    inputs_from: bytes  # a list of the jobs whose results are not in `inputs`; '' if there are none
    waited: float | None  # seconds it was queued; None: that was told before
    origin: bytes  # what has asked for the run, see read_origin


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
    secret: str,
    script_types: Sequence[str],
) -> Transition:
    """Hand queued jobs to a runner, each with a new attempt and a lease of so many seconds. Asked again for the take
    `number` of `holder`, if that was its last, the same. `secret`: of this take; the tokens of its attempts have it."""
    own = f"{runner_id} {int(lease * 1000)} {count} {max_bytes} {number} {secret}"
    return keys.transition("hc_take", own, session, topic, holder, *script_types)


def read_take(reply: Any) -> tuple[Taken, Effects]:
    result, effects = reply
    word, (attempts,) = _read("hc_take", result, Word.MORE, Word.ALL, Word.AGAIN)
    told = [_read_told(attempt) for attempt in attempts]
    return Taken(told, word is Word.MORE, word is Word.ALL), effects


_TOLD_BEFORE: Final = 10  # items of what is told of an attempt in front of the record's fields
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
    record[_UPDATED_AT] = items[6]
    record[_STATUS] = b"Started"
    _, caller_id, id = items[2].split(b":")
    flow_id = items[3][5:] if items[3].startswith(b"flow:") else None
    inputs, inputs_from = items[5], b""
    if inputs.endswith(b"]"):  # as no object does
        at = inputs.rindex(b"[")
        inputs, inputs_from = inputs[:at], inputs[at:]
    job = int(caller_id), int(id)
    waited = _seconds_between(*items[8].split()) if items[8] else None
    return Told(
        job, items[0], items[1].decode(), flow_id, items[4], inputs, items[7], record, inputs_from, waited, items[9]
    )


def _seconds_between(begin: bytes, end: bytes) -> float:
    """Return the seconds from one time (ms) to another. The store's clock may have been set back between them."""
    return max(0, int(end) - int(begin)) / 1000


class Inputs(NamedTuple):
    """A page of the results of jobs another one depends on, as JSON by id, and behind which of them the next begins."""

    results: bytes
    after: bytes  # '' on the last page


def inputs(keys: Keyspace, job: str, token: str, after: str) -> Command:
    """The results that a running attempt was not told; those behind that of the job with this id, unless it is ''."""
    return keys.call("hc_inputs", f"{keys.prefix}engine", job, token, after)


def read_inputs(reply: Any) -> Inputs | Refused:
    """Refused: NONE, STALE, or MISSING if the job does not depend on that of `after`."""
    word, details = _read("hc_inputs", reply, Word.OK, Word.NONE, Word.STALE, Word.MISSING)
    return Inputs(*details) if word is Word.OK else Refused(word)


def untake(keys: Keyspace, holder: str, number: str) -> Transition:
    """Give a take back whose attempts nobody will be told of."""
    return keys.transition("hc_untake", holder, number)


def finish(keys: Keyspace, job: str, token: str, result: bytes) -> Transition:
    """Accept a running attempt's result, as JSON."""
    return keys.transition("hc_finish", job, token, result)


def fail(
    keys: Keyspace, job: str, token: str, error: str, result: bytes | None, *, may_retry: bool, is_lost: bool = False
) -> Transition:
    """Report that a running attempt has failed, or is lost with its runner. `result`: as JSON, None to keep what is
    stored."""
    return keys.transition("hc_fail", job, token, error, result or "", 2 if is_lost else int(may_retry))


class Reported(NamedTuple):
    """A report was accepted: the job's status (of a heartbeat, its lease in ms), the number of its attempt, and for how
    many seconds that ran; None: it was reported before."""

    value: bytes
    attempt: bytes
    ran: float | None = None


def read_report(reply: Any) -> tuple[Reported | Refused, Effects]:
    """What hc_finish, hc_fail or hc_heartbeat returned: Refused is NONE or STALE."""
    (text,), effects = reply
    words = text.split()
    word = _WORDS.get(words[0])
    if word is Word.OK:
        if len(words) > 4:
            return Reported(words[1], words[2], _seconds_between(words[3], words[4])), effects
        return Reported(words[1], words[2] if len(words) > 2 else b""), effects
    if word is Word.NONE or word is Word.STALE:
        return Refused(word), effects
    raise UnknownReply(f"a report was answered {text!r}")


def heartbeat(keys: Keyspace, job: str, token: str) -> Transition:
    """Renew a running attempt's lease."""
    return keys.transition("hc_heartbeat", job, token)


def append_log(keys: Keyspace, job: str, token: str, stream: str, lines: Sequence[str]) -> Transition:
    """Append lines to the log of an attempt's flow or message. The attempt runs, or was
    cancelled or timed out just before."""
    return keys.transition("hc_log", job, token, stream, to_json(lines), *lines)


class Logged(NamedTuple):
    """Whether lines were kept, and whether the attempt they are of does not run any more."""

    is_kept: bool
    is_over: bool


def read_append_log(reply: Any) -> tuple[Logged | Refused, Effects]:
    """Refused is NONE or STALE."""
    result, effects = reply
    word, details = _read("hc_log", result, Word.OK, Word.OVER, Word.NONE, Word.STALE)
    if word is Word.OK or word is Word.OVER:
        return Logged(details[0] == 1, word is Word.OVER), effects
    return Refused(word), effects


def resume(keys: Keyspace, runner_id: int, session: str, holding: Sequence[str]) -> Transition:
    """A runner has connected and works on the attempts with these tokens."""
    return keys.transition("hc_resume", runner_id, session, *holding)


def read_resume(reply: Any) -> tuple[set[str] | None, Effects]:
    """Those of the tokens that are not its running attempts'. None: ask again, not all attempts are looked at yet."""
    result, effects = reply
    word, details = _read("hc_resume", result, Word.OK, Word.MORE)
    return None if word is Word.MORE else {token.decode() for token in details[0]}, effects


def runners_there(keys: Keyspace, seconds: float, script_types: Sequence[str], runners: Collection[int]) -> Transition:
    """Say that these runners are there to take jobs of these types; that may be believed for so long."""
    return keys.transition("hc_runners_there", int(seconds * 1000), len(script_types), *script_types, *runners)


class Subscribed(NamedTuple):
    """A runner has subscribed at this coordinator, since when (ms) and for how many jobs at once."""

    runner_id: int
    since: int
    capacity: int


def runners_subscribed(keys: Keyspace, seconds: float, runners: Iterable[Subscribed]) -> Transition:
    """Say that these runners have subscribed here; that may be believed for so long."""
    told = [f"{runner.runner_id} {runner.since} {runner.capacity}" for runner in runners]
    return keys.transition("hc_runners_subscribed", int(seconds * 1000), *told)


class Standing(NamedTuple):
    """How a runner is: attempts it failed, or lost, in a row, and for how many ms yet it gets nothing for that; whether
    it is there, and if it has subscribed since when (ms) and for how many jobs; how many it has, and some of them."""

    failed: int
    lost: int
    held_ms: int
    is_there: bool
    since: int | None
    capacity: int
    holds: int
    jobs: Sequence[tuple[int, int]]  # caller_id, id


def runner_states(keys: Keyspace, runners: Sequence[int]) -> Command:
    """How these runners are."""
    return _looking(keys.transition("hc_runner_states", *runners))


def read_runner_states(reply: Any) -> list[Standing] | None:
    """The state of each runner. None means that it has to be called again: not all running attempts are known yet."""
    result, _ = reply
    word, (told,) = _read("hc_runner_states", result, Word.OK, Word.MORE)
    return None if word is Word.MORE else [_read_standing(*standing) for standing in told]


def _read_standing(
    failed: int, lost: int, held_ms: int, is_there: int, since: bytes, capacity: int, holds: int, jobs: bytes
) -> Standing:
    names = [name.split(":") for name in sorted(jobs.decode().split())]
    ids = sorted((int(caller_id), int(id)) for _, caller_id, id in names)
    return Standing(failed, lost, held_ms, is_there == 1, int(since) if since else None, capacity, holds, ids)


# -- what people decide


def job_cancel(keys: Keyspace, job: str, reason: str) -> Transition:
    """End a job that waits or runs, and its run, in Error."""
    return keys.transition("hc_job_cancel", job, reason)


def read_job_cancel(reply: Any) -> tuple[Fields | Refused, Effects]:
    """The job's record. Refused: NONE; STATE with its status, or what its run is in, and the run if there is one; MORE
    if it has to be called again."""
    result, effects = reply
    word, details = _read("hc_job_cancel", result, Word.OK, Word.NONE, Word.STATE, Word.MORE)
    return fields_of(details[0]) if word is Word.OK else Refused(word, details), effects


def flow_pause(keys: Keyspace, id: int, *, pauses: bool) -> Transition:
    """Pause a flow, or resume it. Read as `read_flow`."""
    return keys.transition("hc_flow_pause", flow_name(id), "pause" if pauses else "resume")


RUNS_AGAIN: Final = "*"
"""In place of a job's name: all jobs of the flow."""


def flow_mark(keys: Keyspace, id: int, token: str, marks: Mapping[str, str | bytes]) -> Transition:
    """Remember what of a flow is to run again, and with what: names of jobs, or RUNS_AGAIN, and names of records with a
    member, each with what is to be stored. `token` names this."""
    return keys.transition("hc_flow_mark", flow_name(id), token, *(item for mark in marks.items() for item in mark))


def read_flow_mark(reply: Any) -> tuple[Refused | None, Effects]:
    """Refused: NONE, STATE and MORE as in `read_flow`."""
    result, effects = reply
    word, details = _read("hc_flow_mark", result, Word.OK, Word.NONE, Word.STATE, Word.MORE)
    return None if word is Word.OK else Refused(word, details), effects


def flow_rerun(keys: Keyspace, id: int, token: str) -> Transition:
    """Start a flow that has ended again, with what `flow_mark` was told under this token. Read as `read_flow`."""
    return keys.transition("hc_flow_rerun", flow_name(id), token)


def context_pause(keys: Keyspace, id: int, script_type: str | None, *, pauses: bool) -> Transition:
    """Pause a context, or the jobs of one type, or resume that."""
    return keys.transition("hc_context_pause", f"context:{id}", "pause" if pauses else "resume", script_type or "")


class Paused(NamedTuple):
    """What of a context is paused: all of it, and these script types by themselves."""

    is_whole: bool
    script_types: list[str]


def read_context_pause(reply: Any) -> tuple[Paused | None, Effects]:
    """None: there is no such context."""
    result, effects = reply
    word, details = _read("hc_context_pause", result, Word.OK, Word.NONE)
    if word is Word.NONE:
        return None, effects
    is_whole, script_types = details
    return Paused(is_whole == 1, [script_type.decode() for script_type in script_types]), effects


def runner_drain(keys: Keyspace, id: int, *, drains: bool) -> Transition:
    """Give a runner nothing new, or jobs again."""
    return keys.transition("hc_runner_drain", f"runner:{id}", "drain" if drains else "undrain")


def read_runner_drain(reply: Any) -> tuple[Fields | None, Effects]:
    """The runner's record; None: there is no such runner."""
    result, effects = reply
    word, details = _read("hc_runner_drain", result, Word.OK, Word.NONE)
    return fields_of(details[0]) if word is Word.OK else None, effects


class Deletion(NamedTuple):
    """How far the deletion of a context is: its number, how many records are gone, and whether there is more to do in
    the pass that was asked for."""

    number: str
    records: int
    has_more: bool


GOES_ON: Final = "-"


def context_delete(keys: Keyspace, id: int, number: str, passed: int) -> Command:
    """Delete a part of a context, as a slice of the pass 1 or 2. `number`: '' to begin, or to go on with what somebody
    has begun; GOES_ON to do only that; then that of the reply. It may be sent twice."""
    own = (keys.channel, keys.coordinator, number, passed, f"context:{id}")
    return keys.call("hc_context_delete", keys.engine, *own)


def read_context_delete(reply: Any) -> tuple[Deletion | None, Effects]:
    """None: there is nothing to be deleted."""
    result, effects = reply
    word, details = _read("hc_context_delete", result, Word.OK, Word.MORE, Word.NONE)
    if word is Word.NONE:
        return None, effects
    number, records = details
    return Deletion(number.decode(), int(records), word is Word.MORE), effects


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


def message_check(keys: Keyspace, name: str, jobs: Sequence[Mapping[str, Any]]) -> Transition:
    """Whether the message of this name, which has many jobs, may be sent with these ones of them."""
    return keys.transition("hc_message_check", name, *_to_check(jobs))


def message_begin(keys: Keyspace, name: str, embedded: bytes, token: str) -> Transition:
    """Begin to send the message of this name, whose field `job` was read as `embedded`; flow_add brings its jobs.
    `token` names these calls."""
    return keys.transition("hc_message_begin", name, embedded, token)


def message_start(keys: Keyspace, name: str, token: str) -> Transition:
    """Send the message of this name, all of whose jobs were brought."""
    return keys.transition("hc_message_start", name, token)


def read_message_send(reply: Any) -> tuple[Refused | None, Effects]:
    """None: it is sent. Refused: NEW, to be gone on with; NONE, CHANGED, MISSING with the job, BUSY with the job and
    its run, DIFFERS as in `read_flow_submit`, STATE and MORE as in `read_flow`."""
    result, effects = reply
    expected = (Word.NEW, Word.OK, Word.NONE, Word.CHANGED, Word.BUSY, Word.MISSING, Word.DIFFERS)
    word, details = _read("a function of messages", result, *expected, Word.STATE, Word.MORE)
    return None if word is Word.OK else Refused(word, details), effects


class Satisfied(NamedTuple):
    """A prerequisite is satisfied: when first (ms), what more is said of it, as members of a SatisfiedPrerequisite in
    JSON, each with a comma before it, and how many jobs had waited for it."""

    at: int
    more: bytes
    released: int


def prerequisite_satisfy(
    keys: Keyspace, name: str, flow_id: int | None, token: str, *, by: bytes | None, payload: bytes | None
) -> Transition:
    """Remember a prerequisite as satisfied, by whom and with what (JSON), and release the jobs that waited for it:
    those of one flow, or all. `token` names the call."""
    said = ((b"by", by), (b"payload", payload))
    more = b"".join(b',"%b":%b' % (label, value) for label, value in said if value is not None)
    return keys.transition("hc_prerequisite_satisfy", name, _flow_or_none(flow_id), more, token)


def _flow_or_none(flow_id: int | None) -> str:
    return "" if flow_id is None else flow_name(flow_id)


def read_prerequisite_satisfy(reply: Any) -> tuple[Satisfied | Refused, Effects]:
    """Refused: NONE, there is no such flow; DIFFERS, it was satisfied with another payload before; MORE if it has to be
    called again."""
    result, effects = reply
    word, details = _read("hc_prerequisite_satisfy", result, Word.OK, Word.NONE, Word.DIFFERS, Word.MORE)
    if word is not Word.OK:
        return Refused(word), effects
    stored, released = details
    at, comma, more = stored.partition(b",")
    return Satisfied(int(at), comma + more, released), effects


def prerequisite_revoke(keys: Keyspace, name: str, flow_id: int | None) -> Transition:
    """Let a prerequisite be satisfied no longer."""
    return keys.transition("hc_prerequisite_revoke", name, _flow_or_none(flow_id))


def read_prerequisite_revoke(reply: Any) -> bool | None:
    """Whether it was satisfied; None: there is no such flow."""
    word, details = _read("hc_prerequisite_revoke", reply[0], Word.OK, Word.NONE)
    return details[0] == 1 if word is Word.OK else None


class PrerequisitePlace(NamedTuple):
    """Where a page of prerequisites begins: behind this name of those that jobs wait for, or of those that are
    satisfied (for one flow, if there is a `flow_id`)."""

    is_satisfied: bool
    name: str
    flow_id: str = ""


class PrerequisitePage(NamedTuple):
    """A page, both parts as JSON without brackets; `after`: where the next one begins, None on the last."""

    waiting: bytes
    satisfied: bytes
    after: PrerequisitePlace | None


def prerequisite_list(keys: Keyspace, after: PrerequisitePlace | None, limit: int) -> Transition:
    phase, begin = "w", "-"
    if after is not None:
        phase = "s" if after.is_satisfied else "w"
        begin = f"({after.name}\0{after.flow_id}" if after.is_satisfied else f"({after.name}"
    return keys.transition("hc_prerequisite_list", phase, begin, limit)


def read_prerequisite_list(reply: Any) -> PrerequisitePage:
    _, (waiting, satisfied, phase, entry) = _read("hc_prerequisite_list", reply[0], Word.OK)
    name = entry.decode()[1:]
    if phase == b"w":
        return PrerequisitePage(waiting, satisfied, PrerequisitePlace(False, name))
    if phase == b"s":
        name, _, flow_id = name.rpartition("\0")
        return PrerequisitePage(waiting, satisfied, PrerequisitePlace(True, name, flow_id))
    return PrerequisitePage(waiting, satisfied, None)


class Connection(NamedTuple):
    """A runner's connection, by its name, takes jobs of this context and type."""

    context: int
    script_type: str
    name: str


def _connected(context: int, script_type: str) -> str:
    return f"{context}:{script_type.lower()}"


def _named(connections: Iterable[Connection]) -> list[str]:
    return [item for context, kind, name in connections for item in (_connected(context, kind), name)]


def runners_connected(keys: Keyspace, seconds: float, connections: Iterable[Connection]) -> Transition:
    """These are there, and count for so many seconds unless this is said again. Only in GLOBAL, like the next two."""
    return keys.transition("hc_runners_connected", int(seconds * 1000), *_named(connections))


def runners_gone(keys: Keyspace, connections: Iterable[Connection]) -> Transition:
    """These are there no more."""
    return keys.transition("hc_runners_gone", *_named(connections))


def runners_count(keys: Keyspace, context: int, script_types: Iterable[str]) -> Transition:
    """How many connections take jobs of a context, of each of these types."""
    return keys.transition("hc_runners_count", *(_connected(context, script_type) for script_type in script_types))


def read_runners_count(reply: Any) -> Sequence[int]:
    _, (counts,) = _read("hc_runners_count", reply[0], Word.OK)
    found: Sequence[int] = counts
    return found


def tick(keys: Keyspace, limit: int) -> Transition:
    """Act on the timers that are due, at most so many."""
    return keys.transition("hc_tick", limit)


class Ticked(NamedTuple):
    """How many attempts were lost, have timed out, how many of both are followed by another one, and what has failed,
    for each timer."""

    lost: int
    timed_out: int
    retried: int
    faults: list[str]


def read_tick(reply: Any) -> tuple[Ticked, Effects]:
    result, effects = reply
    _, (_, lost, timed_out, retried, *faults) = _read("hc_tick", result, Word.OK)
    return Ticked(lost, timed_out, retried, [fault.decode(errors="replace") for fault in faults]), effects


def read_effects(reply: Any) -> Effects:
    """The effects of a transition whose result does not matter: hc_untake, hc_runners_there and those of connected
    runners."""
    result, effects = reply
    _read("a transition", result, Word.OK)
    return effects  # type: ignore[no-any-return] # what the parser gives is untyped


def clock(keys: Keyspace, run: str, at_least: int) -> Command:
    """Say what time (ms) it must be at least, on the clock of timers, by the coordinator's own. Only in GLOBAL."""
    return keys.call("hc_clock", keys.coordinators(), run, at_least)


def read_clock(reply: Any) -> tuple[str, int, int]:
    """The name of the server's memory of that clock, its time (ms), and how far it is from the server's own clock."""
    run, now, offset = reply
    return run.decode(), int(now), int(offset)


def presence(keys: Keyspace, name: str, silence: float) -> Command:
    """Say that the coordinator `name` lives, and find those that were silent for so many seconds. Only in GLOBAL."""
    return keys.call("hc_presence", keys.coordinators(), name, int(silence * 1000))


def read_presence(reply: Any) -> tuple[bool, list[str]]:
    """Whether it was known before, and the dead."""
    was_known, dead = reply
    return was_known == 1, [name.decode() for name in dead]


def tell_layout(keys: Keyspace) -> Command:
    """Says what layout a context has in which nothing was stored before."""
    return ("HSETNX", keys.engine, "schema", SCHEMA)


def is_unknown_context(reply: Any) -> bool:
    """Whether this is the reply to Layout.own_context for one that nothing was written to."""
    return reply == Word.NONE.value  # type: ignore[no-any-return] # what the parser gives is untyped


# -- access


class Guard(NamedTuple):
    """What must be true of a record for a transition to be carried out: `kind` is one of the table GUARD in access.lua,
    which says what it compares `value` with."""

    kind: str
    record: str
    value: str | int = ""


def record_of(transition: Transition) -> str:
    """The record that a transition of one is about: its first own argument."""
    return str(transition[5 + int(transition[2])])


def guarded(transition: Transition, guards: Sequence[Guard]) -> Transition:
    """The transition, unless a guard refuses it; then it changes nothing. Look at the reply with `refusing_guard`."""
    if not guards:
        return transition
    function = str(transition[1])
    own = 5 + int(transition[2])  # as in Transition.many
    flat = [item for guard in guards for item in guard]
    if function.startswith("hc_guarded"):
        more = int(transition[own]) + len(guards)
        return Transition((*transition[:own], more, *flat, *transition[own + 1 :]))
    name = "hc_guarded" + ("_long" if function in LONG else "") + ("" if function in GROWING else "_ending")
    return Transition(("FCALL", name, *transition[2:own], len(guards), *flat, function, *transition[own:]))


_WRITES_ONE: Final = frozenset({"hc_message_upsert", "hc_flow_mark"})
"""Transitions that create nothing whose number is limited, but bring as much as their arguments have."""

QUOTA: Final = "quota"
BYTES: Final = "bytes"
NUMBER: Final = 8  # bytes, about, of an argument that is one


def quota_guards(
    transition: Transition, quotas: Mapping[str, int], jobs: Sequence[str] = (), following: int = 0
) -> list[Guard]:
    """That of a kind of records (`job`, `flow`) there are so many at most, with those a transition would create, and if
    it begins to create a flow, the `jobs` that are to follow; and that all records take so many `bytes` at most, with
    what it brings, and what is following then."""
    own = 5 + int(transition[2])
    named = _created_by(transition, own)
    size = 0
    if transition[1] == "hc_flow_create":
        named += jobs
        size += following
    guards = []
    if "bytes" in quotas and (named or transition[1] in _WRITES_ONE):
        size += sum(len(item) if isinstance(item, str | bytes) else NUMBER for item in transition[own:])
        written = [str(transition[own])] if transition[1] in _WRITES_ONE else named
        guards = [Guard(BYTES, str(quotas["bytes"]), f"{size} {' '.join(written)}")]
    kinds = {name: name.partition(":")[0] for name in named}
    return guards + [
        Guard(QUOTA, f"{kind} {most}", " ".join(name for name in named if kinds[name] == kind))
        for kind, most in quotas.items()
        if kind in kinds.values()
    ]


def _created_by(transition: Transition, own: int) -> list[str]:
    """The jobs and flows that a transition, whose own arguments begin there, creates unless they are there."""
    given: Sequence[Any] = transition[own:]
    match transition[1]:
        case "hc_job_upsert" | "hc_flow_upsert" | "hc_flow_create":
            return [given[0]]
        case "hc_flow_draft":
            return [given[1]]
        case "hc_flow_submit":
            return [given[0], *given[2].split(" ")]
        case "hc_flow_add":
            return [*given[3 :: 2 + len(JOB_GIVEN)]]
        case "hc_message_send":
            names, at = [], 4
            for _ in range(int(given[3])):
                names.append(given[at])
                at += 2 + int(given[at + 1])
            return names
        case _:
            return []


def refusing_guard(reply: Any) -> Guard | None:
    """The guard that has refused a transition, with what it has said as its value; None if it was carried out."""
    if type(reply) is not list or not reply[0] or reply[0][0] != Word.FOREIGN.value:
        return None
    _, kind, record, said = reply[0]
    return Guard(kind.decode(), record.decode(), said.decode())


def token_create(
    keys: Keyspace, id: str, principal: str, seconds: int, most: int, kept: Mapping[str, str]
) -> Transition:
    """Keep a token for so many seconds, with `kept`. Only in GLOBAL, like the next four."""
    flat = [item for name, value in kept.items() for item in (name, value)]
    return keys.transition("hc_token_create", id, principal, seconds, most, *flat)


def read_token_create(reply: Any) -> tuple[int, int]:
    """When it was made, and when it expires (Unix time in seconds)."""
    _, (created_at, expires_at) = _read("hc_token_create", reply[0], Word.OK)
    return int(created_at), int(expires_at)


def token_revoke(keys: Keyspace, id: str, principal: str) -> Transition:
    """Let a token of this principal be good no longer."""
    return keys.transition("hc_token_revoke", id, principal)


def read_token_revoke(reply: Any) -> bool:
    """Whether there was one."""
    _, (revoked,) = _read("hc_token_revoke", reply[0], Word.OK)
    return bool(revoked)


def token_used(keys: Keyspace, id: str) -> Transition:
    """A token is in use."""
    return keys.transition("hc_token_used", id)


def key_rotate(keys: Keyspace, id: int, expected: str, new: str, overlap: int) -> Transition:
    """Give an actor another key; `expected`: the one it must have, or ''. The old one is good for so many seconds."""
    return keys.transition("hc_key_rotate", f"actor:{id}", expected, new, overlap)


def read_key_rotate(reply: Any) -> Refused | None:
    """Refused: NONE, STATE if the actor was revoked, CHANGED if it has another key."""
    word, details = _read("hc_key_rotate", reply[0], Word.OK, Word.NONE, Word.STATE, Word.CHANGED)
    return None if word is Word.OK else Refused(word, details)


def actor_revoke(keys: Keyspace, id: int) -> Transition:
    """Let an actor log in no more."""
    return keys.transition("hc_actor_revoke", f"actor:{id}")


def read_actor_revoke(reply: Any) -> int | None:
    """Since when (Unix time in seconds); None: there is no such actor."""
    word, details = _read("hc_actor_revoke", reply[0], Word.OK, Word.NONE)
    return int(details[0]) if word is Word.OK else None
