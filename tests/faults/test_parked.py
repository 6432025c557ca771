"""Rounds of a few calls are sent and received while the supervisor's task is parked: they cost it no switch, they do
what rounds of many do, and whatever happens to their connection is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from coordinator import readiness
from coordinator.actors.directory import Directory
from coordinator.actors.request import Compute, Operation, Parking, RawJson, Request
from coordinator.errors import CoordinatorError, StorageError
from coordinator.storage.connection import Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import GLOBAL, ContextKey, Layout
from coordinator.supervision import faults
from tests.support.actors import Asked, command, running
from tests.support.proxy import Proxy, Side, proxied
from tests.support.server import ValkeyProcess

HANG = 60.0
CONTEXT = 5


@asynccontextmanager
async def directory_at(url: str, **options: Any) -> AsyncIterator[Directory]:
    """A directory that has used CONTEXT before, and is parked there."""
    async with running(Store(Endpoint.from_url(url), Layout()), **options) as directory:
        with trio.fail_after(HANG):
            await asked(directory, command("PING"))
            yield directory


@asynccontextmanager
async def behind_a_proxy(store: ValkeyProcess, **options: Any) -> AsyncIterator[tuple[Directory, Proxy]]:
    async with proxied(store.port) as proxy, directory_at(proxy.url, **options) as directory:
        yield directory, proxy


async def asked(
    directory: Directory, *operations: Operation, context: ContextKey = CONTEXT
) -> list[RawJson | CoordinatorError | None]:
    """The outcomes of operations that are posted at once."""
    requests = [Asked(operation) for operation in operations]
    for request in requests:
        directory.post_nowait(context, request)
    return [await request.wait() for request in requests]


def steps(*commands: Sequence[str]) -> Operation:
    """One command after the other, with a computation between them. The result is their replies."""
    replies: list[bytes] = []
    for words in commands:
        (reply,) = yield [tuple(words)]
        replies.append((yield Compute(partial(_text, reply))))
    return b" ".join(replies)


def _text(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else b"%d" % reply


class Switches(trio.abc.Instrument):
    """Counts how often tasks run, by name."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.of[task.name] = self.of.get(task.name, 0) + 1


