"""What no client asks for: timers, the clock, and which coordinators live; see library/upkeep.lua."""

from __future__ import annotations

from typing import Any, NamedTuple

from coordinator.storage.functions.results import Effects, Word, read_word
from coordinator.storage.keys import Command, Keyspace, Transition


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
    _, (_, lost, timed_out, retried, *faults) = read_word("hc_tick", result, Word.OK)
    return Ticked(lost, timed_out, retried, [fault.decode(errors="replace") for fault in faults]), effects


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
