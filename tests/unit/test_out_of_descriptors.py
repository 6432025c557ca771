"""Small parts in a process that has no descriptor free."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import trio

from coordinator.osprocess import exit_status, file_limit, open_files
from coordinator.server.workers.channel import Gone, HandOver, ParentChannel, WorkerChannel
from coordinator.server.workers.handing import HeldClient
from tests.support.scarce import no_descriptors

WAITING = [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"]


async def test_waiting_for_a_process_needs_no_descriptor() -> None:
    process = subprocess.Popen(WAITING, stdin=subprocess.PIPE)  # noqa: ASYNC220 - it is what exit_status waits for
    assert process.stdin is not None
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def let_it_end() -> None:
                await trio.sleep(0.2)
                process.stdin.close()  # type: ignore[union-attr]

            with no_descriptors():
                with pytest.raises(OSError, match="Too many open files"):
                    os.pidfd_open(process.pid)
                nursery.start_soon(let_it_end)
                assert await exit_status(process) == 7


def test_open_files_are_counted() -> None:
    before = open_files()
    with socket.socket():
        assert open_files() == before + 1
    with no_descriptors():
        assert open_files() == 3  # nothing can tell, not even a directory can be read
    assert 3 <= before < file_limit()


def connection_from(name: str) -> tuple[socket.socket, socket.socket]:
    """Two ends; what is written to the second, `name`, can be read from the first."""
    here, there = socket.socketpair()
    there.sendall(name.encode())
    return here, there


async def test_a_descriptor_that_does_not_arrive_leaves_the_others_with_their_messages() -> None:
    end, other_end = socket.socketpair()
    sent, received = ParentChannel(end), WorkerChannel(other_end)
    pairs = {number: connection_from(f"{number}") for number in range(1, 9)}
    got: dict[int, str | None] = {}
    kept: list[socket.socket] = []

    async def receive() -> None:
        message = await received.receive()
        if isinstance(message, Gone):
            message = await received.receive()
        assert isinstance(message, HandOver)
        connection = received.connection()
        got[message.number] = None if connection is None else connection.recv(10).decode()
        if connection is not None:
            kept.append(connection)

    for number, (here, _) in pairs.items():
        if number % 3 == 0:
            sent.post(Gone("other"))
        sent.post(HandOver("http", number), here.fileno())
    await receive()
    await receive()
    with no_descriptors():
        for _ in range(4):
            await receive()
    await receive()
    await receive()

    assert got == {1: "1", 2: "2", 3: None, 4: None, 5: None, 6: None, 7: "7", 8: "8"}
    for connection in [*kept, *(end for pair in pairs.values() for end in pair)]:
        connection.close()
    sent.close()
    received.close()


async def held(behind: bytes = b"") -> tuple[HeldClient, socket.socket, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = socket.create_connection(listener.socket.getsockname())
        client.sendall(behind)
        stream = await listener.accept()
    return HeldClient(stream.socket, 0.0), client, stream


async def left(client: HeldClient) -> bool:
    """Whether it is seen to have left within a moment."""
    with trio.move_on_after(1.0):
        while not client.has_left():
            await trio.sleep(0.01)
        return True
    return False


async def test_a_client_that_is_there_has_not_left() -> None:
    for behind in (b"", b"GET /"):
        waiting, client, stream = await held(behind)
        assert not await left(waiting)
        client.close()
        await stream.aclose()


async def test_a_client_that_said_nothing_and_closed_has_left() -> None:
    waiting, client, stream = await held()
    client.close()
    with trio.fail_after(10):
        assert await left(waiting)
    await stream.aclose()


async def test_a_client_that_closed_its_end_behind_a_request_may_wait_for_the_answer() -> None:
    waiting, client, stream = await held(b"GET / HTTP/1.0\r\n\r\n")
    client.shutdown(socket.SHUT_WR)
    assert not await left(waiting)
    client.close()
    await stream.aclose()


async def test_a_client_that_reset_its_connection_behind_a_request_has_left() -> None:
    waiting, client, stream = await held(b"GET / HTTP/1.0\r\n\r\n")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    assert await left(waiting)
    await stream.aclose()
