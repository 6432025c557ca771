"""Faults inside the actor core: crashes, operations that fail, deadlines, full mailboxes, retirement."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from pydantic_core import from_json, to_json

from coordinator.actors.directory import FEW, HOUSEKEEPING_EVERY, LONG_SLICE, SHORT_SLICE, Directory
from coordinator.actors.pipeline import Together
from coordinator.actors.request import Answerable, Compute, Operation, Outcome, RawJson, Request
from coordinator.budget import Budget
from coordinator.engine.engine import Engine
from coordinator.errors import InternalError, NotFound, StorageError
from coordinator.operations import records
from coordinator.rpc.jsonrpc.calls import Intake
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.jsonrpc.replies import Response, Sink
from coordinator.rpc.methods import METHODS
from coordinator.rpc.methods.method import OneCommand
from coordinator.rpc.work import carry_out
from coordinator.storage.connection import Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import GLOBAL, Keyspace, Layout
from tests.support.actors import Asked, CrashingStore, MemoryStore, command, running
from tests.support.inprocess import serving, ws_url
from tests.support.server import ValkeyProcess
from tests.support.streaming import ErrorReply, job, job_ids, streaming

HANG = 60.0


def valkey_store(valkey: ValkeyProcess) -> Store:
    return Store(Endpoint.from_url(valkey.url), Layout())


def fails_before_its_first_command() -> Operation:
    raise RuntimeError("an operation's own fault")
    yield []


def fails_on_its_reply() -> Operation:
    yield [("PING",)]
    raise RuntimeError("an operation's own fault")


def fails_while_computing() -> Operation:
    def run() -> None:
        raise RuntimeError("an operation's own fault")

    yield Compute(run)
    return b"never"


def finds_nothing_while_computing() -> Operation:
    def run() -> None:
        raise NotFound("thing", id=1)

    yield Compute(run)
    return b"never"


class Kept(Sink):
    """Keeps the one reply that comes."""

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.response = b""

    def reply(self, response: Response | None, calls: int = 1) -> None:
        assert isinstance(response, bytes)
        self.response = response
        self.arrived.set()

    def waits_for(self, call: Request) -> None:
        raise AssertionError("no call here takes long")


# -- a supervisor that crashes


@pytest.mark.parametrize("was_used", [False, True], ids=["connecting", "parked"])
@pytest.mark.parametrize("count", [1, 3, 40])
async def test_a_crash_is_answered_for_and_the_context_goes_on(
    store: ValkeyProcess, count: int, was_used: bool
) -> None:
    crashing = CrashingStore(store.url)
    async with running(crashing) as directory:
        with trio.fail_after(HANG):
            if was_used:
                first = Asked(command("PING"))
                directory.post_nowait(5, first)
                await first.wait()
                await trio.testing.wait_all_tasks_blocked()
            crashing.bad_exchanges = 1
            struck = [Asked(command("PING")) for _ in range(count)]
            for request in struck:
                directory.post_nowait(5, request)
            incidents = set()
            for request in struck:
                outcome = await request.wait()
                assert isinstance(outcome, InternalError)
                incidents.add(outcome.data["incident"])

            later = Asked(command("SET", "key", "stored"))
            directory.post_nowait(5, later)

            assert await later.wait() == b"OK"
            assert len(incidents) == 1
            assert directory.crashes == 1
            assert store.client(db=5).get("key") == "stored"


async def test_a_crash_does_not_lose_what_waits_in_the_mailbox(store: ValkeyProcess) -> None:
    crashing = CrashingStore(store.url)
    async with running(crashing, mailbox_length=3) as directory:
        with trio.fail_after(HANG):
            crashing.bad_openings = 1
            struck = Asked(command("PING"))
            directory.post_nowait(5, struck)
            await trio.testing.wait_all_tasks_blocked()
            waiting = [Asked(command("ECHO", number)) for number in range(6)]
            async with trio.open_nursery() as posters:
                for request in waiting:  # three fill the mailbox, the others wait for room
                    posters.start_soon(directory.post, 5, request)
                await trio.testing.wait_all_tasks_blocked()

                crashing.may_crash.set()

                assert isinstance(await struck.wait(), InternalError)
                assert [await request.wait() for request in waiting] == [b"%d" % number for number in range(6)]
            assert directory.crashes == 1
            assert directory.pending == 0


async def test_a_crash_in_one_context_is_not_felt_in_another(store: ValkeyProcess) -> None:
    crashing = CrashingStore(store.url)
    async with running(crashing) as directory:
        with trio.fail_after(HANG):
            crashing.bad_openings = 1
            struck, other = Asked(command("PING")), Asked(command("PING"))
            directory.post_nowait(5, struck)
            await trio.testing.wait_all_tasks_blocked()
            directory.post_nowait(6, other)

            assert await other.wait() == b"PONG"
            assert not struck.answered.is_set()

            crashing.may_crash.set()
            assert isinstance(await struck.wait(), InternalError)


async def test_a_supervisor_that_crashes_again_and_again_is_started_again_and_again(store: ValkeyProcess) -> None:
    crashing = CrashingStore(store.url)
    async with running(crashing) as directory:
        with trio.fail_after(HANG):
            crashing.may_crash.set()
            crashing.bad_openings = 3
            for _ in range(3):
                struck = Asked(command("PING"))
                await directory.post(5, struck)
                assert isinstance(await struck.wait(), InternalError)

            survivor = Asked(command("PING"))
            await directory.post(5, survivor)

            assert await survivor.wait() == b"PONG"
            assert directory.crashes == 3
            assert directory.connections == 1


# -- an operation that fails


@pytest.mark.parametrize(
    "broken",
    [fails_before_its_first_command, fails_on_its_reply, fails_while_computing],
    ids=lambda each: each.__name__,
)
async def test_an_operation_that_fails_takes_no_other_with_it(
    store: ValkeyProcess, broken: Callable[[], Operation]
) -> None:
    async with running(valkey_store(store)) as directory:
        with trio.fail_after(HANG):
            before, failing, after = Asked(command("ECHO", "1")), Asked(broken()), Asked(command("ECHO", "2"))
            for request in (before, failing, after):
                directory.post_nowait(5, request)

            outcome = await failing.wait()

            assert isinstance(outcome, InternalError)
            assert outcome.data["incident"]
            assert "own fault" not in str(outcome.data)
            assert await before.wait() == b"1"
            assert await after.wait() == b"2"
            assert directory.crashes == 0
            assert directory.pending == 0


async def test_an_error_of_the_contract_found_while_computing_is_the_answer(store: ValkeyProcess) -> None:
    async with running(valkey_store(store)) as directory:
        with trio.fail_after(HANG):
            request = Asked(finds_nothing_while_computing())
            directory.post_nowait(5, request)

            assert isinstance(await request.wait(), NotFound)


# -- order


@pytest.mark.parametrize("mailbox_length", [1, 7, 1024])
async def test_a_context_serves_in_the_order_of_posting(store: ValkeyProcess, mailbox_length: int) -> None:
    async with running(valkey_store(store), mailbox_length=mailbox_length) as directory:
        with trio.fail_after(HANG):
            requests = [Asked(command("RPUSH", "order", number)) for number in range(600)]
            for request in requests:
                await directory.post(5, request)

            assert [await request.wait() for request in requests] == [b"%d" % (at + 1) for at in range(600)]
            assert store.client(db=5).lrange("order", 0, -1) == [str(number) for number in range(600)]


async def test_the_first_step_of_a_request_comes_before_any_later_request(store: ValkeyProcess) -> None:
    def two_steps(name: str) -> Operation:
        yield [("RPUSH", "order", f"{name}1")]
        yield [("RPUSH", "order", f"{name}2")]
        return b"done"

    async with running(valkey_store(store)) as directory:
        with trio.fail_after(HANG):
            requests = [Asked(two_steps(name)) for name in "abc"]
            for request in requests:
                directory.post_nowait(5, request)
            for request in requests:
                await request.wait()

    order = store.client(db=5).lrange("order", 0, -1)
    assert order[:3] == ["a1", "b1", "c1"]
    assert sorted(map(str, order[3:])) == ["a2", "b2", "c2"]


async def test_turns_are_shorter_while_others_wait_for_few(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        async with running(memory) as directory:
            assert await answer_of(directory, 1) == b"PONG"
            assert directory.slice_calls is None

            assert await answer_of(directory, 2) == b"PONG"
            assert directory.slice_calls == SHORT_SLICE

            memory.answering = trio.Event()
            asked = [Asked(command("PING")) for _ in range(FEW + 1)]
            for context, request in enumerate(asked, 1):
                directory.post_nowait(context, request)
            await trio.sleep(2 * HOUSEKEEPING_EVERY)
            assert directory.slice_calls == LONG_SLICE

            memory.answering.set()
            for request in asked:
                assert await request.wait() == b"PONG"
            await trio.sleep(2 * HOUSEKEEPING_EVERY)
            assert directory.slice_calls == SHORT_SLICE
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("contexts", [1, 2])
async def test_a_long_message_is_taken_in_turns_if_another_context_is_active(
    store: ValkeyProcess, contexts: int
) -> None:
    batch = to_json([{"jsonrpc": "2.0", "id": n, "method": "job.load", "params": job_ids(1, n)} for n in range(1, 101)])
    valkey = valkey_store(store)
    async with running(valkey) as directory:
        for context in range(1, contexts + 1):
            assert await answer_of(directory, context) == b"PONG"
        limits: dict[str, Any] = {"request_timeout": 30, "max_batch": 100, "max_batch_reply": 100_000}
        dispatcher = Dispatcher(directory, Engine(directory, valkey, max_subscriptions=10), valkey.layout, **limits)
        sink = Kept()
        intake = Intake(dispatcher, Budget(1 << 24))
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as others:
            others.start_soon(other)
            await trio.lowlevel.checkpoint()
            before = turns
            await carry_out(intake.take(batch, sink))
            taken = turns - before
            others.cancel_scope.cancel()
        await intake.flush()
        with trio.fail_after(HANG):
            await sink.arrived.wait()

    assert taken == 0 if contexts == 1 else taken >= 100 // SHORT_SLICE
    assert len(from_json(sink.response)) == 100


class FailsOnce(Kept):
    """Raises when it is handed the first reply."""

    has_failed = False

    def reply_to(self, at: int, id: bytes | None, outcome: Outcome) -> None:
        if not self.has_failed:
            self.has_failed = True
            raise ZeroDivisionError
        super().reply_to(at, id, outcome)


async def test_a_reply_that_cannot_be_handed_out_keeps_no_other_back(store: ValkeyProcess) -> None:
    valkey = valkey_store(store)
    async with running(valkey) as directory:
        limits: dict[str, Any] = {"request_timeout": 30, "max_batch": 100, "max_batch_reply": 100_000}
        dispatcher = Dispatcher(directory, Engine(directory, valkey, max_subscriptions=10), valkey.layout, **limits)
        sink, budget = FailsOnce(), Budget(1 << 24)
        intake = Intake(dispatcher, budget)
        for id in (1, 2):  # they travel together
            call = {"jsonrpc": "2.0", "id": id, "method": "job.load", "params": job_ids(1, id)}
            await carry_out(intake.take(to_json(call), sink))
        await intake.flush()
        with trio.fail_after(HANG):
            await sink.arrived.wait()

    assert from_json(sink.response)["id"] == 2
    assert budget.used == 0


class Counting(Sink):
    """Counts the replies."""

    def __init__(self) -> None:
        self.replies = 0

    def reply(self, response: Response | None, calls: int = 1) -> None:
        self.replies += 1

    def waits_for(self, call: Request) -> None:
        raise AssertionError("no call here takes long")


async def test_no_call_is_lost_or_overtakes_another_while_a_mailbox_is_full(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        async with running(memory, mailbox_length=1, round_timeout=1_000) as directory:
            assert (
                await answer_of(directory, 1) == b"PONG"
            )  # so how large its records are is known, of others it is not
            memory.answering = trio.Event()
            limits: dict[str, Any] = {"request_timeout": 1_000, "max_batch": 100, "max_batch_reply": 100_000}
            dispatcher = Dispatcher(directory, Engine(directory, memory, max_subscriptions=1), memory.layout, **limits)
            sink = Counting()
            intake = Intake(dispatcher, Budget(1 << 26))

            async def take() -> None:
                for id in range(6):
                    for context in (1, 2 + id):
                        params = job_ids(context, id)
                        call = {"jsonrpc": "2.0", "id": id, "method": "job.load", "params": params}
                        await carry_out(intake.take(to_json(call), sink))
                await intake.flush()

            async with trio.open_nursery() as taking:
                taking.start_soon(take)
                await trio.testing.wait_all_tasks_blocked()
                memory.answering.set()
            with trio.fail_after(900):
                while sink.replies < 12:
                    await trio.sleep(1)
            assert directory.pending == 0
            nursery.cancel_scope.cancel()


# -- deadlines


async def test_the_deadline_holds_for_requests_nobody_has_taken_yet(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        memory.answering = trio.Event()
        async with (
            running(memory, mailbox_length=2, round_timeout=1_000) as directory,
            trio.open_nursery() as posters,
        ):
            requests = [Asked(command("PING"), timeout=10, writes=number % 2 == 0) for number in range(8)]
            begun = trio.current_time()
            for request in requests:
                posters.start_soon(directory.post, 5, request)
                await trio.testing.wait_all_tasks_blocked()

            outcomes = [await request.wait() for request in requests]

            assert 10 <= trio.current_time() - begun < 11
            assert all(isinstance(outcome, StorageError) for outcome in outcomes)
            assert [
                outcome.data["may_have_been_applied"] for outcome in outcomes if isinstance(outcome, StorageError)
            ] == [
                True,  # taken, and sent
                *[False] * 7,
            ]
            assert [request.answers for request in requests] == [1] * 8
            memory.answering.set()
            posters.cancel_scope.deadline = trio.current_time() + 2_000
        assert directory.expired == 8
        assert directory.pending == 0
        nursery.cancel_scope.cancel()


async def test_each_request_has_its_own_deadline(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        memory.unreachable = True
        async with running(memory) as directory:
            begun = trio.current_time()
            took: dict[float, float] = {}

            async def ask(timeout: float) -> None:
                request = Asked(command("PING"), timeout=timeout)
                await directory.post(GLOBAL, request)
                assert isinstance(await request.wait(), StorageError)
                took[timeout] = trio.current_time() - begun

            async with trio.open_nursery() as asking:
                for timeout in (30.0, 2.0, 9.0):
                    asking.start_soon(ask, timeout)
                    await trio.testing.wait_all_tasks_blocked()

            for timeout, seconds in took.items():
                assert timeout <= seconds < timeout + 1
        nursery.cancel_scope.cancel()


async def test_one_call_among_others_is_refused_and_the_rest_sent_again_if_it_has_to_be(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        refused, loading = b"-WRONGTYPE of another kind\r\n", b"-LOADING just a moment\r\n"
        memory.answers = [refused, loading, loading, loading, refused]
        async with running(memory) as directory:
            outcomes: list[Outcome] = []
            ping: Answerable = ("PING",), lambda reply, asked: reply, None
            request = Asked(Together([ping] * 3, 5, outcomes))
            request.commands = [ping[0]] * 3
            request.calls = 3
            later = Asked(command("PING"))
            directory.post_nowait(5, request)
            directory.post_nowait(5, later)

            assert await later.wait() == b"PONG"

            assert await request.wait() == b""
            assert outcomes[1:] == [b"PONG", b"PONG"]
            (refusal,) = (outcome for outcome in outcomes if isinstance(outcome, StorageError))
            assert "WRONGTYPE" in refusal.data["detail"]
            assert directory.pending == 0
        nursery.cancel_scope.cancel()


async def test_a_call_that_cannot_even_begin_harms_no_other_of_its_batch(
    store: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(keys: Keyspace, params: Any) -> Answerable:
        raise ZeroDivisionError

    monkeypatch.setitem(METHODS, "job.load", replace(METHODS["job.load"], does=OneCommand(broken)))
    calls = [("job.create", job(3, 1)), ("job.load", job_ids(3, 1)), ("job.create", job(3, 2))]
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url) as app, streaming(ws_url(app)) as client:
            first, broke, second = await client.batch(calls)

    assert [first["id"], second["id"]] == [1, 2]
    assert isinstance(broke, ErrorReply)
    assert broke.code == InternalError.code
    assert broke.data["incident"]


async def test_an_unreachable_store_is_tried_again_at_growing_intervals(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        memory.unreachable = True
        async with running(memory) as directory:
            request = Asked(command("PING"), timeout=120)
            directory.post_nowait(5, request)
            await trio.sleep(100)
            attempts = memory.attempts

            memory.unreachable = False

            assert await request.wait() == b"PONG"
            assert 20 < attempts < 300
            assert memory.attempts <= attempts + 1
        nursery.cancel_scope.cancel()


async def test_a_computation_past_its_deadline_is_answered_for_and_dropped(store: ValkeyProcess) -> None:
    may_end = threading.Event()

    def computing() -> Operation:
        yield Compute(may_end.wait)
        return b"too late"

    async with running(valkey_store(store)) as directory:
        with trio.fail_after(HANG):
            try:
                late = Asked(computing(), timeout=0.2)
                directory.post_nowait(5, late)
                outcome = await late.wait()
            finally:
                may_end.set()
            after = Asked(command("PING"))
            directory.post_nowait(5, after)

            assert isinstance(outcome, StorageError)
            assert await after.wait() == b"PONG"
            assert late.answers == 1


async def test_a_directory_that_ends_answers_what_is_pending(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        memory.answering = trio.Event()
        async with running(memory, round_timeout=1_000) as directory:
            sent, queued = Asked(command("PING"), writes=True), Asked(command("PING"), writes=True)
            directory.post_nowait(5, sent)
            await trio.testing.wait_all_tasks_blocked()
            directory.post_nowait(5, queued)

        for request, may_have_been_applied in ((sent, True), (queued, False)):
            assert isinstance(request.outcome, StorageError)
            assert "shutting down" in request.outcome.data["detail"]
            assert request.outcome.data["may_have_been_applied"] is may_have_been_applied
        memory.answering.set()  # so that its end of the connection looks at it again
        await trio.testing.wait_all_tasks_blocked()
        assert memory.open_now == 0
        nursery.cancel_scope.cancel()


# -- full mailboxes


async def test_a_poster_cancelled_before_there_was_room_leaves_no_trace(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        memory.answering = trio.Event()
        async with running(memory, mailbox_length=1, round_timeout=1_000, idle_timeout=50) as directory:
            taken, queued = Asked(command("PING")), Asked(command("PING"))
            for request in (taken, queued):
                await directory.post(5, request)
                await trio.testing.wait_all_tasks_blocked()
            left, behind = Asked(command("PING")), Asked(command("PING"))
            async with trio.open_nursery() as posters:
                leaving = trio.CancelScope()

                async def post_and_leave() -> None:
                    with leaving:
                        await directory.post(5, left)

                posters.start_soon(post_and_leave)
                await trio.testing.wait_all_tasks_blocked()
                posters.start_soon(directory.post, 5, behind)
                await trio.testing.wait_all_tasks_blocked()

                leaving.cancel()
                await trio.testing.wait_all_tasks_blocked()

                assert leaving.cancelled_caught
                assert directory.pending == 3
                memory.answering.set()

            assert [await request.wait() for request in (taken, queued, behind)] == [b"PONG"] * 3
            assert left.answers == 0
            assert inspect.getgeneratorstate(left.operation) == inspect.GEN_CREATED
            assert directory.pending == 0
            await trio.sleep(60)
            assert directory.active_contexts == 0  # nothing of it keeps the context alive
        nursery.cancel_scope.cancel()


async def test_a_full_mailbox_refuses_at_once_who_cannot_wait(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        memory.answering = trio.Event()
        async with running(memory, mailbox_length=2) as directory:
            posted = []
            directory.post_nowait(5, Asked(command("PING")))
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2):
                posted.append(Asked(command("PING")))
                directory.post_nowait(5, posted[-1])

            with pytest.raises(trio.WouldBlock):
                directory.post_nowait(5, Asked(command("PING")))

            assert directory.pending == 3
            memory.answering.set()
            assert [await request.wait() for request in posted] == [b"PONG"] * 2
        nursery.cancel_scope.cancel()


# -- retirement


async def test_an_unused_context_is_retired_and_comes_back_when_used(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        async with running(memory, idle_timeout=60) as directory:
            assert await answer_of(directory, 5) == b"PONG"

            await trio.sleep(59)
            assert (directory.connections, directory.active_contexts, memory.open_now) == (1, 1, 1)
            await trio.sleep(2)
            assert (directory.connections, directory.active_contexts, memory.open_now) == (0, 0, 0)

            assert await answer_of(directory, 5) == b"PONG"
            assert memory.opened == 2
        nursery.cancel_scope.cancel()


async def test_a_context_in_use_is_not_retired(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        async with running(memory, idle_timeout=60) as directory:
            for _ in range(10):
                assert await answer_of(directory, 5) == b"PONG"
                await trio.sleep(50)

            assert memory.opened == 1
        nursery.cancel_scope.cancel()


async def test_a_request_that_meets_a_retiring_supervisor_is_served(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        async with running(memory, max_connections=1) as directory:
            assert await answer_of(directory, 1) == b"PONG"
            other, late = Asked(command("PING")), Asked(command("PING"))

            directory.post_nowait(2, other)  # tells context 1 to retire
            directory.post_nowait(1, late)  # before it has done so

            assert await other.wait() == b"PONG"
            assert await late.wait() == b"PONG"
            assert memory.open_now == 1
        nursery.cancel_scope.cancel()


async def test_contexts_by_the_thousand_through_one_connection(autojump: None) -> None:
    async with trio.open_nursery() as nursery:
        memory = MemoryStore(nursery)
        async with running(memory, max_connections=1, idle_timeout=5) as directory:
            requests = [Asked(command("PING")) for _ in range(1_000)]
            for address, request in enumerate(requests):
                directory.post_nowait(address, request)

            assert [await request.wait() for request in requests] == [b"PONG"] * 1_000
            await trio.sleep(10)
            assert (directory.connections, directory.active_contexts, memory.open_now) == (0, 0, 0)
        nursery.cancel_scope.cancel()


async def answer_of(directory: Directory, address: int) -> RawJson | Exception | None:
    request = Asked(command("PING"))
    await directory.post(address, request)
    return await request.wait()


# -- long computations


async def test_a_context_goes_on_while_one_of_its_requests_computes(store: ValkeyProcess) -> None:
    may_end = threading.Event()

    def computing() -> Operation:
        yield [("PING",)]
        yield Compute(may_end.wait)
        (reply,) = yield [("ECHO", "computed")]
        return bytes(reply)

    async with running(valkey_store(store), mailbox_length=1) as directory:
        with trio.fail_after(HANG):
            try:
                long = Asked(computing())
                await directory.post(5, long)
                for number in range(50):
                    short = Asked(command("ECHO", number))
                    await directory.post(5, short)
                    assert await short.wait() == b"%d" % number
                assert not long.answered.is_set()
            finally:
                may_end.set()

            assert await long.wait() == b"computed"


@pytest.mark.slow
async def test_a_dag_of_ten_thousand_jobs_keeps_nobody_waiting(
    store: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its graph is not computed until ten calls sent meanwhile have been answered."""
    count = 10_000
    computing, others_answered = threading.Event(), threading.Event()
    compute = records._dag_json

    def compute_late(summaries: Mapping[int, Sequence[bytes]]) -> bytes:
        computing.set()
        assert others_answered.wait(HANG / 4), "nobody was answered meanwhile"
        return compute(summaries)

    monkeypatch.setattr(records, "_dag_json", compute_late)
    with trio.fail_after(HANG):
        async with serving(redis_url=store.url) as app, streaming(ws_url(app)) as client:
            for first in range(0, count, 1_000):
                created = await client.batch(
                    [("job.create", job(1, id, depends=parents(id))) for id in range(first, first + 1_000)]
                )
                assert not [outcome for outcome in created if isinstance(outcome, ErrorReply)]
            flow = {"id": 1, "caller_id": 7, "context_id": 1, "jobs": [*range(count)], "env_vars": {}}
            await client.call("flow.create", {"context_id": 1, "flow": flow})

            async def keep_loading() -> None:
                answered = 0
                while answered < 10:
                    was_computing = computing.is_set()
                    await client.call("job.load", job_ids(1, answered))
                    answered += was_computing
                others_answered.set()

            async with trio.open_nursery() as others:
                dag = await client.send("flow.dag", {"context_id": 1, "id": 1})
                others.start_soon(keep_loading)
                graph = await dag()

            assert others_answered.is_set()
            assert len(graph["nodes"]) == count
            assert graph["roots"] == [0]
            assert [len(level) for level in graph["levels"][:4]] == [1, 2, 4, 8]


def parents(id: int) -> list[int]:
    """A binary tree."""
    return [(id - 1) // 2] if id else []
