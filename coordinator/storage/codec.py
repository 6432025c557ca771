"""Records as hashes: a field a member, strings as they are, everything else as JSON.

Loading splices the reply's JSON from the stored fields without parsing them; only strings are escaped.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from typing_extensions import TypeAliasType

from coordinator import models
from coordinator.errors import StorageError

__all__ = ["ACTOR", "CONTEXT", "FLOW", "JOB", "JOB_SUMMARY", "MESSAGE", "RUNNER", "Record", "fields_of"]

Fields = Mapping[bytes, bytes]


class Record:
    """How one kind of record is written to and read from its hash.

    Args:
        kind: the name clients know it by, as in NotFound.
        model: what is stored, with its members in reply order. Members with a default may be missing.
    """

    def __init__(self, kind: str, model: type[models.Model]) -> None:
        self.kind = kind
        self._members = [
            (
                name.encode(),
                f'"{name}":'.encode(),
                _is_text(member.annotation),
                member.is_required(),
            )
            for name, member in model.model_fields.items()
        ]
        self._text = {name.decode() for name, _, is_text, _ in self._members if is_text}
        self.field_names = [name for name, *_ in self._members]

    def encode(self, members: Mapping[str, Any]) -> list[str | int | bytes]:
        """`[name, value, …]` as HSET takes it, from validated members."""
        flat: list[str | int | bytes] = []
        for name, value in members.items():
            flat.append(name)
            flat.append(value if name in self._text else to_json(value))
        return flat

    def to_json(self, fields: Fields, **ids: int) -> bytes:
        """The record as a JSON object.

        Raises:
            StorageError: a field every such record has is missing; `ids` say which record it is.
        """
        parts = []
        for name, label, is_text, is_required in self._members:
            value = fields.get(name)
            if value is not None:
                parts.append(label + (to_json(value.decode()) if is_text else value))
            elif is_required:
                shown = ", ".join(f"{key} {id}" for key, id in ids.items())
                raise StorageError(f"the stored {self.kind} with {shown} has no field {name.decode()!r}")
        return b"{" + b",".join(parts) + b"}"


def fields_of(reply: Sequence[bytes] | Fields) -> Fields:
    """A hash from an HGETALL reply: a map in RESP3, a flat list when it comes out of a function."""
    if isinstance(reply, Mapping):
        return reply
    items: Iterable[bytes] = iter(reply)
    return dict(zip(items, items, strict=True))


def _is_text(annotation: Any) -> bool:
    """Whether a member of this type is kept as a plain string rather than as JSON."""
    if isinstance(annotation, TypeAliasType):
        return _is_text(annotation.__value__)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated or origin in (typing.Union, types.UnionType):
        return _is_text(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return all(isinstance(choice, str) for choice in typing.get_args(annotation))
    return annotation is str


ACTOR = Record("actor", models.Actor)
CONTEXT = Record("context", models.Context)
RUNNER = Record("runner", models.Runner)
FLOW = Record("flow", models.Flow)
JOB = Record("job", models.Job)
MESSAGE = Record("message", models.Message)
JOB_SUMMARY = Record("job", models.JobSummary)
