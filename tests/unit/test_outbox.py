"""The outbox: that it gathers, what it sends at once, its marks, its budget, its time-out, and floods of pings."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from coordinator.budget import Budget
from coordinator.rpc.websocket.outbox import HIGH_WATER, LARGE, LOW_WATER, PONG_ROOM, Outbox


class Box:
    """An outbox, and what it told."""

    def __init__(self, stream: trio.abc.Stream, write_timeout: float = 10.0) -> None:
        self.budget = Budget(1 << 24)
        self.reliefs = 0
        self.broken = trio.Event()
        self.outbox = Outbox(
            stream,
            self.budget,
            write_timeout=write_timeout,
            on_relief=self._relieved,
            on_broken=self.broken.set,
        )

    def _relieved(self) -> None:
        self.reliefs += 1


@asynccontextmanager
async def opened(transport: trio.abc.Stream, write_timeout: float = 10.0) -> AsyncIterator[tuple[Box, trio.Nursery]]:
    async with trio.open_nursery() as nursery:
        box = Box(transport, write_timeout)
        box.outbox.open(nursery)
        yield box, nursery
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def over_a_socket() -> AsyncIterator[tuple[Box, trio.Nursery, trio.SocketStream]]:
    near, far = (trio.SocketStream(end) for end in trio.socket.socketpair())
    async with near, far, opened(near) as (box, nursery):
        yield box, nursery, far


class CountingStream(trio.abc.Stream):
    """Passes everything on and counts the writes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.writes = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def received(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = bytearray()
    with trio.fail_after(20):
        while len(data) < size:
            data += await stream.receive_some()
    return bytes(data)


async def test_what_is_written_in_one_go_is_sent_in_one_call_and_in_order() -> None:
    near, far = trio.testing.memory_stream_pair()
    counting = CountingStream(near)
    async with opened(counting) as (box, _):
        for number in range(100):
            box.outbox.write(b"%d," % number)
        await trio.testing.wait_all_tasks_blocked()

        assert await far.receive_some() == b"".join(b"%d," % number for number in range(100))
        assert counting.writes == 1


async def test_the_last_one_is_sent_at_once_by_no_task_unless_others_wait_before_it() -> None:
    async with over_a_socket() as (box, nursery, far):
        box.outbox.write(b"alone", is_last=True)
        assert os.read(far.socket.fileno(), 100) == b"alone"  # no other task ran meanwhile
        assert (box.outbox.waiting, box.budget.used, len(nursery.child_tasks)) == (0, 0, 0)

        box.outbox.write(b"first,")
        box.outbox.write(b"last", is_last=True)
        assert box.outbox.waiting == box.budget.used == len(b"first,last")
        assert await received(far, 10) == b"first,last"
        assert len(nursery.child_tasks) == 1


async def test_what_the_kernel_does_not_accept_at_once_is_sent_before_what_comes_next() -> None:
    payload = bytes(range(256)) * 8192  # 2 MiB, more than a socket holds
    async with over_a_socket() as (box, _, far):
        box.outbox.write(payload, is_last=True)
        assert 0 < box.outbox.waiting < len(payload)
        box.outbox.write(b"next", is_last=True)

        assert await received(far, len(payload) + 4) == payload + b"next"
        await box.outbox.drained()
        assert box.budget.used == 0


@pytest.mark.parametrize("sizes", [(1, 10 * LARGE, 3), (LARGE,) * 8, (LARGE - 1,) * 20, (5, HIGH_WATER + 1, 7, LARGE)])
async def test_payloads_of_any_size_arrive_in_order(sizes: tuple[int, ...]) -> None:
    async with over_a_socket() as (box, _, far):
        sent = b""
        for number, size in enumerate(sizes):
            head, payload = b"<%d>" % number, bytes([number]) * size
            box.outbox.write_payload(head, payload)
            sent += head + payload
        assert box.budget.used == len(sent)

        assert await received(far, len(sent)) == sent
        await box.outbox.drained()
        assert (box.outbox.waiting, box.budget.used) == (0, 0)


async def test_the_budget_gets_back_what_was_accepted_and_keeps_the_rest() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with opened(near) as (box, _):
        box.outbox.write_payload(b"head", b"x" * 4 * LARGE)
        before = box.budget.used
        await received(far, 2 * LARGE)
        await trio.testing.wait_all_tasks_blocked()

        assert 0 < box.budget.used == box.outbox.waiting <= before - LARGE


async def test_a_peer_that_is_gone_when_the_last_one_is_sent_breaks_it() -> None:
    async with over_a_socket() as (box, _, far):
        await far.aclose()
        box.outbox.write(b"x", is_last=True)

        assert box.broken.is_set()
        assert box.outbox.is_broken
        assert box.budget.used == 0


async def test_it_relieves_once_the_peer_has_read_what_was_above_the_high_water_mark() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with opened(near) as (box, nursery):
        await box.outbox.relieved()  # nothing to wait for
        box.outbox.write(b"y" * (HIGH_WATER + 1))
        done = trio.Event()

        async def wait() -> None:
            await box.outbox.relieved()
            done.set()

        nursery.start_soon(wait)
        await received(far, HIGH_WATER + 1 - LOW_WATER - 1)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        assert box.reliefs == 0

        await received(far, LOW_WATER + 1)
        with trio.fail_after(5):
            await done.wait()
        assert box.reliefs == 1


async def test_a_peer_that_accepts_nothing_breaks_it_at_the_write_timeout(autojump: None) -> None:
    near, _far = trio.testing.lockstep_stream_pair()
    async with opened(near, write_timeout=30.0) as (box, _):
        begun = trio.current_time()
        box.outbox.write(b"x")

        await box.broken.wait()

        assert trio.current_time() - begun == pytest.approx(30.0)
        box.outbox.write(b"ignored")
        assert (box.outbox.waiting, box.budget.used) == (0, 0)
        await box.outbox.relieved()
        await box.outbox.drained()


async def test_a_peer_that_reads_slowly_but_steadily_gets_everything(autojump: None) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with opened(near, write_timeout=30.0) as (box, _):
        begun = trio.current_time()
        box.outbox.write_payload(b"", b"x" * 20 * LARGE)
        for _ in range(20):
            await trio.sleep(20)
            await received(far, LARGE)

        assert trio.current_time() - begun > 10 * 30
        assert not box.outbox.is_broken
        await trio.testing.wait_all_tasks_blocked()
        assert box.outbox.waiting == 0


async def test_who_waits_goes_on_when_the_connection_breaks() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with opened(near) as (box, nursery):
        box.outbox.write(b"y" * (HIGH_WATER + 1))
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(box.outbox.relieved)
            waiting.start_soon(box.outbox.drained)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                await far.aclose()
                await box.broken.wait()
        assert not nursery.child_tasks


async def test_who_has_given_up_waiting_may_wait_again_and_with_others() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with opened(near) as (box, _):
        box.outbox.write(b"12345")
        with trio.move_on_after(0.01):
            await box.outbox.drained()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(box.outbox.drained)
            waiting.start_soon(box.outbox.drained)
            await trio.testing.wait_all_tasks_blocked()
            assert await received(far, 5) == b"12345"


async def test_of_many_pongs_that_cannot_be_sent_the_latest_is_and_memory_is_bounded() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with opened(near) as (box, _):
        for number in range(100_000):
            box.outbox.write_pong(b"<%06d>" % number)
            assert box.outbox.waiting < PONG_ROOM + 100
        expected = b"".join(b"<%06d>" % number for number in range(PONG_ROOM // 8)) + b"<099999>"

        assert await received(far, len(expected)) == expected
