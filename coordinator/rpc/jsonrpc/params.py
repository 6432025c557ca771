"""The forms in which a client of the contract may send params, brought to the one the models know.

- the params object: `{"context_id": 1, "runner": {…}}`
- OpenRPC by name, the contract's one parameter being called `params`: `{"params": {…}}`
- OpenRPC by position: `[{…}]`
- the object's members by position, in the contract's order: `[1, {…}]`

In each, null in place of the params is no params.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from coordinator.errors import InvalidParams
from coordinator.models import Model

__all__ = ["ParamsReader"]

MAX_FAULTS = 20

P = TypeVar("P", bound=Model)


class ParamsReader(Generic[P]):
    """Reads the params of one method.

    Args:
        model: the params object.
        payload_member: the member holding an object with its own context_id that must equal the params', or None.

    Attributes:
        is_plain: an object that is valid as params cannot be another form of them.
    """

    def __init__(self, model: type[P], payload_member: str | None = None) -> None:
        self._validate = model.__pydantic_validator__.validate_python
        self._names = list(model.model_fields)
        self._payload_member = payload_member
        self.is_plain = any(member.is_required() for member in model.model_fields.values())

    def read(self, params: dict[str, Any] | list[Any]) -> P:
        """Validate.

        Raises:
            InvalidParams: every fault with its place, the first 20 of them.
        """
        try:
            validated: P = self._validate(self._to_object(params))
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise InvalidParams(
                [
                    {
                        "loc": list(fault["loc"]),
                        "msg": fault["msg"].removeprefix("Value error, "),
                        "type": fault["type"],
                    }
                    for fault in faults[:MAX_FAULTS]
                ]
            ) from None
        if self._payload_member is not None:
            self.check_context(validated)
        return validated

    def _to_object(self, params: dict[str, Any] | list[Any]) -> dict[str, Any]:
        names = self._names
        if isinstance(params, dict):
            inner = params.get("params")
            if isinstance(inner, dict | list) and not any(name in params for name in names):
                return self._to_object(inner)
            return params
        if len(params) == 1 and params[0] is None:
            return {}
        if len(params) == 1 and type(params[0]) is dict:
            only = params[0]
            # An object by position is the params object, or the one member of a method that takes one object. If it
            # has none of the members asked for it is the latter.
            if len(names) != 1 or names[0] in only:
                return only
        if len(params) > len(names):
            many = f"takes at most {len(names)} params by position ({', '.join(names)}), got {len(params)}"
            raise InvalidParams([{"loc": [len(names)], "msg": many, "type": "too_many_positional"}])
        return dict(zip(names, params, strict=False))

    def check_context(self, params: Any) -> None:
        """Raises InvalidParams if the payload_member object is of another context than `params`."""
        outer = params.context_id
        inner = getattr(params, self._payload_member or "")
        embedded = inner.job if self._payload_member == "message" else ()
        if inner.context_id == outer and all(job.context_id == outer for job in embedded):
            return
        places: list[tuple[list[str | int | None], int]] = [([self._payload_member, "context_id"], inner.context_id)]
        places += [([self._payload_member, "job", at, "context_id"], job.context_id) for at, job in enumerate(embedded)]
        faults = [
            {
                "loc": loc,
                "msg": f"context_id {found} here differs from context_id {outer} of the params",
                "type": "context_mismatch",
            }
            for loc, found in places
            if found != outer
        ]
        raise InvalidParams(faults[:MAX_FAULTS])
