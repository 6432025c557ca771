"""A context in an empty store, in each of the two layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from coordinator.storage.keys import Isolation, Layout
from tests.execution.driver import Context
from tests.execution.wire import Wire
from tests.support.server import ValkeyProcess

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
