"""Runners that come back: what the store does for each depends on what that runner has, not on what there is."""

from __future__ import annotations

from coordinator.storage import library
from coordinator.storage.functions import attempts, joined
from tests.execution.driver import Context, Runner, job

COUNT = 1200


def commands_of(context: Context, runner: Runner, *holding: str) -> tuple[int, list[str]]:
    """How many commands the server carries out for it, and the tokens that are lost."""
    context.wire.ask(("CONFIG", "RESETSTAT"))
    lost = context.resume(runner, *holding)
    (stats,) = context.wire.ask(("INFO", "commandstats"))
    lines = stats.decode().splitlines() if isinstance(stats, bytes) else str(stats).splitlines()
    calls = [int(line.partition("calls=")[2].partition(",")[0]) for line in lines if "calls=" in line]
    return sum(calls), lost


def test_the_cost_is_that_of_the_runners_own_attempts(context: Context) -> None:
    context.submit(1, [job(id) for id in range(1, COUNT + 1)])
    context.settle()
    runners = [Runner(3, f"s{number}") for number in range(COUNT // 8)]
    held = {runner: context.take(8, runner) for runner in runners}

    context.resume(runners[1], *[attempt.token for attempt in held[runners[1]]])  # it looks at what there was before it
    one, lost = commands_of(context, runners[0], *[attempt.token for attempt in held[runners[0]]])

    assert lost == []
    assert one < 40


def test_attempts_from_before_the_server_started_are_known(context: Context) -> None:
    """Its memory is empty then. It looks at some at a time, once for all runners."""
    context.submit(1, [job(id) for id in range(1, COUNT + 1)])
    context.settle()
    runners = [Runner(3, f"s{number}") for number in range(COUNT // 8)]
    held = {runner: context.take(8, runner) for runner in runners}
    context.wire.ask(library.load_command())

    for number, runner in enumerate(runners):
        undelivered, *others = held[runner]
        commands, lost = commands_of(context, runner, *[attempt.token for attempt in others])
        assert lost == []
        assert commands < (60 if number else 3 * COUNT)
        assert context.load_job(undelivered.id)["status"] == "Dispatched"
        assert context.load_job(others[0].id)["status"] == "Started"


def test_a_call_looks_at_a_bounded_number_of_them(context: Context) -> None:
    context.submit(1, [job(id) for id in range(1, COUNT + 1)])
    context.settle()
    context.take(COUNT, Runner(3, "s"))
    context.wire.ask(library.load_command())
    resume = attempts.resume(context.keys, 3, "s", ["1-1"])

    context.wire.ask(("CONFIG", "RESETSTAT"))
    (reply,) = context.wire.ask(type(resume).many([resume] * 20))
    results, _ = joined.read_many(reply, 20)

    assert [attempts.read_resume(result)[0] for result in results] == [None] * 20
    (stats,) = context.wire.ask(("INFO", "commandstats"))
    text = stats.decode() if isinstance(stats, bytes) else str(stats)
    (hgets,) = [line for line in text.splitlines() if line.startswith("cmdstat_hget:")]
    assert int(hgets.partition("calls=")[2].partition(",")[0]) < 1000


def test_tokens_of_an_earlier_version_are_known_too(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    first, second = context.take(2, Runner(3, "s"))
    fields = context.wire.ask(("HGET", f"{context.keys.prefix}job:7:1", "x_attempt"))[0].decode()
    old = "1700000000000-1"
    context.wire.ask(("HSET", f"{context.keys.prefix}job:7:1", "x_attempt", fields.replace(first.token, old)))
    context.wire.ask(library.load_command())

    assert context.resume(Runner(3, "s"), old, second.token, "1700000000000-2") == ["1700000000000-2"]
    assert context.statuses(1) == {1: "Started", 2: "Started"}


def test_what_has_ended_is_not_given_back(context: Context) -> None:
    runner = Runner(3, "s")
    context.submit(1, [job(id) for id in range(1, 7)])
    finished, failed, lost, cancelled, undelivered, held = context.take(6, runner)
    context.submit(2, [job(11)])
    context.finish(finished)
    context.fail(failed)
    assert lost.token != cancelled.token

    context.resume(runner, held.token)

    statuses = context.statuses(1)
    assert statuses[finished.id] == "Finished"
    assert statuses[failed.id] == "Error"
    assert statuses[undelivered.id] == "WaitingForPrerequisites"
    assert statuses[held.id] == "Started"