async def test_a_round_of_a_few_calls_switches_to_no_task_of_its_context(store: ValkeyProcess) -> None:
    switches = Switches()
    async with directory_at(store.url) as directory:
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(switches)
        try:
            for number in range(20):
                assert await asked(directory, *(command("ECHO", number) for _ in range(3))) == [b"%d" % number] * 3
        finally:
            trio.lowlevel.remove_instrument(switches)
    assert sum(count for name, count in switches.of.items() if "_oversee" in name) == 0, switches.of


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "waiting with trio"])
async def test_few_and_many_calls_are_carried_out_alike(
    store: ValkeyProcess, monkeypatch: pytest.MonkeyPatch, is_watched: bool
) -> None:
    monkeypatch.setattr(readiness, "is_available", lambda: is_watched)
    async with directory_at(store.url) as directory:
        total = 0
        for count in (1, 2, 15, 16, 17, 33, 300, 1, 5, 300, 2):
            operations = [command("INCR", "n") for _ in range(count)]
            operations[count // 2 : count // 2] = [steps(("SET", "a", str(count)), ("GET", "a"), ("APPEND", "a", "!"))]
            outcomes = await asked(directory, *operations)
            assert outcomes.pop(count // 2) == b"OK %d %d" % (count, len(str(count)) + 1)
            assert outcomes == [b"%d" % (total + at + 1) for at in range(count)]
            total += count
        failed, found = await asked(directory, command("INCR", "a"), command("GET", "a"))
        assert isinstance(failed, StorageError)
        assert found == b"2!"


async def test_what_is_posted_while_a_round_is_on_the_wire_is_sent_and_keeps_its_order(store: ValkeyProcess) -> None:
    async with behind_a_proxy(store) as (directory, proxy):
        proxy.stall()
        requests: list[Asked] = []
        for _ in range(5):  # two rounds are on the wire, the rest waits
            requests.append(Asked(command("INCR", "n")))
            directory.post_nowait(CONTEXT, requests[-1])
            await trio.testing.wait_all_tasks_blocked()
        ahead: list[Any] = []
        directory.call_soon(CONTEXT, command("GET", "n"), ahead.append, writes=False, ahead=True)
        await proxy.pass_all()
        assert [await request.wait() for request in requests] == [b"%d" % number for number in range(1, 6)]
        while not ahead:
            await trio.sleep(0.01)
        assert ahead in ([b"2"], [b"1"])  # before those that waited


async def test_an_operation_that_asks_its_own_context_for_something_is_not_left_waiting(store: ValkeyProcess) -> None:
    async with directory_at(store.url) as directory:

        def asking(number: int) -> Operation:
            """Waits for another request here, before it has sent anything and after."""
            found: list[Any] = []
            for word in ("before", "after"):
                waiting = Parking()

                def then(outcome: Any, waiting: Parking = waiting) -> None:
                    found.append(outcome)
                    waiting.wake()

                directory.call_soon(CONTEXT, command("ECHO", f"{word}{number}"), then)
                yield waiting.park()
                (reply,) = yield [("ECHO", number)]
                found.append(reply)
            return b" ".join(found)

        for number in range(5):
            outcomes = await asked(directory, *(asking(number) for _ in range(number + 1)))
            assert outcomes == [b"before%d %d after%d %d" % ((number,) * 4)] * (number + 1)


@pytest.mark.parametrize("is_sent", [False, True], ids=["before it is sent", "when it is answered"])
@pytest.mark.parametrize("ahead", [0, 1], ids=["want its place", "do both"])
async def test_who_is_answered_may_wake_the_mailbox_or_want_its_place(
    store: ValkeyProcess, is_sent: bool, ahead: int
) -> None:
    faults_before = faults()
    async with directory_at(store.url, max_connections=1) as directory:
        for number in range(3):
            found: list[Any] = []

            def then(outcome: Any, number: int = number, found: list[Any] = found) -> None:
                found.append(outcome)
                if len(found) == 1:
                    if ahead:
                        directory.call_soon(CONTEXT, command("ECHO", f"ahead{number}"), then, ahead=True)
                    directory.call_soon(CONTEXT + 1, command("ECHO", f"other{number}"), then)

            def answered() -> Operation:
                yield Compute(lambda: None) if not is_sent else [("PING",)]
                return b"first"

            directory.call_soon(CONTEXT, answered(), then)
            while len(found) < 2 + ahead:
                await trio.sleep(0.01)
            assert sorted(found) == sorted([b"first", b"other%d" % number, *[b"ahead%d" % number] * ahead])
        assert directory.crashes == 0
    assert faults() == faults_before


@pytest.mark.parametrize("piece", [1, 7])
async def test_a_reply_that_comes_in_pieces_is_put_together(store: ValkeyProcess, piece: int) -> None:
    async with behind_a_proxy(store) as (directory, proxy):
        proxy.trickle(piece)
        text = "x" * 400
        assert await asked(directory, command("ECHO", text), command("ECHO", "end")) == [text.encode(), b"end"]


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_a_connection_that_ends_while_nothing_is_asked_costs_the_next_call_nothing(
    store: ValkeyProcess, reset: bool
) -> None:
    async with behind_a_proxy(store) as (directory, proxy):
        for number in range(3):
            assert proxy.cut(reset=reset) == 1
            while proxy.connections:
                await trio.sleep(0.01)
            assert await asked(directory, command("ECHO", number)) == [b"%d" % number]
        assert directory.crashes == 0


@pytest.mark.parametrize("bytes_of_it", [1, 9, 20])
async def test_a_connection_that_ends_within_a_reply_is_noticed_at_once(store: ValkeyProcess, bytes_of_it: int) -> None:
    async with behind_a_proxy(store, round_timeout=HANG) as (directory, proxy):
        proxy.cut_after(bytes_of_it, Side.TO_CLIENT)
        assert await asked(directory, command("ECHO", "one"), command("ECHO", "two")) == [b"one", b"two"]
        assert await asked(directory, command("ECHO", "three")) == [b"three"]


async def test_a_store_that_says_nothing_is_given_up_and_asked_again(store: ValkeyProcess) -> None:
    async with behind_a_proxy(store, round_timeout=0.3) as (directory, proxy):
        before = proxy.accepted
        proxy.stall(Side.TO_CLIENT)
        request = Asked(command("ECHO", "late"))
        directory.post_nowait(CONTEXT, request)
        await proxy.until_accepted(before + 1)  # it was given up
        await proxy.pass_all()
        assert await request.wait() == b"late"


async def test_a_store_that_takes_nothing_is_given_up_and_asked_again(store: ValkeyProcess) -> None:
    async with behind_a_proxy(store, round_timeout=0.3) as (directory, proxy):
        before = proxy.accepted
        proxy.stall()
        text = "x" * 20_000_000  # more than the kernel keeps
        request = Asked(command("SET", "large", text))
        directory.post_nowait(CONTEXT, request)
        await proxy.until_accepted(before + 1)
        await proxy.pass_all()
        assert await request.wait() == b"OK"


async def test_a_store_that_takes_it_slowly_is_not_given_up(store: ValkeyProcess) -> None:
    """Over a slow network a round of large records takes longer than the store has to answer."""
    async with behind_a_proxy(store, round_timeout=1.0) as (directory, proxy):
        before, begun = proxy.accepted, trio.current_time()
        text = "x" * 20_000_000  # more than the kernel keeps
        proxy.slow_down(Side.TO_STORE, 8_000_000)
        assert await asked(directory, command("SET", "large", text)) == [b"OK"]
        assert trio.current_time() - begun > 1.0
        assert proxy.accepted == before


async def test_what_nobody_waits_for_any_more_blocks_nothing(store: ValkeyProcess) -> None:
    async with behind_a_proxy(store, mailbox_length=4) as (directory, proxy):
        proxy.stall()
        for _ in range(3):
            abandoned: list[Request] = [Asked(command("ECHO", "nobody")) for _ in range(2)]
            for request in abandoned:
                directory.post_nowait(CONTEXT, request)
            await trio.testing.wait_all_tasks_blocked()
            for request in abandoned:
                request.abandon()
        await proxy.pass_all()
        for number in range(12):
            assert await asked(directory, command("ECHO", number)) == [b"%d" % number]


async def test_contexts_that_share_one_connection_take_turns(store: ValkeyProcess) -> None:
    async with directory_at(store.url, max_connections=1) as directory:
        for number in range(6):
            requests = [Asked(command("ECHO", number)) for _ in range(3)]
            for context, request in enumerate(requests, CONTEXT):
                directory.post_nowait(context, request)
            assert [await request.wait() for request in requests] == [b"%d" % number] * 3
        assert await asked(directory, command("PING"), context=GLOBAL) == [b"PONG"]


async def test_an_unused_supervisor_retires_and_the_next_call_starts_another(store: ValkeyProcess) -> None:
    async with directory_at(store.url, idle_timeout=0.1) as directory:
        for number in range(2):
            while directory.connections:
                await trio.sleep(0.02)
            assert await asked(directory, command("ECHO", number)) == [b"%d" % number]


async def test_more_contexts_than_are_told_of_at_once_are_all_answered(store: ValkeyProcess) -> None:
    contexts = range(1, readiness.AT_ONCE + 20)
    isolated = Store(Endpoint.from_url(store.url), Layout(isolation="prefix"))
    async with running(isolated, max_connections=len(contexts)) as directory:
        with trio.fail_after(HANG):
            for number in range(3):
                requests = [Asked(command("ECHO", f"{context}-{number}")) for context in contexts]
                for context, request in zip(contexts, requests, strict=True):
                    directory.post_nowait(context, request)
                expected = [f"{context}-{number}".encode() for context in contexts]
                assert [await request.wait() for request in requests] == expected
