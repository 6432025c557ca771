"""The coalescing stream: trio's own stream checks, that it coalesces, its marks, and its write deadline."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from coordinator.budget import Budget
from coordinator.rpc.websocket.outbox import HIGH_WATER, CoalescingStream


@asynccontextmanager
async def flushing(
    transport: trio.abc.Stream, write_timeout: float = 10.0
) -> AsyncIterator[tuple[CoalescingStream, trio.Nursery]]:
    async with trio.open_nursery() as nursery:
        stream = CoalescingStream(transport, Budget(1 << 24), write_timeout=write_timeout)
        nursery.start_soon(stream.run_flusher)
        yield stream, nursery
        nursery.cancel_scope.cancel()


class CountingStream(trio.abc.HalfCloseableStream):
    """Passes everything on and counts the writes."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self.writes = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_it_passes_trios_stream_checks() -> None:
    async with trio.open_nursery() as flushers:

        async def make() -> tuple[CoalescingStream, CoalescingStream]:
            pair = [CoalescingStream(end, Budget(1 << 24)) for end in trio.testing.memory_stream_pair()]
            for stream in pair:
                flushers.start_soon(stream.run_flusher)
            return pair[0], pair[1]

        await trio.testing.check_half_closeable_stream(make, None)
        flushers.cancel_scope.cancel()


async def test_what_is_written_in_one_go_is_sent_in_one_call_and_in_order() -> None:
    near, far = trio.testing.memory_stream_pair()
    counting = CountingStream(near)
    async with flushing(counting) as (stream, _):
        for number in range(100):
            stream.write(b"%d," % number)
        await trio.testing.wait_all_tasks_blocked()

        assert await far.receive_some() == b"".join(b"%d," % number for number in range(100))
        assert counting.writes == 1


@asynccontextmanager
async def over_a_socket() -> AsyncIterator[tuple[CoalescingStream, trio.SocketStream]]:
    near, far = (trio.SocketStream(end) for end in trio.socket.socketpair())
    async with near, far, flushing(near) as (stream, _):
        yield stream, far


async def test_the_last_one_is_sent_at_once_unless_others_wait_before_it() -> None:
    async with over_a_socket() as (stream, far):
        stream.write(b"alone", is_last=True)
        assert os.read(far.socket.fileno(), 100) == b"alone"  # no other task had its turn meanwhile
        assert stream.waiting == 0

        stream.write(b"first,")
        stream.write(b"last", is_last=True)
        assert stream.waiting == len(b"first,last")
        assert await far.receive_some() == b"first,last"


async def test_what_the_kernel_does_not_take_at_once_is_sent_before_what_comes_next() -> None:
    payload = bytes(range(256)) * 8192  # 2 MiB, more than a socket holds
    async with over_a_socket() as (stream, far):
        stream.write(payload, is_last=True)
        assert 0 < stream.waiting < len(payload)
        stream.write(b"next", is_last=True)

        received = bytearray()
        with trio.fail_after(5):
            while len(received) < len(payload) + 4:
                received += await far.receive_some()
        assert received == payload + b"next"


async def test_a_peer_that_is_gone_when_the_last_one_is_sent_ends_the_stream() -> None:
    async with over_a_socket() as (stream, far):
        await far.aclose()
        stream.write(b"x", is_last=True)

        with trio.fail_after(5):
            await stream.hung_up.wait()
        assert stream.waiting == 0


async def test_writers_wait_above_the_high_water_mark_until_the_peer_reads() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with flushing(near) as (stream, nursery):
        stream.write(b"x")
        await trio.testing.wait_all_tasks_blocked()  # the flusher is stuck with it: nobody reads
        stream.write(b"y" * (HIGH_WATER + 1))
        sent = trio.Event()

        async def send() -> None:
            await stream.send_all(b"z")
            sent.set()

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert not sent.is_set()
        assert stream.waiting == HIGH_WATER + 3

        received = 0
        while received < HIGH_WATER + 3:
            received += len(await far.receive_some(65536))
        await sent.wait()


async def test_closing_sends_what_is_buffered_first() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with flushing(near) as (stream, _):
        stream.write(b"last words")
        await stream.aclose()

        assert await far.receive_some() == b"last words"
        assert await far.receive_some() == b""


async def test_a_peer_that_accepts_nothing_ends_the_stream_at_the_write_deadline(autojump: None) -> None:
    near, _far = trio.testing.lockstep_stream_pair()
    async with flushing(near, write_timeout=30.0) as (stream, _):
        begun = trio.current_time()
        stream.write(b"x")

        await stream.hung_up.wait()

        assert trio.current_time() - begun == pytest.approx(30.0)
        stream.write(b"ignored")
        assert stream.waiting == 0
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"refused")


async def test_a_broken_connection_releases_waiting_writers() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with flushing(near) as (stream, nursery):
        stream.write(b"x")
        await trio.testing.wait_all_tasks_blocked()
        stream.write(b"y" * (HIGH_WATER + 1))
        failed = trio.Event()

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"z")
            failed.set()

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        await far.aclose()
        with trio.fail_after(5):
            await failed.wait()
