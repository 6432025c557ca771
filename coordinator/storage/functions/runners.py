"""Runners: which are there, and how each of them is; see library/views.lua."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from coordinator.models.contract import SCRIPT_TYPES
from coordinator.storage.functions.kinds import looking
from coordinator.storage.functions.results import Word, read_word
from coordinator.storage.keys import Command, Keyspace, Transition


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


class RunnerState(NamedTuple):
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
    return looking(keys.transition("hc_runner_states", *runners))


def read_runner_states(reply: Any) -> list[RunnerState] | None:
    """The state of each runner. None means that it has to be called again: not all running attempts are known yet."""
    result, _ = reply
    word, (found,) = read_word("hc_runner_states", result, Word.OK, Word.MORE)
    return None if word is Word.MORE else [_read_state(*state) for state in found]


def _read_state(
    failed: int, lost: int, held_ms: int, is_there: int, since: bytes, capacity: int, holds: int, jobs: bytes
) -> RunnerState:
    names = [name.split(":") for name in sorted(jobs.decode().split())]
    ids = sorted((int(caller_id), int(id)) for _, caller_id, id in names)
    return RunnerState(failed, lost, held_ms, is_there == 1, int(since) if since else None, capacity, holds, ids)


def runners_count(keys: Keyspace) -> Command:
    """How many runners are there to take jobs, of each of SCRIPT_TYPES."""
    return looking(keys.transition("hc_runners_count", *SCRIPT_TYPES))


def read_runners_count(reply: Any) -> Sequence[int]:
    _, (counts,) = read_word("hc_runners_count", reply[0], Word.OK)
    found: Sequence[int] = counts
    return found
