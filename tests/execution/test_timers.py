"""What has ended leaves no timer behind."""

from __future__ import annotations

from tests.execution.driver import Context, Runner, job


def timers(context: Context) -> list[str]:
    (names,) = context.wire.ask(("ZRANGE", f"{context.keys.prefix}timers", 0, -1))
    return [name.decode() for name in names]


def test_a_finished_flow_leaves_none(context: Context) -> None:
    context.submit(1, [job(1, timeout=10, retries=1), job(2, [1])])
    context.fail(context.take_one())
    context.later(60)

    context.run_all()

    assert timers(context) == []


def test_a_failure_ends_the_pauses_of_the_flows_other_jobs(context: Context) -> None:
    context.submit(1, [job(1, retries=1), job(2)])
    pausing, failing = context.take(2)
    context.fail(pausing)
    assert set(timers(context)) == {"lease:job:7:2", "retry:job:7:1"}

    context.fail(failing)

    assert timers(context) == []


def test_a_pause_that_begins_and_ends_in_the_same_step_leaves_none(context: Context) -> None:
    context.submit(1, [job(1), job(2, lost_retries=0)])
    context.take_one(Runner(lease=10))
    context.take_one(Runner(lease=20))

    context.later(30)  # the first is lost and will be tried again, the second is lost and the flow fails

    assert timers(context) == []


def test_a_cancel_ends_leases(context: Context) -> None:
    context.submit(1, [job(1, timeout=10)])
    context.take_one()

    context.cancel(1)

    assert timers(context) == []


def test_a_message_that_is_processed_as_it_is_sent_leaves_none(context: Context) -> None:
    context.create_message(1, [], timeout=10, timeout_ack=10, timeout_result=10)

    context.send(1)

    assert timers(context) == []


def test_a_message_that_ends_leaves_none(context: Context) -> None:
    context.create_message(1, [job(1)], timeout=10, timeout_ack=10, timeout_result=10)
    context.send(1)
    attempt = context.take_one()
    assert set(timers(context)) == {"lease:job:7:1", "result:message:7:1", "total:message:7:1"}

    context.finish(attempt)

    assert timers(context) == []
