"""What the kernel takes at once, and what it leaves."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from coordinator.sending import send_now

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
