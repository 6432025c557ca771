"""The forms in which a client of the contract may send params, brought to the one the models know.

- the params object: `{"context_id": 1, "runner": {…}}`
- OpenRPC by name, the contract's one parameter being called `params`: `{"params": {…}}`
- OpenRPC by position: `[{…}]`
- the object's members by position, in the contract's order: `[1, {…}]`

In each, null in place of the params is no params.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, Generic, TypeVar, get_args, get_origin

from annotated_types import MaxLen
from pydantic import ValidationError

from coordinator.errors import InvalidParams
from coordinator.models import Model

__all__ = ["ParamsReader"]

MAX_FAULTS = 20
ONE_BY_ONE: Final = 200  # objects of a list from which on their models are made one by one

P = TypeVar("P", bound=Model)

_building: Final = threading.Lock()


def _faults(error: ValidationError, given: dict[str, Any]) -> list[dict[str, Any]]:
    """What is wrong with what was given. Of a member that may also be null, not that it is not null."""
    found = [
        {
            "loc": _place(fault["loc"], given, fault["type"]),
            "msg": fault["msg"].removeprefix("Value error, "),
            "type": fault["type"],
        }
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    told = [fault["loc"] for fault in found if fault["type"] != "none_required"]
    at_or_in = {tuple(loc[:length]) for loc in told for length in range(len(loc) + 1)}
    return [fault for fault in found if fault["type"] != "none_required" or tuple(fault["loc"]) not in at_or_in]


def _place(loc: tuple[str | int, ...], given: Any, kind: str) -> list[str | int]:
    """Where in what was given a fault is. In between pydantic says which of several types it has tried."""
    place: list[str | int] = []
    for step in loc:
        inner = _member(given, step)
        if inner is not None:
            given = inner[0]
        elif step != "[key]" and not (kind == "missing" and step == loc[-1] and isinstance(given, dict)):
            continue
        place.append(step)
    return place


def _member(given: Any, step: str | int) -> tuple[Any] | None:
    is_there = step in given if isinstance(given, dict) else isinstance(given, list) and step in range(len(given))
    return (given[step],) if is_there else None


def _lists_of(model: type[Model], *path: str) -> list[tuple[tuple[str, ...], Callable[[Any], Model], int]]:
    """The lists of objects in a params object: their places, what makes one's model, and how many there may be."""
    found: list[tuple[tuple[str, ...], Callable[[Any], Model], int]] = []
    for name, member in model.model_fields.items():
        (item, *_) = get_args(member.annotation) or (None,)
        if get_origin(member.annotation) is list and isinstance(item, type) and issubclass(item, Model):
            most = next((limit.max_length for limit in member.metadata if isinstance(limit, MaxLen)), ONE_BY_ONE)
            found.append(((*path, name), item.__pydantic_validator__.validate_python, most))
        elif isinstance(member.annotation, type) and issubclass(member.annotation, Model):
            found += _lists_of(member.annotation, *path, name)
    return found


def _with(params: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The params with another value at that place."""
    name, *rest = path
    return {**params, name: _with(params[name], tuple(rest), value) if rest else value}


class ParamsReader(Generic[P]):
    """Reads the params of one method.

    Args:
        model: the params object.
        payload_member: the member holding an object with its own context_id that must equal the params', or None.

    Attributes:
        has_one_form: an object that is valid as params cannot be another form of them.
    """

    def __init__(self, model: type[P], payload_member: str | None = None) -> None:
        self._model = model
        self._names = list(model.model_fields)
        self._payload_member = payload_member
        self._has_jobs = payload_member is not None and "jobs" in model.model_fields  # beside that, as a submission has
        self.has_one_form = any(member.is_required() for member in model.model_fields.values())

    # Validators are built at the method's first call, for most processes see few methods and building them all takes
    # longer than anything else at a start. Large params are read in threads, and pydantic's own building of a model at
    # its first use does not expect two at once.

    @cached_property
    def _validate(self) -> Callable[[Any], P]:
        with _building:
            return self._model.__pydantic_validator__.validate_python

    @cached_property
    def _lists(self) -> list[tuple[tuple[str, ...], Callable[[Any], Model], int]]:
        with _building:
            return _lists_of(self._model)

    def read(self, params: dict[str, Any] | list[Any]) -> P:
        """Validate.

        Raises:
            InvalidParams: every fault with its place, the first 20 of them.
        """
        given = self._to_object(params)
        try:
            validated: P = self._validate(self._with_items(given))
        except ValidationError as error:
            raise InvalidParams(_faults(error, given)[:MAX_FAULTS]) from None
        if self._payload_member is not None:
            self.check_context(validated)
        return validated

    def _with_items(self, params: dict[str, Any]) -> dict[str, Any]:
        """The params, with the models of a long list of objects made one by one: in a thread, others get on meanwhile.

        An object that is none stays what it is, with those behind it, for `_validate` to tell what is wrong.
        """
        for path, validate, most in self._lists:
            holder: Any = params
            for name in path[:-1]:
                holder = holder.get(name)
                if type(holder) is not dict:
                    break
            items = holder.get(path[-1]) if type(holder) is dict else None
            if type(items) is not list or len(items) <= ONE_BY_ONE:
                continue
            items = [*items]
            try:
                for at in range(min(len(items), most)):
                    items[at] = validate(items[at])
            except ValidationError:
                pass
            params = _with(params, path, items)
        return params

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
            raise InvalidParams.at(len(names), msg=many, type="too_many_positional")
        return dict(zip(names, params, strict=False))

    def check_context(self, params: Any) -> None:
        """Raises InvalidParams if the payload_member object is of another context than `params`."""
        outer, member = params.context_id, self._payload_member or ""
        inner = getattr(params, member)
        way: list[str | int] = ["jobs"]
        jobs = params.jobs if self._has_jobs else ()
        if member == "message":
            way, jobs = [member, "job"], inner.job
        if inner.context_id == outer and not (jobs and any(job.context_id != outer for job in jobs)):
            return
        places: list[tuple[list[str | int], int]] = [([member, "context_id"], inner.context_id)]
        places += [([*way, at, "context_id"], job.context_id) for at, job in enumerate(jobs)]
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
