"""A context in an empty store, in each of the two layouts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from coordinator.storage.keys import Isolation, Layout
from tests.execution.driver import Context
from tests.execution.wire import Wire
from tests.support.server import ValkeyProcess

# `--hypothesis-profile` does not reach the machine, which has its own: `HYPOTHESIS_EXAMPLES=5000` looks longer.
settings.register_profile(
    "execution",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100")),
    stateful_step_count=50,
    deadline=None,
    derandomize="HYPOTHESIS_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

CONTEXT = 1
SHARED_DATABASE = 9  # of contexts kept apart by prefix

NewContext = Callable[..., Context]


@pytest.fixture(params=["index", "prefix"])
def isolation(request: pytest.FixtureRequest) -> Isolation:
    layout: Isolation = request.param
    return layout


@pytest.fixture
def new_context(store: ValkeyProcess, isolation: Isolation) -> Iterator[NewContext]:
    """A context as a coordinator of its own with these settings sees it."""
    wires: list[Wire] = []

    def new(address: int = CONTEXT, *, event_retention: int = 3600, retention: int = 0) -> Context:
        coordinator = f"coordinator{len(wires)} {event_retention * 1000} {retention * 1000}"
        layout = Layout(isolation, SHARED_DATABASE, coordinator)
        wires.append(Wire(store.port, layout.database_of(address)))
        return Context(wires[-1], layout, address)

    yield new
    for wire in wires:
        wire.close()


@pytest.fixture
def context(new_context: NewContext) -> Context:
    return new_context()
