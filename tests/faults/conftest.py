"""Tests of deadlines may ask for a clock that jumps whenever nothing else can happen."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    if "autojump" in request.fixturenames:
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "trio"


@pytest.fixture
def autojump() -> None:
    """The test runs on a MockClock."""
