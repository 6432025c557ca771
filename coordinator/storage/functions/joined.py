"""Several transitions that travel as one call; see library/runs.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from coordinator.storage.faults import ReplyError
from coordinator.storage.functions.kinds import GROWING
from coordinator.storage.functions.results import Effects, Word
from coordinator.storage.keys import Command, Transition

_FAULT: Final = Word.FAULT.value  # looked up once: that of a member of an enum takes a microsecond


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
