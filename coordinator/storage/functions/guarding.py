"""Guards: what must be true for a transition to be carried out; see library/access.lua."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from coordinator.storage.fields import JOB_GIVEN
from coordinator.storage.functions.kinds import GROWING, LONG
from coordinator.storage.functions.results import Word
from coordinator.storage.keys import Transition


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
