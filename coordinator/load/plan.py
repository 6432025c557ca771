"""What is to be measured, and who shares what of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coordinator.client.address import Address
from coordinator.load.messages import CALLER, JOBS, Kind
from coordinator.load.shape import SCRIPT_TYPES

__all__ = ["JobsPlan", "LoadFailed", "Plan", "Runner", "share"]


class LoadFailed(Exception):
    """There is nothing to measure; the text says why in one line."""


@dataclass(frozen=True)
class JobsPlan:
    """What runs, of the scenarios in which jobs do.

    Attributes:
        runners: connections that take jobs and finish them at once; `capacity`: jobs that each has at once.
        width, depth: of flows, see Shape.
        followed: flows whose logs a fan-out publishes; 0: what happens in the contexts is.
    """

    runners: int = 4
    capacity: int = 100
    width: int = 4
    depth: int = 2
    followed: int = 0


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        kinds: of messages, one after the other, round and round.
        rate: calls a second in an open loop; 0: a closed loop.
        first_context: one to use that is there; None: new ones, which are deleted in the end.
        token: shown by each connection; '' for nothing.
        jobs: of the scenarios flows and fanout. The connections then submit flows, or are subscribers.
    """

    url: str
    scenario: str
    kinds: tuple[Kind, ...]
    batch: int = 1
    connections: int = 20
    window: int = 64
    contexts: int = 1
    processes: int = 1
    rate: float = 0.0
    warm_up: float = 2.0
    seconds: float = 10.0
    storm: bool = False
    first_context: int | None = None
    caller: int = CALLER
    token: str = ""
    ca: str = ""
    certificate: str = ""
    jobs: JobsPlan | None = None

    @property
    def is_fanout(self) -> bool:
        return self.jobs is not None and self.scenario == "fanout"

    @property
    def places(self) -> float:
        """How many contexts can be in use: as many as messages are sent to in turn. Flows go round all of them."""
        if self.jobs is not None:
            return math.inf
        is_websocket = Address.parse(self.url).is_websocket
        own = 1 if self.storm else self.window if is_websocket else max(1, JOBS // self.batch)
        return self.connections * own

    @property
    def generators(self) -> int:
        """How many processes there are: each has a connection at least."""
        return min(self.processes, self.connections)

    @property
    def unit(self) -> str:
        """What the rate is of."""
        return "changes" if self.is_fanout else "calls" if self.jobs is None else "flows"


class Runner(NamedTuple):
    """A connection that takes jobs and finishes them. Process: which one has it."""

    process: int
    context: int
    id: int
    token: str


def share(plan: Plan, contexts: Sequence[int], process: int) -> tuple[list[int], str]:
    """The contexts of a process, and the script type of its jobs: nobody else's runners have both.

    Raises:
        LoadFailed: there are too few contexts.
    """
    if plan.is_fanout:
        return [*contexts], SCRIPT_TYPES[0]
    if len(contexts) >= plan.generators:
        return [*contexts[process :: plan.generators]], SCRIPT_TYPES[0]
    turn, at = divmod(process, len(contexts))
    if turn >= len(SCRIPT_TYPES):
        raise LoadFailed(
            f"{plan.generators} processes are too many for {len(contexts)} contexts, each of which "
            f"{len(SCRIPT_TYPES)} can share: give more --contexts, or fewer --processes"
        )
    return [contexts[at]], SCRIPT_TYPES[turn]
