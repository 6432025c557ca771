"""What is paused is not handed out; what runs goes on. And a runner that is drained gets nothing new."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.errors import Conflict, NotFound
from coordinator.storage import library
from coordinator.storage.functions import attempts, control, joined
from tests.execution.by_hand import take_one
from tests.execution.driver import Context, Runner, job

DIAMOND = [job(1), job(2, [1]), job(3, [1]), job(4, [2, 3])]
BOTH = Runner(script_types=("Python", "Sal"))


@pytest.fixture(params=["context", "type", "flow"])
def switches(request: pytest.FixtureRequest, context: Context) -> tuple[Callable[[], object], Callable[[], object]]:
    """Pause, and resume."""
    if request.param == "flow":
        return lambda: context.pause_flow(1), lambda: context.resume_flow(1)
    script_type = "Python" if request.param == "type" else None
    return lambda: context.pause(script_type), lambda: context.unpause(script_type)


Switches = tuple[Callable[[], object], Callable[[], object]]


def test_nothing_is_handed_out_while_paused_and_all_of_it_after(context: Context, switches: Switches) -> None:
    pause, resume = switches
    context.submit(1, DIAMOND)

    assert pause() == pause()
    assert context.take(9) == []
    assert context.take(9) == []
    assert not any(effect.startswith("ready:") for effect in context.wire.effects)
    assert context.statuses(1)[1] == "Dispatched"

    first = resume()
    assert "ready:Python" in context.wire.effects
    assert resume() == first
    assert context.run_all()[0].id == 1
    assert context.load_flow(1)["status"] == "Finished"


def test_what_runs_goes_on_and_what_it_releases_waits(context: Context, switches: Switches) -> None:
    pause, resume = switches
    context.submit(1, DIAMOND)
    attempt = context.take_one()
    pause()

    context.heartbeat(attempt)
    context.finish(attempt)
    assert context.statuses(1) == {1: "Finished", 2: "Dispatched", 3: "Dispatched", 4: "WaitingForPrerequisites"}
    assert context.take(9) == []

    resume()
    assert sorted(attempt.id for attempt in context.take(9)) == [2, 3]


def test_neither_time_nor_another_server_releases_what_is_paused(context: Context, switches: Switches) -> None:
    pause, resume = switches
    context.submit(1, [job(1, retries=1), job(2, lost_retries=1)])
    context.fail(context.take_one())
    context.take_one()
    pause()

    context.later(1000)  # a pause between attempts, and a lease
    context.later(100)
    context.wire.ask(("FUNCTION", "LOAD", "REPLACE", library.SOURCE + "\n"))  # a server that remembers nothing
    context.tick()

    assert context.statuses(1) == {1: "Dispatched", 2: "Dispatched"}
    assert context.take(9) == []
    resume()
    assert len(context.take(9)) == 2


def test_a_flow_that_ends_while_paused_has_ended(context: Context) -> None:
    context.submit(1, [job(1)])
    context.submit(2, [job(2), job(3)])
    context.submit(3, [job(4), job(5)])
    by_id = {attempt.id: attempt for attempt in context.take(4)}
    for flow in (1, 2, 3):
        assert context.pause_flow(flow)["paused"] is True

    context.finish(by_id[1])
    context.fail(by_id[2])
    context.cancel(3)

    assert [context.load_flow(flow)["status"] for flow in (1, 2, 3)] == ["Finished", "Error", "Error"]
    assert not any("paused" in context.load_flow(flow) for flow in (1, 2, 3))
    context.finish(by_id[3])
    for flow in (2, 3):
        context.retry(flow)
    context.run_all()
    assert [context.load_flow(flow)["status"] for flow in (2, 3)] == ["Finished", "Finished"]
    (keys,) = context.wire.ask(("KEYS", "*ready:*"))
    assert keys == []


def test_only_a_flow_that_is_started_is_paused(context: Context) -> None:
    context.create_job(1)
    context.create_flow(1, [1])
    context.submit(2, [])

    for flow, status in ((1, "Dispatched"), (2, "Finished")):
        for switch in (context.pause_flow, context.resume_flow):
            with pytest.raises(Conflict) as caught:
                switch(flow)
            assert caught.value.data["status"] == status
    with pytest.raises(NotFound):
        context.pause_flow(3)


def test_a_flow_shows_that_it_is_paused_and_its_events_say_so(context: Context) -> None:
    context.submit(1, [job(1)])
    context.pause_flow(1)

    assert context.load_flow(1)["paused"] is True
    assert context.status(1)["flow"]["paused"] is True
    assert context.create_flow(1, [1])["paused"] is True  # what was written over stays so
    context.resume_flow(1)
    assert "paused" not in context.load_flow(1)
    assert [event["paused"] for event in context.events(1) if "paused" in event] == [True, False]


def test_another_flow_goes_on(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    context.submit(2, [job(3)])
    context.pause_flow(1)

    assert [attempt.id for attempt in context.take(9)] == [3]


def test_a_context_shows_what_of_it_is_paused(context: Context) -> None:
    with pytest.raises(NotFound):
        context.pause()
    context.create_context(7)
    assert context.pause("Sal") == {"context_id": 1, "paused": False, "script_types": ["Sal"]}
    assert context.pause() == {"context_id": 1, "paused": True, "script_types": ["Sal"]}

    for shown in (context.load_context(), context.create_context(7, 8)):
        assert (shown["paused"], shown["paused_script_types"]) == (True, ["Sal"])

    assert context.unpause() == {"context_id": 1, "paused": False, "script_types": ["Sal"]}
    context.unpause("Sal")
    assert not {"paused", "paused_script_types"} & context.load_context().keys()


def test_a_type_that_is_not_paused_goes_on(context: Context) -> None:
    context.submit(1, [job(1), job(2, script_type="Sal")])
    context.pause("Sal")

    assert [attempt.id for attempt in context.take(9, BOTH)] == [1]
    context.pause()
    context.unpause("Sal")
    assert context.take(9, BOTH) == []  # all of it is paused still


def test_a_context_that_is_created_after_it_was_paused_shows_it(context: Context) -> None:
    context.submit(1, [job(1)])
    context.pause()

    context.create_context(7)

    assert context.load_context()["paused"] is True


# -- draining


def test_a_drained_runner_gets_nothing_new_and_finishes_what_it_holds(context: Context) -> None:
    context.create_runner(3)
    context.create_runner(4)
    context.submit(1, [job(1), job(2, [1]), job(3, [1])])
    attempt = context.take_one()

    assert context.drain(3)["draining"] is True
    assert context.drain(3) == context.load_runner(3)
    context.finish(attempt)

    assert context.take(9) == []
    assert "other:Python 3" in context.wire.effects  # who was woken for them wakes somebody else
    assert context.create_runner(3)["draining"] is True
    assert context.resume(Runner(runner_session="new"), attempt.token) == [attempt.token]
    assert context.take(9, Runner(runner_session="new")) == []
    assert len(context.take(1, Runner(4))) == 1

    assert "draining" not in context.undrain(3)
    assert "ready:Python" in context.wire.effects
    assert "draining" not in context.load_runner(3)
    assert len(context.take(9)) == 1


def test_a_runner_that_is_deleted_is_drained_no_longer(context: Context) -> None:
    context.create_runner(3)
    context.drain(3)
    context.delete_runner(3)
    with pytest.raises(NotFound):
        context.drain(3)
    context.create_runner(3)
    context.submit(1, [job(1)])

    assert "draining" not in context.load_runner(3)
    assert len(context.take(9)) == 1


@pytest.mark.parametrize("what", ["context", "runner"])
def test_it_holds_for_what_is_done_in_the_same_call_of_the_store(context: Context, what: str) -> None:
    context.create_runner(3)
    context.submit(1, [job(1), job(2)])
    pause = control.context_pause(context.keys, context.id, None, pauses=True)
    decision = pause if what == "context" else control.runner_drain(context.keys, 3, drains=True)
    first, second = take_one(context.keys, "a"), take_one(context.keys, "b")

    (reply,) = context.wire.ask(joined.many([first, decision, second]))

    replies, _ = joined.read_many(reply, 3)
    taken = [attempts.read_take(replies[at])[0].attempts for at in (0, 2)]
    assert [len(some) for some in taken] == [1, 0]
