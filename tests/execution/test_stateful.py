"""The engine against its model: whatever clients, runners and clocks do, in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from coordinator.storage import library
from tests.execution.conftest import NewContext
from tests.execution.machine import Machine

pytestmark = pytest.mark.slow


def test_flows_behave_as_their_model_whatever_happens(new_context: NewContext) -> None:
    context = new_context()

    class Fresh(Machine):
        def __init__(self) -> None:
            context.wire.ask(("FLUSHDB",), library.load_command())  # whose memory begins anew
            super().__init__(context)

    run_state_machine_as_test(Fresh, settings=settings(settings.get_profile("execution")))
