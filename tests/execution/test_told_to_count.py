"""What a coordinator is told so that it can count: how attempts and runs end, for how long jobs waited and ran, and how
much there is."""

from __future__ import annotations

from typing import Any

from coordinator.storage.functions import attempts, upkeep, views
from coordinator.storage.functions.attempts import Reported
from coordinator.storage.functions.views import Depths, Queue
from tests.execution.by_hand import take_one
from tests.execution.driver import Context, job


def ended(context: Context) -> list[str]:
    """The ends of runs that the last call has told of."""
    return [effect for effect in context.wire.effects if effect.startswith("ended:")]


def tick(context: Context) -> tuple[int, int, int]:
    """How many attempts were lost, have timed out, and are followed by another, as the timers due now have it."""
    ticked, _ = upkeep.read_tick(context.wire.ask(upkeep.tick(context.keys, 200))[0])
    assert ticked.faults == []
    return ticked.lost, ticked.timed_out, ticked.retried


def pass_time(context: Context, seconds: int) -> None:
    context.wire.ask(("HINCRBY", f"{context.keys.prefix}engine", "skew", seconds * 1000))


def depths(context: Context) -> Depths:
    return views.read_depths(context.wire.ask(views.depths(context.keys))[0])


def reported(context: Context, command: Any) -> Reported:
    reply, _ = attempts.read_report(context.wire.ask(command)[0])
    assert isinstance(reply, Reported)
    return reply


def test_a_look_at_the_timers_tells_how_attempts_have_ended_once(context: Context) -> None:
    for id, one in enumerate((job(1, lost_retries=1), job(2, lost_retries=0), job(3, timeout=1, retries=1)), 1):
        context.submit(id, [one])
    assert len(context.take(3)) == 3

    assert tick(context) == (0, 0, 0)
    pass_time(context, 10)
    assert tick(context) == (0, 1, 1)
    pass_time(context, 50)
    assert tick(context) == (2, 0, 1)
    assert tick(context) == (0, 0, 0)


def test_a_report_tells_how_long_the_attempt_ran_the_first_time(context: Context) -> None:
    context.submit(1, [job(1), job(2, retries=3)])
    first, second = context.take(2)
    finish = attempts.finish(context.keys, f"job:7:{first.id}", first.token, b"{}")
    fail = attempts.fail(context.keys, f"job:7:{second.id}", second.token, "no", None, may_retry=True)

    for command in (finish, fail):
        ran, again = reported(context, command), reported(context, command)

        assert ran.ran is not None
        assert 0 <= ran.ran < 600
        assert again == ran._replace(ran=None)


def test_what_is_taken_tells_how_long_it_waited_and_told_again_it_does_not(context: Context) -> None:
    context.submit(1, [job(1)])
    take = take_one(context.keys)

    (told,) = attempts.read_take(context.wire.ask(take)[0])[0].attempts
    (again,) = attempts.read_take(context.wire.ask(take)[0])[0].attempts

    assert told.waited is not None
    assert 0 <= told.waited < 600
    assert again == told._replace(waited=None)


def test_each_end_of_a_run_is_told_once_with_its_status(context: Context) -> None:
    context.submit(1, [job(1), job(2, depends=[1])])
    context.finish(context.take_one())
    assert ended(context) == []
    context.finish(context.take_one())
    assert ended(context) == ["ended:flow Finished"]

    context.submit(2, [job(3)])
    context.cancel(2)
    assert ended(context) == ["ended:flow Error"]
    context.retry(2)
    context.fail(context.take_one(), retry=False)
    assert ended(context) == ["ended:flow Error"]


def test_depths_are_those_of_queues_and_indexes(context: Context) -> None:
    before = depths(context)
    assert before == Depths([Queue(0, 0.0)] * 4, 0, 0, 0, {}, {})

    context.submit(1, [job(1), job(2), job(3, script_type="V"), job(4, depends=[1])])
    there = depths(context)
    assert [queue.entries for queue in there.queues] == [0, 0, 1, 2]
    assert (there.flows, there.jobs, there.messages) == (1, 4, 0)
    assert (there.flow_states["Started"], there.job_states["Dispatched"], there.job_states["V"]) == (1, 3, 1)

    context.wire.ask(("HSET", context.keys.job(7, 1), "x_queued", "1000"))
    assert depths(context).queues[3].oldest > 1_000_000

    context.wire.ask(("DEL", context.keys.job(7, 1)))  # a queue's entry may lead nowhere
    assert depths(context).queues[3] == Queue(2, 0.0)
    context.wire.ask(("SET", context.keys.job(7, 1), "no hash"))
    assert depths(context).queues[3] == Queue(2, 0.0)
