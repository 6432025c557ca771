"""The fields of records that both Python and the function library name, made of the models.

`library.py` writes them into the library's source, so a member that is added to a model is stored, handed out and
answered by both without a second edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from pydantic_core import to_json

from coordinator.models import FlowCreate, Job, JobCreate, Model, NameText
from coordinator.storage.codec import FLOW_EMPTY, JOB_EMPTY, is_free_text

__all__ = ["FLOW_GIVEN", "JOB_ASSIGNED", "JOB_GIVEN", "JOB_TEXTS", "NOT_GIVEN", "NUL", "lua", "stored_defaults"]

NOT_GIVEN: Final = b"\xff"
"""Stands for a member the client has left out, or a record does not have; no text in UTF-8 contains that byte."""

NUL: Final = b"\xfe"
"""Stands for NUL in texts that are joined by NUL; no text in UTF-8 contains that byte."""

_TOLD_OTHERWISE: Final = {"id", "caller_id", "context_id", "status", "updated_at"}

JOB_GIVEN: Final = tuple(JobCreate.model_fields)
"""What a client may give of a job, in the order hc_flow_submit takes it."""

FLOW_GIVEN: Final = tuple(FlowCreate.model_fields)
"""The same of a flow."""

JOB_ASSIGNED: Final = (
    *(name for name in Job.model_fields if name not in _TOLD_OTHERWISE and name != "script"),
    "script",  # the only one that may contain NUL, so it is the last
)
"""What hc_take returns of a stored job, in this order."""


def _may_have_nul(annotation: Any) -> bool:
    return is_free_text(annotation) and NameText not in get_args(annotation)  # that one is looked at when it is given


JOB_TEXTS: Final = tuple(name for name in JOB_ASSIGNED[:-1] if _may_have_nul(Job.model_fields[name].annotation))
"""Those of them, but for the last, that may contain NUL."""


def stored_defaults(model: type[Model]) -> dict[str, bytes | None]:
    """The members that need not be given, with what a new record has for them as it is stored; None: it has no such
    member."""
    defaults = {
        name: member.get_default(call_default_factory=True)
        for name, member in model.model_fields.items()
        if not member.is_required()
    }
    return {name: _stored(value) for name, value in defaults.items()}


def _stored(value: Any) -> bytes | None:
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else to_json(value)


def _list(names: Iterable[str]) -> str:
    return "{" + ", ".join(f"'{name}'" for name in names) + "}"


def _otherwise(model: type[Model], empty: Mapping[str, Any]) -> dict[str, bytes | None]:
    """What the members are that a stored record may be without."""
    return {**stored_defaults(model), **{name: to_json(value) for name, value in empty.items()}}


def _map(values: dict[str, bytes | None]) -> str:
    return "{" + ", ".join(f"{name} = '{value.decode()}'" for name, value in values.items() if value is not None) + "}"


def lua() -> str:
    """These lists as a part of the library's source."""
    of_job, of_flow = stored_defaults(JobCreate), stored_defaults(FlowCreate)
    job_otherwise, flow_otherwise = _otherwise(JobCreate, JOB_EMPTY), _otherwise(FlowCreate, FLOW_EMPTY)
    parts: dict[str, str] = {
        "NOT_GIVEN": f"'\\{NOT_GIVEN[0]}'",
        "NUL": f"'\\{NUL[0]}'",
        "JOB_GIVEN": _list(JOB_GIVEN),
        "JOB_OPTIONAL": _list(of_job),
        "JOB_DEFAULTS": _map(job_otherwise),
        "JOB_EMPTY": _map({name: to_json(value) for name, value in JOB_EMPTY.items()}),
        "JOB_OPEN": _list(job_otherwise),
        "FLOW_GIVEN": _list(FLOW_GIVEN),
        "FLOW_OPTIONAL": _list(of_flow),
        "FLOW_DEFAULTS": _map(flow_otherwise),
        "FLOW_EMPTY": _map({name: to_json(value) for name, value in FLOW_EMPTY.items()}),
        "JOB_ASSIGNED": _list(JOB_ASSIGNED),
        "JOB_TEXTS": _list(JOB_TEXTS),
    }
    return "".join(f"local {name} = {value}\n" for name, value in parts.items())
