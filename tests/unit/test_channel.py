"""Between the parent and a worker: messages arrive whole, in their order, whoever sends and whoever is cancelled."""

from __future__ import annotations

import pickle
import socket
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from coordinator.server.workers.channel import Failed, Gone, ParentChannel, Stop, WorkerChannel

LONG = "x" * 3_000_000  # more than a socket pair holds


def channels() -> tuple[ParentChannel, WorkerChannel]:
    ours, theirs = socket.socketpair()
    return ParentChannel(ours), WorkerChannel(theirs)


async def test_messages_of_several_tasks_arrive_whole() -> None:
    parent, worker = channels()
    texts = {f"{number}{LONG}" for number in range(4)}
    async with trio.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(worker.send, Failed(text))
        received = [await parent.receive() for _ in texts]
    assert {message.reason for message in received if isinstance(message, Failed)} == texts


async def test_the_rest_of_a_message_whose_sender_was_cancelled_comes_before_the_next() -> None:
    parent, worker = channels()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.send, Failed(LONG))
        await wait_all_tasks_blocked()  # the socket is full
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.send, Failed("next"))
        assert await parent.receive() == Failed(LONG)
        assert await parent.receive() == Failed("next")


async def test_a_message_that_waited_for_its_turn_and_was_cancelled_is_not_sent() -> None:
    parent, worker = channels()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.send, Failed(LONG))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as other:
            other.start_soon(worker.send, Failed("cancelled"))
            await wait_all_tasks_blocked()
            other.cancel_scope.cancel()
        nursery.start_soon(worker.send, Failed("next"))
        assert [await parent.receive(), await parent.receive()] == [Failed(LONG), Failed("next")]


async def test_posting_on_a_channel_that_was_closed_is_for_nobody() -> None:
    parent, _ = channels()
    parent.close()
    parent.post(Stop())


async def test_a_message_that_cannot_be_read_does_not_stand_in_the_way_of_the_next() -> None:
    ours, theirs = socket.socketpair()
    worker = WorkerChannel(theirs)
    ours.sendall(struct.pack("!I", 3) + b"bad")
    ParentChannel(ours).post(Gone("a"))
    with pytest.raises(pickle.UnpicklingError):
        await worker.receive()
    assert await worker.receive() == Gone("a")
