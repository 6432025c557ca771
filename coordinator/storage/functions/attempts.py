"""Attempts: jobs taken, kept alive, finished and failed; see library/attempts.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from coordinator.storage import codec
from coordinator.storage.fields import JOB_ASSIGNED, JOB_TEXTS, NOT_GIVEN, NUL
from coordinator.storage.functions.results import WORDS, Effects, Refused, UnknownReply, Word, read_word
from coordinator.storage.keys import Command, Keyspace, Transition


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
    there_for: float = 0,
) -> Transition:
    """Hand queued jobs to a runner, each with a new attempt and a lease of so many seconds. Asked again for the take
    `number` of `holder`, if that was its last, the same. `secret`: of this take; the tokens of its attempts have it.
    `there_for`: seconds for which the runner counts as there from now on."""
    own = f"{runner_id} {int(lease * 1000)} {count} {max_bytes} {number} {secret} {int(there_for * 1000)}"
    return keys.transition("hc_take", own, session, topic, holder, *script_types)


def read_take(reply: Any) -> tuple[Taken, Effects]:
    result, effects = reply
    word, (attempts,) = read_word("hc_take", result, Word.MORE, Word.ALL, Word.AGAIN)
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
    word, details = read_word("hc_inputs", reply, Word.OK, Word.NONE, Word.STALE, Word.MISSING)
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
    word = WORDS.get(words[0])
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
    word, details = read_word("hc_log", result, Word.OK, Word.OVER, Word.NONE, Word.STALE)
    if word is Word.OK or word is Word.OVER:
        return Logged(details[0] == 1, word is Word.OVER), effects
    return Refused(word), effects


def resume(keys: Keyspace, runner_id: int, session: str, holding: Sequence[str]) -> Transition:
    """A runner has connected and works on the attempts with these tokens."""
    return keys.transition("hc_resume", runner_id, session, *holding)


def read_resume(reply: Any) -> tuple[set[str] | None, Effects]:
    """Those of the tokens that are not its running attempts'. None: ask again, not all attempts are looked at yet."""
    result, effects = reply
    word, details = read_word("hc_resume", result, Word.OK, Word.MORE)
    return None if word is Word.MORE else {token.decode() for token in details[0]}, effects
