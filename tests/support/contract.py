"""Validates params and results against an OpenRPC document."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT7

__all__ = ["REFERENCE", "Contract", "reference"]

REFERENCE: Final = Path(__file__).parents[1] / "contract" / "reference.json"

_URN: Final = "urn:contract"
_FORMATS: Final = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("uint32")
def _is_uint32(value: object) -> bool:
    return not isinstance(value, int) or 0 <= value < 2**32


@_FORMATS.checks("int64")
def _is_int64(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


class Contract:
    """A document, read strictly: formats are checked, and objects have no members but those listed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.methods: dict[str, dict[str, Any]] = {method["name"]: method for method in document["methods"]}
        self.schemas: dict[str, dict[str, Any]] = document["components"]["schemas"]
        closed = copy.deepcopy(document)
        for schema in closed["components"]["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False
        self._registry: Registry[Any] = Registry().with_resource(_URN, DRAFT7.create_resource(closed))

    def check_params(self, method: str, params: Any) -> None:
        """Raises jsonschema.ValidationError."""
        self._check(self.methods[method]["params"][0]["schema"], params)

    def check_result(self, method: str, result: Any) -> None:
        """Raises jsonschema.ValidationError."""
        self._check(self.methods[method]["result"]["schema"], result)

    def _check(self, schema: dict[str, str], value: Any) -> None:
        whole = {"$ref": _URN + schema["$ref"]}
        jsonschema.Draft7Validator(whole, registry=self._registry, format_checker=_FORMATS).validate(value)

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema itself, where this is a reference to it."""
        return self.schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


@cache
def reference() -> Contract:
    """The contract as it was given."""
    return Contract(json.loads(REFERENCE.read_text()))
