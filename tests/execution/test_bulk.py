"""Many flows are cancelled, retried and deleted at once, by a filter."""

from __future__ import annotations

import pytest

from coordinator.errors import InvalidParams
from tests.execution.driver import Context, job

JOBS_OF = 10  # ids between those of two flows' jobs


def flows(context: Context, count: int, **members: list[str]) -> None:
    for id in range(1, count + 1):
        context.submit(id, [job(id * JOBS_OF), job(id * JOBS_OF + 1, [id * JOBS_OF])], **members)


def statuses(context: Context) -> dict[int, str]:
    return {flow["id"]: flow["status"] for flow in context.list_flows(limit=1000)["items"]}


def test_a_dry_run_says_which_and_does_nothing(context: Context) -> None:
    flows(context, 3, tags=["nightly"])
    context.submit(4, [job(1)])
    before = context.list_flows()

    for call in (context.cancel_many, context.retry_many, context.delete_many):
        answer = call({"tag": "nightly"}, dry_run=True)
        is_meant = call == context.cancel_many
        assert answer == {
            "dry_run": True,
            "matched": 3 if is_meant else 0,
            "done": 0,
            "ids": [1, 2, 3] if is_meant else [],
            "refused": [],
        }
    assert context.list_flows() == before


def test_flows_are_cancelled_and_their_runners_told(context: Context) -> None:
    flows(context, 3, tags=["nightly"])
    context.submit(4, [job(1)])
    attempts = context.take(2)

    answer = context.cancel_many({"tag": "nightly"}, reason="too dear")
    told = [effect for effect in context.wire.effects if effect.startswith("cancel:")]

    assert (answer["matched"], answer["done"], answer["ids"]) == (3, 3, [1, 2, 3])
    assert statuses(context) == {1: "Error", 2: "Error", 3: "Error", 4: "Started"}
    assert context.load_flow(2)["result"] == {"error": "cancelled: too dear"}
    assert sorted(effect.split()[2] for effect in told) == sorted(attempt.token for attempt in attempts)
    assert context.cancel_many({"tag": "nightly"})["matched"] == 0  # they have ended


def test_flows_in_error_are_retried_and_what_refuses_is_told(context: Context) -> None:
    flows(context, 3)
    context.cancel_many({})
    context.create_flow(3, [30, 31, 10])  # whose job runs for another flow then

    answer = context.retry_many({})

    assert (answer["matched"], answer["done"]) == (3, 2)
    assert answer["refused"] == [{"id": 3, "detail": "job 7/10 is being run for flow 1"}]
    assert statuses(context) == {1: "Started", 2: "Started", 3: "Error"}


def test_flows_that_do_not_run_are_deleted(context: Context) -> None:
    flows(context, 3)
    context.cancel(1)
    context.cancel(3)

    answer = context.delete_many({"statuses": ["Started", "Error"]})

    assert (answer["matched"], answer["done"], answer["ids"]) == (2, 2, [1, 3])
    assert statuses(context) == {2: "Started"}
    assert [job["id"] for job in context.list_jobs()["items"]] == [20, 21]
    assert context.delete_many({"status": "Started"})["matched"] == 0


def test_one_call_does_as_many_as_it_may_and_the_next_goes_on(context: Context) -> None:
    flows(context, 7)

    done, cursor = [], ""
    while True:
        answer = context.cancel_many({}, limit=3, cursor=cursor)
        done.append(answer["ids"])
        cursor = answer.get("cursor", "")
        if not cursor:
            break

    assert done in ([[1, 2, 3], [4, 5, 6], [7]], [[1, 2, 3], [4, 5, 6], [7], []])
    assert set(statuses(context).values()) == {"Error"}


@pytest.mark.parametrize("cursor", ["x", "1:2", "-1"])
def test_a_cursor_that_is_none_is_refused(context: Context, cursor: str) -> None:
    with pytest.raises(InvalidParams):
        context.delete_many({}, cursor=cursor)
