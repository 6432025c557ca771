"""Random creates, upserts and loads, alone and in batches, over both transports, against a dictionary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.stateful.model import Model, Operation
from tests.stateful.strategies import IDS, PLACES, Drawn, drawn_operations
from tests.support.clients import TRANSPORTS, Client, connected
from tests.support.records import fresh_id
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

RUNS: Final = 25
STEPS: Final = 25


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    """A coordinator that keeps all contexts in one database."""
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("data")), "--isolation", "prefix") as running:
        yield running


class Records(RuleBasedStateMachine):
    """A coordinator and its model; every run has contexts and actors of its own.

    Args:
        highest_context: contexts are counted down from here, if given.
    """

    def __init__(self, clients: dict[str, Client], highest_context: int | None = None) -> None:
        super().__init__()
        self._clients = clients
        fresh = [fresh_id() for _ in range(PLACES)]
        self._contexts = fresh if highest_context is None else [highest_context - id for id in fresh]
        self._actors = [fresh_id() for _ in IDS]
        self._model = Model()

    @rule(drawn=drawn_operations(), transport=st.sampled_from(TRANSPORTS))
    def call(self, drawn: Drawn, transport: str) -> None:
        operation = self._placed(drawn)
        self._model.check(operation, self._clients[transport].reply(*operation.call))

    @rule(drawn=st.lists(drawn_operations(), min_size=1, max_size=5), transport=st.sampled_from(TRANSPORTS))
    def batch(self, drawn: list[Drawn], transport: str) -> None:
        operations = [self._placed(one) for one in drawn]
        replies = self._clients[transport].batch([operation.call for operation in operations])
        for operation, reply in zip(operations, replies, strict=True):
            self._model.check(operation, reply)

    def teardown(self) -> None:
        for operation in self._model.loads():
            self._model.check(operation, self._clients["http"].reply(*operation.call))

    def _placed(self, drawn: Drawn) -> Operation:
        return drawn.of(self._contexts, self._actors)


def check(server: CoordinatorProcess, highest_context: int | None = None) -> None:
    with ExitStack() as stack:
        clients = {transport: stack.enter_context(connected(server, transport)) for transport in TRANSPORTS}
        run_state_machine_as_test(
            lambda: Records(clients, highest_context),  # type: ignore[arg-type]  # any callable will do
            settings=settings(max_examples=RUNS, stateful_step_count=STEPS, deadline=None),
        )


def test_contexts_in_databases_of_their_own_behave_like_a_dictionary(server: CoordinatorProcess) -> None:
    check(server)


def test_contexts_kept_apart_by_prefix_behave_like_a_dictionary(prefixed: CoordinatorProcess) -> None:
    check(prefixed, highest_context=2**32 - 1)
