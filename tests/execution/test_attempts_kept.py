"""How the attempts at a job went, as far as that is kept."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import NotFound
from tests.execution.driver import CALLER, Context, Runner, job


def outcomes(context: Context, id: int = 1) -> list[tuple[Any, ...]]:
    return [(it["attempt"], it["runner_id"], it["outcome"], it.get("error")) for it in context.attempts(id)]


def test_each_attempt_is_told_with_who_had_it_and_how_it_went(context: Context) -> None:
    context.submit(1, [job(1, retries=5, lost_retries=5, timeout=10)])
    assert context.attempts(1) == []

    context.fail(context.take_one(Runner(3)), "exit status 1")
    context.later(100)
    context.fail(context.take_one(Runner(4)), "shut down", lost=True)
    context.later(100)
    context.take_one(Runner(5, lease=1.0))
    context.later(2)
    context.later(100)
    context.take_one(Runner(6, lease=3600.0))
    context.later(20)
    context.later(100)
    attempt = context.take_one(Runner(7))
    expected = [
        (1, 3, "failed", "exit status 1"),
        (2, 4, "lost", "shut down"),
        (3, 5, "lost", "lost: runner 5 gave no sign of life for 1 s"),
        (4, 6, "timed_out", "timed out after 10 s"),
    ]
    assert outcomes(context) == [*expected, (5, 7, "running", None)]
    assert "ended_at" not in context.attempts(1)[-1]

    context.finish(attempt)
    assert outcomes(context) == [*expected, (5, 7, "finished", None)]
    for it in context.attempts(1):
        assert 0 < it["started_at"] <= it["ended_at"]
    context.delete_flow(1)
    assert context.wire.ask(("EXISTS", f"{context.keys.prefix}attempts:job:{CALLER}:1")) == [0]
    with pytest.raises(NotFound):
        context.attempts(1)


def test_they_outlive_a_retry_and_not_a_new_script(context: Context) -> None:
    context.submit(1, [job(1)])
    context.fail(context.take_one(), "first")
    context.retry(1)
    context.take_one()
    context.cancel(1, "enough")
    assert outcomes(context) == [(1, 3, "failed", "first"), (1, 3, "cancelled", "cancelled: enough")]

    context.create_job(1, script="another")
    assert context.attempts(1) == []


def test_the_newest_are_kept_and_little_of_what_they_say(context: Context) -> None:
    context.submit(1, [job(1, retries=40)])
    for _ in range(25):
        context.fail(context.take_one(), "ä" * 900)
        context.later(100)

    kept = context.attempts(1)
    assert [it["attempt"] for it in kept] == [*range(6, 26)]
    assert kept[0]["error"] == "ä" * 499 + "…" or kept[0]["error"] == "ä" * 500 + "…"
    context.take_one()
    assert [it["attempt"] for it in context.attempts(1)] == [*range(7, 27)]


def test_what_never_reached_its_runner_was_no_attempt(context: Context) -> None:
    context.submit(1, [job(1)])
    context.take(1, holder="h", number=1)
    context.untake("h", 1)

    assert context.attempts(1) == []


def test_a_failure_from_before_they_were_kept_is_told_by_the_job(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    for attempt in context.take(2):
        context.fail(attempt, "exit status 3")
    context.wire.ask(("DEL", *(f"{context.keys.prefix}attempts:job:{CALLER}:{id}" for id in (1, 2))))
    context.wire.ask(("HSET", context.keys.job(CALLER, 2), "x_failure", "lost: runner 3 gave no sign of life for 30 s"))

    assert outcomes(context, 1) == [(1, 3, "failed", "exit status 3")]
    assert [it[2] for it in outcomes(context, 2)] == ["lost"]
