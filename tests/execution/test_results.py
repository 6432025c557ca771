"""How large results may be: a job's, a flow's; and jobs that never reach a runner."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from coordinator.errors import InvalidParams
from tests.execution.driver import Context, Runner, job

REFERENCE = '{"$ref":"job.load"}'


def too_large(caught: pytest.ExceptionInfo[InvalidParams]) -> list[Any]:
    fault = caught.value.data[0]
    assert fault["type"] == "result_too_large"
    assert "max_result_bytes" in fault["msg"]
    loc: list[Any] = fault["loc"]
    return loc


def test_a_result_that_is_too_large_is_refused_and_the_attempt_goes_on(context: Context) -> None:
    context.create_runner(3)
    context.submit(1, [job(1)])
    context.keys = replace(context.keys, max_result=1000)
    attempt = context.take_one()

    with pytest.raises(InvalidParams) as caught:
        context.finish(attempt, out="x" * 1000)
    assert too_large(caught) == ["result"]
    with pytest.raises(InvalidParams) as caught:
        context.fail(attempt, result={"out": "x" * 1000})
    assert too_large(caught) == ["result"]

    assert context.finish(attempt, out="x" * 900)["status"] == "Finished"


def test_a_record_with_a_result_that_is_too_large_is_refused(context: Context) -> None:
    context.keys = replace(context.keys, max_result=1000)
    large = {"out": "x" * 1000}

    with pytest.raises(InvalidParams) as caught:
        context.create_job(1, result=large)
    assert too_large(caught) == ["job", "result"]
    with pytest.raises(InvalidParams) as caught:
        context.create_flow(1, [], result=large)
    assert too_large(caught) == ["flow", "result"]
    with pytest.raises(InvalidParams) as caught:
        context.submit(1, [job(1), job(2, result=large)])
    assert too_large(caught) == ["jobs", 1, "result"]
    with pytest.raises(InvalidParams) as caught:
        context.create_message(1, [job(1), job(2, result=large)])
    assert too_large(caught) == ["message", "job", 1, "result"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_flow_refers_to_the_results_for_which_it_has_no_room(context: Context, at_once: bool) -> None:
    context.create_runner(3)
    context.submit(1, [job(id) for id in range(1, 9)])
    attempts = context.take(count=8)
    sizes = {id: 400_000 if id in (2, 4, 5, 6) else 10 for id in range(1, 9)}
    for attempt in attempts if at_once else reversed(attempts):
        context.finish(attempt, out="x" * sizes[attempt.id])

    flow = context.load_flow(1)

    assert flow["status"] == "Finished"
    assert [*flow["result"]] == [str(id) for id in range(1, 9)]
    given = {int(id): json.loads(text) for id, text in flow["result"].items()}
    referred = {id for id, result in given.items() if result == json.loads(REFERENCE)}
    assert referred == {5, 6}
    for id in given.keys() - referred:
        assert given[id] == {"out": "x" * sizes[id]}
    assert context.load_job(5)["result"] == {"out": "x" * 400_000}


def test_the_only_result_of_a_flow_is_always_in_it(context: Context) -> None:
    context.create_runner(3)
    context.submit(1, [job(1)])
    context.keys = replace(context.keys, max_result=4_000_000)
    context.finish(context.take_one(), out="x" * 3_000_000)

    assert json.loads(context.load_flow(1)["result"]["1"]) == {"out": "x" * 3_000_000}


def test_a_flow_with_very_many_leaves_says_where_the_others_are(context: Context) -> None:
    ids = [*range(1, 6001)]
    context.create_jobs([job(id) for id in ids])
    context.create_flow(1, ids)
    context.create_runner(3)
    context.start(1)
    context.run_all()

    result = context.load_flow(1)["result"]

    assert len(result) == 5001
    assert json.loads(result["$more"]) == {"$ref": "flow.status"}


def test_a_job_that_is_given_back_for_ever_fails_with_a_reason(context: Context) -> None:
    context.create_runner(3)
    context.submit(1, [job(1, retries=5), job(2, [1])])
    runner = Runner(runner_session="here")
    given_back = 0
    while context.load_job(1)["status"] != "Error":
        assert [attempt.number for attempt in context.take(1, runner)] == [1]
        context.resume(runner)
        given_back += 1
        assert given_back <= 100

    assert given_back >= 10
    flow = context.load_flow(1)
    assert flow["status"] == "Error"
    assert f"given back {given_back} times" in flow["result"]["error"]

    context.retry(1)
    assert context.load_job(1)["status"] == "Dispatched"
    context.take(1, runner)
    context.resume(runner)
    assert context.load_job(1)["status"] == "Dispatched"
