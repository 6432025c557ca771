"""How runners get jobs: at most so many, the same ones when they ask again, none lost when they reconnect."""

from __future__ import annotations

import pytest

from coordinator.errors import StaleToken
from tests.execution.driver import Context, Runner, job

SESSION = Runner(runner_session="here")


def test_a_runner_gets_at_most_as_many_as_it_asks_for_oldest_first(context: Context) -> None:
    context.submit(1, [job(id) for id in range(1, 6)])

    assert [attempt.id for attempt in context.take(3)] == [1, 2, 3]
    assert [attempt.id for attempt in context.take(3)] == [4, 5]
    assert context.take(3) == []


def test_a_runner_of_several_types_gets_jobs_of_each(context: Context) -> None:
    context.submit(1, [job(1, script_type="V"), job(2, script_type="Osis"), job(3, script_type="Sal")])

    assert {attempt.id for attempt in context.take(9, Runner(script_types=("Osis", "V")))} == {1, 2}


def test_a_take_is_enough_when_its_scripts_are_large(context: Context) -> None:
    context.submit(1, [job(id, script="x" * 200_000) for id in range(1, 4)])

    assert len(context.take(9)) == 2
    assert len(context.take(9)) == 1


def test_the_same_take_again_gives_the_same_assignments(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1]), job(3)], env_vars={"A": "1"})
    context.finish(context.take_one(), answer="42")
    first = context.take(9, holder="one", number=1)

    again = context.take(9, holder="one", number=1)

    assert len(first) == 2
    assert again == first


def test_the_same_take_again_leaves_out_what_has_ended(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3, retries=1)])
    finished, running, failed = context.take(3, holder="one", number=1)
    context.finish(finished)
    context.fail(failed)

    assert [attempt.token for attempt in context.take(3, holder="one", number=1)] == [running.token]


def test_the_next_take_of_the_same_holder_gives_others(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    first = context.take(1, holder="one", number=1)

    assert [attempt.id for attempt in context.take(1, holder="one", number=2)] != [attempt.id for attempt in first]


def test_the_same_number_of_another_holder_is_another_take(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.take(1, holder="one", number=1)

    assert [attempt.id for attempt in context.take(1, holder="two", number=1)] == [2]


def test_a_take_that_found_nothing_looks_anew_when_asked_again(context: Context) -> None:
    context.take(1, holder="one", number=1)
    context.submit(1, [job(1)])

    assert [attempt.id for attempt in context.take(1, holder="one", number=1)] == [1]


def test_what_a_runner_does_not_hold_never_reached_it_and_goes_back_without_counting(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    undelivered, held = context.take(2, SESSION)

    assert context.resume(SESSION, held.token) == []

    assert context.statuses(1) == {1: "Dispatched", 2: "Started"}
    again = context.take_one()
    assert (again.id, again.number) == (1, 1)
    with pytest.raises(StaleToken):
        context.finish(undelivered)
    context.finish(held)


def test_undelivered_attempts_do_not_use_up_the_retries(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    for _ in range(5):
        context.take_one(SESSION)
        context.resume(SESSION)

    assert context.fail(context.take_one()) == {"status": "Dispatched", "attempt": 1}


def test_what_goes_back_is_next(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3)])
    context.take_one(SESSION)

    context.resume(SESSION)

    assert [attempt.id for attempt in context.take(3)] == [1, 2, 3]


def test_tokens_that_are_no_longer_valid_are_told(context: Context) -> None:
    context.submit(1, [job(1), job(2), job(3)])
    lost, held, ended = context.take(3, SESSION)
    context.finish(ended)
    context.later(20)
    context.heartbeat(held)
    context.later(20)

    assert context.resume(SESSION, lost.token, held.token, ended.token, "1-1") == sorted(
        [lost.token, ended.token, "1-1"]
    )


@pytest.mark.parametrize(
    "other",
    [Runner(runner_session="there"), Runner(runner_id=4, runner_session="here"), Runner()],
    ids=["another session", "another runner", "no session"],
)
def test_a_runner_that_reconnects_leaves_alone_what_is_not_its_sessions(context: Context, other: Runner) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one(SESSION)

    context.resume(other)

    assert context.finish(attempt)["status"] == "Finished"


def test_a_runner_without_a_session_gives_nothing_back(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    over_http, held = context.take(2)

    assert context.resume(Runner(), held.token) == []

    context.finish(over_http)
    context.finish(held)


def test_what_goes_back_to_a_flow_that_has_ended_waits(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    undelivered, failing = context.take(2, SESSION)
    context.fail(failing)

    context.resume(SESSION, failing.token)

    assert context.statuses(1)[undelivered.id] == "WaitingForPrerequisites"
    assert context.events(1)[-1]["status"] == "WaitingForPrerequisites"
    assert context.take(9) == []


def test_jobs_behind_thousands_of_cancelled_ones_are_reached(context: Context) -> None:
    context.submit(1, [job(id) for id in range(1, 2501)])
    context.cancel(1)
    context.submit(2, [job(9000)])

    assert context.take_one().id == 9000
