"""What of the benchmarks is pure: which replies count, ratios and goals, what the plots show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import calls, plots, report
from bench.__main__ import _chosen
from bench.compare import Comparison, Plan, Round
from bench.load import LoadResult, quantile
from bench.machine import Cores
from bench.malice import BUDGET, DEAF, FLOODS, Malice, Memory, Row
from bench.report import Results
from bench.scenarios import COALESCED, FASTAPI, FASTIFY, OURS, SCENARIOS, Beside, Scenario
from coordinator.load import messages

PLAN = Plan(3, 1.0, 0.25, Cores(0, 1), Path("/tmp"), "always", 0.0)
FACTS: dict[str, Any] = dict.fromkeys(
    ("date", "cpu", "cores", "python", "trio", "hypercorn", "trio-websocket", "valkey", "data_filesystem"), "x"
) | {"fsync_ms": 0.5}


def run(rate: int, p50_ms: float = 1.0) -> LoadResult:
    """A second in which a server answered so many calls."""
    used = {"server": 0.8, "worker 1": 0.2, "valkey": 0.1, "generator": 0.3}
    peaks = {"server": 60 * 2**20, "worker 1": 40 * 2**20, "valkey": 9 * 2**20}
    return LoadResult(rate, rate, 1.0, p50_ms, p50_ms * 2, p50_ms * 3, 300.0, used, peaks, 0.0)


def comparison(*beside: Beside, rates: dict[str, list[int]], p50_ms: dict[str, float] | None = None) -> Comparison:
    scenario = Scenario("ws-load", "ws", "load", 20, OURS, beside, window=64)
    p50_ms = p50_ms or {}
    rounds = [
        Round({name: run(found[at], p50_ms.get(name, 1.0)) for name, found in rates.items()})
        for at in range(len(rates["coordinator"]))
    ]
    return Comparison(scenario, rounds)


def shown(*comparisons: Comparison) -> str:
    return report.as_text(PLAN, FACTS, Results([], [*comparisons]))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_quantile_is_one_of_the_values(share: float, expected: int) -> None:
    assert quantile(range(1, 101), share) == expected


def test_processor_time_and_memory_of_all_the_servers_processes_but_not_of_its_store() -> None:
    result = run(1_000)
    assert result.server_ms == pytest.approx(1.0)
    assert result.store_ms == pytest.approx(0.1)
    assert result.server_mib == pytest.approx(100)


def test_a_ratio_is_taken_within_each_round() -> None:
    found = comparison(Beside(FASTAPI), rates={"coordinator": [100, 400, 900], "FastAPI": [100, 200, 300]})
    assert found.rate_ratios(found.scenario.beside[0]) == [1.0, 2.0, 3.0]
    assert "**2.00** (1.00–3.00)" in shown(found)


def test_the_report_says_which_goals_are_met() -> None:
    text = shown(
        comparison(
            Beside(COALESCED, 0.9),
            Beside(FASTAPI, 1.25, 1.0),
            rates={"coordinator": [1_000], "coalesced echo": [1_100], "FastAPI": [900]},
            p50_ms={"coordinator": 2.0, "FastAPI": 4.0},
        )
    )
    assert "≥ 0.9 met" in text
    assert "≥ 1.25 **missed**, p50 0.50 ≤ 1 met" in text
    assert "2 of 3 goals are met." in text
    assert "- missed: ws-load, load, 20 conn., window 64: ≥ 1.25 of FastAPI" in text


def test_a_server_that_is_missing_leaves_the_rest_of_its_scenario() -> None:
    scenario = Scenario("ws-load", "ws", "load", 1, OURS, (Beside(COALESCED), Beside(FASTIFY)))
    left = scenario.without({"fastify"})
    assert left is not None
    assert left.contenders == [OURS, COALESCED]
    assert left.without({"coalesced"}) is None


def test_the_table_tells_all_scenarios_apart() -> None:
    loads = [(scenario.group, scenario.scheme, scenario.shape) for scenario in SCENARIOS]
    assert len(loads) == len(set(loads))
    for scenario in SCENARIOS:
        names = [contender.name for contender in scenario.contenders]
        assert len(names) == len(set(names))


def test_a_row_is_chosen_by_its_words() -> None:
    chosen, _ = _chosen(("ws-load", "http-load"), "200 conn.", quick=False)
    assert {(scenario.group, scenario.connections) for scenario in chosen} == {("ws-load", 200), ("http-load", 200)}
    assert not _chosen(("ws-load",), "no such words", quick=False)[0]


def malice(row: Row, *, beside_ms: float, peak: float, after: float) -> str:
    """The tables of one round: alone the p99 is 2 ms, and memory, before, is one budget."""
    memory = Memory(BUDGET, int(BUDGET * peak), int(BUDGET * after))
    found = Malice(row, [run(100)], [run(100, beside_ms / 2)], [memory])
    return report.as_text(PLAN, FACTS, Results([], malice=[found]))


def test_malice_may_double_the_latency_of_others_and_no_more() -> None:
    assert "1 of 1 goals are met" in malice(FLOODS[0], beside_ms=4.0, peak=1.0, after=1.0)
    assert "0 of 1 goals are met" in malice(FLOODS[0], beside_ms=4.1, peak=1.0, after=1.0)


def test_replies_that_nobody_reads_may_cost_twice_the_budget_a_connection_for_as_long_as_they_wait() -> None:
    assert "3 of 3 goals are met" in malice(DEAF[0], beside_ms=4.0, peak=3.0, after=1.5)
    assert "1 of 3 goals are met" in malice(DEAF[0], beside_ms=4.0, peak=3.1, after=1.6)
    assert "3 of 3 goals are met" in malice(DEAF[1], beside_ms=4.0, peak=9.0, after=1.5)


def test_malice_beside_which_nobody_is_answered_misses_its_goal() -> None:
    memory = Memory(BUDGET, BUDGET, BUDGET)
    results = Results([], malice=[Malice(FLOODS[0], [run(100)], [None], [memory])])

    assert "0 of 1 goals are met" in report.as_text(PLAN, FACTS, results)
    assert report.as_json(PLAN, FACTS, results)["malice"][0]["ratios"] == [None]


def test_what_malice_sends_is_made_of_whole_frames() -> None:
    for row in (*FLOODS, *DEAF):
        payload, count = row.payload, 0
        while row.scheme == "ws" and payload:
            length = payload[1] & 0x7F
            start = 2 if length < 126 else 4
            length = length if length < 126 else int.from_bytes(payload[2:4])
            assert payload[1] & 0x80, "a client masks its frames"
            payload = payload[start + 4 + length :]
            count += 1
        assert row.scheme != "ws" or count > 0


def reply_to(message: messages.Message, **changes: Any) -> bytes:
    result = {**message.jobs[0], "created_at": 1, "updated_at": 1, "result": {}, "status": "Dispatched", **changes}
    return json.dumps({"jsonrpc": "2.0", "id": 0, "result": result}, separators=(",", ":")).encode()


def test_a_reply_with_the_jobs_members_is_good() -> None:
    message = messages.message("load", 1, 1, 0)
    assert messages.Expectation([message]).slot(reply_to(message)) == 0


@pytest.mark.parametrize("changes", [{"script": "print(2)"}, {"owner": 7}])
def test_a_reply_with_other_members_is_not(changes: dict[str, Any]) -> None:
    message = messages.message("load", 1, 1, 0)
    with pytest.raises(messages.BadReply):
        messages.Expectation([message]).slot(reply_to(message, **changes))


def test_replies_compare_but_for_the_time_and_what_explains_an_error() -> None:
    message = messages.message("load", 1, 1, 0)
    early, late = (json.loads(reply_to(message, created_at=at, updated_at=at)) for at in (1, 2))
    assert calls.comparable(early) == calls.comparable(late)
    failures = [{"id": 1, "error": {"code": code, "message": str(code)}} for code in (-32001, -32001, -32602)]
    assert calls.comparable(failures[0]) == calls.comparable({"id": 1, "error": {"code": -32001, "data": 3}})
    assert calls.comparable(failures[1]) != calls.comparable(failures[2])


def test_the_plots_show_what_the_result_file_has(tmp_path: Path) -> None:
    found = comparison(Beside(FASTAPI), rates={"coordinator": [1_000], "FastAPI": [900]})
    result = report.as_json(PLAN, FACTS, Results([], [found]))
    panel = plots.Panel("WebSocket", "ws-load", window=64)
    assert plots.values_of(panel, result["scenarios"]) == (["20"], {"coordinator": [1_000.0], "FastAPI": [900.0]})

    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    drawn = plots.draw(path, tmp_path)
    assert [file.name for file in drawn] == ["websocket.svg"]
    assert ">coordinator</text>" in drawn[0].read_text()
