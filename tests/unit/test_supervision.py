"""What raises although nothing was written for that: it is reported, started again, and takes nobody with it."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
import trio.testing

from coordinator.actors.mailbox import Mailbox
from coordinator.actors.request import Request
from coordinator.backoff import Backoff
from coordinator.engine.timers import Timers
from coordinator.errors import InternalError
from coordinator.supervision import contain, faults, supervise
from tests.support.actors import Asked, MemoryStore, command, running


async def test_a_task_that_crashes_is_started_again_until_it_returns(autojump: None) -> None:
    runs: list[float] = []

    async def task() -> None:
        runs.append(trio.current_time())
        if len(runs) < 4:
            raise RuntimeError("for a test")

    before = faults()
    with structlog.testing.capture_logs() as logs:
        await supervise("a test", task, which=7)

    assert len(runs) == 4
    assert faults() == before + 3
    assert [(entry["what"], entry["which"]) for entry in logs] == [("a test", 7)] * 3
    assert len({entry["incident"] for entry in logs}) == 3


async def test_a_task_that_always_crashes_does_not_keep_the_others_from_running(autojump: None) -> None:
    async def task() -> None:
        raise RuntimeError("for a test")

    before = faults()
    with structlog.testing.capture_logs(), trio.move_on_after(1000):
        await supervise("a test", task)
    assert 300 < faults() - before < 5000  # two seconds apart at most, one on average


async def test_a_cancellation_passes_though_a_fault_comes_with_it() -> None:
    async def fails_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("for a test")

    async def task() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    before = faults()
    with trio.move_on_after(0.01) as scope:
        await supervise("a test", task)
    assert scope.cancelled_caught
    assert faults() == before + 1


async def test_what_is_contained_goes_on_behind_it() -> None:
    before = faults()
    with contain("a test"):
        raise RuntimeError("for a test")
    assert faults() == before + 1


async def test_a_pause_can_be_told_after_any_number_of_failures() -> None:
    assert 0 <= Backoff(cap=2.0, base=0.05).compute(1_000_000) <= 2.0


# -- timers


async def test_a_function_that_raises_is_called_again_and_keeps_no_other_waiting(autojump: None) -> None:
    called: list[tuple[str, float]] = []

    def function(name: str, failures: int) -> None:
        called.append((name, trio.current_time() - begun))
        if [each for each, _ in called].count(name) <= failures:
            raise RuntimeError("for a test")

    timers = Timers()
    begun = trio.current_time()
    timers.call_in(1, lambda: function("bad", 2))
    timers.call_in(1, lambda: function("good", 0))
    timers.call_in(2.5, lambda: function("late", 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert [name for name, _ in called] == ["bad", "good", "bad", "late", "bad"]
    assert [at for _, at in called] == pytest.approx([1.0, 1.0, 2.0, 2.5, 4.0])


# -- the directory


class Refuses(Asked):
    """Raises when it is answered."""

    __slots__ = ()

    def reply(self, outcome: object) -> None:
        raise RuntimeError("for a test")


async def test_a_request_that_cannot_be_answered_harms_none_of_its_round(autojump: None) -> None:
    before = faults()
    async with trio.open_nursery() as nursery:
        store = MemoryStore(nursery)
        async with running(store) as directory:
            requests = [Asked(command("GET", "a")), Refuses(command("GET", "b")), Asked(command("GET", "c"))]
            for request in requests:
                directory.post_nowait(1, request)
            for request in (requests[0], requests[2]):
                assert await request.wait() == b"PONG"
            assert directory.crashes == 0
        nursery.cancel_scope.cancel()
    assert faults() == before + 1


async def test_requests_past_their_deadline_are_answered_though_the_sweeper_meets_one_it_cannot_answer(
    autojump: None,
) -> None:
    async with trio.open_nursery() as nursery:
        store = MemoryStore(nursery)
        store.answering = trio.Event()
        async with running(store, round_timeout=1000) as directory:
            directory.post_nowait(1, Refuses(command("GET", "a"), timeout=1))
            others = [Asked(command("GET", "b"), timeout=1) for _ in range(2)]
            for context, request in zip((1, 2), others, strict=True):
                directory.post_nowait(context, request)
            for request in others:
                assert await request.wait() is request.outcome is not None
            nursery.cancel_scope.cancel()


async def test_a_crash_while_a_request_waits_for_room_is_answered_for(
    autojump: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Mailbox.post
    crashes = 0

    async def crash_once(mailbox: Mailbox, request: Request) -> None:
        nonlocal crashes
        crashes += 1
        if crashes == 1:
            raise RuntimeError("for a test")
        await post(mailbox, request)

    monkeypatch.setattr(Mailbox, "post", crash_once)
    async with trio.open_nursery() as nursery:
        store = MemoryStore(nursery)
        store.answering = trio.Event()
        async with running(store, mailbox_length=1, round_timeout=1000) as directory:
            requests = [Asked(command("GET", "a")) for _ in range(4)]
            for request in requests:
                directory.post_soon(1, request)  # the first is in the mailbox, the others wait for room
            await trio.testing.wait_all_tasks_blocked()
            store.answering.set()
            outcomes = [await request.wait() for request in requests]
            nursery.cancel_scope.cancel()
    assert outcomes.count(b"PONG") == 3
    assert [type(outcome) for outcome in outcomes if outcome != b"PONG"] == [InternalError]
