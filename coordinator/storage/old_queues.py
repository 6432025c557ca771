"""The lists from which runners of the original take jobs: pushed to and looked at, each attempt pushed once.

A job is a hash `job:<caller>:<id>`, and its key's name is what is pushed on the left of `queue:<type>`. An old runner
pops it on the right, and writes `status` (started, then finished or error), `result` and `error` into the hash. Ours
are the fields `bridge`, the token of the attempt, until its outcome was told, and `bridge_attempt`, its number.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import trio

from coordinator.models import Assignment
from coordinator.storage.connection import Command, Reply
from coordinator.storage.original import OURS, Original, reading
from coordinator.storage.visit import CannotTransfer

__all__ = ["Ended", "OldQueues", "Pushed", "old_queues"]

LOOKED_AT: Final = 500  # jobs at once

Pushed = Literal["pushed", "ended", "unknown"]

_PUSH: Final = """
local job, queue, token, attempt, entry = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local before, number, status = unpack(redis.call('HMGET', job, 'bridge', 'bridge_attempt', 'status'))
status = string.lower(string.gsub(status or '', '"', ''))
if before == token then
  return 'pushed'
end
local has_ended = status == 'finished' or status == 'error'
if before and has_ended and attempt > (tonumber(number) or 0) then
  redis.call('HSET', job, 'bridge', token, 'bridge_attempt', attempt)
  return 'ended'
end
if not has_ended then
  local waiting = redis.call('LREM', queue, 0, entry)
  if status == 'started' or (before and waiting == 0) then
    return 'unknown'
  end
end
redis.call('DEL', job)
redis.call('HSET', job, 'bridge', token, 'bridge_attempt', attempt, unpack(ARGV, 4))
redis.call('LPUSH', queue, entry)
return 'pushed'
"""
"""KEYS: 1 the job, 2 the queue. ARGV: 1 token, 2 number of the attempt, 3 the entry, 4 … fields and values.
Returns: pushed, now or by an earlier call with this token; ended, an earlier attempt at this run of the job whose
outcome was not told; or unknown: an old runner was given the job, and may have run it, or still run it."""

_WITHDRAW: Final = """
if redis.call('HGET', KEYS[1], 'bridge') == ARGV[1] and redis.call('LREM', KEYS[2], 0, ARGV[2]) > 0 then
  redis.call('DEL', KEYS[1])
  return 1
end
return 0
"""
"""KEYS: 1 the job, 2 the queue. ARGV: 1 token, 2 the entry. Returns 1 if no runner has it, nor gets it now, or 0."""

_TOLD: Final = """
if redis.call('HGET', KEYS[1], 'bridge') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'bridge')
end
return 0
"""
"""KEYS: 1 the job. ARGV: 1 token. Its outcome need not be told any more."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a runner has made of an attempt; `error` is None if it succeeded. `is_final`: there must not be
    another, for nobody knows what became of this one."""

    result: dict[str, str]
    error: str | None
    is_final: bool = False


class OldQueues:
    """Any number of tasks may use it at once. A lost connection is made again with the next call.

    Args:
        url: of the Redis.
        database: in which the jobs and queues are.
    """

    def __init__(self, url: str, database: int) -> None:
        self._url = url
        self._database = database
        self._lock = trio.Lock()
        self._stack = AsyncExitStack()
        self._original: Original | None = None

    async def push(self, assignment: Assignment) -> Pushed:
        """Give an attempt to the old runners, unless one may have had the job already. Called again for the same
        attempt it changes nothing. Raises CannotTransfer: it may be done or not."""
        job = assignment.job
        members: dict[str, Any] = {
            **job.model_dump(mode="json", exclude_none=True, exclude={"depends", "result"}),
            "script_type": job.script_type.lower(),
            "env_vars": assignment.env_vars,
            "dependends": job.depends,
            "result": {},
            "status": "dispatched",
        }
        fields = [
            text
            for name, value in members.items()
            for text in (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        ]
        key, queue = _places(assignment)
        push: Command = ("EVAL", _PUSH, 2, key, queue, assignment.token, assignment.attempt, key, *fields)
        (reply,) = await self._ask([push])
        return _PUSHED[reply]

    async def check(self) -> None:
        """Raises ValueError: the URL is none; CannotTransfer: nobody answers there, or the database is another's."""
        (is_ours,) = await self._ask([("EXISTS", OURS)])
        if is_ours:
            raise CannotTransfer(
                f"database {self._database} of that Redis has a context of a coordinator like this one, whose jobs and "
                "queues have the same names: name the database of the old runners, as redis://HOST:PORT/N"
            )

    async def ended(self, assignments: Sequence[Assignment]) -> Mapping[str, Ended]:
        """Those that have ended, by token. Raises CannotTransfer."""
        found: dict[str, Ended] = {}
        for first in range(0, len(assignments), LOOKED_AT):
            some = assignments[first : first + LOOKED_AT]
            reads: list[Command] = [
                ("HMGET", _places(assignment)[0], "bridge", "status", "result", "error") for assignment in some
            ]
            for assignment, reply in zip(some, await self._ask(reads), strict=True):
                token, status, result, error = (_text(item) for item in reply)
                if token != assignment.token:
                    found[assignment.token] = Ended({}, "the job is not in the old runners' Redis any more", True)
                elif status.strip('"').lower() in ("finished", "error"):
                    is_error = status.strip('"').lower() == "error"
                    why = error or _result(result).get("error") or "the old runner says that the job is in error"
                    found[assignment.token] = Ended(_result(result), why if is_error else None)
        return found

    async def withdraw(self, assignment: Assignment) -> bool:
        """Take a job back. Returns whether no runner had popped it. Raises CannotTransfer."""
        key, queue = _places(assignment)
        (reply,) = await self._ask([("EVAL", _WITHDRAW, 2, key, queue, assignment.token, key)])
        return bool(reply)

    async def told(self, assignment: Assignment) -> None:
        """The outcome was told. Raises CannotTransfer."""
        await self._ask([("EVAL", _TOLD, 1, _places(assignment)[0], assignment.token)])

    async def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        async with self._lock:
            original, self._original = self._original, None  # whoever is cancelled leaves it out of step
            if original is None:
                await self.aclose()
                original = await self._stack.enter_async_context(reading(self._url))
                await original.ask([("SELECT", self._database)])
            replies = await original.ask(commands)
            self._original = original
            return replies

    async def aclose(self) -> None:
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()


@asynccontextmanager
async def old_queues(url: str, database: int) -> AsyncIterator[OldQueues]:
    """The queues, closed in the end. Raises ValueError: the URL is none; CannotTransfer: nobody answers there."""
    queues = OldQueues(url, database)
    try:
        await queues.ended([])
        await queues.check()
        yield queues
    finally:
        await queues.aclose()


_PUSHED: Final[Mapping[bytes, Pushed]] = {b"pushed": "pushed", b"ended": "ended", b"unknown": "unknown"}


def _places(assignment: Assignment) -> tuple[str, str]:
    """The keys of a job and of its queue."""
    job = assignment.job
    return f"job:{job.caller_id}:{job.id}", f"queue:{job.script_type.lower()}"


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def _result(text: str) -> dict[str, str]:
    """A result as ours is, a map of texts."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if not isinstance(value, dict):
        return {"result": text}
    return {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}
