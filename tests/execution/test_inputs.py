"""Results that are too large to be told with an assignment: what it says of them, and the pages they come in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator import models
from coordinator.errors import InvalidParams, NotFound, StaleToken
from coordinator.operations import attempts
from tests.execution.driver import CALLER, Attempt, Context, job

MIB = 1024 * 1024


def page(context: Context, attempt: Attempt, after: int | None = None, token: str | None = None) -> Any:
    params = models.JobInputsParams(
        context_id=context.id,
        caller_id=CALLER,
        id=attempt.id,
        token=attempt.token if token is None else token,
        after=after,
    )
    return context.wire.run(attempts.job_inputs(context.keys, params))


def fan_in(context: Context, sizes: list[int]) -> tuple[Attempt, dict[str, Any]]:
    """A running job that depends on those with results of these sizes, and all of these results."""
    parents = [*range(1, len(sizes) + 1)]
    context.create_runner(3)
    context.keys = replace(context.keys, max_result=4 * MIB)
    context.submit(1, [*(job(id) for id in parents), job(99, parents)])
    results = {}
    for attempt in context.take(len(sizes)):
        result = {"out": "x" * sizes[attempt.id - 1]}
        results[str(attempt.id)] = result
        context.finish(attempt, **result)
    return context.take_one(), results


def all_of(context: Context, attempt: Attempt) -> tuple[dict[str, Any], int]:
    """Every result, from the assignment and the pages behind it; and how many pages that were."""
    found = dict(attempt.assignment["inputs"])
    after: int | None = int([*found][-1])
    count = 0
    while after is not None:
        more = page(context, attempt, after)
        assert not found.keys() & more["inputs"].keys()
        found |= more["inputs"]
        after = more.get("after")
        count += 1
    return found, count


def test_small_results_come_with_the_assignment(context: Context) -> None:
    attempt, results = fan_in(context, [1000] * 20)

    assert attempt.assignment["inputs"] == results
    assert "inputs_from" not in attempt.assignment


def test_large_results_come_in_pages(context: Context) -> None:
    attempt, results = fan_in(context, [400_000] * 7)

    assert [*attempt.assignment["inputs"]] == ["1", "2"]
    assert attempt.assignment["inputs_from"] == [3, 4, 5, 6, 7]
    found, pages = all_of(context, attempt)
    assert found == results
    assert pages == 3


def test_a_single_result_over_the_limit_has_a_page_of_its_own(context: Context) -> None:
    attempt, results = fan_in(context, [10, 2 * MIB, 10, 2 * MIB])

    assert [*attempt.assignment["inputs"]] == ["1"]
    assert [*page(context, attempt, 1)["inputs"]] == ["2"]
    assert all_of(context, attempt)[0] == results


def test_many_small_results_come_in_pages_too(context: Context) -> None:
    attempt, _ = fan_in(context, [1] * 60)
    parents = [*range(1001, 3502)]
    context.create_jobs([job(id) for id in parents])
    context.create_jobs([job(5000, parents)])
    context.create_flow(2, [*parents, 5000])
    context.start(2)
    context.finish(attempt)
    while taken := context.take(500) or context.settle() or context.take(500):
        if taken[0].id == 5000:
            break
        for one in taken:
            context.finish(one)

    found, pages = all_of(context, taken[0])

    assert [*found] == [str(id) for id in parents]
    assert pages == 2


def test_the_first_page_is_what_the_assignment_has(context: Context) -> None:
    attempt, _ = fan_in(context, [600_000, 600_000])

    assert page(context, attempt) == {"inputs": attempt.assignment["inputs"], "after": 1}


def test_the_same_take_again_tells_the_same(context: Context) -> None:
    parents = [1, 2, 3]
    context.create_runner(3)
    context.submit(1, [*(job(id) for id in parents), job(9, parents)])
    for attempt in context.take(3):
        context.finish(attempt, out="x" * 600_000)

    (first,) = context.take(1, holder="here", number=1)
    (again,) = context.take(1, holder="here", number=1)

    assert again == first
    assert first.assignment["inputs_from"] == [2, 3]


def test_a_page_is_for_the_attempt_that_runs(context: Context) -> None:
    attempt, _ = fan_in(context, [10])
    with pytest.raises(StaleToken):
        page(context, attempt, token="1-1")
    with pytest.raises(InvalidParams) as caught:
        page(context, attempt, after=7)
    assert caught.value.data[0]["loc"] == ["after"]
    context.finish(attempt)
    with pytest.raises(StaleToken):
        page(context, attempt)
    context.delete_flow(1)
    with pytest.raises(NotFound):
        page(context, attempt)


def test_a_job_without_dependencies_has_an_empty_page(context: Context) -> None:
    context.create_runner(3)
    context.submit(1, [job(1)])
    attempt = context.take_one()

    assert page(context, attempt) == {"inputs": {}}
    with pytest.raises(InvalidParams):
        page(context, attempt, after=1)
