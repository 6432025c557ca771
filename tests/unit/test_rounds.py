"""Rounds and the mailbox they are made of, sent by hand to a store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing

from coordinator.actors.directory import one_step
from coordinator.actors.host import Host
from coordinator.actors.mailbox import Mailbox
from coordinator.actors.request import Request
from coordinator.actors.rounds import ROUND_CALLS, Rounds
from coordinator.actors.writer import Writer
from coordinator.errors import StorageError
from coordinator.storage.connection import Connection
from coordinator.storage.keys import GLOBAL, ContextKey, Transition
from tests.support.actors import Asked, MemoryStore, command


class Made:
    """Rounds of GLOBAL's mailbox, which registers nothing, and a connection to send them on; and their host."""

    round_timeout = 1.0
    measures = False
    readiness = None
    round_slice = ROUND_CALLS

    def __init__(self, store: MemoryStore, connection: Connection) -> None:
        self.store = store
        self.connection = connection
        self.unknown: list[bool] = []
        self.mailbox = Mailbox(GLOBAL, 1024)
        self.writer = Writer(store, GLOBAL)
        self.writer.connected()
        self.rounds = Rounds(self.mailbox, store, self.writer, cast(Host, self), registers_context=False)

    def lost_effects(self, context: ContextKey, wrote: bool) -> None:
        self.unknown.append(wrote)

    def unexpected(self, *given: Any) -> None:
        raise AssertionError(f"nothing here has effects, parks or computes: {given}")

    apply_effects = compute = park = unexpected

    def posted(self, *requests: Asked) -> None:
        for request in requests:
            self.mailbox.post_nowait(request)

    async def send(self) -> list[Request]:
        """Send the next round. Returns the requests that are in it."""
        ready = self.rounds.next_requests()
        assert await self.rounds.send(self.connection, ready) is None
        return ready


@asynccontextmanager
async def made() -> AsyncIterator[Made]:
    async with trio.open_nursery() as nursery:
        store = MemoryStore(nursery)
        yield Made(store, await store.open(GLOBAL))
        nursery.cancel_scope.cancel()


async def test_a_round_is_all_that_is_pending_and_each_gets_its_own_reply(autojump: None) -> None:
    async with made() as it:
        requests = [Asked(command("PING")) for _ in range(3)]
        it.store.answers = [b"$1\r\n%d\r\n" % number for number in range(3)]
        it.posted(*requests)

        assert await it.send() == requests
        assert it.rounds.on_the_wire == 1
        assert await it.rounds.receive(it.connection) is None

        assert [request.outcome for request in requests] == [b"0", b"1", b"2"]
        assert not it.rounds
        assert (it.mailbox.pending, it.mailbox.running) == ({}, [])


async def test_a_round_has_so_many_calls_at_the_most(autojump: None) -> None:
    async with made() as it:
        requests = [Asked(command("PING")) for _ in range(ROUND_CALLS + 5)]
        it.posted(*requests)

        assert await it.send() == requests[:ROUND_CALLS]
        assert it.rounds.next_requests() == requests[ROUND_CALLS:]


async def test_what_comes_while_a_round_is_on_the_wire_is_the_next_one(autojump: None) -> None:
    async with made() as it:
        first, second = Asked(command("PING")), Asked(command("PING"))
        it.posted(first)
        await it.send()
        it.posted(second)

        assert await it.send() == [second]
        assert it.rounds.on_the_wire == 2


@pytest.mark.parametrize("writes", [False, True])
async def test_a_lost_connection_says_whether_something_may_have_been_written_and_all_is_sent_again(
    writes: bool, autojump: None
) -> None:
    async with made() as it:
        first, second = Asked(command("PING")), Asked(command("PING"), writes=writes)
        it.store.answering = trio.Event()
        it.posted(first)
        await it.send()
        it.posted(second)
        await it.send()

        lost = await it.rounds.receive(it.connection)

        assert lost is not None
        assert lost.writes is writes
        assert "1 s" in lost.fault
        it.rounds.disconnected()
        assert not it.rounds
        assert it.rounds.next_requests() == [first, second]
        assert [request.is_in_doubt for request in (first, second)] == [False, writes]


async def test_only_a_round_that_writes_tells_how_large_records_are(autojump: None) -> None:
    """A context that was deleted keeps no key because somebody reads there."""
    async with made() as it:
        it.mailbox.saw(100_000)
        it.mailbox.was_told(0)
        it.posted(Asked(command("PING")))
        await it.send()
        await it.rounds.receive(it.connection)
        assert it.store.asked == ["PING"]

        create = Transition(("FCALL", "hc_create", 0, "channel", "coordinator"))
        it.posted(Asked(one_step([create])))
        await it.send()

        await trio.testing.wait_all_tasks_blocked()
        assert it.store.asked == ["PING", "FCALL", "ZADD", "FCALL"]  # the first fences, see writer.py


async def test_a_refusal_is_that_of_its_own_request(autojump: None) -> None:
    async with made() as it:
        requests = [Asked(command("PING")) for _ in range(3)]
        it.store.answers = [b"$2\r\nok\r\n", b"-WRONGTYPE of another kind\r\n", b"$2\r\nok\r\n"]
        it.posted(*requests)
        await it.send()

        assert await it.rounds.receive(it.connection) is None

        assert [requests[0].outcome, requests[2].outcome] == [b"ok", b"ok"]
        assert isinstance(requests[1].outcome, StorageError)


async def test_an_answered_request_is_not_sent_again(autojump: None) -> None:
    async with made() as it:
        late, other = Asked(command("PING")), Asked(command("PING"))
        it.posted(late, other)
        ready = it.rounds.next_requests()
        late.finish(StorageError("too late"))

        assert it.rounds.without_answered(ready) == [other]
        assert it.unknown == []


async def test_a_mailbox_keeps_the_order_and_what_is_popped_stays_pending() -> None:
    mailbox = Mailbox(5, 2)
    first, second, third = (Asked(command("PING")) for _ in range(3))
    mailbox.post_nowait(first)
    mailbox.post_nowait(second)
    with pytest.raises(trio.WouldBlock):
        mailbox.post_nowait(third)

    assert mailbox.pop_nowait() is first
    assert [*mailbox.pending] == [first, second]
    first.finish(b"done")
    assert [*mailbox.pending] == [second]
    mailbox.detach(second)
    assert (mailbox.is_quiet, second.mailbox) == (True, None)
    assert third.mailbox is None


async def test_a_supervisor_that_waits_for_a_mailbox_is_woken_without_a_request(autojump: None) -> None:
    mailbox = Mailbox(5, 2)
    mailbox.wake()

    with trio.fail_after(1):
        assert await mailbox.pop() is None
