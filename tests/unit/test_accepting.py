"""The accept loop, whatever accepting says and handlers do."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
import structlog
import trio

from coordinator.accepting import PASSES, PAUSE, REFUSAL, Tally, serve_listener

Handler = Callable[[trio.SocketStream], Awaitable[None]]


class Listener(trio.abc.Listener[trio.SocketStream]):
    """Accepts connections that a test makes, and fails when it is told to.

    Attributes:
        errors: what the next accepts fail with.
        attempts: calls of accept so far.
    """

    def __init__(self, errors: Sequence[int] = (), forever: int | None = None) -> None:
        self.errors = [*errors]
        self.forever = forever
        self.attempts = 0
        self.is_closed = False
        self._made, self._making = trio.open_memory_channel[trio.SocketStream](1000)

    def connect(self) -> socket.socket:
        """A client's end."""
        theirs, ours = socket.socketpair()
        self._made.send_nowait(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        return theirs

    async def accept(self) -> trio.SocketStream:
        self.attempts += 1
        await trio.lowlevel.checkpoint()
        error = self.errors.pop(0) if self.errors else self.forever
        if error is not None:
            raise OSError(error, os.strerror(error))
        return await self._making.receive()

    async def aclose(self) -> None:
        self.is_closed = True
        await trio.lowlevel.checkpoint()


async def echo_once(stream: trio.SocketStream) -> None:
    await stream.send_all(await stream.receive_some(10))


async def answer(client: socket.socket) -> bytes:
    """What comes back for a word; nothing, if the connection is closed or reset."""
    client.setblocking(False)
    with trio.socket.from_stdlib_socket(client) as connection:
        await connection.send(b"hello")
        try:
            return await connection.recv(200)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPROTO])
async def test_it_goes_on_after_a_failure_to_accept(error: int, autojump: None) -> None:
    listener, tally = Listener([error] * 3), Tally()
    client = listener.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_listener, listener, echo_once, nursery, tally=tally))

        assert await answer(client) == b"hello"

        assert tally.failures == 3
        nursery.cancel_scope.cancel()
    assert listener.is_closed


async def test_out_of_descriptors_it_says_so_once_a_minute_and_does_not_spin(autojump: None) -> None:
    listener = Listener(forever=errno.EMFILE)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve_listener, listener, echo_once, nursery, name="http"))
            await trio.sleep(150)
            nursery.cancel_scope.cancel()

    assert [entry["event"] for entry in logs] == ["connections wait to be accepted"] * 3
    assert all(entry["listener"] == "http" for entry in logs)
    assert all("too many open files: raise ulimit -n, or lower --max-connections" in entry["reason"] for entry in logs)
    assert 100 < listener.attempts <= 150 / PAUSE + 1


async def test_a_crash_of_a_handler_ends_its_own_connection_only(autojump: None) -> None:
    listener, tally = Listener(), Tally()
    ended: list[int] = []

    async def crash_once(stream: trio.SocketStream) -> None:
        if not ended:
            raise ValueError("broken")
        await echo_once(stream)

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            disconnected = partial(ended.append, 1)
            nursery.start_soon(
                partial(serve_listener, listener, crash_once, nursery, tally=tally, on_disconnect=disconnected)
            )

            assert await answer(listener.connect()) == b""
            assert await answer(listener.connect()) == b"hello"

            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    assert [entry["event"] for entry in logs] == ["a connection's handler crashed"]
    assert len(ended) == 2
    assert tally.open == 0


async def test_beyond_the_most_clients_are_refused_until_one_goes(autojump: None) -> None:
    listener, tally = Listener(), Tally()
    ended: list[int] = []
    async with trio.open_nursery() as nursery:
        disconnected = partial(ended.append, 1)
        nursery.start_soon(
            partial(
                serve_listener,
                listener,
                echo_once,
                nursery,
                most=2,
                refusal=REFUSAL,
                tally=tally,
                on_disconnect=disconnected,
            )
        )
        first, second = listener.connect(), listener.connect()
        assert await answer(listener.connect()) == REFUSAL
        assert (tally.open, tally.refused, len(ended)) == (2, 1, 1)

        first.close()
        await trio.testing.wait_all_tasks_blocked()

        assert await answer(listener.connect()) == b"hello"
        assert await answer(second) == b"hello"
        await trio.testing.wait_all_tasks_blocked()
        assert (tally.open, tally.refused, len(ended)) == (0, 1, 4)
        nursery.cancel_scope.cancel()


async def test_others_get_several_passes_of_the_loop_for_each_connection_of_a_flood() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=200)
    port = listeners[0].socket.getsockname()[1]
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    tally = Tally()
    passes = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_listener, listeners[0], echo_once, nursery, tally=tally))
        while tally.open < 100:
            await trio.lowlevel.checkpoint()
            passes += 1
        nursery.cancel_scope.cancel()
    for client in clients:
        client.close()
    assert passes >= 99 * PASSES
