"""Runs a scenario: rounds of the same load on several servers, and the ratios of each round."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import calls, servers, stacks
from bench.load import LoadResult, LoadSpec, generate
from bench.machine import Cores, busy_seconds
from bench.scenarios import Beside, Contender, Scenario
from bench.servers import BenchServer, ServerFailed

__all__ = ["Comparison", "Plan", "Round", "compare", "running"]


DISTURBED: Final = 0.2  # of a core, used by other work
_COMPILING: Final = ("fastify",)  # Node compiles what it has seen often, so its first run does not count
_LEAST_RATE: Final = 20_000  # calls a second
_QUIET_TIMEOUT: Final = 5.0  # seconds to wait for less of it before a round


@dataclass(frozen=True, slots=True)
class Plan:
    """How everything is run.

    Attributes:
        rounds: of each scenario.
        seconds: measured on each server in a round; `warm_up` seconds before them are not.
        cores: where who runs.
        data_root: holds the data directories of coordinators and stores.
        fsync: of those whose scenario does not say.
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
    """A run on each server, by the contender's name."""

    runs: dict[str, LoadResult]

    @property
    def foreign_share(self) -> float:
        """Of one core, used by other work; of the run that had most of it."""
        return max(run.foreign_share for run in self.runs.values())

    @property
    def is_disturbed(self) -> bool:
        return self.foreign_share > DISTURBED


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rounds of a scenario."""

    scenario: Scenario
    rounds: list[Round]

    def median(self, contender: Contender, read: Callable[[LoadResult], float]) -> float:
        """The median over the rounds of what `read` takes from this contender's result."""
        return statistics.median(read(round.runs[contender.name]) for round in self.rounds)

    def ratios(self, beside: Beside, read: Callable[[LoadResult], float]) -> list[float]:
        """The subject's by this one's, of each round."""
        ours, theirs = self.scenario.subject.name, beside.contender.name
        return [read(round.runs[ours]) / read(round.runs[theirs]) for round in self.rounds]

    def rate_ratios(self, beside: Beside) -> list[float]:
        return self.ratios(beside, lambda run: run.rate)

    def p50_ratio(self, beside: Beside) -> float:
        return statistics.median(self.ratios(beside, lambda run: run.p50_ms))


def compare(scenario: Scenario, plan: Plan, note: Callable[[str], None]) -> Comparison:
    """Run rounds on servers started for it, who goes first alternating; `note` hears of each round.

    What counts are as many rounds as planned: all there are, or, with patience, those that other work disturbed least.
    """
    planned = min(plan.rounds, scenario.rounds or plan.rounds)
    rounds: list[Round] = []
    with contextlib.ExitStack() as under_way:

        def start(contender: Contender) -> BenchServer:
            return under_way.enter_context(running(contender, plan, scenario.contexts, scenario.batch))

        with ThreadPoolExecutor() as starting:
            started = [*zip(scenario.contenders, starting.map(start, scenario.contenders), strict=True)]
        _check_replies(scenario, started)
        for contender, server in started:
            if contender.server in _COMPILING:
                _load(scenario, contender, server, plan)
        patient_until = time.monotonic() + plan.patience
        while not _are_enough(rounds, planned, patient_until):
            _wait_for_quiet(min(patient_until, time.monotonic() + _QUIET_TIMEOUT))
            order = started if len(rounds) % 2 == 0 else started[::-1]
            done = Round({contender.name: _load(scenario, contender, server, plan) for contender, server in order})
            rounds.append(done)
            shown = ", ".join(f"{one.name} {done.runs[one.name].rate:,.0f}" for one in scenario.contenders)
            note(f"{shown} calls/s{', disturbed' if done.is_disturbed else ''}")
    return Comparison(scenario, sorted(rounds, key=lambda round: round.foreign_share)[:planned])


@contextlib.contextmanager
def running(contender: Contender, plan: Plan, contexts: int, batch: int = 1) -> Iterator[BenchServer]:
    """The server, with the jobs that calls ask for in contexts 1 to this; a canned reply is one to `batch` calls."""
    fsync = contender.fsync or plan.fsync
    started: contextlib.AbstractContextManager[BenchServer]
    if contender.server == "coordinator":
        started = servers.coordinator(
            plan.cores,
            plan.data_root,
            "--fsync",
            fsync,
            workers=contender.workers,
            is_tls=contender.is_tls,
            has_logins=contender.has_logins,
            is_audited=contender.is_audited,
        )
    elif contender.server in stacks.NAMES:
        started = servers.stack(plan.cores, plan.data_root, contender.server, fsync)
    else:
        started = servers.peer(plan.cores, contender.server, calls.canned_reply(batch))
    with started as server:
        if contender.answer == "result":
            server.seed(range(1, contexts + 1))
        yield server


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


def _check_replies(scenario: Scenario, started: list[tuple[Contender, BenchServer]]) -> None:
    """All that answer with results must answer alike. Raises ServerFailed."""
    alike = [(contender.name, server) for contender, server in started if contender.answer == "result"]
    for payload in calls.samples(scenario.calls, scenario.batch):
        answers = [(name, calls.comparable(server.post(payload))) for name, server in alike]
        for name, answer in answers[1:]:
            if answer != answers[0][1]:
                raise ServerFailed(f"to {payload!r} {answers[0][0]} answers {answers[0][1]}, {name} {answer}")


def _load(scenario: Scenario, contender: Contender, server: BenchServer, plan: Plan) -> LoadResult:
    # Long enough that most of what is sent at first is answered, however much that is.
    least = scenario.connections * scenario.window / _LEAST_RATE
    spec = LoadSpec(
        url=server.urls[scenario.scheme],
        calls=scenario.calls,
        batch=scenario.batch,
        answer=contender.answer,
        connections=scenario.connections,
        window=scenario.window,
        contexts=scenario.contexts,
        warm_up=max(plan.warm_up, least),
        seconds=max(plan.seconds, least),
        processes=server.processes,
        token=server.token,
    )
    return generate(spec, plan.cores.others)
