"""What is shown of a flow under way, from a report and events."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from coordinator.cli.flow_state import FlowState, duration
from coordinator.cli.progress import LiveView, PlainView
from coordinator.models import FlowEvent, FlowReport

NOW = 1_795_500_010_000


def report(depends: dict[int, list[int]], **flow: Any) -> FlowReport:
    """The report on a flow that started ten seconds ago, with all jobs ready."""
    record = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [*depends], "env_vars": {}, "result": {}}
    times = {"created_at": 1_795_500_000, "updated_at": 1_795_500_000}
    jobs = [
        {"id": id, "script_type": "Python", "depends": on, "status": "Dispatched", "attempt": 0}
        for id, on in depends.items()
    ]
    return FlowReport.model_validate(
        {
            "flow": {**record, **times, "status": "Started", **flow},
            "counts": {},
            "jobs": jobs,
            "started_at": NOW - 10_000,
            "last_event": "1-0",
        }
    )


def event(**members: Any) -> FlowEvent:
    return FlowEvent.model_validate({"event_id": "2-0", "kind": "job", "at": NOW - 5_000, **members})


def rendered(view: LiveView, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as captured:
        console.print(view.render(NOW))
    return [line.rstrip() for line in captured.get().splitlines()]


def live(state: FlowState, width: int = 100, height: int = 24) -> list[str]:
    view = LiveView(Console(file=io.StringIO(), width=width, height=height))
    view.begin(state)
    return rendered(view, width, height)


def test_the_table_has_a_line_a_job_by_level_with_status_duration_attempt_and_last_line() -> None:
    state = FlowState(report({1: [], 2: [1], 3: [1]}), {1: "fetch", 2: "left"})
    state.apply(event(status="Started", job_id=1, attempt=2, topic="runner3"))
    state.apply(event(kind="log", job_id=1, stream="stdout", lines=["one", "two", ""]))

    first, second, third, summary = live(state)

    assert first.split()[:3] == ["level", "0", "fetch"]
    assert " ".join(first.split()[4:]) == "Started 5.0 s attempt 2 two"
    assert second.split()[:3] == ["level", "1", "left"]
    assert third.split()[0] == "3"
    assert summary.startswith("flow 1 Started  10.0 s  1 Started, 2 Dispatched")


def test_the_table_is_never_higher_than_the_terminal_and_keeps_what_runs_or_failed() -> None:
    state = FlowState(report({0: [], **{id: [0] for id in range(1, 200)}}), {})
    for id in (150, 160):
        state.apply(event(status="Started", job_id=id, attempt=1))
    state.apply(event(status="Error", job_id=160, attempt=1, reason="exit status 1"))

    lines = live(state, height=10)

    assert len(lines) < 10
    assert any(line.split()[:3] == ["160", "✘", "Error"] for line in lines)
    assert any(line.split()[0] == "150" for line in lines)


def test_a_chain_longer_than_the_terminal_is_high_shows_what_runs() -> None:
    state = FlowState(report({0: [], **{id: [id - 1] for id in range(1, 200)}}), {})
    state.apply(event(status="Started", job_id=150, attempt=1))

    running, summary = live(state, height=10)

    assert running.split()[:3] == ["level", "150", "150"]
    assert summary.startswith("flow 1 Started")


def test_what_a_job_writes_cannot_move_the_cursor_or_colour_the_table() -> None:
    state = FlowState(report({1: []}), {})
    state.apply(event(kind="log", job_id=1, lines=["\x1b[2J\x1b]0;title\x07[red]a\rb\x1b[31mc"]))

    assert r"  \x1b[2J\x1b]0;title\x07[red]a\rb\x1b[31mc" in live(state)[0]


def test_a_flow_tried_again_has_its_failed_jobs_ready_again() -> None:
    state = FlowState(report({1: []}), {})
    state.apply(event(status="Error", job_id=1, attempt=1, reason="x"))
    state.apply(event(kind="flow", status="Error", reason="job 1: x"))
    assert (state.status, state.reason) == ("Error", "job 1: x")

    state.apply(event(kind="flow", status="Started"))

    assert (state.status, state.reason, state.jobs[1].status, state.jobs[1].failure) == (
        "Started",
        "",
        "Dispatched",
        "",
    )


def test_lines_name_the_job_its_stream_and_why_an_attempt_failed() -> None:
    written: list[str] = []
    view = PlainView(written.append)
    state = FlowState(report({1: [], 2: []}), {1: "fetch", 2: "a"})
    view.begin(state)
    for happened in (
        event(status="Started", job_id=1, attempt=1, topic="runner3"),
        event(kind="log", job_id=2, stream="stdout", lines=["one", "two"]),
        event(kind="log", job_id=2, stream="stderr", lines=["bad"]),
        event(status="Dispatched", job_id=1, attempt=1, reason="exit status 1"),
        event(status="Finished", job_id=1, attempt=2, at=NOW),
        event(kind="flow", status="Finished"),
    ):
        state.apply(happened)
        view.show(happened)

    assert written == [
        "fetch > Started (attempt 1, on runner3)",
        "a     | one",
        "a     | two",
        "a     ! bad",
        "fetch > attempt 1 failed: exit status 1; it is tried again",
        "fetch > Finished (5.0 s)",
    ]


def test_durations_are_short() -> None:
    assert [duration(seconds) for seconds in (0.04, 59.9, 61, 3725)] == ["0.0 s", "59.9 s", "1:01 min", "1:02:05 h"]
