"""Random operations, on few enough records that the same one is met again."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from tests.stateful.model import Operation
from tests.support.records import KINDS, Record

__all__ = ["PLACES", "Drawn", "drawn_operations"]

CALLERS: Final = (0, 2**32 - 1)
IDS: Final = (0, 2**32 - 1)
PLACES: Final = 2

_uint32 = st.integers(0, 2**32 - 1)
_texts = st.text(max_size=20)
_many_numbers = st.lists(_uint32, max_size=4)
_many_texts = st.lists(_texts, max_size=3)
_maps = st.dictionaries(_texts, _texts, max_size=3)
_addresses = st.ip_addresses().map(str)
_script_types = st.sampled_from(["Osis", "Sal", "V", "Python"])

Members = dict[str, st.SearchStrategy[Any]]

_JOB: Final[Members] = {
    "script": _texts,
    "script_type": _script_types,
    "timeout": _uint32,
    "retries": st.integers(0, 255),
    "env_vars": _maps,
    "prerequisites": _many_texts,
    "depends": _many_numbers,
}
_RESULT: Final[Members] = {"result": _maps}
_EMBEDDED_JOBS: Final = st.lists(
    st.fixed_dictionaries(
        {"caller_id": st.sampled_from(CALLERS), "id": st.sampled_from(IDS), **_JOB}, optional=_RESULT
    ),
    max_size=3,
    unique_by=lambda job: (job["caller_id"], job["id"]),
)
_MEMBERS: Final[dict[str, st.SearchStrategy[Record]]] = {
    "actor": st.fixed_dictionaries({"pubkey": _texts, "address": st.lists(_addresses, max_size=3)}),
    "context": st.fixed_dictionaries(dict.fromkeys(("admins", "readers", "executors"), _many_numbers)),
    "runner": st.fixed_dictionaries({"pubkey": _texts, "address": _addresses, "topic": _texts, "local": st.booleans()}),
    "flow": st.fixed_dictionaries({"jobs": _many_numbers, "env_vars": _maps}, optional=_RESULT),
    "job": st.fixed_dictionaries(_JOB, optional=_RESULT),
    "message": st.fixed_dictionaries(
        {
            "message": _texts,
            "message_type": _script_types,
            "message_format_type": st.sampled_from(["Html", "Text", "Md"]),
            "timeout": _uint32,
            "timeout_ack": _uint32,
            "timeout_result": _uint32,
            "job": _EMBEDDED_JOBS,
        },
        optional={"logs": _many_texts},
    ),
}


class Drawn(NamedTuple):
    """An operation that does not know yet which contexts and actors it is about.

    Attributes:
        place: which of the contexts.
        at: which of the ids.
        members: what to create it with; None for a load.
    """

    kind: str
    place: int
    caller_id: int
    at: int
    members: Record | None

    def of(self, contexts: list[int], actors: list[int]) -> Operation:
        """The operation itself."""
        context = contexts[self.place]
        id = {"actor": actors[self.at], "context": context}.get(self.kind, IDS[self.at])
        return Operation(self.kind, context, self.caller_id, id, self._record(context, id))

    def _record(self, context: int, id: int) -> Record | None:
        if self.members is None:
            return None
        record = {"id": id, **self.members}
        if self.kind in ("flow", "job", "message"):
            record |= {"caller_id": self.caller_id, "context_id": context}
        if self.kind == "message":
            record["job"] = [{**job, "context_id": context} for job in self.members["job"]]
        return record


def drawn_operations() -> st.SearchStrategy[Drawn]:
    """A create or a load of any kind."""
    place, caller_id, at = st.integers(0, PLACES - 1), st.sampled_from(CALLERS), st.integers(0, len(IDS) - 1)
    return st.one_of(
        [st.builds(Drawn, st.just(kind), place, caller_id, at, st.none() | _MEMBERS[kind]) for kind in KINDS]
    )
