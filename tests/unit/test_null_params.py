"""A member that may be left out may be null as well, or is refused with its name: no method takes it for a fault of
ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from coordinator.errors import InvalidParams
from coordinator.rpc.methods import METHODS
from tests.support.api import METHODS as ROWS


def example(name: str) -> dict[str, Any]:
    """Params of the method's first example, by name."""
    params: dict[str, Any] = dict(ROWS[name]["examples"][0]["params"][0]["value"])
    return params


def cases() -> Iterator[tuple[str, str]]:
    for name, method in METHODS.items():
        model = method.params
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from ((name, member) for member in model.model_fields)


@pytest.mark.parametrize(("name", "member"), [*cases()])
def test_a_member_that_is_null(name: str, member: str) -> None:
    fault: InvalidParams | None = None
    try:
        METHODS[name].reader.read({**example(name), member: None})
    except InvalidParams as refused:
        fault = refused

    assert fault is None or member in str(fault.data)
