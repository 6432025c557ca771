"""The connection that brings what other coordinators did: one task sends on it, whatever else happens."""

from __future__ import annotations

from functools import partial
from typing import Any

import hiredis
import pytest
import trio
import trio.testing

from coordinator.engine.pubsub import PubSub
from coordinator.storage.connection import Connection, Store
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.keys import ContextKey, Layout


class SlowStore(Store):
    """Connections on which nothing is sent before the test reads it."""

    def __init__(self) -> None:
        super().__init__(Endpoint(), Layout())
        self._opened, self.opened = trio.open_memory_channel[trio.abc.Stream](10)

    async def open(self, address: ContextKey) -> Connection:
        ours, theirs = trio.testing.lockstep_stream_pair()
        await self._opened.send(theirs)
        return Connection(ours)


async def commands(stream: trio.abc.Stream, count: int) -> list[Any]:
    """The next so many commands that come."""
    reader = hiredis.Reader(notEnoughData=None)
    found: list[Any] = []
    while len(found) < count:
        reader.feed(bytes(await stream.receive_some(10_000)))
        while (command := reader.gets()) is not None:
            found.append(command)
    return found


async def test_a_silent_store_is_asked_once_a_subscription_under_way_has_been_sent(autojump: None) -> None:
    store = SlowStore()
    learned: list[tuple[ContextKey, Any]] = []
    pubsub = PubSub(store, lambda address, effects: learned.append((address, effects)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pubsub.run)
        pubsub.listen(1)
        stream = await store.opened.receive()
        await trio.sleep(7)  # the store has been silent for five seconds and has not read the subscription
        pubsub.listen(2)
        assert await commands(stream, 3) == [
            [b"SUBSCRIBE", b"herocoordinator:1"],
            [b"SUBSCRIBE", b"herocoordinator:2"],
            [b"EXISTS", b"contexts"],
        ]
        await stream.send_all(b":1\r\n>3\r\n$9\r\nsubscribe\r\n$17\r\nherocoordinator:1\r\n:1\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert learned == [(1, None)]
        nursery.cancel_scope.cancel()


async def test_a_store_that_stays_silent_is_left_for_another_connection_with_every_subscription(
    autojump: None,
) -> None:
    store = SlowStore()
    pubsub = PubSub(store, lambda address, effects: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pubsub.run)
        pubsub.listen(1)
        stuck = await store.opened.receive()
        await trio.sleep(9)
        pubsub.listen(2)
        stream = await store.opened.receive()
        assert await commands(stream, 1) == [[b"SUBSCRIBE", b"herocoordinator:1", b"herocoordinator:2"]]
        await trio.aclose_forcefully(stuck)
        nursery.cancel_scope.cancel()


# -- a connection to the store


async def test_sending_when_nothing_is_unsent_does_not_touch_the_stream() -> None:
    ours, _ = trio.testing.memory_stream_pair()
    await ours.aclose()
    await Connection(ours).send_rest(b"")  # a closed stream refuses even to send nothing


async def test_a_second_sender_is_refused_before_it_writes_into_the_firsts_command() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    connection = Connection(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(connection.send, [("GET", "a")]))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            connection.send_now([("GET", "b")])
        assert await commands(theirs, 1) == [[b"GET", b"a"]]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(connection.send, [("GET", "c")]))
        assert await commands(theirs, 1) == [[b"GET", b"c"]]
