"""Runs a scenario: rounds of the same load on two servers, and the ratio of each round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import calls, servers
from bench.load import LoadResult, LoadSpec, generate
from bench.machine import Cores, busy_seconds
from bench.scenarios import Contender, Scenario
from bench.servers import BenchServer

__all__ = ["Comparison", "Plan", "Round", "compare"]


DISTURBED: Final = 0.2  # of a core, used by other work
_QUIET_TIMEOUT: Final = 5.0  # seconds to wait for less of it before a round


@dataclass(frozen=True, slots=True)
class Plan:
    """How everything is run.

    Attributes:
        rounds: of each scenario.
        seconds: measured on each server in a round; `warm_up` seconds before them are not.
        cores: where who runs.
        data_root: holds the coordinators' data directories.
        fsync: of coordinators whose scenario does not say.
        patience: seconds a scenario may take to find as many rounds as planned that other work did not disturb.
    """

    rounds: int
    seconds: float
    warm_up: float
    cores: Cores
    data_root: Path
    fsync: str
    patience: float


@dataclass(frozen=True, slots=True)
class Round:
    """The two runs of a round."""

    subject: LoadResult
    reference: LoadResult

    @property
    def ratio(self) -> float:
        return self.subject.rate / self.reference.rate

    @property
    def foreign_share(self) -> float:
        """Of one core, used by other work; of the run that had more of it."""
        return max(self.subject.foreign_share, self.reference.foreign_share)

    @property
    def is_disturbed(self) -> bool:
        return self.foreign_share > DISTURBED


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rounds of a scenario."""

    scenario: Scenario
    rounds: list[Round]

    @property
    def ratios(self) -> list[float]:
        return [round.ratio for round in self.rounds]

    def of_subject(self, read: Callable[[LoadResult], float]) -> float:
        """The median over the rounds of what `read` takes from the subject's result."""
        return statistics.median(read(round.subject) for round in self.rounds)

    def of_reference(self, read: Callable[[LoadResult], float]) -> float:
        return statistics.median(read(round.reference) for round in self.rounds)


def compare(scenario: Scenario, plan: Plan, note: Callable[[str], None]) -> Comparison:
    """Run rounds on two servers started for it, who goes first alternating; `note` hears of each round.

    What counts are as many rounds as planned: all there are, or, with patience, those that other work disturbed least.
    """
    rounds: list[Round] = []
    with (
        _running(scenario.subject, scenario, plan) as subject,
        _running(scenario.reference, scenario, plan) as reference,
    ):
        both = (scenario.subject, subject), (scenario.reference, reference)
        patient_until = time.monotonic() + plan.patience
        while not _are_enough(rounds, plan.rounds, patient_until):
            _wait_for_quiet(min(patient_until, time.monotonic() + _QUIET_TIMEOUT))
            order = both if len(rounds) % 2 == 0 else both[::-1]
            results = {contender: _load(scenario, contender, server, plan) for contender, server in order}
            done = Round(results[scenario.subject], results[scenario.reference])
            rounds.append(done)
            note(
                f"{done.subject.rate:,.0f} : {done.reference.rate:,.0f} calls/s = {done.ratio:.2f}"
                f"{', disturbed' if done.is_disturbed else ''}"
            )
    return Comparison(scenario, sorted(rounds, key=lambda round: round.foreign_share)[: plan.rounds])


def _are_enough(rounds: list[Round], planned: int, patient_until: float) -> bool:
    if sum(not round.is_disturbed for round in rounds) >= planned:
        return True
    return len(rounds) >= planned and time.monotonic() > patient_until


def _wait_for_quiet(until: float) -> None:
    """Wait for half a second in which the machine is idle, at most until then."""
    while time.monotonic() < until:
        before = busy_seconds()
        time.sleep(0.5)
        if busy_seconds() - before < DISTURBED / 2:
            return


@contextmanager
def _running(contender: Contender, scenario: Scenario, plan: Plan) -> Iterator[BenchServer]:
    if contender.server != "coordinator":
        with servers.peer(plan.cores, contender.server, calls.canned_reply(scenario.batch)) as peer:
            yield peer
        return
    with servers.coordinator(plan.cores, plan.data_root, "--fsync", contender.fsync or plan.fsync) as coordinator:
        coordinator.seed(scenario.contexts)
        yield coordinator


def _load(scenario: Scenario, contender: Contender, server: BenchServer, plan: Plan) -> LoadResult:
    spec = LoadSpec(
        url=server.urls[scenario.scheme],
        calls=scenario.calls,
        batch=scenario.batch,
        answer=contender.answer,
        connections=scenario.connections,
        window=scenario.window,
        contexts=scenario.contexts,
        warm_up=plan.warm_up,
        seconds=plan.seconds,
        processes=server.processes,
    )
    return generate(spec, plan.cores.others)
