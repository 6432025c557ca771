"""What the kernel takes at once and what it leaves; what comes next."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing

from coordinator.socketio import receive_next, send_now, send_steadily

LARGE = b"x" * (1 << 22)


async def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


async def test_what_fits_goes_at_once() -> None:
    ours, theirs = await socket_pair()
    async with ours, theirs:
        assert send_now(ours, b"hello") == b""
        assert await theirs.receive_some() == b"hello"


async def test_what_does_not_fit_is_left_and_nothing_is_sent_twice() -> None:
    ours, theirs = await socket_pair()
    async with ours, theirs:
        left = send_now(ours, LARGE)
        assert 0 < len(left) < len(LARGE)
        assert send_now(ours, left) == left

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, left)
            received = 0
            while received < len(LARGE):
                received += len(await theirs.receive_some())
        assert received == len(LARGE)


async def test_a_connection_that_broke_raises() -> None:
    ours, theirs = await socket_pair()
    async with ours:
        await theirs.aclose()

        with pytest.raises(OSError, match="Broken pipe"):
            send_now(ours, b"hello")


async def test_a_stream_that_is_no_socket_gets_everything_from_send_all() -> None:
    ours, _ = trio.testing.memory_stream_pair()

    assert send_now(ours, b"hello") == b"hello"


async def test_what_arrives_is_received_and_nothing_at_the_end() -> None:
    ours, theirs = await socket_pair()
    async with ours:
        async with theirs, trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send_all, b"hello")
            assert await receive_next(ours, 4) == b"hell"
            assert await receive_next(ours, 4) == b"o"
        assert await receive_next(ours, 4) == b""


async def test_a_connection_that_was_reset_raises() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        theirs = await trio.open_tcp_stream(*listener.socket.getsockname())
        ours = await listener.accept()
        theirs.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        await theirs.aclose()

        with pytest.raises(trio.BrokenResourceError):
            await receive_next(ours, 4)


async def test_closing_it_ends_the_wait() -> None:
    ours, theirs = await socket_pair()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await receive_next(ours, 4)

    async with theirs, trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await receive_next(ours, 4)


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    ours, theirs = await socket_pair()
    async with ours, theirs:
        with trio.move_on_after(0.01):
            await receive_next(ours, 4)
        await theirs.send_all(b"late")

        assert await receive_next(ours, 4) == b"late"


async def test_two_at_once_are_told() -> None:
    ours, theirs = await socket_pair()
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(receive_next, ours, 4)
        await trio.testing.wait_all_tasks_blocked()

        with pytest.raises(trio.BusyResourceError):
            await receive_next(ours, 4)
        nursery.cancel_scope.cancel()


async def test_a_stream_that_is_no_socket_is_received_from_as_ever() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"hello")

    assert await receive_next(ours, 4) == b"hell"


@pytest.mark.usefixtures("autojump")
async def test_a_peer_that_reads_slowly_gets_everything_however_long_it_takes() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    accepted: list[int] = []
    received = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_steadily, ours, LARGE, 10.0, accepted.append)
        while received < len(LARGE):
            await trio.sleep(5)
            received += len(await theirs.receive_some(1 << 16))

    assert sum(accepted) == received == len(LARGE)
    assert trio.current_time() > 300


async def test_over_a_socket_each_bit_of_progress_begins_the_time_anew() -> None:
    ours, theirs = await socket_pair()
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(send_steadily, ours, LARGE, 0.5)
        received = 0
        began = trio.current_time()
        while received < len(LARGE):
            await trio.sleep(0.02)
            received += len(await theirs.receive_some(1 << 16))
        assert trio.current_time() - began > 0.5


async def test_a_peer_that_accepts_nothing_is_given_up() -> None:
    ours, theirs = await socket_pair()
    async with ours, theirs:
        with pytest.raises(trio.TooSlowError):
            await send_steadily(ours, LARGE, 0.05)
