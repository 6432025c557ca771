"""From the contract's schemas: every place in a method's params, and what may not be put there."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tests.support.contract import Contract

__all__ = ["Fault", "faults"]

Place = tuple[str | int, ...]

_WRONG: Final[dict[str, list[Any]]] = {
    "integer": ["1", "", True, False, 1.0, 1.5, None, [], {}, -1, 2**64, 10**400],
    "boolean": [0, 1, 1.5, "true", "", None, [], {}],
    "string": [1, 1.5, True, None, [], {}],
    "array": [1, 1.5, True, "x", "", None, {}],
    "object": [1, 1.5, True, "x", "", None, []],
}
_NO_ADDRESSES: Final = [
    *("", "localhost", "10.0.0.300", "10.0.0", "010.0.0.1", "10.0.0.1/8", " 10.0.0.1", "10.0.0.1:80"),
    *("::g", ":::", "1:2:3:4:5:6:7:8:9", "[::1]", "fe80::1%eth0"),
]


class Fault(NamedTuple):
    """Params with one thing wrong, and where that is."""

    place: Place
    params: dict[str, Any]


def faults(contract: Contract, method: str, valid: dict[str, Any]) -> Iterator[Fault]:
    """Valid params of the method, spoilt in every way at every place."""
    schema = contract.methods[method]["params"][0]["schema"]
    for place, of_place in _places(contract, schema, ()):
        for wrong in _wrong_values(contract, of_place):
            yield Fault(place, _with(valid, place, wrong))
        if place and isinstance(place[-1], str) and place[-1] in _required_beside(contract, schema, place):
            yield Fault(place, _without(valid, place))


def _places(contract: Contract, schema: dict[str, Any], place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    if place:
        yield place, schema
    resolved = contract.resolve(schema)
    if resolved["type"] == "array":
        yield from _places(contract, resolved["items"], (*place, 0))
    elif "properties" in resolved:
        for name, member in resolved["properties"].items():
            yield from _places(contract, member, (*place, name))
    elif resolved["type"] == "object":
        yield from _places(contract, resolved["additionalProperties"], (*place, "key"))


def _wrong_values(contract: Contract, schema: dict[str, Any]) -> list[Any]:
    resolved = contract.resolve(schema)
    wrong = [*_WRONG[resolved["type"]]]
    if resolved["type"] == "integer":
        wrong.append(resolved.get("maximum", 2**32 - 1) + 1)
    if "enum" in resolved:
        first = resolved["enum"][0]
        wrong += ["", first.lower(), first.upper(), f"{first} ", first[:-1]]
    if schema.get("$ref", "").endswith("/IpAddr"):
        wrong += _NO_ADDRESSES
    return wrong


def _required_beside(contract: Contract, schema: dict[str, Any], place: Place) -> list[str]:
    """The required members of the object that holds this place."""
    for step in place[:-1]:
        resolved = contract.resolve(schema)
        schema = resolved["items"] if isinstance(step, int) else resolved.get("properties", {}).get(step, {})
    required: list[str] = contract.resolve(schema).get("required", [])
    return required


def _with(valid: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    params = copy.deepcopy(valid)
    holder = _holder(params, place)
    if isinstance(holder, list):
        holder[:] = [value]
    else:
        holder[place[-1]] = value
    return params


def _without(valid: dict[str, Any], place: Place) -> dict[str, Any]:
    params = copy.deepcopy(valid)
    del _holder(params, place)[place[-1]]
    return params


def _holder(params: Any, place: Place) -> Any:
    for step in place[:-1]:
        params = params[step]
    return params
