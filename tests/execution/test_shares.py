"""Which runner gets a job: not the one that has just failed it, nor one that fails everything, if there is another."""

from __future__ import annotations

from tests.execution.driver import Context, Runner, job

ONE, OTHER = Runner(3), Runner(4)
POLLING = Runner(3, "job.take", lease=10)


def fail(context: Context, runner: Runner) -> None:
    context.fail(context.take_one(runner))


def test_a_retry_is_for_another_runner(context: Context) -> None:
    context.submit(1, [job(1, retries=1), job(2)])
    context.there(("Python",), [3, 4])
    fail(context, ONE)
    context.later(1)

    assert [attempt.id for attempt in context.take(9, ONE)] == [2]
    assert [attempt.id for attempt in context.take(9, OTHER)] == [1]


def test_it_is_told_that_there_is_a_job_for_another(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    context.there(("Python",), [3, 4])
    fail(context, ONE)

    context.later(1)

    assert "other:Python 3" in context.wire.effects


def test_a_retry_is_kept_for_a_while_only_and_looked_at_then(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    context.there(("Python",), [3, 4])
    fail(context, ONE)
    context.later(1)
    assert context.take(9, ONE) == []
    (due,) = [effect for effect in context.wire.effects if effect.startswith("due:")]
    assert 0 < int(due[4:]) <= 5000

    context.later(5)

    assert "ready:Python" in context.wire.effects
    assert [attempt.number for attempt in context.take(9, ONE)] == [2]


def test_a_retry_of_which_only_its_runner_is_there_is_its(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    context.there(("Python",), [3])
    context.there(("Sal",), [4])
    fail(context, ONE)
    context.later(1)

    assert [attempt.number for attempt in context.take(9, ONE)] == [2]


def test_a_runner_that_is_no_longer_there_is_not_waited_for(context: Context) -> None:
    context.submit(1, [job(1, retries=1)])
    context.there(("Python",), [3, 4], seconds=0.5)
    fail(context, ONE)
    context.later(1)

    assert [attempt.number for attempt in context.take(9, ONE)] == [2]


def test_the_order_of_what_is_kept_stays(context: Context) -> None:
    context.submit(1, [job(id, retries=1) for id in range(1, 6)])
    context.there(("Python",), [3, 4])
    for attempt in context.take(4, ONE):
        context.fail(attempt)
    context.later(1)
    before = context.wire.ask(("LRANGE", f"{context.keys.prefix}queue:python", 0, -1))[0]

    assert [attempt.id for attempt in context.take(1, ONE)] == [5]

    after = context.wire.ask(("LRANGE", f"{context.keys.prefix}queue:python", 0, -1))[0]
    assert after == [entry for entry in before if entry != b"job:7:5"]


def test_a_runner_that_fails_five_in_a_row_gets_one_at_a_time_after_a_pause(context: Context) -> None:
    context.submit(1, [job(1, [])])
    for id in range(11, 31):
        context.submit(id, [job(id)])
    context.there(("Python",), [3, 4])
    for _ in range(5):
        fail(context, ONE)

    assert context.take(9, ONE) == []
    assert len(context.take(2, OTHER)) == 2
    context.later(1.5)
    attempts = context.take(9, ONE)
    assert len(attempts) == 1
    assert context.take(9, ONE) == []

    context.finish(attempts[0])
    assert len(context.take(9, ONE)) == 9


def test_its_pauses_get_longer(context: Context) -> None:
    for id in range(1, 31):
        context.submit(id, [job(id)])
    context.there(("Python",), [3, 4])
    for _ in range(5):
        fail(context, ONE)
    for pause in (1, 2, 4, 8):
        context.later(pause - 0.5)
        assert context.take(9, ONE) == []
        context.later(0.6)
        fail(context, ONE)


def test_failures_do_not_hold_back_the_only_runner(context: Context) -> None:
    for id in range(1, 31):
        context.submit(id, [job(id)])
    context.there(("Python",), [3])
    for _ in range(20):
        fail(context, ONE)

    assert len(context.take(9, ONE)) == 9


def test_a_runner_without_a_connection_that_says_nothing_gets_less_and_less(context: Context) -> None:
    for id in range(1, 9):
        context.submit(id, [job(id)])
    for pause in (10, 20, 40):
        assert len(context.take(1, POLLING)) == 1
        context.later(11)
        assert context.take(1, POLLING) == []
        context.later(pause - 2)
        assert context.take(1, POLLING) == []
        context.later(3)


def test_once_it_is_heard_of_it_gets_all_again(context: Context) -> None:
    for id in range(1, 9):
        context.submit(id, [job(id)])
    held, _ = context.take(2, POLLING)
    context.pass_time(8)
    context.heartbeat(held)
    context.later(3)  # one was lost
    assert context.take(9, POLLING) == []

    context.heartbeat(held)

    assert len(context.take(9, POLLING)) > 1
