"""Whom a call calls to a queue: nobody, once a take in the same call has emptied it."""

from __future__ import annotations

from typing import Any

from coordinator.actors.pipeline import join, part
from coordinator.engine.assignments import take
from coordinator.models.flows import FlowSubmitParams
from coordinator.operations import flows
from coordinator.storage.functions import attempts, upkeep
from coordinator.storage.keys import Command
from tests.execution.conftest import NewContext
from tests.execution.driver import Context, Runner, job
from tests.execution.test_effects import listen, news

PYTHON = Runner(3)
V = Runner(3, script_types=("V",))


def submitting(context: Context, *jobs: dict[str, Any], id: int = 1) -> list[Command]:
    """What flow.submit sends."""
    flow = {"id": id, "caller_id": 7, "context_id": 1, "jobs": [each["id"] for each in jobs], "env_vars": {}}
    params = FlowSubmitParams.model_validate({"context_id": 1, "flow": flow, "jobs": list(jobs)})
    step = next(flows.submit_flow(context.keys, params))
    assert isinstance(step, list)
    return step


def taking(context: Context, count: int, runner: Runner = PYTHON, number: int = 1) -> list[Command]:
    return next(take(context.keys, runner, count=count, holder=f"holder of {runner.script_types}", number=str(number)))


def together(context: Context, *commands: Command) -> tuple[list[int], set[str]]:
    """How many attempts the last of these brings, a take, and the effects of all but of timers. They are one call."""
    joined, counts = join([*commands])
    assert len(joined) == 1
    replies, effects = part(context.wire.ask(*joined), counts)
    taken, _ = attempts.read_take(replies[-1])
    return [told.job[1] for told in taken.attempts], {text for text in map(bytes.decode, effects) if text[:4] != "due:"}


def test_nobody_is_called_to_a_queue_that_is_emptied_again(new_context: NewContext) -> None:
    context, other = new_context(), listen(new_context())

    assert together(context, *submitting(context, job(1), job(2)), *taking(context, 3)) == ([1, 2], set())

    context.submit(2, [job(3, script_type="V")])
    assert news(other) == ["ready:V"]  # the first that is told at all


def test_others_are_called_to_what_remains(context: Context) -> None:
    assert together(context, *submitting(context, job(1), job(2)), *taking(context, 1)) == ([1], {"ready:Python"})
    assert together(context, *submitting(context, job(3), id=2), *taking(context, 1, number=2)) == (
        [2],
        {"ready:Python"},
    )


def test_others_are_called_to_another_queue(context: Context) -> None:
    jobs = job(1), job(2, script_type="V")

    assert together(context, *submitting(context, *jobs), *taking(context, 9)) == ([1], {"ready:V"})
    assert together(context, *submitting(context, job(3), id=2), *taking(context, 9, V)) == ([2], {"ready:Python"})


def test_others_are_called_to_what_is_queued_after_the_take(context: Context) -> None:
    commands = [*taking(context, 9), *submitting(context, job(1)), *taking(context, 0, V)]

    assert together(context, *commands) == ([], {"ready:Python"})


def test_others_are_called_to_what_is_too_large_for_the_take(context: Context) -> None:
    jobs = [job(id, script="x" * 200_000) for id in (1, 2, 3)]

    assert together(context, *submitting(context, *jobs), *taking(context, 9)) == ([1, 2], {"ready:Python"})


def test_others_are_called_to_what_is_kept_for_them(context: Context) -> None:
    """The runner that has failed a job finds it in the queue and leaves it there."""
    context.there(("Python",), [3, 4])
    context.submit(1, [job(1, retries=1)])
    context.fail(context.take_one(PYTHON))
    context.pass_time(1)

    commands = [upkeep.tick(context.keys, 100), *submitting(context, job(2), id=2), *taking(context, 9)]
    context.wire.ask(commands[0])
    taken, effects = together(context, *commands[1:])

    assert taken == [2]
    assert effects == {"ready:Python"}
    assert [attempt.id for attempt in context.take(9, Runner(4))] == [1]


def test_what_a_finish_frees_and_a_take_behind_it_takes_calls_nobody(context: Context) -> None:
    context.submit(1, [job(1), job(2, [1]), job(3, [1])])
    first = context.take_one(PYTHON)
    finish = attempts.finish(context.keys, "job:7:1", first.token, b"{}")

    assert together(context, finish, *taking(context, 9)) == ([2, 3], set())
