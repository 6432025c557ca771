"""What is done with large flows, in slices: here each slice is a job or two, so that small flows have many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from coordinator.storage.keys import Isolation, Layout
from tests.execution.conftest import CONTEXT, SHARED_DATABASE
from tests.execution.driver import Context
from tests.execution.machine import Machine
from tests.execution.sliced import SettledWire, small_slices
from tests.support.server import ValkeyProcess


@pytest.fixture(autouse=True)
def slices() -> Iterator[None]:
    with small_slices():
        yield


@pytest.fixture
def settled(store: ValkeyProcess, isolation: Isolation) -> Iterator[Context]:
    """A context in which everything is done that a call has set going before the next."""
    layout = Layout(isolation, SHARED_DATABASE, "coordinator 3600000 0")
    wire = SettledWire(store.port, layout, CONTEXT)
    yield Context(wire, layout, CONTEXT)
    wire.close()


@pytest.mark.slow
def test_in_slices_flows_behave_as_their_model_whatever_happens(settled: Context) -> None:
    class Fresh(Machine):
        def __init__(self) -> None:
            settled.wire.ask(("FLUSHDB",))
            super().__init__(settled)

    run_state_machine_as_test(Fresh, settings=settings(settings.get_profile("execution"), phases=[Phase.generate]))
